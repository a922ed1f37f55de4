"""A clock that goes only when the test says so."""

from __future__ import annotations


class FakeClock:
    """Wall-clock and monotonic seconds, movable together or apart; its methods stand for those of the module `time`."""

    def __init__(self, *, wall: float = 1_800_000_000.0, monotonic: float = 1_000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def time(self) -> float:
        """Wall-clock seconds since the epoch."""
        return self._wall

    def monotonic(self) -> float:
        """Monotonic seconds since an arbitrary moment."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Return at once, with the time gone by."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time go by, on both clocks."""
        if seconds < 0:
            raise ValueError("time does not go back; a wall clock may jump")
        self._wall += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does; monotonic time does not notice."""
        self._wall += seconds
