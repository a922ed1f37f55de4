"""Proves that the middle and the spread are right, and when two runs are said to differ."""

from __future__ import annotations

import pytest

from tests.bench.series import Change, Spread, compare, spread


def test_spread_is_the_median_and_the_range() -> None:
    """One wild value moves the range and leaves the middle."""
    assert spread([3.0, 1.0, 2.0, 90.0, 2.5]) == Spread(2.5, 1.0, 90.0, 5)


def test_percent_is_half_the_range() -> None:
    """10 with values from 9 to 11 is 10 give or take 10 %; a middle of nothing has no percent."""
    assert spread([9.0, 10.0, 11.0]).percent == pytest.approx(10)
    assert spread([-1.0, 0.0, 1.0]).percent == 0


LOW = spread([1.0, 1.1, 1.2, 1.3])
HIGH = spread([1.4, 1.5, 1.6, 1.7])


@pytest.mark.parametrize(
    ("metric", "before", "after", "change"),
    [
        ("rps", LOW, HIGH, Change.BETTER),
        ("rps", HIGH, LOW, Change.WORSE),
        ("cpu_us", LOW, HIGH, Change.WORSE),
        ("cpu_us", HIGH, LOW, Change.BETTER),
        ("rps", LOW, spread([1.3, 1.5, 1.6, 1.7]), Change.NOISE),
        ("rps", spread([1.3, 1.5, 1.6, 1.7]), LOW, Change.NOISE),
        ("rps", LOW, LOW, Change.NOISE),
        ("rps", LOW, spread([9.0, 9.0, 9.0]), Change.UNSURE),
        ("rss_mb", spread([1.0]), HIGH, Change.UNSURE),
    ],
)
def test_change(metric: str, before: Spread, after: Spread, change: Change) -> None:
    """Ranges that touch are noise, too few values prove nothing, and less is better where it costs."""
    assert compare(metric, before, after) is change
