"""Who is refused most: a bounded count of names that clients choose."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Final


@dataclass(frozen=True, slots=True)
class Talker:
    """A name, and how often it was counted: *count*, of which up to *excess* may be others'."""

    name: str
    count: int
    excess: int


class Talkers:
    """Counts names in bounded memory: whoever has more than one in *max_names* of all counts is surely among them.

    Space-Saving (Metwally, Agrawal and El Abbadi, 2005): a new name takes the place of the least, and its count.
    """

    def __init__(self, *, max_names: int) -> None:
        self._max_names: Final = max_names
        self._counts: dict[str, int] = {}
        self._excess: dict[str, int] = {}
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
                inherited = self._counts.pop(least)
                self._excess.pop(least, None)
                self._counts[name] = inherited + 1
                self._excess[name] = inherited

    def take(self) -> list[Talker]:
        """Return all that are known, the most frequent first, and forget them."""
        with self._lock:
            counts, excess = self._counts, self._excess
            self._counts, self._excess = {}, {}
        found = [Talker(name, count, excess.get(name, 0)) for name, count in counts.items()]
        return sorted(found, key=lambda talker: (talker.excess - talker.count, talker.name))
