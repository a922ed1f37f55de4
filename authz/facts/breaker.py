"""A circuit breaker: it opens after several failures of a source in a row, and allows one trial after each pause.

Pure functions: the lane keeps the state and passes the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_FAILURES: Final = 5  # in a row, until the breaker opens
INITIAL_BACKOFF: Final = 1.0  # seconds; each further failure doubles it
MAX_BACKOFF: Final = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Breaker:
    """How often a source has *failed* in a row, and the monotonic instant *until* which the breaker is open."""

    failed: int = 0
    until: float = 0.0

    def is_open(self, now: float) -> bool:
        """Return whether the breaker is open at *now*."""
        return now < self.until

    def start_trial(self, now: float) -> Breaker:
        """Return the state after the start of a trial: no second one starts within the pause."""
        return self if self.failed < MAX_FAILURES else Breaker(self.failed, now + self._pause())

    def after_failure(self, now: float) -> Breaker:
        """Return the state after a failure."""
        failed = Breaker(self.failed + 1, self.until)
        return failed if failed.failed < MAX_FAILURES else Breaker(failed.failed, now + failed._pause())

    def _pause(self) -> float:
        doublings = min(self.failed - MAX_FAILURES, 10)
        return min(MAX_BACKOFF, INITIAL_BACKOFF * 2.0**doublings)


CLOSED: Final = Breaker()
"""The state of a source that answers."""
