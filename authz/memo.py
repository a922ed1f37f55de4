"""Remember which signatures verified, so that a token seen again costs a look-up instead of arithmetic.

Rules of this file:
1. Only success is remembered, and only the arithmetic: time, audience, blocked keys and rules are judged on every
   request.
2. An entry names issuer, key thumbprint, algorithm and the SHA-256 of what was signed and how: a key that vanished is
   never selected, so its entries are never asked for.
3. Bounded, least recently used first; tokens themselves are never kept.
"""

from __future__ import annotations

from hashlib import sha256
from threading import Lock
from typing import Final

from cachetools import LRUCache

from authz.core.keys import Key, check_signature
from authz.core.token import UnverifiedToken

MAX_ENTRIES: Final = 10_000

_Entry = tuple[str, str, str, bytes]


class SignatureMemo:
    """The arithmetic of signatures, with a memory. Its `verify` is a snapshot's."""

    def __init__(self, *, max_entries: int = MAX_ENTRIES) -> None:
        self._seen: Final[LRUCache[_Entry, bool]] = LRUCache(max_entries)
        self._lock: Final = Lock()

    def verify(self, issuer: str, key: Key, token: UnverifiedToken) -> bool:
        """Verify *token* under *key* of the configured *issuer*; tell whether it was remembered.

        Raises Rejected(SIGNATURE_INVALID).
        """
        digest = sha256(b"%b.%b" % (token.signing_input, token.signature)).digest()
        entry = (issuer, key.thumbprint, token.alg, digest)
        with self._lock:
            if self._seen.get(entry):
                return True
        check_signature(key, token)
        with self._lock:
            self._seen[entry] = True
        return False
