"""A cache of verified signatures: verifying a token again costs a lookup instead of a signature verification.

Rules of this file:
1. Only successful verifications are cached, and only the signature: time, audience, blocked keys and rules are checked
   on every request.
2. An entry consists of issuer, key thumbprint, algorithm and the SHA-256 of the token. Removed and
   blocked keys are never selected, so their entries have no effect; they are evicted nevertheless.
3. The cache is bounded, with LRU eviction. Tokens themselves are not stored: entries have a constant size, and the
   bound on entries is also a bound on memory.
4. No lock: the deciding threads and the evicting thread share an `OrderedDict`. Each operation used here (move to the
   end, store, remove, copy) is atomic, because the keys are compared in C. Between two operations an entry may be
   evicted, which costs one more verification. `cachetools` would need a lock, and an eviction would block requests.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from authz.core.keys import Key, Verified, verify_by_keys
from authz.core.snapshot import Snapshot
from authz.core.token import UnverifiedToken

MAX_ENTRIES: Final = 10_000
ENTRY_BYTES: Final = 512  # at most, including the LRU order: 5 MB for all entries
_STEP: Final = 64  # entries that are checked before the evicting thread yields to requests

_K = TypeVar("_K")
_V = TypeVar("_V")
_Entry = tuple[str, str, str, bytes]  # configured issuer, thumbprint, algorithm, digest


class SignatureCache:
    """Signature verification with a cache; `verify` is a `VerifySignature` for snapshots."""

    def __init__(self, *, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries: Final = max_entries
        self._verified: Final[OrderedDict[_Entry, None]] = OrderedDict()  # the least recently used first

    def verify(self, issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
        """Return the one of *keys* of the configured *issuer* that signed *token*, from the cache if possible.

        All keys are looked up before any is tried: a cached token costs no verification, whichever key signed it.

        Raises Rejected(SIGNATURE_INVALID).
        """
        digest = token.digest
        for key in keys:
            entry = (issuer, key.thumbprint, token.alg, digest)
            if entry in self._verified:
                with suppress(KeyError):  # evicted a moment ago, which does not make it wrong
                    self._verified.move_to_end(entry)
                return key, Verified.CACHED
        key, verified = verify_by_keys(issuer, keys, token)
        self._verified[issuer, key.thumbprint, token.alg, digest] = None
        while len(self._verified) > self._max_entries:
            try:
                self._verified.popitem(last=False)
            except KeyError:  # another thread has evicted enough
                break
        return key, verified

    def evict_removed_keys(self, snapshot: Snapshot) -> None:
        """Evict the entries of keys that are not in *snapshot*; called on a background thread.

        A request with an older snapshot may still add such an entry, which has no effect.
        """
        evict_others(self._verified, current_keys(snapshot), key_of=lambda item: item[0][:2])


def current_keys(snapshot: Snapshot) -> set[tuple[str, str]]:
    """Return the configured issuer and the thumbprint of every key in *snapshot*."""
    return {
        (issuer.name, key.thumbprint)
        for issuer in snapshot.issuers.values()
        if issuer.keys is not None
        for key in issuer.keys.keys
    }


def evict_others(
    cache: OrderedDict[_K, _V], current: set[tuple[str, str]], *, key_of: Callable[[tuple[_K, _V]], tuple[str, str]]
) -> None:
    """Evict the items of *cache* whose key, by *key_of*, is not among the *current* ones; yields to requests."""
    for number, entry in enumerate(list(cache.items())):
        if key_of(entry) not in current:
            cache.pop(entry[0], None)
        if number % _STEP == _STEP - 1:
            time.sleep(0)
