"""Remembers accepted tokens and subjects, so that failures of others on a shared network do not stop them.

Rules of this file:
1. Memory is bounded by two generations: when one is full, or old, the one before it is forgotten. Whatever is in use
   is noted again, so the clients that call stay known.
2. One subject has at most MAX_OF_SUBJECT entries of a generation: the tokens of one client cannot replace all others'.
3. It is used on the deciding thread and others without a lock: each change is one operation of a dict, and an entry
   that is lost in a race is noted again by the next request.
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
    """Digests that were noted since the monotonic time *began*, and how many of each subject."""

    began: float
    digests: dict[str, str] = field(default_factory=dict)  # with the network that was noted last
    of_owner: dict[str, int] = field(default_factory=dict)


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
        current, before = self._generations
        return digest in current.digests or digest in before.digests

    def note(self, shown: ValidToken, network: str) -> None:
        """Remember a token, and its subject in its client's *network*."""
        token = digest_token(shown.text)
        if self._current().digests.get(token) == network:
            return
        owner = digest_owner(shown.members)
        for digest in (digest_subject(shown.members, network), token):
            if digest is not None:
                self._add(digest, network, owner)

    def _add(self, digest: str, network: str, owner: str) -> None:
        current = self._current()
        noted = current.of_owner.get(owner, 0)
        if digest in current.digests:
            current.digests[digest] = network
        elif noted < MAX_OF_SUBJECT:
            current.digests[digest] = network
            current.of_owner[owner] = noted + 1

    def _current(self) -> _Generation:
        current, _ = self._generations
        now = self._monotonic()
        if len(current.digests) >= self._max_entries or now >= current.began + GENERATION:
            current, self._generations = (fresh := _Generation(now)), (fresh, current)
        return current
