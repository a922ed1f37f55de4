"""Rules: select the one that matches a request.

Rules of this file:
1. The first rule that matches decides; no match denies.
2. Paths are compared segment by segment, percent-decoded, without a trailing slash, with case folding as in
   letter_case.py; hosts in lower case, without port and trailing dot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from authz.core.letter_case import fold_ascii, fold_unicode
from authz.core.path_index import PathIndex
from authz.core.reasons import Reason, Rejected
from authz.core.request import AmbiguousEncoding, Target, reject_ambiguous
from authz.core.requirements import Params, Requirements


class AccessMode(StrEnum):
    """Whom a rule allows: anyone, anyone without an invalid token, authenticated callers, or no one."""

    PUBLIC = "public"
    OPTIONAL = "optional"
    AUTHENTICATED = "authenticated"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """Segments to compare: a text, or None for one of the *params*; *prefix* is true for a final `/**`."""

    text: str
    segments: tuple[str | None, ...]
    params: tuple[str, ...]
    prefix: bool

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """Read `/orders`, `/orders/{id}` or `/orders/**`; a rule's path is written decoded.

        Raises ValueError.
        """
        if not text.startswith("/"):
            raise ValueError("a path begins with /")
        if not text.isprintable() or any(mark in text for mark in "?#\\%;"):
            raise ValueError(
                "a path has no query, fragment, backslash, semicolon or percent-encoding; write it decoded"
            )
        if "//" in text:
            raise ValueError("a path has no empty segments")
        body, prefix = (text[:-3], True) if text.endswith("/**") else (text, False)
        parts = body.strip("/").split("/") if body.strip("/") else []
        segments: list[str | None] = []
        params: list[str] = []
        for part in parts:
            if part in {".", ".."}:
                raise ValueError("a path has no dot segments")
            if match := _PARAM.fullmatch(part):
                segments.append(None)
                params.append(match[1])
            elif any(mark in part for mark in "{}*"):
                raise ValueError(f'"{part}": wildcards are only allowed as a whole segment {{name}}, or as a final /**')
            else:
                segments.append(part)
        if len(set(params)) != len(params):
            raise ValueError("two parameters have the same name")
        return cls(text, tuple(segments), tuple(params), prefix)

    def fold(self, fold: Callable[[str], str]) -> tuple[str | None, ...]:
        """Return the segments after case folding by *fold*."""
        return tuple(None if segment is None else fold(segment) for segment in self.segments)

    def bind(self, segments: tuple[str, ...]) -> Params:
        """Return the path parameters for the *segments* of a path that matches this template."""
        if not self.params:
            return {}
        values = (value for value, template in zip(segments, self.segments, strict=False) if template is None)
        return dict(zip(self.params, values, strict=True))


_PARAM: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A host name; with *wildcard*, all its subdomains, but not the name itself."""

    name: str
    wildcard: bool

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        """Read `api.example.com` or `*.example.com`, without port. Raises ValueError."""
        wildcard = text.startswith("*.")
        name = text.removeprefix("*.").lower().removesuffix(".")
        if not _HOST_NAME.fullmatch(name):
            raise ValueError("a host is a name or an address without port, such as api.example.com or *.example.com")
        return cls(name, wildcard)

    def __str__(self) -> str:
        """Return the text that `parse` reads as this pattern."""
        return f"*.{self.name}" if self.wildcard else self.name


_HOST_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]{2,45}\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The conditions under which a rule applies: all of them. Empty *hosts*, *methods* or *context* match anything."""

    paths: tuple[PathTemplate, ...]
    hosts: tuple[HostPattern, ...] = ()
    methods: frozenset[str] = frozenset()
    context: Mapping[str, str] = field(default_factory=dict)
    case_insensitive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One route rule. With *shadow* it reports a denial but allows the request.

    *upstream_audiences* are of the token for the upstream, in place of those that are configured for all rules.
    """

    name: str
    match: Match
    allow: AccessMode = AccessMode.AUTHENTICATED
    requirements: Requirements = field(default_factory=Requirements)
    accept: frozenset[AmbiguousEncoding] = frozenset()
    shadow: bool = False
    upstream_audiences: tuple[str, ...] = ()

    @property
    def folds_unicode(self) -> bool:
        """Whether case folding includes non-ASCII letters: not in rules that allow callers without a token."""
        return not self.shadow and self.allow in {AccessMode.AUTHENTICATED, AccessMode.DENY}

    @property
    def fold(self) -> Callable[[str], str]:
        """The function that folds a segment before it is compared."""
        if not self.match.case_insensitive:
            return str
        return fold_unicode if self.folds_unicode else fold_ascii


_IndexedRule = tuple[int, Rule, PathTemplate]


class Policy:
    """All rules, indexed by host and path: the cost of a request hardly depends on the number of rules."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact_hosts: dict[str, _Tree] = {}
        self._wildcard_hosts: dict[str, _Tree] = {}
        self._any_host: Final = _Tree()
        added: list[Rule] = []
        for position, rule in enumerate(rules):
            added.append(rule)
            for tree in self._trees_of_rule(rule):
                tree.add(position, rule)
        self.rules: Final = tuple(added)
        if not self.rules:
            raise ValueError("a policy needs at least one rule")

    def _trees_of_rule(self, rule: Rule) -> Iterable[_Tree]:
        if not rule.match.hosts:
            return [self._any_host]
        return [
            (self._wildcard_hosts if host.wildcard else self._exact_hosts).setdefault(host.name, _Tree())
            for host in rule.match.hosts
        ]

    def select(self, target: Target, context: Mapping[str, str]) -> tuple[Rule, Params]:
        """Return the first rule that matches, and the parameters of its path.

        Raises Rejected: POLICY_DENIED if none matches, PATH_AMBIGUOUS if the rule does not accept the path's encoding.
        """
        best: _IndexedRule | None = None
        for tree in self._trees_of_host(target.host):
            for entry in tree.find(target.path.segments):
                if (best is None or entry[0] < best[0]) and _matches(entry[1], target.method, context):
                    best = entry
                    break
        reject_ambiguous(target.path, accepted=best[1].accept if best else frozenset())
        if best is None:
            raise Rejected(Reason.POLICY_DENIED, "no rule matches")
        return best[1], best[2].bind(target.path.segments)

    def _trees_of_host(self, host: str) -> Iterable[_Tree]:
        if (exact := self._exact_hosts.get(host)) is not None:
            yield exact
        if self._wildcard_hosts:
            _, _, parent = host.partition(".")
            while parent:
                if (wildcard := self._wildcard_hosts.get(parent)) is not None:
                    yield wildcard
                _, _, parent = parent.partition(".")
        yield self._any_host


def _matches(rule: Rule, method: str, context: Mapping[str, str]) -> bool:
    match = rule.match
    if match.methods and method not in match.methods:
        return False
    return not match.context or all(context.get(name) == value for name, value in match.context.items())


class _Tree:
    """The rules of one host pattern, in one path index for each kind of case folding."""

    __slots__ = ("_exact", "_folded")

    def __init__(self) -> None:
        self._exact: Final[PathIndex[list[_IndexedRule]]] = PathIndex(list)
        self._folded: Final[dict[Callable[[str], str], PathIndex[list[_IndexedRule]]]] = {}

    def add(self, position: int, rule: Rule) -> None:
        folds = rule.match.case_insensitive
        index = self._folded.setdefault(rule.fold, PathIndex(list)) if folds else self._exact
        for template in rule.match.paths:
            segments = template.fold(rule.fold) if folds else template.segments
            index.bucket(segments, prefix=template.prefix).append((position, rule, template))

    def find(self, segments: tuple[str, ...]) -> list[_IndexedRule]:
        """Return all rules whose path matches, in the order of the configuration."""
        matching: list[_IndexedRule] = []
        for rules in self._exact.covering(segments):
            matching += rules
        for fold, index in self._folded.items():
            for rules in index.covering(map(fold, segments)):
                matching += rules
        if len(matching) > 1:
            matching.sort(key=_position)
        return matching


def _position(entry: _IndexedRule) -> int:
    return entry[0]
