"""Answers needs for tokens for the upstream: completes the claims, signs, and keeps tokens that may be sent again.

Rules of this file:
1. A key in this process signs on the deciding thread, without a lock: that takes less time than asking another thread.
   Any other key has a lane, whose threads may block.
2. `iat`, `exp` and `txn` are added here: the token ends before its lifetime, and before the caller's token.
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

    def mint(self, wanted: SigningRequest, signer: Signer) -> Minted:
        """Return the token that is *wanted*, signed by *signer*. Raises SigningUnavailable."""
        terms, not_after, issued = wanted.terms, wanted.not_after, int(self._now())
        ends = issued + terms.lifetime
        if not_after is not None and not_after < ends:
            ends = not_after
        if ends <= issued:
            raise SigningUnavailable("the caller's token has ended meanwhile", Failure.REQUEST)
        transaction = self._new_id()
        # The claims are one JSON object that is never empty: members are added at its end.
        claims = f'{wanted.claims_json[:-1]},"iat":{issued},"exp":{ends},"txn":"{transaction}"}}'
        signing_input = terms.header_part + base64url.encode(claims.encode())
        token = b"%b.%b" % (signing_input, base64url.encode(signer.sign(signing_input)))
        return Minted(token.decode("ascii"), transaction, ends)


class MintObserver(Protocol):
    """Receives what became of needs, on any thread; its methods take no lock."""

    def on_cache_hit(self) -> None:
        """A token was kept."""

    def on_signing_ended(self, result: str) -> None:
        """A key in this process was asked to sign."""


class MintLane:
    """Answers needs for minted tokens by those of *signers* that sign here, and by *remote* lanes for the others.

    *remote* lanes are by the ids of their keys. At most *max_waiting* checks wait at one time.
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
        """Return a token that was kept; if *need* says what to sign, sign it now if the key is here. Takes no lock."""
        asked = need.identifier or ""
        if (kept := self._cache.get(asked)) is not None:
            self._observer.on_cache_hit()
            return kept
        if not need.payload:
            for lane in self._remote().values():
                if (fact := lane.recall(need)) is not None:
                    return fact
            return None
        wanted = read_signing_request(need.payload)
        signer = self._signers().get(wanted.terms.kid)
        if isinstance(signer, LocalSigner):
            return self._sign(asked, wanted, signer)
        remote = self._remote().get(wanted.terms.kid)
        return None if remote is None else remote.recall(need)

    def find(self, need: Need) -> object | None:
        """Return a token, or Unanswered. Takes no lock."""
        if (found := self.recall(need)) is not None:
            return found
        lane = self._lane(need)
        return _KEY_NOT_IN_USE if lane is None else lane.find(need)

    def ask(self, need: Need, done: Callable[[object | None], None]) -> None:
        """Have the token signed; *done* is called with it, or with Unanswered."""
        found = self.recall(need)
        lane = self._lane(need) if found is None else None
        if found is not None or lane is None:
            done(found or _KEY_NOT_IN_USE)
        else:
            lane.ask(need, done)

    def max_wait(self, need: Need) -> float:
        """Return how long a check may wait, in seconds."""
        lane = self._lane(need)
        return 0.0 if lane is None else lane.max_wait(need)

    def _lane(self, need: Need) -> SourceLane | None:
        return self._remote().get(read_signing_request(need.payload).terms.kid)

    def _sign(self, asked: str, wanted: SigningRequest, signer: LocalSigner) -> object:
        try:
            minted = self._minter.mint(wanted, signer)
        except SigningUnavailable as error:
            self._observer.on_signing_ended(error.failure.value)
            return Unanswered(str(error))
        except Exception as error:
            log.exception("a token for the upstream could not be signed")
            self._observer.on_signing_ended("internal_error")
            return Unanswered(type(error).__name__)
        self._observer.on_signing_ended("signed")
        if wanted.terms.reuse_for > 0.0:
            self._cache.put(asked, minted)
        return minted


def remote_source(minter: Minter, signer: Signer) -> Callable[[Need], Fact]:
    """Return the source of a lane whose *signer* may block."""

    def answer(need: Need) -> Fact:
        wanted = read_signing_request(need.payload)
        try:
            minted = minter.mint(wanted, signer)
        except SigningUnavailable as error:
            counts = error.failure is not Failure.REQUEST
            raise SourceError(error.failure.value, str(error), counts=counts) from error
        return Fact(minted, wanted.terms.reuse_for, len(minted.text), "signed")

    return answer


class MintedTokenCache:
    """Tokens in two generations: when the newer one is full, the older one is dropped.

    No need is for a token of another period, so none has to be looked at for its end. Each change is one operation of a
    dict: it takes no lock. *max_cached* returns the largest number of tokens, which may change.
    """

    def __init__(self, max_cached: Callable[[], int]) -> None:
        self._max_cached: Final = max_cached
        self._newer: dict[str, Minted] = {}
        self._older: dict[str, Minted] = {}

    def __len__(self) -> int:
        """Return how many tokens are kept."""
        return len(self._newer) + len(self._older)

    def get(self, asked: str) -> Minted | None:
        """Return the token, or None."""
        return self._newer.get(asked) or self._older.get(asked)

    def put(self, asked: str, minted: Minted) -> None:
        """Keep a token."""
        newer = self._newer
        if 2 * len(newer) >= self._max_cached():
            self._older, self._newer = newer, {}
            newer = self._newer
        newer[asked] = minted


def _make_ids() -> Callable[[], str]:
    # The system's random generator would release the interpreter lock in each call, which is slow. These are names, and
    # no secrets.
    numbers = random.Random()  # noqa: S311
    return lambda: f"{numbers.getrandbits(128):032x}"
