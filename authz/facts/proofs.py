"""Remembers which proofs of possession were used, for as long as each could be used again (RFC 9449 section 11.1).

Rules of this file:
1. A proof is forgotten only when it has expired, by the wall clock and by the monotonic clock. A check that waits for
   other facts is decided by the time of its arrival: a proof can be recorded after it has expired.
2. If the memory is full, the answer is Unanswered, never that a proof was used; and one key cannot fill all of it.
3. It is used on the deciding thread and others without a lock: what must be atomic is one operation of a dict.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from threading import get_ident
from typing import Final

from authz.core.dpop import ProofUse
from authz.core.needs import Need, Unanswered

_SLOT_SECONDS: Final = 8.0  # seconds: proofs that expire in the same slot are forgotten together
MAX_CHECK_SECONDS: Final = 60.0  # six rounds of waiting for facts, each of 10 s at most
_FULL: Final = Unanswered("the memory of proofs is full (dpop.max_proofs)")
_KEY_FULL: Final = Unanswered("one key has used half of the memory of proofs (dpop.max_proofs)")


class _Slot:
    """The proofs that expire in the same slot of time."""

    __slots__ = ("by_key", "proofs", "until")

    def __init__(self) -> None:
        self.proofs: Final[dict[int, int]] = {}  # the thread that recorded each, by its hash
        self.by_key: Final[Counter[int]] = Counter()
        self.until = 0.0  # on the monotonic clock


class ProofMemory:
    """Remembers at most *max_proofs*, of some 100 octets each.

    *now* is the wall clock, *monotonic* one that cannot be set, both in seconds. Hashes have a *secret* key, so that
    no client can produce collisions.
    """

    def __init__(
        self, *, max_proofs: int, now: Callable[[], float], monotonic: Callable[[], float], secret: bytes
    ) -> None:
        self._max_proofs: Final = max_proofs
        self._now: Final = now
        self._monotonic: Final = monotonic
        self._secret: Final = secret
        self._slots: Final[dict[int, _Slot]] = {}
        self._threads: Final[dict[int, int]] = {}  # one object for all proofs that a thread records

    def __len__(self) -> int:
        """Return how many proofs are remembered."""
        return sum(len(slot.proofs) for slot in self._slots.copy().values())

    def record(self, replay_key: str, thumbprint: str, until: float) -> ProofUse | Unanswered:
        """Record a proof that expires at *until*, in Unix time, and return whether it is new."""
        now, monotonic = self._now(), self._monotonic()
        self._forget(now, monotonic)
        proof, key = self._hash(replay_key), self._hash(thumbprint)
        slots = self._slots.copy().values()
        if any(proof in slot.proofs for slot in slots):
            return ProofUse.REPLAYED
        recorded = sum(len(slot.proofs) for slot in slots)
        if recorded >= self._max_proofs:
            return _FULL
        if 2 * recorded >= self._max_proofs and 2 * sum(slot.by_key[key] for slot in slots) >= self._max_proofs:
            return _KEY_FULL
        slot = self._slots.setdefault(int(until // _SLOT_SECONDS), _Slot())
        slot.until = max(slot.until, monotonic + max(until - now, 0.0) + MAX_CHECK_SECONDS)
        slot.by_key[key] += 1
        thread = self._thread()
        return ProofUse.FIRST if slot.proofs.setdefault(proof, thread) == thread else ProofUse.REPLAYED

    def was_used(self, replay_key: str) -> bool:
        """Return whether a proof was recorded, without recording it."""
        proof = self._hash(replay_key)
        return any(proof in slot.proofs for slot in self._slots.copy().values())

    def _forget(self, now: float, monotonic: float) -> None:
        ended = int((now - MAX_CHECK_SECONDS) // _SLOT_SECONDS)
        for index, slot in self._slots.copy().items():
            if index < ended and slot.until <= monotonic:
                self._slots.pop(index, None)

    def _hash(self, text: str) -> int:
        digest = hashlib.blake2b(text.encode(), digest_size=8, key=self._secret).digest()
        return int.from_bytes(digest, "big")

    def _thread(self) -> int:
        thread = get_ident()
        return self._threads.setdefault(thread, thread)


def read_proof_payload(need: Need) -> tuple[float, str]:
    """Return when a proof expires, in seconds since the epoch, and the thumbprint of its key (see `needs.PROOF`)."""
    until, _, thumbprint = need.payload.partition(" ")
    return float(until), thumbprint


class ProofLane:
    """Answers at once, from the *memory* of this process, whether a proof is used for the first time."""

    max_waiting: Final = 0

    def __init__(self, memory: ProofMemory) -> None:
        self._memory: Final = memory

    def recall(self, need: Need) -> ProofUse | None:
        """Return REPLAYED if a proof was used before, so that its request is denied at once. Nothing is recorded."""
        return ProofUse.REPLAYED if self._memory.was_used(need.identifier or "") else None

    def find(self, need: Need) -> object:
        """Record the proof; return a ProofUse, or an Unanswered if the memory is full."""
        until, thumbprint = read_proof_payload(need)
        return self._memory.record(need.identifier or "", thumbprint, until)

    def ask(self, _need: Need, done: Callable[[object | None], None]) -> None:
        """Call *done* with None: `find` always answers."""
        done(None)

    def max_wait(self, _need: Need) -> float:
        """Return 0: no check waits."""
        return 0.0
