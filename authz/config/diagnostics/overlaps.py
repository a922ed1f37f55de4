"""Overlaps of rules: rules that can never match, and requests that another rule decides, which requires less.

Rules of this file:
1. A warning names a likely mistake. What a rule says explicitly, such as other methods on the same path, is not one.
2. A rule covers another if it matches all of its hosts and paths.
3. Rules are found by walking the paths of others, so that ten thousand take seconds. Of those on one path of one host,
   the MAX_NEIGHBOURS nearest are compared; of the hosts on one path that a wildcard covers, MAX_HOSTS.
4. An exception is above the rule that it is an exception to. The mistake is a more specific rule below it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from operator import attrgetter
from typing import Final

from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote
from authz.core.letter_case import fold_unicode
from authz.core.path_index import PathIndex
from authz.core.policy import AccessMode, HostPattern, PathTemplate, Rule
from authz.core.strictness import Strictness, compare_rules

MAX_NEIGHBOURS: Final = 100
MAX_HOSTS: Final = 200
_CASE: Final = "another letter case"
_DEEPER: Final = "a deeper path"  # Echo serves /orders/7/items by a route /orders/:id
_EMPTY: Final = "an empty last segment"  # and Fastify /orders/, which counts as /orders here
_PREFLIGHT: Final = frozenset({"OPTIONS"})  # browsers send it without a token


def find_overlaps(rules: Sequence[Rule]) -> Iterator[Problem]:
    """Report rules that can never match, and those that allow what another rule should deny."""
    entries = [_Entry.read(place, rule) for place, rule in enumerate(rules)]
    index = _Index(entries)
    for entry in entries:
        dead = _find_dead(entry, index)
        if dead is not None:
            yield dead
            continue
        public = list(_find_public(entry, index))
        yield from public
        yield from _find_weaker_above(entry, index, but_public=bool(public))
        yield from _find_fallthrough(entry, index)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One rule, prepared for comparison. A host of None is any host; no methods are all methods."""

    place: int
    rule: Rule
    hosts: tuple[HostPattern | None, ...]
    context: frozenset[tuple[str, str]]

    @classmethod
    def read(cls, place: int, rule: Rule) -> _Entry:
        return cls(place, rule, rule.match.hosts or (None,), frozenset(rule.match.context.items()))

    @property
    def paths(self) -> tuple[PathTemplate, ...]:
        return self.rule.match.paths

    @property
    def methods(self) -> frozenset[str]:
        return self.rule.match.methods

    @property
    def folds(self) -> bool:
        return self.rule.match.case_insensitive

    @property
    def name(self) -> str:
        return quote(self.rule.name)

    @property
    def path(self) -> KeyPath:
        return ("rules", self.place)


@dataclass(frozen=True, slots=True)
class _Cover:
    """A rule, and its host and path that cover a host and path of another rule."""

    entry: _Entry
    host: HostPattern | None
    path: PathTemplate

    @property
    def place(self) -> int:
        return self.entry.place


_ByHost = dict[HostPattern | None, list[_Cover]]


class _Index:
    """All rules by path, case-insensitive, and by host."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._paths: Final[PathIndex[_ByHost]] = PathIndex(dict)
        for entry in entries:
            for host, path in product(entry.hosts, entry.paths):
                by_host = self._paths.bucket(path.fold(fold_unicode), prefix=path.prefix)
                by_host.setdefault(host, []).append(_Cover(entry, host, path))

    def above(self, entry: _Entry, host: HostPattern | None, path: PathTemplate) -> list[_Cover]:
        """Return the rules above *entry* that match its *host* and *path*, in order."""
        found = (rules[: bisect_left(rules, entry.place, key=_place)] for rules in self._rules_at(host, path))
        near = (cover for rules in found for cover in rules[:MAX_NEIGHBOURS])
        return sorted((cover for cover in near if _covers(cover, entry, path)), key=_place)

    def below(self, entry: _Entry, host: HostPattern | None, path: PathTemplate) -> list[_Cover]:
        """Return the rules below *entry* that match its *host* and *path*, in order."""
        found = (rules[bisect_left(rules, entry.place + 1, key=_place) :] for rules in self._rules_at(host, path))
        near = (cover for rules in found for cover in rules[:MAX_NEIGHBOURS])
        return sorted((cover for cover in near if _covers(cover, entry, path)), key=_place)

    def overlapping(self, entry: _Entry, host: HostPattern | None, path: PathTemplate) -> list[_Cover]:
        """Return the rules above *entry* that match some host of *host* and some spelling of *path*."""
        found = (
            rules[: bisect_left(rules, entry.place, key=_place)] for rules in self._rules_at(host, path, part=True)
        )
        near = (cover for rules in found for cover in rules[:MAX_NEIGHBOURS])
        return sorted((cover for cover in near if _meets(cover, entry, path)), key=_place)

    def _rules_at(self, host: HostPattern | None, path: PathTemplate, *, part: bool = False) -> Iterator[list[_Cover]]:
        """Yield the rules of each node that covers *path*, case-insensitive, for each host that covers *host*.

        With *part*, also for hosts that *host* covers.
        """
        wider = _wider(host)
        for by_host in self._paths.covering(path.fold(fold_unicode), prefix=path.prefix):
            yield from (by_host[wide] for wide in wider if wide in by_host)
            if part and (host is None or host.wildcard):
                yield from (rules for name, rules in islice(by_host.items(), MAX_HOSTS) if _lies_below(name, host))


_place: Final = attrgetter("place")


def _wider(host: HostPattern | None) -> list[HostPattern | None]:
    """Return every pattern that covers *host*."""
    if host is None:
        return [None]
    labels = host.name.split(".")
    parents = (".".join(labels[at:]) for at in range(0 if host.wildcard else 1, len(labels)))
    return [None, *([] if host.wildcard else [host]), *(HostPattern(name, wildcard=True) for name in parents)]


def _lies_below(host: HostPattern | None, above: HostPattern | None) -> bool:
    """Return whether *above* covers *host*, and more."""
    return host is not None and (above is None or host.name.endswith(f".{above.name}"))


def _write(host: HostPattern | None) -> str:
    return "" if host is None else f"*.{host.name}" if host.wildcard else host.name


def _covers(cover: _Cover, entry: _Entry, path: PathTemplate) -> bool:
    """Tell whether *cover*, which the index found, matches all of *path* of *entry* in the letter case that counts.

    A public rule that ignores case counts as matching what a stricter one matches, though that takes letters beyond
    ASCII too: nobody writes a rule for those.
    """
    fold = cover.entry.rule.fold
    return all(
        fold(wide) == fold(own) and (cover.entry.folds or not entry.folds or wide.lower() == wide.upper())
        for wide, own in _literals(cover, path)
    )


def _meets(cover: _Cover, entry: _Entry, path: PathTemplate) -> bool:
    """Tell whether *cover*, which the index found, matches some spelling of *path* of *entry*."""
    folds = (cover.entry.rule.fold, entry.rule.fold)
    return all(any(fold(wide) == fold(own) for fold in folds) for wide, own in _literals(cover, path))


def _literals(cover: _Cover, path: PathTemplate) -> Iterator[tuple[str, str]]:
    """Yield each segment that *cover* spells out, and the one of *path* at its place."""
    for wide, own in zip(cover.path.segments, path.segments, strict=False):
        if wide is not None and own is not None:
            yield wide, own


def _find_dead(entry: _Entry, index: _Index) -> Problem | None:
    """Find a rule that can never match, because rules above match all of its hosts, paths and methods."""
    above: dict[int, _Entry] = {}
    for host, path in product(entry.hosts, entry.paths):
        covers = [cover.entry for cover in index.above(entry, host, path) if cover.entry.context <= entry.context]
        for method in entry.methods or (None,):
            by = next((cover for cover in covers if not cover.methods or method in cover.methods), None)
            if by is None:
                return None
            above[by.place] = by
    names = ", ".join(above[place].name for place in sorted(above))
    public = entry.rule.allow is not AccessMode.PUBLIC and any(
        by.rule.allow is AccessMode.PUBLIC for by in above.values()
    )
    hint = "and what it protects is public" if public else ""
    weaker = not all(_requires_no_less(by.rule, entry.rule) for by in above.values())
    message = f"can never match: it is shadowed by {names} above"
    return Problem(path=entry.path, message=message, hint=hint, widens=weaker)


def _find_public(entry: _Entry, index: _Index) -> Iterator[Problem]:
    """Find a rule that is public by accident: it matches everything, or opens what a rule below protects."""
    if entry.rule.allow is AccessMode.PUBLIC:
        everywhere = None in entry.hosts and not entry.context and not (entry.methods and entry.methods <= _PREFLIGHT)
        if everywhere and any(path.prefix and not any(path.segments) for path in entry.paths):
            message = "public-by-accident: every request that no rule above matches is public"
            yield Problem(path=entry.path, message=message, hint="name the hosts or the paths that are", widens=True)
        return
    for host, path in product(entry.hosts, entry.paths):
        for cover in index.above(entry, host, path):
            by = cover.entry
            methods = _common_methods(by, entry)
            if (
                by.rule.allow is AccessMode.PUBLIC
                and by.context <= entry.context
                and (methods or not (by.methods or entry.methods))
                and not (methods and methods <= _PREFLIGHT)
                and len(cover.path.segments) < len(path.segments)  # on the same path it is explicit
            ):
                what = " and ".join(sorted(methods)) or "all of it"
                message = f"public-by-accident: {what} on {path.text} is public by {by.name} above"
                yield Problem(path=entry.path, message=message, hint="put this rule above it", widens=True)
                return


def _common_methods(by: _Entry, entry: _Entry) -> frozenset[str]:
    """Return the methods of both; empty if both are for all methods."""
    return by.methods & entry.methods if by.methods and entry.methods else by.methods or entry.methods


def _find_weaker_above(entry: _Entry, index: _Index, *, but_public: bool) -> Iterator[Problem]:
    """Find rules above that decide a part of this one's requests, and require less. *but_public*: skip public rules."""
    for host, path in product(entry.hosts, entry.paths):
        wider = _wider(host)
        decided: frozenset[str] = frozenset()  # methods that a rule above decides completely
        for cover in index.overlapping(entry, host, path):
            by = cover.entry
            methods = _common_methods(by, entry) - decided
            if not methods and (by.methods or entry.methods):
                continue
            if _differ(by.context, entry.context):
                continue
            reported = but_public and by.rule.allow is AccessMode.PUBLIC
            if (
                not reported
                and not _requires_no_less(by.rule, entry.rule)
                and _steals_from(cover, entry, host, path, methods)
            ):
                what = " and ".join(sorted(methods)) or ("other methods" if decided else "")
                where = path.text if cover.host in wider else f"{_write(cover.host)}{path.text}"
                which = f"{what} on {where}" if what else where
                message = f"weaker-above: for {which}, {by.name} above decides, which requires less"
                left = ", or name the methods that are left to it" if by.methods and not entry.methods else ""
                yield Problem(path=entry.path, message=message, hint=f"put this rule above it{left}", widens=True)
                return
            if cover.host in wider and by.context <= entry.context and _covers(cover, entry, path):
                if not by.methods:
                    break
                decided |= methods


def _steals_from(
    cover: _Cover, entry: _Entry, host: HostPattern | None, path: PathTemplate, methods: frozenset[str]
) -> bool:
    """Return whether *cover*, which decides *methods* of *host* and *path* of *entry*, is not an exception to it."""
    by = cover.entry
    if methods and methods <= _PREFLIGHT:
        return False
    deeper = (len(cover.path.segments), cover.path.prefix) != (len(path.segments), path.prefix) or any(
        wide is None and own is not None for wide, own in zip(cover.path.segments, path.segments, strict=True)
    )
    if cover.host not in _wider(host) or not by.context <= entry.context:
        # A rule for a whole host, or for a whole route, is explicit.
        return deeper and any(cover.path.segments)
    fewer_methods = bool(entry.methods) and not (by.methods and by.methods <= entry.methods)
    return deeper or cover.host != host or by.context < entry.context or fewer_methods


def _differ(one: frozenset[tuple[str, str]], other: frozenset[tuple[str, str]]) -> bool:
    """Return whether no request can have the context of both: they differ in the value of one name."""
    return len(dict(one | other)) < len(one | other)


def _find_fallthrough(entry: _Entry, index: _Index) -> Iterator[Problem]:
    """Find rules below that decide requests which nearly match this one, and require less."""
    scopes = list(product(entry.hosts, entry.paths))
    first, *others = [index.below(entry, host, path) for host, path in scopes]
    elsewhere = [{cover.place for cover in covers} for covers in others]
    guarded: set[str] | None = None
    for cover in first:
        below = cover.entry
        if not all(below.place in places for places in elsewhere):
            continue
        ways = _ways(entry, scopes[0], cover)
        if guarded is None and ways:
            guarded = _guarded_above(entry, scopes[0], index)
        ways -= guarded or set()
        if not ways:
            continue
        if _requires_no_less(below.rule, entry.rule):
            guarded = (guarded or set()) | ways
        else:
            message = (
                f"weaker-fallthrough: with {' or '.join(sorted(ways))}, {below.name} below decides, which requires less"
            )
            yield Problem(path=entry.path, message=message, hint=_remedy(ways, scopes[0][1]), widens=True)
            return


def _guarded_above(entry: _Entry, scope: tuple[HostPattern | None, PathTemplate], index: _Index) -> set[str]:
    """Name the slips that rules above *entry* stop: all that is deeper than its path, or its path without the end."""
    host, path = scope
    if path.prefix:
        return set()
    beside = {_DEEPER: PathTemplate("", (*path.segments, None), (), prefix=True)}
    if path.segments and path.segments[-1] is None:
        beside[_EMPTY] = PathTemplate("", path.segments[:-1], (), prefix=False)
    return {
        way
        for way, template in beside.items()
        if any(
            (not by.methods or (entry.methods and entry.methods <= by.methods))
            and by.context <= entry.context
            and _requires_no_less(by.rule, entry.rule)
            for by in (cover.entry for cover in index.above(entry, host, template))
        )
    }


def _remedy(ways: set[str], path: PathTemplate) -> str:
    """Say what stops *ways*: the first that a rule can do for itself."""
    remedies = []
    if _CASE in ways:
        remedies.append("set match.case_insensitive: true")
    if ways & {_DEEPER, _EMPTY}:
        parts = path.text.strip("/").split("/")
        while parts and (not parts[-1] or parts[-1].startswith("{")):
            del parts[-1]
        remedies.append(f"write /{'/'.join((*parts, '**'))}")
    if ways - {_CASE, _DEEPER, _EMPTY}:
        remedies.append("a rule between them with allow: deny stops the rest")
    return "; ".join(remedies)


def _ways(entry: _Entry, scope: tuple[HostPattern | None, PathTemplate], cover: _Cover) -> set[str]:
    """Return the differences by which a request that is meant for *entry* matches the rule below instead."""
    below = cover.entry
    if below.methods and entry.methods and below.methods.isdisjoint(entry.methods):
        return set()  # it says explicitly that other methods differ
    if _differ(below.context, entry.context):
        return set()  # and so does another value for the same name
    host, path = scope
    ways = set()
    if entry.methods and not below.methods:
        ways.add("another method")
    if cover.host != host:
        ways.add("another host")
    if not entry.context <= below.context:
        ways.add("another context")
    if below.rule.accept:
        ways.add("an accepted spelling of the path")
    kept = cover.path.segments if not below.folds else ()
    loose = [own for place, own in enumerate(path.segments) if own and not (place < len(kept) and kept[place] == own)]
    if not entry.folds and any(own.lower() != own.upper() for own in loose):
        ways.add(_CASE)
    if cover.path.prefix and not path.prefix:
        ways.add(_DEEPER)
        if path.segments and path.segments[-1] is None and len(cover.path.segments) < len(path.segments):
            ways.add(_EMPTY)
    return ways


def _requires_no_less(rule: Rule, than: Rule) -> bool:
    """Return whether every caller that *rule* allows would be allowed by *than* if that were not in shadow."""
    return compare_rules(replace(than, shadow=False), rule) in {Strictness.SAME, Strictness.NARROWS}


def find_ambiguous_subjects(config: Config) -> Iterator[Problem]:
    """`sub` is unique within one issuer only: two of them may give the same one to two people."""
    several = {name for name, issuer in config.issuers.items() if len(issuer.accepted_issuers) > 1}
    if len(config.issuers) < 2 and not several:
        return
    message = "sub is unique within one issuer only, and there are several"
    headers = config.identity.headers
    if not any(header.claim == "iss" or header.payload is not None for header in headers.values()):
        for name, header in headers.items():
            if header.claim == "sub":
                path: KeyPath = ("identity", "headers", name)
                yield Problem(path=path, message=message, hint="send iss in another header", widens=True)
    for place, rule in enumerate(config.rules):
        require = rule.require
        named = require.issuers or () if require is not None else ()
        if require is None or (len(named) == 1 and several.isdisjoint(named)):
            continue
        for key in ("claims", "all_of"):
            if "sub" in (getattr(require, key) or ()):
                path = ("rules", place, "require", key, "sub")
                hint = "name the one issuer that is meant under issuers"
                yield Problem(path=path, message=message, hint=hint, widens=True)
        if require.when and "claims.sub" in require.when and "claims.iss" not in require.when:
            path = ("rules", place, "require", "when")
            hint = "name the issuer under issuers, or compare claims.iss too"
            yield Problem(path=path, message=message, hint=hint, widens=True)
