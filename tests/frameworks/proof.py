"""What the frameworks serve without a token, through Envoy and the sidecar, by three files of rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final

from authz.tooling.upstreams import Trait
from tests.frameworks.front import PROTOCOLS, Front, fronting
from tests.frameworks.requests import PAGE, ROUTES, requests
from tests.frameworks.servers import routes_of, row_of, serving
from tests.frameworks.traffic import Ask, Got
from tests.frameworks.ways import explain, named

WHITELIST: Final = "whitelist"
BLACKLIST: Final = "blacklist"
FIXED: Final = "fixed"
"""The blacklist with all that check-config offers for its warnings."""

RULES: Final = {
    # Where a token may come in a header with an underscore, Envoy lets such headers pass.
    WHITELIST: """token: {sources: [{header: authorization}, {header: x_token}]}
rules:
  - {name: public, match: {paths: ["/public/**"]}, allow: public}
  - {name: rest}
""",
    BLACKLIST: """rules:
  - {name: remove, match: {paths: [/admin], methods: [DELETE]}}
  - {name: kiss, match: {paths: [/api/kiss]}}
  - {name: manage, match: {paths: ["/manage/**"]}}
  - {name: orders, match: {paths: ["/orders/{id}"]}}
  - {name: reports, match: {paths: [/reports], methods: [GET]}}
  - {name: cache, match: {paths: [/cache], methods: [PURGE]}}
  - {name: console, match: {hosts: [intern.test], paths: [/console]}}
  - {name: rest, match: {paths: ["/**"]}, allow: public}
""",
    FIXED: """paths: {case_insensitive: true}
rules:
  - {name: remove, match: {paths: [/admin], methods: [DELETE, POST]}}
  - {name: kiss, match: {paths: [/api/kiss]}}
  - {name: manage, match: {paths: ["/manage/**"]}}
  - {name: orders, match: {paths: ["/orders/**"]}}
  - {name: reports, match: {paths: [/reports], methods: [GET, HEAD]}}
  - {name: cache, match: {paths: [/cache], methods: [PURGE]}}
  - {name: no-other-method, match: {paths: [/cache]}, allow: deny}
  - {name: console, match: {hosts: [intern.test], paths: [/console]}}
  - {name: rest, match: {paths: ["/**"]}, allow: public}
""",
}
PROTECTED: Final = {
    WHITELIST: {route.name for route in ROUTES},
    BLACKLIST: {route.name for route in ROUTES} - {"admin"},
    FIXED: {route.name for route in ROUTES} - {"admin"},
}


@dataclass(frozen=True, slots=True)
class Hit:
    """A request without a token that a protected handler served."""

    protocol: str
    ask: Ask
    route: str


class Proof:
    """Asks what may pass, and finds the hits."""

    def __init__(self, front: Front, addresses: Mapping[str, str], threads: ThreadPoolExecutor) -> None:
        self.addresses: Final = addresses
        """Where each framework listens itself."""
        self._front: Final = front
        self._threads: Final = threads
        self._first: Final = next(iter(addresses))
        self.answers: Final = cache(self._find_answers)
        kinds = list(product(RULES, PROTOCOLS))
        found = threads.map(lambda kind: self._find_passing(*kind), kinds)
        self._passing: Final = dict(zip(kinds, found, strict=True))

    def _find_passing(self, rules: str, protocol: str) -> list[Ask]:
        """Return the requests that Envoy sends on. Which they are does not depend on the upstream: one is asked."""
        asks = requests()
        answers = self._front.ask(rules, self._first, asks, protocol)
        return [ask for ask, got in zip(asks, answers, strict=True) if got.passed]

    def _find_answers(self, rules: str, name: str) -> list[tuple[str, Ask, Got]]:
        """Send an upstream what passes; return each protocol, request and answer.

        What passes by the fixed list passed by the other too, and has been answered.
        """
        if rules == FIXED:
            passing = {(protocol, ask) for protocol in PROTOCOLS for ask in self._passing[FIXED, protocol]}
            answered = [each for each in self.answers(BLACKLIST, name) if each[:2] in passing]
            assert len(answered) == len(passing)
            return answered
        sent = [self._passing[rules, protocol] for protocol in PROTOCOLS]
        got = self._threads.map(lambda asks, protocol: self._front.ask(rules, name, asks, protocol), sent, PROTOCOLS)
        return [
            (protocol, ask, answer)
            for protocol, asks, answers in zip(PROTOCOLS, sent, got, strict=True)
            for ask, answer in zip(asks, answers, strict=True)
        ]

    def hits(self, rules: str, name: str) -> list[Hit]:
        """Return what a protected handler served."""
        return [
            Hit(protocol, ask, got.route)
            for protocol, ask, got in self.answers(rules, name)
            if got.route in PROTECTED[rules]
        ]

    def serves_the_page(self, rules: str, name: str) -> bool:
        """Tell whether what is public was served, over both protocols."""
        pages = {
            protocol for protocol, ask, got in self.answers(rules, name) if ask == PAGE.ask and got.route == "page"
        }
        return pages == set(PROTOCOLS)

    def ways(self, name: str) -> tuple[set[tuple[str, Trait]], list[Hit]]:
        """Return by which traits hits got around which rules of the blacklist, and the hits that none explains."""
        ways, unexplained = set(), []
        for hit in self.hits(BLACKLIST, name):
            traits = explain(self._front.files[BLACKLIST], hit.route, hit.ask)
            if traits is None or not traits:
                unexplained.append(hit)
            else:
                ways |= {(hit.route, trait) for trait in traits}
        return ways, unexplained

    def named_of(self, name: str) -> set[tuple[str, Trait]]:
        """Return what `check-config --upstream` names for routes that this one has."""
        routes = {route.name for route in routes_of(name)}
        return {way for way in named(self._front.files[BLACKLIST], row_of(name)) if way[0] in routes}

    def named_in_general(self) -> set[tuple[str, Trait]]:
        """Return what `check-config` names of the blacklist, whatever the upstream."""
        return named(self._front.files[BLACKLIST])


@contextmanager
def proving(names: Iterable[str], folder: Path) -> Iterator[Proof]:
    """Start those frameworks, Envoy and the sidecars."""
    names = list(names)
    with serving(names, folder) as addresses, ThreadPoolExecutor(len(RULES) * len(PROTOCOLS)) as threads:
        doors = [*product((WHITELIST, BLACKLIST), names), (FIXED, names[0])]
        with fronting(RULES, addresses, folder, doors) as front:
            yield Proof(front, addresses, threads)


NOT_FIXED: Final = {(FIXED, "nginx")}  # its own location must end in a slash: nginx-slashed is that


def check_whitelist(proof: Proof, name: str) -> None:
    """What is public is served, and nothing else."""
    assert proof.serves_the_page(WHITELIST, name)
    assert proof.hits(WHITELIST, name) == []


def check_blacklist(proof: Proof, name: str) -> None:
    """Every way around was named, by its rule and trait; and every one that was named is one.

    X-Forwarded-Host is named and leads nowhere: Envoy removes it. So is, of nginx, what is no location of a prefix, and
    of Flask a method in lower case, which gunicorn refuses.
    """
    ways, unexplained = proof.ways(name)
    assert unexplained == []
    nowhere = {(route.name, Trait.TEXT_PREFIX) for route in ROUTES if route.name not in _PREFIXES.get(name, ())}
    nowhere |= {(route.name, Trait.FORWARDED_HOST) for route in ROUTES}
    nowhere |= {(route.name, Trait.UPPER_METHOD) for route in ROUTES if name == "gunicorn"}
    assert ways == proof.named_of(name) - nowhere
    assert {way for way in ways if way[1] is not Trait.TEXT_PREFIX} <= proof.named_in_general()


_PREFIXES: Final = {"nginx": {"manage"}}  # other servers are without


def check_fixes(proof: Proof, name: str) -> None:
    """With what the warnings offer, nothing gets around."""
    assert proof.serves_the_page(FIXED, name)
    assert proof.hits(FIXED, name) == []
