"""Proves that a row which does not measure what it claims is refused."""

from __future__ import annotations

import pytest

from tests.bench.growth import growth
from tests.bench.load import SpoiltError
from tests.bench.rounds import HIT, MISS, changes, check_samples


@pytest.mark.parametrize(
    ("changed", "fresh", "words"),
    [
        ({HIT: 10.0, MISS: 1.0}, False, "1 of 11 tokens were not remembered"),
        ({HIT: 1.0, MISS: 10.0}, True, "1 of 11 tokens had been seen before"),
        ({HIT: 10.0, "authz_decisions_total:deny": 2.0}, False, "2 requests were denied"),
        ({"authz_facts_total:active": 3.0}, False, "the issuer was asked 3 times more"),
    ],
)
def test_spoilt(changed: dict[str, float], *, fresh: bool, words: str) -> None:
    """A hit among new tokens, a miss among old ones, a denial and a question anywhere spoil the figures."""
    with pytest.raises(SpoiltError, match=words):
        check_samples(changed, fresh=fresh)


@pytest.mark.parametrize(("changed", "fresh"), [({HIT: 9.0, MISS: 0.0}, False), ({MISS: 9.0}, True), ({}, False)])
def test_sound(changed: dict[str, float], *, fresh: bool) -> None:
    """What the row claims is let through; a stand without a sidecar has nothing to say."""
    check_samples(changed, fresh=fresh)


def test_changes() -> None:
    """Only the growth of a counter counts; a new one began at nothing."""
    assert changes({"a": 5.0, "gone": 1.0}, {"a": 7.0, "new": 3.0}) == {"a": 2.0, "new": 3.0}


def test_growth_is_of_the_second_half() -> None:
    """What memory grows by while it fills is not held against it; what it grows by for ever is."""
    assert growth([(100, 70.0), (200, 79.0), (300, 80.0), (400, 80.5)]) == pytest.approx(1.5)
    assert growth([(100, 70.0)]) == 0
