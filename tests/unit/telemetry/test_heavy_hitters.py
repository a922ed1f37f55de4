"""Proves authz.telemetry.heavy_hitters: who is frequent is found, in bounded memory, whatever names are sent."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from authz.telemetry.heavy_hitters import HeavyHitter, HeavyHitters


def test_few_names_are_counted_exactly() -> None:
    """The most frequent comes first; taking forgets."""
    hitters = HeavyHitters(max_names=3)
    for name in "abcbcb":
        hitters.count(name)
    assert hitters.take() == [HeavyHitter("b", 3, 0), HeavyHitter("c", 2, 0), HeavyHitter("a", 1, 0)]
    assert hitters.take() == []


@given(st.lists(st.sampled_from("abcdefgh"), max_size=300))
def test_the_count_is_off_by_no_more_than_it_says(names: list[str]) -> None:
    """No more than the bound is kept; who has more than one in that many is among them; truth lies in the range."""
    hitters, truth = HeavyHitters(max_names=4), Counter(names)
    for name in names:
        hitters.count(name)
    found = {hitter.name: hitter for hitter in hitters.take()}
    assert len(found) <= 4
    assert {name for name, count in truth.items() if count > len(names) / 4} <= found.keys()
    for hitter in found.values():
        assert hitter.count - hitter.error_bound <= truth[hitter.name] <= hitter.count


def test_a_flood_of_names_hides_nobody() -> None:
    """10,000 addresses that come once each do not push out the one that comes again and again."""
    hitters = HeavyHitters(max_names=64)
    for number in range(10_000):
        hitters.count(f"2001:db8::{number:x}")
        if number % 20 == 0:
            hitters.count("192.0.2.1")
    first, *others = hitters.take()
    assert first.name == "192.0.2.1"
    assert first.count - first.error_bound <= 500 <= first.count
    assert len(others) == 63
