"""Remembers accepted tokens and subjects, so that failures of others in a shared network do not throttle them.

Rules of this file:
1. Memory is bounded by two generations: when the current one is full or old, the previous one is dropped. Entries in
   use are recorded again, so that active clients stay known.
2. One subject has at most MAX_OF_SUBJECT entries in a generation: one client cannot evict all others.
3. It is used on the deciding thread and others without a lock: each change is one operation of a dict, and an entry
   that is lost in a race is recorded again by the next request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from authz.core.throttle import digest_owner, digest_subject, digest_token
from authz.core.token import ValidToken

GENERATION: Final = 6 * 3600.0  # seconds: an unused entry is remembered for one to two of them
MAX_OF_SUBJECT: Final = 64  # tokens and networks of one subject


@dataclass(slots=True)
class _Generation:
    """Digests that were recorded since the monotonic time *began*, and their number by subject."""

    began: float
    digests: dict[str, str] = field(default_factory=dict)  # with the network that was recorded last
    count_by_owner: dict[str, int] = field(default_factory=dict)


class AcceptedClients:
    """Remembers at most *max_entries* digests in each of two generations, of some 200 octets each.

    *monotonic* is a clock in seconds.
    """

    def __init__(self, *, max_entries: int, monotonic: Callable[[], float]) -> None:
        self._max_entries: Final = max_entries
        self._monotonic: Final = monotonic
        self._generations = _Generation(monotonic()), _Generation(monotonic())  # this one, and the one before

    def __len__(self) -> int:
        """Return how many digests are remembered."""
        return sum(len(generation.digests) for generation in self._generations)

    def knows(self, digest: str) -> bool:
        """Return whether a token or a subject with this digest was accepted."""
        current, previous = self._generations
        return digest in current.digests or digest in previous.digests

    def record(self, token: ValidToken, network: str) -> None:
        """Remember a token, and its subject in its client's *network*."""
        digest_of_token = digest_token(token.text)
        if self._current().digests.get(digest_of_token) == network:
            return
        owner = digest_owner(token.members)
        for digest in (digest_subject(token.members, network), digest_of_token):
            if digest is not None:
                self._add(digest, network, owner)

    def _add(self, digest: str, network: str, owner: str) -> None:
        current = self._current()
        recorded = current.count_by_owner.get(owner, 0)
        if digest in current.digests:
            current.digests[digest] = network
        elif recorded < MAX_OF_SUBJECT:
            current.digests[digest] = network
            current.count_by_owner[owner] = recorded + 1

    def _current(self) -> _Generation:
        current, _ = self._generations
        now = self._monotonic()
        if len(current.digests) >= self._max_entries or now >= current.began + GENERATION:
            current, self._generations = (fresh := _Generation(now)), (fresh, current)
        return current
