"""Key sets: which keys a token can mean, and whether one of them signed it.

Rules of this file:
1. Only keys of the token's own issuer are tried, and only those that fit its algorithm.
2. The key that `kid` names is meant. If nothing names one, or several have that name, at most MAX_CANDIDATES are tried,
   in the order of the document; more are ambiguous. `x5t#S256` and `x5t` narrow the choice.
3. A token that names a key which is not in the set may mean one without a name, if all that fit have none. If none of
   them signed it, the key that it names is not there.
4. A key that is in the set and cannot serve is not looked for elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from authz.core.algorithms import ALGORITHMS, DEFAULT_ALGORITHMS
from authz.core.jwk_set import MAX_DOCUMENT_BYTES, MAX_KEYS, ReadingRules, read_jwk_set
from authz.core.key import RSA_WITHOUT_ALG, Key, RejectedKey, fits_type, verify_signature
from authz.core.reasons import Reason, Rejected
from authz.core.record import record
from authz.core.token import UnverifiedToken

__all__ = [
    "MAX_CANDIDATES",
    "MAX_DOCUMENT_BYTES",
    "MAX_KEYS",
    "Candidates",
    "Key",
    "KeySet",
    "RejectedKey",
    "SignedPayload",
    "Verified",
    "VerifySignature",
    "check_algorithm",
    "compute",
    "verify",
    "verify_signature",
]

MAX_CANDIDATES: Final = 4
BLOCKED: Final = "blocked by configuration"
_DEFAULT: Final = frozenset(DEFAULT_ALGORITHMS)


class Verified(Enum):
    """How a signature was found to be right. There is no other outcome: a wrong one raises."""

    COMPUTED = "computed"
    CACHED = "cached"


@record
class SignedPayload:
    """A payload whose signature verified, under *key*. Only `verify` makes one.

    *verified* tells whether the arithmetic was done now or before.
    """

    token: UnverifiedToken = field(repr=False)
    key: Key
    verified: Verified

    @property
    def payload(self) -> bytes:
        """The octets that were signed."""
        return self.token.payload

    @property
    def members(self) -> dict[str, object]:
        """The payload as a JSON object. Raises Rejected(CLAIMS_MALFORMED)."""
        return self.token.members


@record
class Candidates:
    """The *keys* that a token can mean, one to MAX_CANDIDATES, in the order in which they are tried.

    *missing* is what the token names and no key of the set has ("kid", "x5t"), None if it names these, or nothing.
    """

    keys: tuple[Key, ...]
    missing: str | None = None


def check_algorithm(token: UnverifiedToken, algorithms: frozenset[str]) -> None:
    """Refuse an `alg` that is not among *algorithms*, compared case by case. Raises Rejected(ALG_NOT_ALLOWED)."""
    if token.alg not in algorithms or token.alg not in ALGORITHMS:
        raise Rejected(Reason.ALG_NOT_ALLOWED, "alg is not allowed for this issuer")


def compute(_issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
    """Find the key that signed *token* among *keys*, without a cache. Raises Rejected(SIGNATURE_INVALID)."""
    *others, last = keys
    for key in others:
        try:
            verify_signature(key, token)
        except Rejected:
            continue
        return key, Verified.COMPUTED
    try:
        verify_signature(last, token)
    except Rejected as rejected:
        if others:
            detail = f"signature does not verify under any of {len(keys)} keys"
            raise Rejected(Reason.SIGNATURE_INVALID, detail) from rejected
        raise
    return last, Verified.COMPUTED


VerifySignature = Callable[[str, tuple[Key, ...], UnverifiedToken], tuple[Key, Verified]]
"""Finds the key that signed a token among candidates of the issuer configured by that name, and says how.

Raises Rejected(SIGNATURE_INVALID).
"""


def verify(
    token: UnverifiedToken, candidates: Candidates, *, issuer: str = "", by: VerifySignature = compute
) -> SignedPayload:
    """Verify *token* under one of the *candidates* that `KeySet.select` chose at *issuer*.

    Raises Rejected: SIGNATURE_INVALID; KEY_NOT_FOUND if the token names a key that the set does not have.
    """
    try:
        key, verified = by(issuer, candidates.keys, token)
    except Rejected as rejected:
        if candidates.missing is None:
            raise
        detail = f"no key with this {candidates.missing}, and none of the {len(candidates.keys)} without it signed"
        raise Rejected(Reason.KEY_NOT_FOUND, detail) from rejected
    return SignedPayload(token, key, verified)


@dataclass(frozen=True, slots=True)
class KeySet:
    """An immutable set of keys, usable and rejected. *unmatched* are names that should block a key and hit none.

    They still block the tokens that have one of them for a key id.
    """

    keys: tuple[Key, ...]
    rejected_keys: tuple[RejectedKey, ...] = ()
    unmatched: tuple[str, ...] = ()
    _few: tuple[Key, ...] = field(init=False, repr=False, compare=False)
    _by_kid: Mapping[str, tuple[Key, ...]] = field(init=False, repr=False, compare=False)
    _by_certificate: Mapping[tuple[str, str], tuple[Key, ...]] = field(init=False, repr=False, compare=False)
    _rejected_kids: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _rejected_kinds: tuple[RejectedKey, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_kid: defaultdict[str, list[Key]] = defaultdict(list)
        by_certificate: defaultdict[tuple[str, str], list[Key]] = defaultdict(list)
        for key in self.keys:
            if key.kid is not None:
                by_kid[key.kid].append(key)
            for name in key.certificates.names():
                by_certificate[name].append(key)
        object.__setattr__(self, "_few", _few(self.keys))
        object.__setattr__(self, "_by_kid", {kid: _few(keys) for kid, keys in by_kid.items()})
        object.__setattr__(self, "_by_certificate", {name: _few(keys) for name, keys in by_certificate.items()})
        # An issuer may write key ids into tokens alone: a blocked one is refused also where the set does not have it.
        whys = dict.fromkeys(self.unmatched, BLOCKED)
        whys |= {key.kid: key.why for key in reversed(self.rejected_keys) if key.kid is not None}
        kinds = {key.kind: key for key in self.rejected_keys if key.kind is not None}
        object.__setattr__(self, "_rejected_kids", whys)
        object.__setattr__(self, "_rejected_kinds", tuple(kinds.values()))

    @property
    def rejected(self) -> list[tuple[str | None, str]]:
        """The rejected keys, as pairs of key id (None if there is none) and reason."""
        return [(key.kid, key.why) for key in self.rejected_keys]

    @property
    def mistakes(self) -> list[tuple[str | None, str]]:
        """The rejected keys that were meant to verify signatures, as such pairs: a key for encryption is none."""
        return [(key.kid, key.why) for key in self.rejected_keys if not key.other_purpose]

    @classmethod
    def from_json(
        cls,
        document: str | bytes,
        *,
        local: bool = False,
        max_keys: int = MAX_KEYS,
        max_bytes: int = MAX_DOCUMENT_BYTES,
        x5c_mismatch: bool = False,
    ) -> KeySet:
        """Read a JWK Set (RFC 7517 section 5), each key alone.

        *local* lets symmetric keys in, *x5c_mismatch* keys whose certificate holds another key. Of more than
        *max_keys* usable keys the first are kept.

        Raises ValueError when the document itself is unusable.
        """
        rules = ReadingRules(local=local, max_keys=max_keys, max_bytes=max_bytes, x5c_mismatch=x5c_mismatch)
        return cls(*read_jwk_set(document, rules))

    def block(self, names: Iterable[str]) -> KeySet:
        """Return this set without the keys whose key id or thumbprint is among *names*."""
        blocked = tuple(names)
        if not blocked:
            return self
        # The same key under another id is as lost as this one, even if it is set aside there: whoever holds it chooses
        # the id.
        every: tuple[Key | RejectedKey, ...] = (*self.keys, *self.rejected_keys)
        named = {key.thumbprint for key in every if key.kid in blocked}
        hit = [key for key in self.keys if key.thumbprint in named or key.thumbprint in blocked]
        known = {name for key in every for name in (key.kid, key.thumbprint)}
        return KeySet(
            tuple(key for key in self.keys if key not in hit),
            self.rejected_keys + tuple(_block(key) for key in hit),
            tuple(name for name in dict.fromkeys((*self.unmatched, *blocked)) if name not in known),
        )

    def select(self, token: UnverifiedToken, algorithms: frozenset[str], *, written: bool = True) -> Candidates:
        """Choose the keys that *token* can mean, at an issuer that may use *algorithms*, *written* by the operator.

        Raises Rejected: KEY_NOT_FOUND, KEY_UNUSABLE, KEY_AMBIGUOUS.
        """
        named = self._few if token.kid is None else self._by_kid.get(token.kid, ())
        fitting = [key for key in named if key.supports(token.alg, algorithms, written=written)]
        if token.kid is not None:
            if len(fitting) == 1:
                return Candidates((fitting[0],))
            if not named and token.kid not in self._rejected_kids:
                return self._select_unnamed(token, algorithms, written=written)
        if not fitting:
            raise self._unusable(token, named, algorithms, written=written)
        return self._narrow(fitting, token, algorithms, written=written)

    def _select_unnamed(self, token: UnverifiedToken, algorithms: frozenset[str], *, written: bool) -> Candidates:
        """Choose for a token whose key id the set does not have: issuers exist that write it into tokens alone."""
        fitting = [key for key in self._few if key.supports(token.alg, algorithms, written=written)]
        if not fitting or any(key.kid is not None for key in fitting):
            raise Rejected(Reason.KEY_NOT_FOUND, "no key with this id")
        return Candidates(self._narrow(fitting, token, algorithms, written=written).keys, missing="kid")

    def _narrow(
        self, fitting: list[Key], token: UnverifiedToken, algorithms: frozenset[str], *, written: bool
    ) -> Candidates:
        """Choose among *fitting* keys by the certificate that *token* names, if it names one.

        Raises Rejected(KEY_AMBIGUOUS).
        """
        keys: dict[str, Key] = {}  # one key under two ids is one
        for key in fitting:
            keys.setdefault(key.thumbprint, key)
        named = {
            key.thumbprint: key
            for member, digest in (("x5t#S256", token.x5t_s256), ("x5t", token.x5t))
            if digest is not None
            for key in self._by_certificate.get((member, digest), ())
            if token.kid is None or key.kid == fitting[0].kid
            if key.supports(token.alg, algorithms, written=written)
        }
        chosen = tuple((named or keys).values())
        if len(chosen) > MAX_CANDIDATES:
            raise Rejected(Reason.KEY_AMBIGUOUS, f"more than {MAX_CANDIDATES} keys could be meant")
        # A certificate that no key has, where each has one, is of a key that is not there.
        asked = token.x5t_s256 is not None or token.x5t is not None
        gone = asked and not named and token.kid is None and all(key.certificates for key in chosen)
        return Candidates(chosen, "x5t" if gone else None)

    def _unusable(
        self, token: UnverifiedToken, named: tuple[Key, ...], algorithms: frozenset[str], *, written: bool
    ) -> Rejected:
        """Say why none of the keys that *token* names, all if it names none, is for its algorithm."""
        if not written and any(key.alg is None and fits_type(key.kty, key.crv, token.alg, algorithms) for key in named):
            # Reached by RSA alone: RSA_WITHOUT_ALG is what such a key serves until the operator says more.
            return Rejected(
                Reason.KEY_UNUSABLE,
                f"the key names no alg and serves {RSA_WITHOUT_ALG} alone, unless the configuration of this issuer"
                f" says: algorithms: [{token.alg}]",
            )
        if token.kid is None:
            if any(key.may_be_for(token.alg, algorithms, written=written) for key in self._rejected_kinds):
                return Rejected(Reason.KEY_UNUSABLE, "no key id, and the key of this alg was set aside")
            return Rejected(Reason.KEY_NOT_FOUND, "no key id, and no key of this alg")
        if named:
            return Rejected(Reason.KEY_UNUSABLE, "the key with this id is not for this alg")
        why = self._rejected_kids[token.kid]
        return Rejected(Reason.KEY_UNUSABLE, f"the key with this id was set aside: {why}")

    def verify(self, token: UnverifiedToken, algorithms: Iterable[str]) -> SignedPayload:
        """Verify *token* under a key that it can mean, at an issuer that may use *algorithms*.

        Any *algorithms* but the default ones count as written by the operator.

        Raises Rejected: ALG_NOT_ALLOWED, KEY_NOT_FOUND, KEY_UNUSABLE, KEY_AMBIGUOUS, SIGNATURE_INVALID.
        """
        allowed = frozenset(algorithms)
        check_algorithm(token, allowed)
        return verify(token, self.select(token, allowed, written=allowed != _DEFAULT))


def _block(key: Key) -> RejectedKey:
    return RejectedKey(key.kid, BLOCKED, key.kty, key.crv, key.alg, thumbprint=key.thumbprint)


def _few(keys: Iterable[Key]) -> tuple[Key, ...]:
    """Return of each kind of key no more than it takes to know that they are too many to try.

    What a token costs is then bounded, however large its issuer's set is.
    """
    kinds: defaultdict[tuple[object, ...], set[str]] = defaultdict(set)
    few = []
    for key in keys:
        kind = kinds[key.kty, key.crv, key.alg, key.kid is None, key.bits if key.kty == "oct" else None]
        if len(kind) <= MAX_CANDIDATES and key.thumbprint not in kind:
            kind.add(key.thumbprint)
            few.append(key)
    return tuple(few)
