"""Remember which signatures verified, so that a token seen again costs a look-up instead of arithmetic.

Rules of this file:
1. Only success is remembered, and only the arithmetic: time, audience, blocked keys and rules are judged on every
   request.
2. An entry names issuer, key thumbprint, algorithm and the SHA-256 of what was signed and how. A key that vanished or
   was blocked is never selected, so its entries are never asked for; they are dropped all the same.
3. Bounded, least recently used first. Tokens themselves are never kept, so that an entry has one size, whatever was
   signed: the bound on entries is one on bytes.
"""

from __future__ import annotations

from hashlib import sha256
from threading import Lock
from typing import Final

from cachetools import LRUCache

from authz.core.keys import Key, Verified, verify_signature
from authz.core.snapshot import Snapshot
from authz.core.token import UnverifiedToken

MAX_ENTRIES: Final = 10_000
ENTRY_BYTES: Final = 512  # at most, with its place in the order of use: all of them take 5 MB

_Entry = tuple[str, str, str, bytes]


class SignatureMemo:
    """The arithmetic of signatures, with a memory. Its `verify` is a snapshot's."""

    def __init__(self, *, max_entries: int = MAX_ENTRIES) -> None:
        self._seen: Final[LRUCache[_Entry, bool]] = LRUCache(max_entries)
        self._lock: Final = Lock()

    def verify(self, issuer: str, key: Key, token: UnverifiedToken) -> Verified:
        """Verify *token* under *key* of the configured *issuer*, or find that it was.

        Raises Rejected(SIGNATURE_INVALID).
        """
        digest = sha256(b"%b.%b" % (token.signing_input, token.signature)).digest()
        entry = (issuer, key.thumbprint, token.alg, digest)
        with self._lock:
            if self._seen.get(entry):
                return Verified.CACHED
        verify_signature(key, token)
        with self._lock:
            self._seen[entry] = True
        return Verified.COMPUTED

    def forget_vanished(self, snapshot: Snapshot) -> None:
        """Drop what was remembered of keys that *snapshot* does not have.

        A request that began with an earlier one may still add an entry, which is in nobody's way.
        """
        serving = {
            (issuer.name, key.thumbprint)
            for issuer in snapshot.issuers.values()
            if issuer.keys is not None
            for key in issuer.keys.keys
        }
        with self._lock:
            vanished = [entry for entry in self._seen if entry[:2] not in serving]
        for entry in vanished:
            with self._lock:  # anew for each: a request never waits for all of them
                self._seen.pop(entry, None)
