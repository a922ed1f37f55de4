"""Proves authz.core.strictness: which of two rules lets more callers through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest

from authz.core.policy import AccessMode, Rule
from authz.core.requirements import Requirements, RiskRequirement
from authz.core.strictness import (
    Strictness,
    combine,
    compare_accepted,
    compare_all_required,
    compare_alternatives,
    compare_rules,
    compare_upper_bounds,
)
from tests.fixtures import claim, rule

SAME, WIDENS, NARROWS, MIXED, UNKNOWN = Strictness
TURNED: Final = {WIDENS: NARROWS, NARROWS: WIDENS}


@dataclass(frozen=True)
class Condition:
    """Stands for an expression; equal if its text is."""

    text: str

    def holds(self, request: object, params: object, claims: object) -> bool:
        return True


def asks(**wanted: Any) -> Rule:  # noqa: ANN401 - requirements are of several types
    """A rule that asks for something."""
    return rule("r", "/x", **wanted)


RULES: Final[dict[str, tuple[Rule | None, Rule | None, Strictness]]] = {
    "no rule at all": (None, None, SAME),
    "a rule where there was none": (None, asks(), WIDENS),
    "a rule that allows nobody": (None, asks(allow=AccessMode.DENY), SAME),
    "one in shadow that allows nobody": (None, asks(allow=AccessMode.DENY, shadow=True), WIDENS),
    "an optional token": (asks(), asks(allow=AccessMode.OPTIONAL), WIDENS),
    "public": (asks(allow=AccessMode.OPTIONAL), asks(allow=AccessMode.PUBLIC), WIDENS),
    "public, or in shadow": (asks(allow=AccessMode.PUBLIC), asks(scopes=("a",), shadow=True), SAME),
    "what a public rule asks": (asks(allow=AccessMode.PUBLIC), asks(scopes=("a",)), NARROWS),
    "a scope": (asks(), asks(scopes=("a",)), NARROWS),
    "a limit of failures": (asks(), asks(risk=RiskRequirement(max_failures_1m=20)), NARROWS),
    "a lower limit": (
        asks(risk=RiskRequirement(max_subject_failures_1h=20)),
        asks(risk=RiskRequirement(max_subject_failures_1h=5)),
        NARROWS,
    ),
    "a known network in place of a limit": (
        asks(risk=RiskRequirement(max_failures_1h=20)),
        asks(risk=RiskRequirement(known_network=True)),
        MIXED,
    ),
    "another level": (
        asks(risk=RiskRequirement(levels=("low",))),
        asks(risk=RiskRequirement(levels=("low", "medium"))),
        WIDENS,
    ),
    "a lower score": (asks(risk=RiskRequirement(max_score=0.7)), asks(risk=RiskRequirement(max_score=0.5)), NARROWS),
    "a way out": (
        asks(risk=RiskRequirement(known_network=True)),
        asks(risk=RiskRequirement(known_network=True, step_up=Requirements(acr=("mfa",)))),
        UNKNOWN,
    ),
    "another scope": (asks(scopes=("a",)), asks(scopes=("b",)), MIXED),
    "fewer scopes, but optional": (asks(scopes=("a",)), asks(scopes=("a", "b"), allow=AccessMode.OPTIONAL), MIXED),
    "one more of which one is enough": (asks(any_scope=("a",)), asks(any_scope=("a", "b")), WIDENS),
    "one issuer": (asks(), asks(issuers=frozenset({"a"})), NARROWS),
    "another audience": (asks(audiences=frozenset("a")), asks(audiences=frozenset("b")), MIXED),
    "no acr": (asks(acr=("a",)), asks(), WIDENS),
    "an amr": (asks(amr=("a", "b")), asks(amr=("a",)), NARROWS),
    "a shorter time": (asks(max_age=60.0), asks(max_age=30.0), NARROWS),
    "a claim": (asks(), asks(claims=(claim("g", "a"),)), NARROWS),
    "one more value of a claim": (asks(claims=(claim("g", "a"),)), asks(claims=(claim("g", "a", "b"),)), WIDENS),
    "a value of another type": (asks(claims=(claim("g", 1),)), asks(claims=(claim("g", "1"),)), MIXED),
    "another claim": (asks(claims=(claim("g", 1),)), asks(claims=(claim("h", 1),)), MIXED),
    "one more value of all": (
        asks(claims=(claim("g", 1, every=True),)),
        asks(claims=(claim("g", 1, 2, every=True),)),
        NARROWS,
    ),
    "a condition": (asks(), asks(condition=Condition("a")), NARROWS),
    "the same condition": (asks(condition=Condition("a")), asks(condition=Condition("a")), SAME),
    "another condition": (asks(condition=Condition("a")), asks(condition=Condition("b")), UNKNOWN),
    "another condition, and a scope less": (
        asks(condition=Condition("a"), scopes=("s",)),
        asks(condition=Condition("b")),
        UNKNOWN,
    ),
}


@pytest.mark.parametrize(("old", "new", "found"), RULES.values(), ids=RULES)
def test_two_rules(old: Rule | None, new: Rule | None, found: Strictness) -> None:
    """Who is let through by one and not by the other decides; and the other way round it is the opposite."""
    assert compare_rules(old, new) is found
    assert compare_rules(new, old) is TURNED.get(found, found)


@pytest.mark.parametrize(
    ("one", "other", "enough", "needed", "listed"),
    [
        ((), (), SAME, SAME, SAME),
        ("a", (), WIDENS, WIDENS, NARROWS),
        ("ab", "a", NARROWS, WIDENS, NARROWS),
        ("ab", "bc", MIXED, MIXED, MIXED),
        ("ab", "ba", SAME, SAME, SAME),
    ],
)
def test_lists(one: str, other: str, enough: Strictness, needed: Strictness, listed: Strictness) -> None:
    """One value is enough, each is needed, or each is accepted; none at all asks nothing, or accepts nothing."""
    for compare, found in ((compare_alternatives, enough), (compare_all_required, needed), (compare_accepted, listed)):
        assert compare(one, other) is found
        assert compare(other, one) is TURNED.get(found, found)


def test_bounds() -> None:
    """No bound is the widest one."""
    pairs = ((None, None), (1, 2), (2, 1), (1, None), (None, 1))
    assert [compare_upper_bounds(*pair) for pair in pairs] == [SAME, WIDENS, NARROWS, WIDENS, NARROWS]


def test_parts_make_a_whole() -> None:
    """What no one knows outweighs all; what widens here and narrows there is mixed."""
    assert combine([]) is combine([SAME]) is SAME
    assert combine([SAME, WIDENS, WIDENS]) is WIDENS
    assert combine([WIDENS, NARROWS]) is combine([MIXED, WIDENS]) is MIXED
    assert combine([UNKNOWN, WIDENS, NARROWS]) is UNKNOWN
