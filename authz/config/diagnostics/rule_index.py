"""An index of rules by host and path, to find the rules that cover or overlap another rule.

Rules of this file:
1. A rule covers another if it matches all of its hosts and paths.
2. The index bounds the cost, so that ten thousand rules take seconds: of the rules on one path of one host, only the
   MAX_NEIGHBOURS nearest are compared; of the hosts on one path that a wildcard covers, only MAX_HOSTS.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, product
from operator import attrgetter
from typing import Final

from authz.config.problems import KeyPath, quote
from authz.core.letter_case import fold_unicode
from authz.core.path_index import PathIndex
from authz.core.policy import HostPattern, PathTemplate, Rule
from authz.core.strictness import Strictness, compare_rules

MAX_NEIGHBOURS: Final = 100
MAX_HOSTS: Final = 200


@dataclass(frozen=True, slots=True)
class IndexedRule:
    """One rule, prepared for comparison. A host of None is any host; empty methods are all methods."""

    position: int
    rule: Rule
    hosts: tuple[HostPattern | None, ...]
    context: frozenset[tuple[str, str]]

    @classmethod
    def read(cls, position: int, rule: Rule) -> IndexedRule:
        """Prepare *rule*, at *position* in the list, from 0."""
        return cls(position, rule, rule.match.hosts or (None,), frozenset(rule.match.context.items()))

    @property
    def paths(self) -> tuple[PathTemplate, ...]:
        """The paths that the rule matches."""
        return self.rule.match.paths

    @property
    def methods(self) -> frozenset[str]:
        """The methods that the rule matches; empty for all."""
        return self.rule.match.methods

    @property
    def folds(self) -> bool:
        """Whether the rule ignores letter case."""
        return self.rule.match.case_insensitive

    @property
    def name(self) -> str:
        """The quoted name, for messages."""
        return quote(self.rule.name)

    @property
    def path(self) -> KeyPath:
        """The path of the rule in the configuration file."""
        return ("rules", self.position)


@dataclass(frozen=True, slots=True)
class Cover:
    """A rule, with the host and the path by which it covers or overlaps another rule."""

    entry: IndexedRule
    host: HostPattern | None
    path: PathTemplate

    @property
    def position(self) -> int:
        """The position of the rule in the list, from 0."""
        return self.entry.position


_ByHost = dict[HostPattern | None, list[Cover]]


class RuleIndex:
    """All rules by path, case-insensitive, and by host."""

    def __init__(self, entries: list[IndexedRule]) -> None:
        self._paths: Final[PathIndex[_ByHost]] = PathIndex(dict)
        for entry in entries:
            for host, path in product(entry.hosts, entry.paths):
                by_host = self._paths.bucket(path.fold(fold_unicode), prefix=path.prefix)
                by_host.setdefault(host, []).append(Cover(entry, host, path))

    def above(self, entry: IndexedRule, host: HostPattern | None, path: PathTemplate) -> list[Cover]:
        """Return the rules above *entry* that match its *host* and *path*, in order."""
        candidates = (
            rules[: bisect_left(rules, entry.position, key=_position)] for rules in self._rules_at(host, path)
        )
        return [cover for cover in _nearest(candidates) if covers(cover, entry, path)]

    def below(self, entry: IndexedRule, host: HostPattern | None, path: PathTemplate) -> list[Cover]:
        """Return the rules below *entry* that match its *path*, on all hosts of *host* or on some, in order."""
        candidates = (
            rules[bisect_left(rules, entry.position + 1, key=_position) :]
            for rules in self._rules_at(host, path, part=True)
        )
        return [cover for cover in _nearest(candidates) if covers(cover, entry, path)]

    def overlapping(self, entry: IndexedRule, host: HostPattern | None, path: PathTemplate) -> list[Cover]:
        """Return the rules above *entry* that match some of the requests for *host* and *path*, in order."""
        candidates = (
            rules[: bisect_left(rules, entry.position, key=_position)]
            for rules in self._rules_at(host, path, part=True)
        )
        return [cover for cover in _nearest(candidates) if _overlaps(cover, entry, path)]

    def _rules_at(self, host: HostPattern | None, path: PathTemplate, *, part: bool = False) -> Iterator[list[Cover]]:
        """Yield the rules whose path covers *path*, ignoring case, and whose host covers *host*.

        With *part*, also those whose host is covered by *host*.
        """
        hosts = covering_hosts(host)
        for by_host in self._paths.covering(path.fold(fold_unicode), prefix=path.prefix):
            yield from (by_host[pattern] for pattern in hosts if pattern in by_host)
            if part and (host is None or host.wildcard):
                yield from (rules for name, rules in islice(by_host.items(), MAX_HOSTS) if _is_below(name, host))


_position: Final = attrgetter("position")


def _nearest(candidates: Iterator[list[Cover]]) -> list[Cover]:
    """Return the first MAX_NEIGHBOURS of each list, in the order of the rules."""
    return sorted((cover for rules in candidates for cover in rules[:MAX_NEIGHBOURS]), key=_position)


def covering_hosts(host: HostPattern | None) -> list[HostPattern | None]:
    """Return every pattern that covers *host*."""
    if host is None:
        return [None]
    labels = host.name.split(".")
    parents = (".".join(labels[start:]) for start in range(0 if host.wildcard else 1, len(labels)))
    return [None, *([] if host.wildcard else [host]), *(HostPattern(name, wildcard=True) for name in parents)]


def _is_below(host: HostPattern | None, above: HostPattern | None) -> bool:
    """Return whether *host* is one of several hosts that *above* matches."""
    return host is not None and (above is None or host.name.endswith(f".{above.name}"))


def covers(cover: Cover, entry: IndexedRule, path: PathTemplate) -> bool:
    """Return whether *cover*, found by the index without regard to case, matches all of *path* of *entry*.

    A public rule folds only ASCII letters, and a stricter rule also others. It counts as covering the stricter one
    nevertheless, because other letters hardly matter in practice.
    """
    fold = cover.entry.rule.fold
    return all(
        fold(wide) == fold(own) and (cover.entry.folds or not entry.folds or wide.lower() == wide.upper())
        for wide, own in _literals(cover, path)
    )


def _overlaps(cover: Cover, entry: IndexedRule, path: PathTemplate) -> bool:
    """Return whether *cover*, found by the index without regard to case, matches some of *path* of *entry*."""
    folds = (cover.entry.rule.fold, entry.rule.fold)
    return all(any(fold(wide) == fold(own) for fold in folds) for wide, own in _literals(cover, path))


def _literals(cover: Cover, path: PathTemplate) -> Iterator[tuple[str, str]]:
    """Yield each pair of literal segments at the same position in *cover* and *path*."""
    for wide, own in zip(cover.path.segments, path.segments, strict=False):
        if wide is not None and own is not None:
            yield wide, own


def common_methods(upper: IndexedRule, entry: IndexedRule) -> frozenset[str]:
    """Return the methods of both; empty if both are for all methods."""
    return upper.methods & entry.methods if upper.methods and entry.methods else upper.methods or entry.methods


def contexts_conflict(one: frozenset[tuple[str, str]], other: frozenset[tuple[str, str]]) -> bool:
    """Return whether two contexts have different values for a name, so that no request matches both."""
    return len(dict(one | other)) < len(one | other)


def requires_no_less(rule: Rule, than: Rule) -> bool:
    """Return whether *than* would allow every caller that *rule* allows; shadow of *than* is ignored."""
    return compare_rules(replace(than, shadow=False), rule) in {Strictness.SAME, Strictness.NARROWS}
