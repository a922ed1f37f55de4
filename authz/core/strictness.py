"""Compare two rules, or two lists of values, by what they allow.

Rules of this file:
1. Parts are compared one by one, as sets of what they allow.
2. A part that cannot be compared, such as two conditions, makes the result UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from authz.core.policy import AccessMode, Rule
from authz.core.requirements import ClaimRequirement, Requirements, RiskRequirement, json_typed


class Strictness(StrEnum):
    """How a new value compares with an old one; MIXED allows some callers that the old one denied, and vice versa."""

    SAME = "same"
    WIDENS = "widens"
    NARROWS = "narrows"
    MIXED = "mixed"
    UNKNOWN = "unknown"


_ACCESS_RANK: Final = {AccessMode.DENY: 0, AccessMode.AUTHENTICATED: 1, AccessMode.OPTIONAL: 2, AccessMode.PUBLIC: 3}
PUBLIC_RANK: Final = _ACCESS_RANK[AccessMode.PUBLIC]


def access_rank(rule: Rule | None) -> int:
    """Rank a rule by whom it allows, without its requirements: 0 for no one, PUBLIC_RANK if public or in shadow."""
    if rule is None:
        return 0
    return PUBLIC_RANK if rule.shadow else _ACCESS_RANK[rule.allow]


def compare_rules(old: Rule | None, new: Rule | None) -> Strictness:
    """Compare the callers that two rules allow, without their matches; None is the absence of a rule, which denies."""
    before, after = access_rank(old), access_rank(new)
    differences = [compare_upper_bounds(before, after)]
    if old is not None and new is not None and before and after and PUBLIC_RANK not in {before, after}:
        differences += _compare_requirements(old.requirements, new.requirements)
    return combine(differences)


def combine(parts: Iterable[Strictness]) -> Strictness:
    """Combine the comparisons of parts that must all hold."""
    differences = set(parts) - {Strictness.SAME}
    if Strictness.UNKNOWN in differences:
        return Strictness.UNKNOWN
    if len(differences) > 1:
        return Strictness.MIXED
    return differences.pop() if differences else Strictness.SAME


def compare_alternatives(old: Iterable[object], new: Iterable[object]) -> Strictness:
    """Compare lists of which a caller needs one value; an empty list requires nothing."""
    before, after = frozenset(old), frozenset(new)
    if not before or not after:
        return compare_upper_bounds(not before, not after)
    return compare_accepted(before, after)


def compare_all_required(old: Iterable[object], new: Iterable[object]) -> Strictness:
    """Compare lists of which a caller needs all values."""
    return compare_accepted(new, old)


def compare_accepted(old: Iterable[object], new: Iterable[object]) -> Strictness:
    """Compare lists of accepted values; an empty one accepts nothing."""
    before, after = frozenset(old), frozenset(new)
    if before == after:
        return Strictness.SAME
    if before < after:
        return Strictness.WIDENS
    return Strictness.NARROWS if after < before else Strictness.MIXED


def compare_upper_bounds(old: float | None, new: float | None) -> Strictness:
    """Compare upper bounds; None means unlimited."""
    if old == new:
        return Strictness.SAME
    return Strictness.WIDENS if new is None or (old is not None and new > old) else Strictness.NARROWS


def _compare_requirements(old: Requirements, new: Requirements) -> Iterator[Strictness]:
    yield compare_alternatives(old.issuers, new.issuers)
    yield compare_alternatives(old.audiences, new.audiences)
    yield compare_all_required(old.scopes, new.scopes)
    yield compare_alternatives(old.any_scope, new.any_scope)
    yield compare_alternatives(old.acr, new.acr)
    yield compare_alternatives(old.amr, new.amr)
    yield compare_upper_bounds(old.max_age, new.max_age)
    yield compare_upper_bounds(not old.bound, not new.bound)
    yield from _compare_claims(old.claims, new.claims)
    yield _compare_conditions(old.condition, new.condition)
    yield _compare_conditions(old.external, new.external)
    yield _compare_risk(old.risk, new.risk)


def _compare_claims(old: tuple[ClaimRequirement, ...], new: tuple[ClaimRequirement, ...]) -> Iterator[Strictness]:
    before, after = (
        {(claim.name, claim.path, claim.every): frozenset(map(json_typed, claim.values)) for claim in claims}
        for claims in (old, new)
    )
    for key in before | after:
        compare = compare_all_required if key[2] else compare_alternatives
        yield compare(before.get(key, ()), after.get(key, ()))


def _compare_risk(old: RiskRequirement | None, new: RiskRequirement | None) -> Strictness:
    """Compare the risk requirements. A step-up is an alternative: rules with different ones cannot be compared."""
    before, after = old or RiskRequirement(), new or RiskRequirement()
    if old is not None and new is not None and before.step_up != after.step_up:
        return Strictness.UNKNOWN
    limits = (
        compare_upper_bounds(getattr(before, name), getattr(after, name))
        for name in ("max_failures_1m", "max_failures_1h", "max_subject_failures_1m", "max_subject_failures_1h")
    )
    score = compare_upper_bounds(before.max_score, after.max_score)
    levels = compare_alternatives(before.levels, after.levels)
    networks = compare_upper_bounds(not before.known_network, not after.known_network)
    return combine([*limits, score, levels, networks, _compare_conditions(before.condition, after.condition)])


def _compare_conditions(old: object, new: object) -> Strictness:
    if old is None or new is None:
        return compare_upper_bounds(old is None, new is None)
    return Strictness.SAME if old == new else Strictness.UNKNOWN
