"""When tokens with an unknown key id were first seen.

Any client can send any number of key ids, so only the most recent ones are kept. A key id that was dropped counts as
new again: its token is denied as retryable, never as key_not_found.
"""

from __future__ import annotations

from typing import Final

_MAX_CACHED: Final = 4096  # in each of two generations


class UnknownKids:
    """Unknown key ids and when they were first seen, in seconds on a monotonic clock. Takes no lock.

    Concurrent writes may lose an entry, with the same effect as if it was dropped.
    """

    def __init__(self, *, max_cached: int = _MAX_CACHED) -> None:
        self._max_cached: Final = max_cached
        self._newer: dict[int, float] = {}  # by hash, so that long key ids use no memory
        self._older: dict[int, float] = {}

    def first_seen(self, kid: str | None, now: float) -> float:
        """Return when *kid* was first seen; if it is new, record and return *now*."""
        newer, older, key = self._newer, self._older, hash(kid)
        seen_at = newer.get(key, older.get(key))
        if seen_at is not None:
            return seen_at
        if len(newer) >= self._max_cached:
            newer, self._older = {}, newer
            self._newer = newer
        newer[key] = now
        return now
