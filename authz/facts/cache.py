"""A cache of facts with an expiry time for each.

The deciding thread reads it without a lock; other threads write it under a lock. That is safe with a FIFO cache,
because, unlike with an LRU cache, reading does not change it.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

from cachetools import FIFOCache

from authz.core.needs import Need


class FactCache:
    """At most *max_entries* facts; the oldest is evicted first. *monotonic* is a clock in seconds."""

    def __init__(self, *, max_entries: int, monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        self._facts: Final[FIFOCache[Need, tuple[object, float]]] = FIFOCache(max_entries)
        self._write_lock: Final = Lock()

    def get(self, need: Need) -> object | None:
        """Return the fact that answers *need*, or None if there is none or it has expired."""
        try:
            fact, expires = self._facts[need]
        except KeyError:
            return None
        return fact if self._monotonic() < expires else None

    def put(self, need: Need, fact: object, *, seconds: float) -> None:
        """Cache *fact* for *seconds*; with 0 it expires at once."""
        with self._write_lock:
            self._facts[need] = (fact, self._monotonic() + seconds)
