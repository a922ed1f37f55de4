"""A cache of facts, each until it expires.

It is read on the deciding thread, which takes no lock, and written on others. A FIFO cache allows that: unlike an LRU
cache, it is not changed by reading. Only writers exclude each other.
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
        self._writing: Final = Lock()

    def get(self, need: Need) -> object | None:
        """Return the fact that answers *need*, or None if there is none or it has expired."""
        try:
            fact, expires = self._facts[need]
        except KeyError:
            return None
        return fact if self._monotonic() < expires else None

    def put(self, need: Need, fact: object, *, seconds: float) -> None:
        """Keep *fact* for *seconds*; with 0 it expires at once."""
        with self._writing:
            self._facts[need] = (fact, self._monotonic() + seconds)
