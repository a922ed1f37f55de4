"""A circuit breaker: when a source fails again and again, it is left alone, and tried once after each pause.

Pure: the lane keeps the state, and gives the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_FAILURES: Final = 5  # in a row, until the source is left alone
FIRST_PAUSE: Final = 1.0  # seconds; each further failure doubles it
LAST_PAUSE: Final = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Breaker:
    """How often a source has *failed* in a row, and the monotonic instant *until* which it is left alone."""

    failed: int = 0
    until: float = 0.0

    def is_open(self, now: float) -> bool:
        """Whether the source is left alone at *now*."""
        return now < self.until

    def tried(self, now: float) -> Breaker:
        """Return the state while a trial is under way: no second one begins within the pause."""
        return self if self.failed < MAX_FAILURES else Breaker(self.failed, now + self._pause())

    def after_failure(self, now: float) -> Breaker:
        """Return the state after a failure."""
        failed = Breaker(self.failed + 1, self.until)
        return failed if failed.failed < MAX_FAILURES else Breaker(failed.failed, now + failed._pause())

    def _pause(self) -> float:
        doublings = min(self.failed - MAX_FAILURES, 10)
        return min(LAST_PAUSE, FIRST_PAUSE * 2.0**doublings)


CLOSED: Final = Breaker()
"""The state of a source that answers."""
