"""The fake clock."""

from __future__ import annotations

import pytest

from tests.fakes.clock import FakeClock


def test_time_goes_by_on_both_clocks() -> None:
    """Advancing and sleeping move wall and monotonic time together."""
    clock = FakeClock(wall=100, monotonic=10)

    clock.advance(1)
    clock.sleep(2)

    assert (clock.time(), clock.monotonic()) == (103, 13)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_jump_is_seen_on_the_wall_only() -> None:
    """Setting the clock leaves monotonic time alone."""
    clock = FakeClock(wall=100, monotonic=10)

    clock.jump(-50)

    assert (clock.time(), clock.monotonic()) == (50, 10)
