"""How often something may be tried: a bucket of attempts that fills again at a steady rate.

A bucket, rather than a pause after each attempt: one stranger who spends an attempt does not take the next one's too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Budget:
    """At most *burst* attempts at once, and one more every *refill* seconds. Attempts count, not successes.

    *left* is how many there were at the instant *since*, in seconds of a monotonic clock.
    """

    burst: int
    refill: float
    left: float
    since: float

    @classmethod
    def full(cls, burst: int, refill: float, now: float) -> Self:
        """Begin with all of the *burst*."""
        return cls(burst, refill, float(burst), now)

    def available(self, now: float) -> float:
        """Return how many attempts there are at *now*, fractions included."""
        return min(float(self.burst), self.left + (now - self.since) / self.refill)

    def spend(self, now: float) -> Budget | None:
        """Return what is left after one attempt at *now*; None if there is none to be had."""
        available = self.available(now)
        return Budget(self.burst, self.refill, available - 1.0, now) if available >= 1.0 else None
