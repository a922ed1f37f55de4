"""The bounds of a lane: how much it asks, how long it waits, and what it caches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, Self


class LaneSettings(Protocol):
    """The settings of a source of facts, as every section of the configuration has them."""

    @property
    def max_concurrent(self) -> int:
        """How many questions the source is asked at one time."""

    @property
    def max_wait(self) -> timedelta:
        """How long a check may wait."""

    @property
    def max_per_second(self) -> int:
        """How many questions are asked in a second, and at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of a lane.

    The source is asked at most *max_concurrent* questions at one time, on as many threads or connections. At most
    *max_waiting* checks wait for the lane at one time, each for at most *max_wait* seconds. The source is asked at most
    *burst* times at once, and once more every *refill* seconds. At most *max_cached* facts of *max_cached_bytes* are
    cached.
    """

    max_concurrent: int
    max_waiting: int
    max_wait: float
    burst: int
    refill: float
    max_cached: int = 10_000
    max_cached_bytes: int = 64 * 1024 * 1024

    @classmethod
    def of(
        cls, settings: LaneSettings, *, max_waiting: int, max_cached: int, max_cached_bytes: int = 64 * 1024 * 1024
    ) -> Self:
        """Return the bounds that *settings* ask for."""
        return cls(
            max_concurrent=settings.max_concurrent,
            max_waiting=max_waiting,
            max_wait=settings.max_wait.total_seconds(),
            burst=settings.max_per_second,
            refill=1.0 / settings.max_per_second,
            max_cached=max_cached,
            max_cached_bytes=max_cached_bytes,
        )
