"""Requests that nearly match a rule, and so fall through to a weaker rule below it.

Web frameworks may treat such a request, with another letter case or a longer path, like the one that the rule is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product, zip_longest
from typing import Final

from authz.config.diagnostics.rule_index import (
    Cover,
    IndexedRule,
    RuleIndex,
    contexts_conflict,
    covering_hosts,
    requires_no_less,
)
from authz.config.problems import Problem
from authz.core.policy import HostPattern, PathTemplate

_CASE: Final = "another letter case"
_DEEPER: Final = "a deeper path"  # Echo serves /orders/7/items by a route /orders/:id
_EMPTY: Final = "an empty last segment"  # and Fastify /orders/, which counts as /orders here
_ACCEPTED: Final = "an ambiguous path encoding that it accepts"
_ON_SOME_HOSTS: Final = frozenset({_CASE, _DEEPER, _EMPTY, _ACCEPTED})


def find_fallthrough(entry: IndexedRule, index: RuleIndex) -> Iterator[Problem]:
    """Report rules below *entry* that require less and decide requests that nearly match *entry*.

    For each difference it is the first such rule, on all hosts of *entry* or on some.
    """
    reported: set[str] = set()
    for host, path in product(entry.hosts, entry.paths):
        hosts = covering_hosts(host)
        guarded: set[str] | None = None  # differences that a rule in between handles
        for cover in index.below(entry, host, path):
            below = cover.entry
            differences = _differences(entry, host, path, cover)
            if cover.host not in hosts:
                differences &= _ON_SOME_HOSTS  # other differences are explicit there
            if guarded is None and differences:
                guarded = _find_guarded(entry, host, path, index)
            differences -= guarded or set()
            if not differences:
                continue
            if requires_no_less(below.rule, entry.rule):
                if cover.host in hosts and _matches_all(below, entry):
                    guarded = (guarded or set()) | differences
            elif differences := differences - reported:
                reported |= differences
                summary = " or ".join(sorted(differences))
                where = "" if cover.host in hosts else f" on {cover.host}"
                message = f"weaker-fallthrough: with {summary}{where}, {below.name} below decides, which requires less"
                yield Problem(path=entry.path, message=message, hint=_hint(differences, path), widens=True)


def _matches_all(other: IndexedRule, entry: IndexedRule) -> bool:
    """Return whether *other* matches all methods and contexts of *entry*."""
    all_methods = not other.methods or (bool(entry.methods) and entry.methods <= other.methods)
    return all_methods and other.context <= entry.context


def _find_guarded(entry: IndexedRule, host: HostPattern | None, path: PathTemplate, index: RuleIndex) -> set[str]:
    """Return the differences that rules above *entry* handle: deeper paths, or the path without its last segment."""
    if path.prefix:
        return set()
    variants = {_DEEPER: PathTemplate("", (*path.segments, None), (), prefix=True)}
    if path.segments and path.segments[-1] is None:
        variants[_EMPTY] = PathTemplate("", path.segments[:-1], (), prefix=False)
    return {
        difference
        for difference, template in variants.items()
        if any(
            _matches_all(upper, entry) and requires_no_less(upper.rule, entry.rule)
            for upper in (cover.entry for cover in index.above(entry, host, template))
        )
    }


def _hint(differences: set[str], path: PathTemplate) -> str:
    """Return how to remove *differences*."""
    remedies = []
    if _CASE in differences:
        remedies.append("set match.case_insensitive: true")
    if differences & {_DEEPER, _EMPTY}:
        parts = path.text.strip("/").split("/")
        while parts and (not parts[-1] or parts[-1].startswith("{")):
            del parts[-1]
        remedies.append(f"write /{'/'.join((*parts, '**'))}")
    if differences - {_CASE, _DEEPER, _EMPTY}:
        remedies.append("add a rule between them with allow: deny for the rest")
    return "; ".join(remedies)


def _differences(entry: IndexedRule, host: HostPattern | None, path: PathTemplate, cover: Cover) -> set[str]:
    """Return the differences by which a request for *entry* falls through to *cover* below it."""
    below = cover.entry
    if below.methods and entry.methods and below.methods.isdisjoint(entry.methods):
        return set()  # a rule for other methods is explicit
    if contexts_conflict(below.context, entry.context):
        return set()  # a rule for another value of the same name is explicit
    differences = set()
    if entry.methods and not below.methods:
        differences.add("another method")
    if cover.host != host:
        differences.add("another host")
    if not entry.context <= below.context:
        differences.add("another context")
    if below.rule.accept:
        differences.add(_ACCEPTED)
    literals = cover.path.segments if not below.folds else ()
    loose = [
        own for own, below_it in zip_longest(path.segments, literals[: len(path.segments)]) if own and own != below_it
    ]
    if not entry.folds and any(own.lower() != own.upper() for own in loose):
        differences.add(_CASE)
    if cover.path.prefix and not path.prefix:
        differences.add(_DEEPER)
        if path.segments and path.segments[-1] is None and len(cover.path.segments) < len(path.segments):
            differences.add(_EMPTY)
    return differences
