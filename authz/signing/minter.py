"""Answers needs for tokens for the upstream: completes the claims, signs, and caches tokens that may be reused.

Rules of this file:
1. A key in this process signs on the deciding thread, without a lock: that takes less time than a hand-over to another
   thread. Any other key has a lane, whose threads may block.
2. `iat`, `exp` and `txn` are added here: the token expires after its lifetime, or with the caller's token if that is
   earlier.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from authz.core import base64url
from authz.core.minting import Minted
from authz.core.needs import Need, Unanswered
from authz.core.signing_request import SigningRequest, read_signing_request
from authz.facts.lane import SourceLane
from authz.facts.source import Fact, SourceError
from authz.signing.local import LocalSigner
from authz.signing.port import Failure, Signer, SigningUnavailable

log = logging.getLogger(__name__)

_KEY_NOT_IN_USE: Final = Unanswered("the key that was to sign is not in use any more")

Signers = Callable[[], Mapping[str, Signer]]
"""Returns the signers in use by the ids of their keys."""


class Minter:
    """Signs tokens. *now* is in Unix time; *new_id* returns a new `txn`."""

    def __init__(self, now: Callable[[], float], new_id: Callable[[], str] | None = None) -> None:
        self._now: Final = now
        self._new_id: Final = new_id or _make_ids()

    def mint(self, request: SigningRequest, signer: Signer) -> Minted:
        """Return the token of *request*, signed by *signer*. Raises SigningUnavailable."""
        terms, not_after, issued = request.terms, request.not_after, int(self._now())
        ends = issued + terms.lifetime
        if not_after is not None and not_after < ends:
            ends = not_after
        if ends <= issued:
            raise SigningUnavailable("the caller's token has ended meanwhile", Failure.REQUEST)
        transaction = self._new_id()
        # The claims are one JSON object that is never empty: members are added at its end.
        claims = f'{request.claims_json[:-1]},"iat":{issued},"exp":{ends},"txn":"{transaction}"}}'
        signing_input = terms.header_part + base64url.encode(claims.encode())
        token = b"%b.%b" % (signing_input, base64url.encode(signer.sign(signing_input)))
        return Minted(token.decode("ascii"), transaction, ends)


class MintObserver(Protocol):
    """Receives the results of needs, on any thread; its methods take no lock."""

    def on_cache_hit(self) -> None:
        """A token was cached."""

    def on_signing_ended(self, result: str) -> None:
        """A key in this process has signed, or failed to."""


class MintLane:
    """Answers needs for minted tokens: local *signers* sign at once, *remote* lanes ask the other keys.

    *remote* returns the lanes by key id. At most *max_waiting* checks wait at one time.
    """

    def __init__(
        self,
        signers: Signers,
        remote: Callable[[], Mapping[str, SourceLane]],
        minter: Minter,
        *,
        max_cached: Callable[[], int],
        max_waiting: int,
        observer: MintObserver,
    ) -> None:
        self.max_waiting: Final = max_waiting
        self._signers: Final = signers
        self._remote: Final = remote
        self._minter: Final = minter
        self._observer: Final = observer
        self._cache: Final = MintedTokenCache(max_cached)

    def recall(self, need: Need) -> object | None:
        """Return a cached token; if *need* has a payload and the key is local, sign a new one. Takes no lock."""
        identifier = need.identifier or ""
        if not need.single_use and (cached := self._cache.get(identifier)) is not None:
            self._observer.on_cache_hit()
            return cached
        if not need.payload:
            for lane in self._remote().values():
                if (fact := lane.recall(need)) is not None:
                    return fact
            return None
        request = read_signing_request(need.payload)
        signer = self._signers().get(request.terms.kid)
        if isinstance(signer, LocalSigner):
            return self._sign(identifier, request, signer)
        remote = self._remote().get(request.terms.kid)
        return None if remote is None else remote.recall(need)

    def find(self, need: Need) -> object | None:
        """Return a token, or Unanswered. Takes no lock."""
        if (minted := self.recall(need)) is not None:
            return minted
        lane = self._remote_lane(need)
        return _KEY_NOT_IN_USE if lane is None else lane.find(need)

    def ask(self, need: Need, done: Callable[[object | None], None]) -> None:
        """Have the token signed; *done* is called with it, or with Unanswered."""
        minted = self.recall(need)
        lane = self._remote_lane(need) if minted is None else None
        if minted is not None or lane is None:
            done(minted or _KEY_NOT_IN_USE)
        else:
            lane.ask(need, done)

    def max_wait(self, need: Need) -> float:
        """Return how long a check may wait, in seconds."""
        lane = self._remote_lane(need)
        return 0.0 if lane is None else lane.max_wait(need)

    def _remote_lane(self, need: Need) -> SourceLane | None:
        return self._remote().get(read_signing_request(need.payload).terms.kid)

    def _sign(self, identifier: str, request: SigningRequest, signer: LocalSigner) -> object:
        try:
            minted = self._minter.mint(request, signer)
        except SigningUnavailable as error:
            self._observer.on_signing_ended(error.failure.value)
            return Unanswered(str(error))
        except Exception as error:
            log.exception("a token for the upstream could not be signed")
            self._observer.on_signing_ended("internal_error")
            return Unanswered(type(error).__name__)
        self._observer.on_signing_ended("signed")
        if request.terms.reuse_for > 0.0:
            self._cache.put(identifier, minted)
        return minted


def remote_source(minter: Minter, signer: Signer) -> Callable[[Need], Fact]:
    """Return the source of a lane whose *signer* may block."""

    def answer(need: Need) -> Fact:
        request = read_signing_request(need.payload)
        try:
            minted = minter.mint(request, signer)
        except SigningUnavailable as error:
            counts = error.failure is not Failure.REQUEST
            raise SourceError(error.failure.value, str(error), counts=counts) from error
        return Fact(minted, request.terms.reuse_for, len(minted.text), "signed")

    return answer


class MintedTokenCache:
    """Tokens in two generations: when the newer one is full, the older one is dropped.

    Their expiry is not checked, because a need identifies the period of its token. Each change is one operation of a
    dict: it takes no lock. *max_cached* returns the maximum number of tokens, which may change.
    """

    def __init__(self, max_cached: Callable[[], int]) -> None:
        self._max_cached: Final = max_cached
        self._newer: dict[str, Minted] = {}
        self._older: dict[str, Minted] = {}

    def __len__(self) -> int:
        """Return how many tokens are cached."""
        return len(self._newer) + len(self._older)

    def get(self, identifier: str) -> Minted | None:
        """Return the token, or None."""
        return self._newer.get(identifier) or self._older.get(identifier)

    def put(self, identifier: str, minted: Minted) -> None:
        """Cache a token."""
        newer = self._newer
        if 2 * len(newer) >= self._max_cached():
            self._older, self._newer = newer, {}
            newer = self._newer
        newer[identifier] = minted


def _make_ids() -> Callable[[], str]:
    # The system's random generator would release the interpreter lock in each call, which is slow. A `txn` is a name,
    # and need not be unpredictable.
    numbers = random.Random()  # noqa: S311 - as above
    return lambda: f"{numbers.getrandbits(128):032x}"
