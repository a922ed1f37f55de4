"""A cache of facts, each until it expires.

It is read on the deciding thread, which takes no lock, and written on others. A FIFO cache allows that: unlike an LRU
cache, it is not changed by reading. Only writers exclude each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from cachetools import FIFOCache

from authz.core.needs import Need

_ENTRY_BYTES: Final = 1024  # of a need, a fact and their entry, without the size of the fact itself


@dataclass(slots=True)
class _Entry:
    """A *fact* until it *expires*; *renewed* is when it arrived or its renewal was last allowed; monotonic instants."""

    fact: object
    expires: float
    size: float
    renewed: float


class FactCache:
    """At most *max_entries* facts of *max_bytes* in all; the oldest is evicted first.

    *monotonic* is a clock in seconds.
    """

    def __init__(self, *, max_entries: int, monotonic: Callable[[], float], max_bytes: int = 64 * 1024 * 1024) -> None:
        self._monotonic: Final = monotonic
        self._max_bytes: Final = max_bytes
        self._min_size: Final = max_bytes / max_entries  # of an entry, so that at most max_entries fit
        self._facts: Final[FIFOCache[Need, _Entry]] = FIFOCache(max_bytes, getsizeof=_size_of)
        self._write_lock: Final = Lock()

    def get(self, need: Need) -> object | None:
        """Return the fact that answers *need*, or None if there is none or it has expired."""
        try:
            entry = self._facts[need]
        except KeyError:
            return None
        return entry.fact if self._monotonic() < entry.expires else None

    def may_renew(self, need: Need, pause: float) -> bool:
        """Return whether the fact that answers *need* may be renewed now: not again within *pause* seconds.

        The caller may have seen an older fact: one that has just arrived is not renewed either.
        """
        now = self._monotonic()
        try:
            entry = self._facts[need]
        except KeyError:
            return False
        if now - entry.renewed < pause:
            return False
        entry.renewed = now  # without a lock: if two threads do this at once, the gatherer merges their needs
        return True

    def put(self, need: Need, fact: object, *, seconds: float, size: int = 0) -> None:
        """Cache *fact* of *size* bytes for *seconds*; with 0 it expires at once. The payload of *need* is not kept."""
        taken = max(self._min_size, float(_ENTRY_BYTES + size))
        with self._write_lock:
            if taken <= self._max_bytes:
                now = self._monotonic()
                self._facts[need.without_payload] = _Entry(fact, now + seconds, taken, renewed=now)


def _size_of(entry: _Entry) -> float:
    return entry.size
