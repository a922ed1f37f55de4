"""The most frequent names, counted in bounded memory, because clients choose the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final


@dataclass(frozen=True, slots=True)
class HeavyHitter:
    """A name and its *count*, which is at most *error_bound* too high."""

    name: str
    count: int
    error_bound: int


class HeavyHitters:
    """Counts names in bounded memory: a name with more than 1/*max_names* of all counts is certainly kept.

    Space-Saving (Metwally, Agrawal and El Abbadi, 2005): a new name replaces the least frequent, and takes its count.
    """

    def __init__(self, *, max_names: int) -> None:
        self._max_names: Final = max_names
        self._counts: dict[str, int] = {}
        self._error_bounds: dict[str, int] = {}
        self._lock: Final = Lock()

    def count(self, name: str) -> None:
        """Count *name* once."""
        with self._lock:
            if name in self._counts:
                self._counts[name] += 1
            elif len(self._counts) < self._max_names:
                self._counts[name] = 1
            else:
                least = min(self._counts, key=self._counts.__getitem__)
                replaced_count = self._counts.pop(least)
                self._error_bounds.pop(least, None)
                self._counts[name] = replaced_count + 1
                self._error_bounds[name] = replaced_count

    def take(self) -> list[HeavyHitter]:
        """Return the names that are kept, the most frequent first, and reset the counts."""
        with self._lock:
            counts, error_bounds = self._counts, self._error_bounds
            self._counts, self._error_bounds = {}, {}
        return _rank(counts, error_bounds)

    def peek(self) -> list[HeavyHitter]:
        """Return the names that are kept, the most frequent first, without a reset."""
        with self._lock:
            counts, error_bounds = dict(self._counts), dict(self._error_bounds)
        return _rank(counts, error_bounds)


def _rank(counts: Mapping[str, int], error_bounds: Mapping[str, int]) -> list[HeavyHitter]:
    hitters = [HeavyHitter(name, count, error_bounds.get(name, 0)) for name, count in counts.items()]
    return sorted(hitters, key=lambda hitter: (hitter.error_bound - hitter.count, hitter.name))
