"""Facts that were learned, each until it expires.

It is read on the judging thread and written on others. A library's cache must be locked for both; here a look-up is one
`dict.get`, which needs no lock, and only writers exclude each other.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

from authz.core.needs import Need


class FactCache:
    """At most *max_entries* facts, the oldest of which goes first. *monotonic* is a clock in seconds."""

    def __init__(self, *, max_entries: int, monotonic: Callable[[], float]) -> None:
        self._max_entries: Final = max_entries
        self._monotonic: Final = monotonic
        self._facts: Final[dict[Need, tuple[object, float]]] = {}
        self._writing: Final = Lock()

    def get(self, need: Need) -> object | None:
        """Return the fact that answers *need*, or None where there is none that has not expired."""
        fact, expires = self._facts.get(need, (None, 0.0))
        return fact if self._monotonic() < expires else None

    def put(self, need: Need, fact: object, *, seconds: float) -> None:
        """Keep *fact* for so many *seconds*."""
        with self._writing:
            self._facts.pop(need, None)  # so that it is the youngest
            while len(self._facts) >= self._max_entries:
                del self._facts[next(iter(self._facts))]
            if seconds > 0:
                self._facts[need] = (fact, self._monotonic() + seconds)
