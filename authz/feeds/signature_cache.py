"""Remember which signatures verified, so that a token seen again costs a look-up instead of arithmetic.

Rules of this file:
1. Only success is remembered, and only the arithmetic: time, audience, blocked keys and rules are judged on every
   request.
2. An entry names issuer, key thumbprint, algorithm and the SHA-256 of what was signed and how. A key that vanished or
   was blocked is never selected, so its entries are never asked for; they are dropped all the same.
3. Bounded, least recently used first. Tokens themselves are never kept, so that an entry has one size, whatever was
   signed: the bound on entries is one on bytes.
4. No lock: threads that evaluate and the one that evicts share an `OrderedDict`, of which every step used here (a move
   to the end, a store, a removal, a copy) is one step of the interpreter, for keys are compared in C. Between two steps
   an entry may vanish, which costs its arithmetic once more; none can appear that did not verify. `cachetools` needs a
   lock, and an eviction of all entries would hold up requests.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from hashlib import sha256
from typing import Final

from authz.core.keys import Key, Verified, compute
from authz.core.snapshot import Snapshot
from authz.core.token import UnverifiedToken

MAX_ENTRIES: Final = 10_000
ENTRY_BYTES: Final = 512  # at most, with its place in the order of use: all of them take 5 MB
_STEP: Final = 64  # entries that an eviction looks at before it lets requests go first

_Entry = tuple[str, str, str, bytes]  # configured issuer, thumbprint, algorithm, digest


class SignatureCache:
    """The arithmetic of signatures, with a memory. Its `verify` is a snapshot's."""

    def __init__(self, *, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries: Final = max_entries
        self._verified: Final[OrderedDict[_Entry, None]] = OrderedDict()  # the least recently used first

    def verify(self, issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
        """Find the one of *keys* of the configured *issuer* that signed *token*, or find that it was found before.

        Every key is looked up before any is tried: a token that was seen costs no arithmetic, whichever key signed it.

        Raises Rejected(SIGNATURE_INVALID).
        """
        digest = sha256(b"%b.%b" % (token.signing_input, token.signature)).digest()
        for key in keys:
            try:
                self._verified.move_to_end((issuer, key.thumbprint, token.alg, digest))
            except KeyError:
                continue
            return key, Verified.CACHED
        key, verified = compute(issuer, keys, token)
        self._verified[issuer, key.thumbprint, token.alg, digest] = None
        while len(self._verified) > self._max_entries:
            try:
                self._verified.popitem(last=False)
            except KeyError:  # others removed what was too much
                break
        return key, verified

    def evict_removed_keys(self, snapshot: Snapshot) -> None:
        """Drop what was remembered of keys that *snapshot* does not have, on a thread that requests need not wait for.

        A request that began with an earlier one may still add an entry, which is in nobody's way.
        """
        serving = {
            (issuer.name, key.thumbprint)
            for issuer in snapshot.issuers.values()
            if issuer.keys is not None
            for key in issuer.keys.keys
        }
        for number, entry in enumerate(list(self._verified)):
            if entry[:2] not in serving:
                self._verified.pop(entry, None)
            if number % _STEP == _STEP - 1:
                time.sleep(0)
