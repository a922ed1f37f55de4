"""When tokens first named each key id that an issuer has not published.

Any stranger may name as many as they like, so only the latest are kept: one that was dropped is first seen again, which
is answered "try again" and never "there is no such key".
"""

from __future__ import annotations

from typing import Final

_MAX_KEPT: Final = 4096  # in each of two generations


class Sightings:
    """Key ids by the instant of their first sight, in seconds of a monotonic clock. Takes no lock.

    Threads that write at once may lose a sight, which is then one that was dropped.
    """

    def __init__(self, *, max_kept: int = _MAX_KEPT) -> None:
        self._max_kept: Final = max_kept
        self._newer: dict[int, float] = {}  # by hash, so that long key ids cost no memory
        self._older: dict[int, float] = {}

    def first(self, kid: str | None, now: float) -> float:
        """Return when *kid* was first seen, which may be *now*."""
        newer, older, key = self._newer, self._older, hash(kid)
        seen = newer.get(key, older.get(key))
        if seen is not None:
            return seen
        if len(newer) >= self._max_kept:
            newer, self._older = {}, newer
            self._newer = newer
        newer[key] = now
        return now
