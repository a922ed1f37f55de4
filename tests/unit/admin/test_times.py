"""Proves that people can read how long something takes, and how long ago it was."""

from __future__ import annotations

import pytest

from authz.admin.times import ago, span

NOW = 1_900_000_000.0


def test_a_duration_is_written_in_its_largest_unit() -> None:
    """So that it fits into a column."""
    seconds = (0, 119, 120, 7199, 7200, 172_000, 172_800)
    assert [span(each) for each in seconds] == ["0 s", "119 s", "2 min", "120 min", "2.0 h", "47.8 h", "2 d"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "now"), (0.9, "now"), (1, "1 s ago"), (182, "3 min ago"), (18_060, "5.0 h ago"), (-3600, "now")],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    """What is less than a second ago is now, and so is what another clock says is to come."""
    assert ago(NOW - seconds, NOW) == text
