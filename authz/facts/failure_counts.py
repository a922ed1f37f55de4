"""Counts failures by name, of networks or subjects, in sliding windows and bounded memory: clients choose the names.

Rules of this file:
1. A bucket has NAMES_PER_BUCKET names. A new name replaces the one with the fewest failures in the last hour: a flood
   of new names never evicts a name that has more failures than they have.
2. A count is never too high: no name inherits the failures of another. It is too low if the name was evicted.
3. It is used on the deciding thread and others without a lock. The failures of a name are an immutable value, which
   is replaced in one operation; if two threads count the same name at once, one count may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from authz.core.throttle import Throttle

NAMES_PER_BUCKET: Final = 8  # names that share a bucket
SLOTS: Final = 6  # of a window: a failure counts for five to six sixths of it
MINUTE: Final = 60.0  # seconds
HOUR: Final = 3600.0
_EMPTY_WINDOW: Final = (0,) * SLOTS


@dataclass(frozen=True, slots=True)
class Window:
    """The failures of each of the last SLOTS slots, the latest first; *latest* is its number."""

    latest: int = 0
    counts: tuple[int, ...] = _EMPTY_WINDOW

    def moved_to(self, slot: int) -> Window:
        """Return the window when *slot* is the latest."""
        passed = slot - self.latest
        if passed <= 0:
            return self
        counts = _EMPTY_WINDOW if passed >= SLOTS else _EMPTY_WINDOW[:passed] + self.counts[: SLOTS - passed]
        return Window(slot, counts)

    def add(self, slot: int) -> Window:
        """Return the window with one more failure in *slot*."""
        moved = self.moved_to(slot)
        return Window(moved.latest, (moved.counts[0] + 1, *moved.counts[1:]))

    def total(self, slot: int) -> int:
        """Return the number of failures in the window whose latest slot is *slot*."""
        return sum(self.moved_to(slot).counts)


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of one name. *level* is that of a leaky bucket at the monotonic time *since*."""

    name: str
    minute: Window = Window()
    hour: Window = Window()
    level: float = 0.0
    since: float = 0.0


_Bucket = list[Failures | None]


@dataclass(frozen=True, slots=True)
class FailureCount:
    """The failures of *name* in the last minute and the last hour; it is throttled for *seconds*."""

    name: str
    minute: int
    hour: int
    seconds: float = 0.0


class FailureCounts:
    """Counts the failures of at most *max_names*, of some 700 octets each. *monotonic* is a clock in seconds."""

    def __init__(self, *, max_names: int, monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        self._max_buckets: Final = max(1, max_names // NAMES_PER_BUCKET)
        self._buckets: Final[dict[int, _Bucket]] = {}

    def count(self, name: str, throttle: Throttle | None = None) -> None:
        """Count one failure of *name*; with a *throttle*, for it too."""
        now = self._monotonic()
        bucket = self._buckets.setdefault(self._number(name), [None] * NAMES_PER_BUCKET)
        index = _find_index(bucket, name, now)
        before = bucket[index]
        if before is None or before.name != name:
            before = Failures(name)
        level = 0.0 if throttle is None else min(_level(before, throttle, now) + 1.0, float(throttle.failures))
        minute, hour = before.minute.add(_slot(now, MINUTE)), before.hour.add(_slot(now, HOUR))
        bucket[index] = Failures(name, minute, hour, level, now)

    def get(self, name: str) -> FailureCount | None:
        """Return the failures of *name*, or None if there are none."""
        failures = self._find(name)
        return None if failures is None else _count(failures, None, self._monotonic())

    def throttled_for(self, name: str, throttle: Throttle) -> float:
        """Return for how many seconds *name* is throttled; 0 if it is not."""
        failures = self._find(name)
        return 0.0 if failures is None else _throttled_for(failures, throttle, self._monotonic())

    def all(self, throttle: Throttle | None = None) -> Iterator[FailureCount]:
        """Yield every name with failures in the last hour, or throttled."""
        now = self._monotonic()
        for bucket in self._buckets.copy().values():
            for failures in bucket:
                if failures is not None and ((count := _count(failures, throttle, now)).hour or count.seconds):
                    yield count

    def _number(self, name: str) -> int:
        return hash(name) % self._max_buckets

    def _find(self, name: str) -> Failures | None:
        for failures in self._buckets.get(self._number(name), ()):
            if failures is not None and failures.name == name:
                return failures
        return None


def _find_index(bucket: _Bucket, name: str, now: float) -> int:
    """Return the index of *name*; else one that is free, or of the name with the fewest failures, the longest ago."""
    slot = _slot(now, HOUR)

    def rank(index: int) -> tuple[int, float]:
        failures = bucket[index]
        if failures is None:
            return -1, 0.0
        return (-2, 0.0) if failures.name == name else (failures.hour.total(slot), failures.since)

    return min(range(NAMES_PER_BUCKET), key=rank)


def _slot(now: float, window: float) -> int:
    return int(now * SLOTS // window)


def _level(failures: Failures, throttle: Throttle, now: float) -> float:
    return max(0.0, failures.level - (now - failures.since) * throttle.failures / throttle.window)


def _throttled_for(failures: Failures, throttle: Throttle, now: float) -> float:
    """Return the seconds until the bucket has room for one more failure."""
    above = _level(failures, throttle, now) - (throttle.failures - 1)
    return max(0.0, above * throttle.window / throttle.failures)


def _count(failures: Failures, throttle: Throttle | None, now: float) -> FailureCount:
    minute, hour = failures.minute.total(_slot(now, MINUTE)), failures.hour.total(_slot(now, HOUR))
    return FailureCount(
        failures.name, minute, hour, 0.0 if throttle is None else _throttled_for(failures, throttle, now)
    )
