"""How well-known upstreams interpret a request, and which rules of a given configuration that bypasses.

Rules of this file:
1. Nothing here changes a decision: these are warnings for the author of rules.
2. Requests are made up from a rule as the upstream would serve them by the same route, and the code that serves selects
   their rule. Only a rule that requires less is reported.
3. Each trait is of a release in its default settings, but for what a title says, and was seen: `make peers` asks all
   but nginx again, tests/integration nginx. A wildcard at the end (`/orders/*` of Caddy, Jetty) counts as a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, product
from typing import Final

from authz.config.build import build_rules
from authz.config.model import Config
from authz.config.problems import Problem, quote
from authz.core.policy import AccessMode, HostPattern, Match, PathTemplate, Policy, Rule
from authz.core.reasons import Rejected
from authz.core.request import REGISTERED_METHODS, Path, Target
from authz.core.strictness import Strictness, access_rank, compare_rules


class Trait(StrEnum):
    """A behaviour of an upstream that rules do not express, in the words of the table."""

    IGNORES_CASE = "ignores letter case"
    EMPTY_PARAMETER = "a parameter may be empty"
    TAKES_SLASHES = "the last parameter takes slashes"
    TEXT_PREFIX = "a path is a prefix of text"
    HEAD_FROM_GET = "answers HEAD from GET"
    FORWARDED_HOST = "believes X-Forwarded-Host"
    UPPER_METHOD = "reads methods in upper case"
    METHOD_OVERRIDE = "a parameter may override the method"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One upstream: its *title*, the *release* that was tried, and the traits that were seen."""

    title: str
    release: str
    traits: frozenset[Trait]


def _upstream(title: str, release: str, *traits: Trait) -> Upstream:
    return Upstream(title=title, release=release, traits=frozenset(traits))


UPSTREAMS: Final[Mapping[str, Upstream]] = {
    "aiohttp": _upstream("aiohttp", "3.14.5", Trait.HEAD_FROM_GET),
    "bottle": _upstream("Bottle", "0.13.4", Trait.HEAD_FROM_GET, Trait.FORWARDED_HOST, Trait.UPPER_METHOD),
    "caddy": _upstream("Caddy", "2.11.9", Trait.IGNORES_CASE, Trait.EMPTY_PARAMETER, Trait.TAKES_SLASHES),
    "chi": _upstream("chi", "5.5.0"),
    "django": _upstream("Django", "5.2.19", Trait.HEAD_FROM_GET, Trait.UPPER_METHOD),
    "echo": _upstream("Echo", "4.16.4", Trait.TAKES_SLASHES),
    "express": _upstream("Express", "4.22.3, 5.3.0", Trait.IGNORES_CASE, Trait.HEAD_FROM_GET),
    "falcon": _upstream("Falcon", "4.4.0", Trait.EMPTY_PARAMETER),
    "fastify": _upstream("Fastify", "5.12.8", Trait.EMPTY_PARAMETER, Trait.HEAD_FROM_GET),
    "fiber": _upstream("Fiber", "2.52.15", Trait.IGNORES_CASE, Trait.HEAD_FROM_GET, Trait.FORWARDED_HOST),
    "flask": _upstream("Flask", "3.1.3", Trait.HEAD_FROM_GET, Trait.UPPER_METHOD),
    "gin": _upstream("Gin", "1.12.0"),
    "go": _upstream("Go's ServeMux", "1.26.8", Trait.HEAD_FROM_GET),
    "gorilla": _upstream("gorilla/mux", "1.8.1"),
    "hapi": _upstream("hapi", "21.4.10", Trait.HEAD_FROM_GET),
    "jetty": _upstream("Jetty", "12.1.14", Trait.EMPTY_PARAMETER, Trait.TAKES_SLASHES, Trait.HEAD_FROM_GET),
    "koa": _upstream("Koa's router", "15.7.0", Trait.IGNORES_CASE, Trait.HEAD_FROM_GET),
    "nginx": _upstream("nginx", "1.22.1", Trait.TEXT_PREFIX, Trait.HEAD_FROM_GET),
    "spring": _upstream(
        "Spring Boot in Kubernetes, its hidden-method filter on",
        "4.0.7",
        *(Trait.HEAD_FROM_GET, Trait.FORWARDED_HOST, Trait.METHOD_OVERRIDE),
    ),
    "starlette": _upstream("Starlette", "1.10.0", Trait.HEAD_FROM_GET),
    "tornado": _upstream("Tornado", "6.6.1"),
}
"""By the name that `--upstream` takes."""


def write_list() -> str:
    """Return which upstreams have each trait, and which have none, as the page of the rules has it."""
    having = {trait: [name for name, upstream in UPSTREAMS.items() if trait in upstream.traits] for trait in Trait}
    without = [name for name, upstream in UPSTREAMS.items() if not upstream.traits]
    lines = [*having.items(), ("none of this", without)]
    return "".join(f"- {heading}: {', '.join(f'`{name}`' for name in names)}\n" for heading, names in lines)


_MethodAndPath = tuple[str, tuple[str, ...]]  # method and segments
_ANY: Final = "{any}"  # no literal of a rule holds a brace
_ANY_HOST: Final = "any-host"
_POST: Final = "POST"
MAX_SCOPES: Final = 100  # for each path, so that ten thousand rules take seconds; those of the weakest rules first


def find_upstream_problems(config: Config, upstream: Upstream) -> Iterator[Problem]:
    """Report each rule around which a trait of *upstream* leads to one that asks less."""
    rules = build_rules(config)
    finder = _BypassFinder(rules)
    for position, rule in enumerate(rules):
        if rule.shadow or rule.allow is AccessMode.PUBLIC:
            continue
        for trait in sorted(upstream.traits):
            if trait is Trait.FORWARDED_HOST:
                if rule.match.hosts:
                    message = f"{upstream.title} {trait}: a client chooses the host that it sees"
                    hint = "have Envoy remove the header, as `authz envoy-config` does"
                    yield Problem(path=("rules", position, "match", "hosts"), message=message, hint=hint)
                continue
            bypass = next(finder.find_bypasses(rule, trait), None)
            if bypass is not None:
                (method, segments), by = bypass
                request = f"{method} /{'/'.join(segments)}"
                message = f"{upstream.title} {trait}: it may serve {request} by the route of this rule, "
                message += f"rule {quote(by.name)} decides, which requires less"
                yield Problem(path=("rules", position), message=message, hint=_REMEDIES[trait])


_Scope = tuple[str, Mapping[str, str], str]  # host, context and method


class _BypassFinder:
    """Finds requests that the upstream may serve by the routes of a rule, with the hosts and methods of all rules."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._policy: Final = Policy(rules)
        matches = [rule.match for rule in sorted(rules, key=access_rank, reverse=True)]
        # A dictionary is a set that keeps its order.
        self._methods: Final = tuple({"GET": 0} | {method: 0 for match in matches for method in sorted(match.methods)})
        self._hosts: Final = tuple(
            {_ANY_HOST: 0} | {_example_host(host): 0 for match in matches for host in match.hosts}
        )
        self._contexts: Final = tuple({(): 0} | {tuple(sorted(match.context.items())): 0 for match in matches})
        self._depth: Final = max(len(path.segments) for match in matches for path in match.paths)

    def find_bypasses(self, rule: Rule, trait: Trait) -> Iterator[tuple[_MethodAndPath, Rule]]:
        """Yield requests that the upstream may serve by a route of *rule*, and the weaker rules that decide them."""
        for template in rule.match.paths:
            segments = tuple(_ANY if segment is None else segment for segment in template.segments)
            for host, context, method in islice(self._scopes(rule.match), MAX_SCOPES):
                plain = (method, segments)
                if all(self._select(sample, host, context) is not rule for sample in _with_rest(plain, template)):
                    continue  # a rule above decides that already
                for sample in self._variants(trait, plain, template):
                    by = self._select(sample, host, context)
                    if by is not None and compare_rules(rule, by) not in {Strictness.SAME, Strictness.NARROWS}:
                        yield sample, by

    def _scopes(self, match: Match) -> Iterator[_Scope]:
        """Yield the hosts, contexts and methods of *match*, those of other rules among them."""
        own = dict(match.context)
        contexts = [own | dict(other) for other in self._contexts if _are_compatible(own, dict(other))]
        hosts = [_example_host(host) for host in match.hosts] or self._hosts
        below = tuple(f".{host.name}" for host in match.hosts if host.wildcard)
        if below:
            hosts = list(dict.fromkeys([*hosts, *(host for host in self._hosts if host.endswith(below))]))
        yield from product(hosts, contexts, sorted(match.methods) or self._methods)

    def _variants(self, trait: Trait, plain: _MethodAndPath, template: PathTemplate) -> Iterator[_MethodAndPath]:
        if trait is Trait.TAKES_SLASHES:
            yield from _deeper_paths(plain, template, self._depth)
        else:
            for sample in _VARIANTS[trait](plain, template):
                yield from _with_rest(sample, template)

    def _select(self, sample: _MethodAndPath, host: str, context: Mapping[str, str]) -> Rule | None:
        method, segments = sample
        path = Path("/" + "/".join(segments), segments, frozenset())
        try:
            return self._policy.select(Target(method, host, path), context)[0]
        except Rejected:
            return None


def _with_rest(sample: _MethodAndPath, template: PathTemplate) -> Iterator[_MethodAndPath]:
    """Yield *sample*, and a path below it if *template* ends in `/**`."""
    yield sample
    if template.prefix:
        yield sample[0], (*sample[1], _ANY)


def _example_host(host: HostPattern) -> str:
    """Return a host that *host* matches."""
    return f"{_ANY_HOST}.{host.name}" if host.wildcard else host.name


def _are_compatible(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return whether one route can have both contexts."""
    return all(one.get(name, value) == value for name, value in other.items())


def _other_case(plain: _MethodAndPath, _template: PathTemplate) -> Iterator[_MethodAndPath]:
    method, segments = plain
    for fold in (str.swapcase, str.upper, str.lower):
        yield method, tuple(segment if segment == _ANY else fold(segment) for segment in segments)


def _without_end(plain: _MethodAndPath, template: PathTemplate) -> Iterator[_MethodAndPath]:
    if template.segments and template.segments[-1] is None:
        yield plain[0], plain[1][:-1]


def _deeper_paths(plain: _MethodAndPath, template: PathTemplate, depth: int) -> Iterator[_MethodAndPath]:
    """Yield deeper paths than the template, up to one that is longer than every template."""
    if template.segments and template.segments[-1] is None and not template.prefix:
        for more in range(1, max(1, depth - len(template.segments)) + 1):
            yield plain[0], (*plain[1], *[_ANY] * more)


def _longer_text(plain: _MethodAndPath, template: PathTemplate) -> Iterator[_MethodAndPath]:
    method, segments = plain
    if template.segments and template.segments[-1] is not None:
        yield method, (*segments[:-1], segments[-1] + _ANY)
        yield method, (*segments, _ANY)


def _head(plain: _MethodAndPath, _template: PathTemplate) -> Iterator[_MethodAndPath]:
    if plain[0] == "GET":
        yield "HEAD", plain[1]


def _lower_method(plain: _MethodAndPath, _template: PathTemplate) -> Iterator[_MethodAndPath]:
    if plain[0] not in REGISTERED_METHODS:  # of the others the core refuses it
        yield plain[0].lower(), plain[1]


def _by_post(plain: _MethodAndPath, _template: PathTemplate) -> Iterator[_MethodAndPath]:
    if plain[0] in {"PUT", "PATCH", "DELETE"}:
        yield _POST, plain[1]


_VARIANTS: Final[Mapping[Trait, Callable[[_MethodAndPath, PathTemplate], Iterator[_MethodAndPath]]]] = {
    Trait.IGNORES_CASE: _other_case,
    Trait.EMPTY_PARAMETER: _without_end,
    Trait.TEXT_PREFIX: _longer_text,
    Trait.HEAD_FROM_GET: _head,
    Trait.UPPER_METHOD: _lower_method,
    Trait.METHOD_OVERRIDE: _by_post,
}
_REMEDIES: Final[Mapping[Trait, str]] = {
    Trait.IGNORES_CASE: "set paths.case_insensitive: true",
    Trait.EMPTY_PARAMETER: "end the path in /** in place of the parameter",
    Trait.TAKES_SLASHES: "end the path in /** in place of the parameter",
    Trait.TEXT_PREFIX: "end the upstream's own path in a slash, or let nothing weaker stand too",
    Trait.HEAD_FROM_GET: "list HEAD beside GET",
    Trait.UPPER_METHOD: "a rule between them with allow: deny",
    Trait.METHOD_OVERRIDE: "ask of POST what the other methods need",
}
