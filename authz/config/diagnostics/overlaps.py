"""Overlaps of rules: rules that can never match, and requests that a weaker rule decides.

Rules of this file:
1. A warning names a likely mistake. What a rule says explicitly, such as other methods on the same path, is not one.
2. An exception is above the rule that it is an exception to. The mistake is a more specific rule below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from authz.config.diagnostics.fallthrough import find_fallthrough
from authz.config.diagnostics.rule_index import (
    Cover,
    IndexedRule,
    RuleIndex,
    common_methods,
    contexts_conflict,
    covering_hosts,
    covers,
    requires_no_less,
)
from authz.config.problems import Problem
from authz.core.policy import AccessMode, HostPattern, PathTemplate, Rule

_PREFLIGHT: Final = frozenset({"OPTIONS"})  # browsers send it without a token


def find_overlaps(rules: Sequence[Rule]) -> Iterator[Problem]:
    """Report rules that can never match, and those that allow what another rule should deny."""
    entries = [IndexedRule.read(position, rule) for position, rule in enumerate(rules)]
    index = RuleIndex(entries)
    for entry in entries:
        unreachable = _find_unreachable(entry, index)
        if unreachable is not None:
            yield unreachable
            continue
        public = list(_find_public(entry, index))
        yield from public
        yield from _find_weaker_above(entry, index, skip_public=bool(public))
        yield from find_fallthrough(entry, index)


def _find_unreachable(entry: IndexedRule, index: RuleIndex) -> Problem | None:
    """Report a rule that can never match, because rules above match all of its hosts, paths and methods."""
    above: dict[int, IndexedRule] = {}
    for host, path in product(entry.hosts, entry.paths):
        above_it = [cover.entry for cover in index.above(entry, host, path) if cover.entry.context <= entry.context]
        for method in entry.methods or (None,):
            shadowing = next((cover for cover in above_it if not cover.methods or method in cover.methods), None)
            if shadowing is None:
                return None
            above[shadowing.position] = shadowing
    names = ", ".join(above[position].name for position in sorted(above))
    public = entry.rule.allow is not AccessMode.PUBLIC and any(
        shadowing.rule.allow is AccessMode.PUBLIC for shadowing in above.values()
    )
    hint = "and the requests that it protects are public" if public else ""
    weaker = not all(requires_no_less(shadowing.rule, entry.rule) for shadowing in above.values())
    message = f"can never match: it is shadowed by {names} above"
    return Problem(path=entry.path, message=message, hint=hint, widens=weaker)


def _find_public(entry: IndexedRule, index: RuleIndex) -> Iterator[Problem]:
    """Report a rule that is public by accident: it matches everything, or includes what a rule below protects."""
    if entry.rule.allow is AccessMode.PUBLIC:
        everywhere = None in entry.hosts and not entry.context and not (entry.methods and entry.methods <= _PREFLIGHT)
        if everywhere and any(path.prefix and not any(path.segments) for path in entry.paths):
            message = "public-by-accident: every request that no rule above matches is public"
            yield Problem(path=entry.path, message=message, hint="name the hosts or the paths that are", widens=True)
        return
    for host, path in product(entry.hosts, entry.paths):
        for cover in index.above(entry, host, path):
            public = cover.entry
            methods = common_methods(public, entry)
            if (
                public.rule.allow is AccessMode.PUBLIC
                and public.context <= entry.context
                and (methods or not (public.methods or entry.methods))
                and not (methods and methods <= _PREFLIGHT)
                and len(cover.path.segments) < len(path.segments)  # a public rule for the same path is explicit
            ):
                subject = " and ".join(sorted(methods)) or "all of it"
                message = f"public-by-accident: {subject} on {path.text} is public by {public.name} above"
                yield Problem(path=entry.path, message=message, hint="put this rule above it", widens=True)
                return


def _find_weaker_above(entry: IndexedRule, index: RuleIndex, *, skip_public: bool) -> Iterator[Problem]:
    """Report rules above that require less and decide some requests for *entry*, with *skip_public* no public ones."""
    for host, path in product(entry.hosts, entry.paths):
        wider_hosts = covering_hosts(host)
        decided: frozenset[str] = frozenset()  # methods that a rule above decides completely
        for cover in index.overlapping(entry, host, path):
            upper = cover.entry
            methods = common_methods(upper, entry) - decided
            if not methods and (upper.methods or entry.methods):
                continue
            if contexts_conflict(upper.context, entry.context):
                continue
            reported = skip_public and upper.rule.allow is AccessMode.PUBLIC
            if (
                not reported
                and not requires_no_less(upper.rule, entry.rule)
                and _steals_from(cover, entry, host, path, methods)
            ):
                subject = " and ".join(sorted(methods)) or ("other methods" if decided else "")
                where = path.text if cover.host is None or cover.host in wider_hosts else f"{cover.host}{path.text}"
                requests = f"{subject} on {where}" if subject else where
                message = f"weaker-above: for {requests}, {upper.name} above decides, which requires less"
                left = ", or list the methods that it should decide" if upper.methods and not entry.methods else ""
                yield Problem(path=entry.path, message=message, hint=f"put this rule above it{left}", widens=True)
                return
            if cover.host in wider_hosts and upper.context <= entry.context and covers(cover, entry, path):
                if not upper.methods:
                    break
                decided |= methods


def _steals_from(
    cover: Cover, entry: IndexedRule, host: HostPattern | None, path: PathTemplate, methods: frozenset[str]
) -> bool:
    """Return whether *cover* decides requests for *entry* by mistake, and is not an exception to it."""
    upper = cover.entry
    if methods and methods <= _PREFLIGHT:
        return False
    deeper = (len(cover.path.segments), cover.path.prefix) != (len(path.segments), path.prefix) or any(
        wide is None and own is not None for wide, own in zip(cover.path.segments, path.segments, strict=True)
    )
    if cover.host not in covering_hosts(host) or not upper.context <= entry.context:
        # A rule for a whole host, or for a whole route, is explicit.
        return deeper and any(cover.path.segments)
    fewer_methods = bool(entry.methods) and not (upper.methods and upper.methods <= entry.methods)
    return deeper or cover.host != host or upper.context < entry.context or fewer_methods
