"""A rate limit as a token bucket: it holds attempts and refills at a constant rate.

Unlike a fixed pause after each attempt, an attempt for one client does not block the next client.
"""

from __future__ import annotations

from typing import Self

from authz.core.record import record


@record
class Budget:
    """At most *burst* attempts at once, and one more every *refill* seconds. Failed attempts count too.

    *left* is the number of attempts at the time *since*, in seconds on a monotonic clock.
    """

    burst: int
    refill: float
    left: float
    since: float

    @classmethod
    def full(cls, burst: int, refill: float, now: float) -> Self:
        """Return a full bucket."""
        return cls(burst, refill, float(burst), now)

    def available(self, now: float) -> float:
        """Return the number of attempts at *now*, including fractions."""
        return min(float(self.burst), self.left + (now - self.since) / self.refill)

    def spend(self, now: float) -> Budget | None:
        """Return the budget after one attempt at *now*, or None if no attempt is available."""
        available = self.available(now)
        return Budget(self.burst, self.refill, available - 1.0, now) if available >= 1.0 else None
