"""A cache of parsed tokens: a token that is used again is not decoded and read again.

Rules of this file:
1. Only what follows from the text is cached: its parts, its claims, the identity headers made of them. Keys, signature,
   time, audience, revocation and rules are evaluated on every request.
2. A token is cached when its signature is found in the signature cache, which is at its second use. Tokens that are not
   signed by an issuer, and those that are used once, never get here.
3. The cache is bounded in tokens and in the memory of each; larger tokens are parsed each time. The least recently used
   token is evicted, and every token whose key was removed.
4. No lock, as in the signature cache: each operation on the `OrderedDict` is atomic, and between two of them a token
   may be evicted, which costs one more parsing.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Final

from authz.core.keys import Key, Verified, VerifySignature
from authz.core.snapshot import Snapshot
from authz.core.token import UnverifiedToken, digest_of, parse_token
from authz.feeds.signature_cache import current_keys, evict_others

MAX_TOKENS: Final = 1_024
MAX_MEMORY: Final = 32_768  # octets of one token, as `memory_of` estimates it; usual ones need 5,000


class TokenCache:
    """Parsing with a cache; `parse` is a `ParseToken` for snapshots."""

    def __init__(self, *, max_tokens: int = MAX_TOKENS, max_memory: int = MAX_MEMORY) -> None:
        self._max_tokens: Final = max_tokens
        self._max_memory: Final = max_memory
        # By digest, with the configured issuer and the thumbprint of the key; the least recently used first.
        self._tokens: Final[OrderedDict[bytes, tuple[UnverifiedToken, tuple[str, str]]]] = OrderedDict()

    def parse(self, text: str, /, *, max_bytes: int) -> UnverifiedToken:
        """Return *text*, of at most *max_bytes*, as a parsed token, from the cache if possible.

        Raises Rejected, as `parse_token` does.
        """
        if len(text) > max_bytes:
            return parse_token(text, max_bytes=max_bytes)  # which rejects it
        digest = digest_of(text)
        cached = self._tokens.get(digest)
        if cached is None:
            return parse_token(text, max_bytes=max_bytes, digest=digest)
        with suppress(KeyError):  # evicted a moment ago
            self._tokens.move_to_end(digest)
        return cached[0]

    def keep_verified(self, verify: VerifySignature) -> VerifySignature:
        """Return a function that calls *verify* and keeps the tokens whose signature was cached."""

        def verify_and_keep(issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
            key, verified = verify(issuer, keys, token)
            if verified is Verified.CACHED and token.digest not in self._tokens:
                self._keep(token, (issuer, key.thumbprint))
            return key, verified

        return verify_and_keep

    def evict_removed_keys(self, snapshot: Snapshot) -> None:
        """Evict the tokens whose key is not in *snapshot*; called on a background thread."""
        evict_others(self._tokens, current_keys(snapshot), key_of=lambda item: item[1][1])

    def _keep(self, token: UnverifiedToken, key: tuple[str, str]) -> None:
        if memory_of(token) > self._max_memory:
            return
        self._tokens[token.digest] = (token, key)
        while len(self._tokens) > self._max_tokens:
            try:
                self._tokens.popitem(last=False)
            except KeyError:  # another thread has evicted enough
                break


def memory_of(token: UnverifiedToken) -> int:
    """Return the octets of memory that *token* needs at most, with its claims and headers, estimated from its text."""
    payload = token.payload
    ascii_only = payload.isascii() and b"\\u" not in payload
    return (
        _MEMORY_OF_REST
        + len(token.signing_input)
        + len(payload) * (_COPIES if ascii_only else 2 * _COPIES)
        + payload.count(b",") * _MEMORY_OF_VALUE
        + payload.count(b'"') * _MEMORY_OF_STRING // 2
        + (payload.count(b"{") + payload.count(b"[")) * _MEMORY_OF_CONTAINER
    )


_COPIES: Final = 3  # of the payload: the octets, the claims, the headers; text other than ASCII takes up to twice that
_MEMORY_OF_VALUE: Final = 40  # octets: a number, and a place in a list or dict
_MEMORY_OF_STRING: Final = 56
_MEMORY_OF_CONTAINER: Final = 200
_MEMORY_OF_REST: Final = 2_048
