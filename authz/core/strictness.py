"""Which of two rules, or of two lists of values, allows more.

Rules of this file:
1. Parts are compared one by one. What each allows is compared as a set, never by example.
2. A part that cannot be compared, such as two conditions, makes the whole unknown: never "no less strict".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from authz.core.policy import AccessMode, ClaimRequirement, Condition, Requirements, Rule, json_typed


class Strictness(StrEnum):
    """How a new value compares with an old one; *MIXED* allows some that the old one denied, and vice versa."""

    SAME = "same"
    WIDENS = "widens"
    NARROWS = "narrows"
    MIXED = "mixed"
    UNKNOWN = "unknown"


_ADMITTED: Final = {AccessMode.DENY: 0, AccessMode.AUTHENTICATED: 1, AccessMode.OPTIONAL: 2, AccessMode.PUBLIC: 3}
EVERYBODY: Final = _ADMITTED[AccessMode.PUBLIC]


def admitted(rule: Rule | None) -> int:
    """Rank how many a rule allows before its requirements; 0 for none, EVERYBODY for a public or shadow rule."""
    if rule is None:
        return 0
    return EVERYBODY if rule.shadow else _ADMITTED[rule.allow]


def compare_rules(old: Rule | None, new: Rule | None) -> Strictness:
    """Compare the callers that two rules allow, whatever requests they are for; None is no rule, which denies."""
    before, after = admitted(old), admitted(new)
    found = [at_most(before, after)]
    if old is not None and new is not None and before and after and EVERYBODY not in {before, after}:
        found += _compare_requirements(old.requirements, new.requirements)
    return combine(found)


def combine(found: Iterable[Strictness]) -> Strictness:
    """Combine the comparisons of parts that must all hold."""
    differences = set(found) - {Strictness.SAME}
    if Strictness.UNKNOWN in differences:
        return Strictness.UNKNOWN
    if len(differences) > 1:
        return Strictness.MIXED
    return differences.pop() if differences else Strictness.SAME


def one_of(old: Iterable[object], new: Iterable[object]) -> Strictness:
    """Compare lists of alternatives, one of which a caller needs; an empty list requires nothing."""
    before, after = frozenset(old), frozenset(new)
    if not before or not after:
        return at_most(not before, not after)
    return accepted(before, after)


def all_of(old: Iterable[object], new: Iterable[object]) -> Strictness:
    """Compare lists of values that a caller needs all of."""
    return accepted(new, old)


def accepted(old: Iterable[object], new: Iterable[object]) -> Strictness:
    """Compare lists of what is accepted; an empty one accepts nothing."""
    before, after = frozenset(old), frozenset(new)
    if before == after:
        return Strictness.SAME
    if before < after:
        return Strictness.WIDENS
    return Strictness.NARROWS if after < before else Strictness.MIXED


def at_most(old: float | None, new: float | None) -> Strictness:
    """Compare upper bounds; None is no bound."""
    if old == new:
        return Strictness.SAME
    return Strictness.WIDENS if new is None or (old is not None and new > old) else Strictness.NARROWS


def _compare_requirements(old: Requirements, new: Requirements) -> Iterator[Strictness]:
    yield one_of(old.issuers, new.issuers)
    yield one_of(old.audiences, new.audiences)
    yield all_of(old.scopes, new.scopes)
    yield one_of(old.any_scope, new.any_scope)
    yield one_of(old.acr, new.acr)
    yield one_of(old.amr, new.amr)
    yield at_most(old.max_age, new.max_age)
    yield from _compare_claims(old.claims, new.claims)
    yield _compare_conditions(old.condition, new.condition)


def _compare_claims(old: tuple[ClaimRequirement, ...], new: tuple[ClaimRequirement, ...]) -> Iterator[Strictness]:
    before, after = (
        {(claim.name, claim.path, claim.every): frozenset(map(json_typed, claim.values)) for claim in claims}
        for claims in (old, new)
    )
    for key in before | after:
        compare = all_of if key[2] else one_of
        yield compare(before.get(key, ()), after.get(key, ()))


def _compare_conditions(old: Condition | None, new: Condition | None) -> Strictness:
    if old is None or new is None:
        return at_most(old is None, new is None)
    return Strictness.SAME if old == new else Strictness.UNKNOWN
