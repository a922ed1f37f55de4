"""Key sets: select the candidate keys of a token, and verify its signature with them.

Rules of this file:
1. Only keys of the token's own issuer are tried, and only keys for its algorithm.
2. `kid` selects the key. Without `kid`, or if several keys have it, at most MAX_CANDIDATES keys are tried, in the order
   of the document; more are ambiguous. `x5t#S256` and `x5t` narrow the selection.
3. If no key has the token's `kid`, and no key for its algorithm has any key id, these keys are candidates. If none of
   them verifies the signature, the key is not found.
4. If the key with the token's `kid` is in the set but unusable, the token is rejected and no refresh is started.
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
    "verify",
    "verify_by_keys",
    "verify_signature",
]

MAX_CANDIDATES: Final = 4
BLOCKED: Final = "blocked by configuration"
_DEFAULT: Final = frozenset(DEFAULT_ALGORITHMS)


class Verified(Enum):
    """How a signature was verified. A wrong signature is not a value of this enum: it raises."""

    COMPUTED = "computed"
    CACHED = "cached"


@record
class SignedPayload:
    """A payload whose signature was verified with *key*. Only `verify` creates it.

    *verified* tells whether the result is new or from the signature cache.
    """

    token: UnverifiedToken = field(repr=False)
    key: Key
    verified: Verified

    @property
    def payload(self) -> bytes:
        """The payload octets."""
        return self.token.payload

    @property
    def members(self) -> dict[str, object]:
        """The payload as a JSON object. Raises Rejected(CLAIMS_MALFORMED)."""
        return self.token.members


@record
class Candidates:
    """The keys to verify a token with, one to MAX_CANDIDATES, in the order in which they are tried.

    *missing* is the header parameter ("kid" or "x5t") that matches no key of the set, else None.
    """

    keys: tuple[Key, ...]
    missing: str | None = None


def check_algorithm(token: UnverifiedToken, algorithms: frozenset[str]) -> None:
    """Reject an `alg` that is not in *algorithms*; case matters. Raises Rejected(ALG_NOT_ALLOWED)."""
    if token.alg not in algorithms or token.alg not in ALGORITHMS:
        raise Rejected(Reason.ALG_NOT_ALLOWED, "alg is not allowed for this issuer")


def verify_by_keys(_issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
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
"""Given issuer name, candidate keys and token, returns the key that signed it. Raises Rejected(SIGNATURE_INVALID)."""


def verify(
    token: UnverifiedToken, candidates: Candidates, *, issuer: str = "", by: VerifySignature = verify_by_keys
) -> SignedPayload:
    """Verify *token* with the *candidates* that `KeySet.select` returned for *issuer*.

    Raises Rejected: SIGNATURE_INVALID; KEY_NOT_FOUND if `candidates.missing` is set and no candidate verifies.
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
    """An immutable set of usable and rejected keys.

    *unmatched_blocks* are blocked key ids and thumbprints that match no key; tokens with such a `kid` are rejected too.
    """

    keys: tuple[Key, ...]
    rejected_keys: tuple[RejectedKey, ...] = ()
    unmatched_blocks: tuple[str, ...] = ()
    _limited: tuple[Key, ...] = field(init=False, repr=False, compare=False)
    _by_kid: Mapping[str, tuple[Key, ...]] = field(init=False, repr=False, compare=False)
    _by_certificate: Mapping[tuple[str, str], tuple[Key, ...]] = field(init=False, repr=False, compare=False)
    _rejected_kids: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _rejected_by_kind: tuple[RejectedKey, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_kid: defaultdict[str, list[Key]] = defaultdict(list)
        by_certificate: defaultdict[tuple[str, str], list[Key]] = defaultdict(list)
        for key in self.keys:
            if key.kid is not None:
                by_kid[key.kid].append(key)
            for name in key.certificates.names():
                by_certificate[name].append(key)
        object.__setattr__(self, "_limited", _limit_per_type(self.keys))
        object.__setattr__(self, "_by_kid", {kid: _limit_per_type(keys) for kid, keys in by_kid.items()})
        object.__setattr__(
            self, "_by_certificate", {name: _limit_per_type(keys) for name, keys in by_certificate.items()}
        )
        # The keys of a set may lack the key ids of the tokens: a blocked id is rejected even if no key has it.
        reasons = dict.fromkeys(self.unmatched_blocks, BLOCKED)
        reasons |= {key.kid: key.why for key in reversed(self.rejected_keys) if key.kid is not None}
        kinds = {key.kind: key for key in self.rejected_keys if key.kind is not None}
        object.__setattr__(self, "_rejected_kids", reasons)
        object.__setattr__(self, "_rejected_by_kind", tuple(kinds.values()))

    @property
    def rejected(self) -> list[tuple[str | None, str]]:
        """The rejected keys, as pairs of key id (None if there is none) and reason."""
        return [(key.kid, key.why) for key in self.rejected_keys]

    @property
    def rejected_signing_keys(self) -> list[tuple[str | None, str]]:
        """The rejected keys without those for other purposes, as pairs of key id and reason."""
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
        """Read a JWK Set (RFC 7517 section 5); an invalid key does not affect the others.

        *local* allows symmetric keys, *x5c_mismatch* keys whose certificate holds another public key. Of more than
        *max_keys* usable keys, the first ones are kept.

        Raises ValueError if the document itself is unusable.
        """
        rules = ReadingRules(local=local, max_keys=max_keys, max_bytes=max_bytes, x5c_mismatch=x5c_mismatch)
        return cls(*read_jwk_set(document, rules))

    def block(self, names: Iterable[str]) -> KeySet:
        """Return this set without the keys whose key id or thumbprint is among *names*."""
        blocked = tuple(names)
        if not blocked:
            return self
        # The same key is blocked under every id, also if it is rejected under the blocked one: an attacker who has the
        # private key chooses the `kid` of a forged token.
        all_keys: tuple[Key | RejectedKey, ...] = (*self.keys, *self.rejected_keys)
        blocked_by_kid = {key.thumbprint for key in all_keys if key.kid in blocked}
        hit = [key for key in self.keys if key.thumbprint in blocked_by_kid or key.thumbprint in blocked]
        known_names = {name for key in all_keys for name in (key.kid, key.thumbprint)}
        return KeySet(
            tuple(key for key in self.keys if key not in hit),
            self.rejected_keys + tuple(_block(key) for key in hit),
            tuple(name for name in dict.fromkeys((*self.unmatched_blocks, *blocked)) if name not in known_names),
        )

    def select(self, token: UnverifiedToken, algorithms: frozenset[str], *, configured: bool = True) -> Candidates:
        """Return the candidate keys of *token*; parameters as in `Key.supports`.

        Raises Rejected: KEY_NOT_FOUND, KEY_UNUSABLE, KEY_AMBIGUOUS.
        """
        candidates = self._limited if token.kid is None else self._by_kid.get(token.kid, ())
        fitting = [key for key in candidates if key.supports(token.alg, algorithms, configured=configured)]
        if token.kid is not None:
            if len(fitting) == 1:
                return Candidates((fitting[0],))
            if not candidates and token.kid not in self._rejected_kids:
                return self._select_unnamed(token, algorithms, configured=configured)
        if not fitting:
            raise self._unusable(token, candidates, algorithms, configured=configured)
        return self._narrow(fitting, token, algorithms, configured=configured)

    def _select_unnamed(self, token: UnverifiedToken, algorithms: frozenset[str], *, configured: bool) -> Candidates:
        """Select for a token whose `kid` no key has: some issuers set `kid` in tokens but not in their key set."""
        fitting = [key for key in self._limited if key.supports(token.alg, algorithms, configured=configured)]
        if not fitting or any(key.kid is not None for key in fitting):
            raise Rejected(Reason.KEY_NOT_FOUND, "no key with this id")
        return Candidates(self._narrow(fitting, token, algorithms, configured=configured).keys, missing="kid")

    def _narrow(
        self, fitting: list[Key], token: UnverifiedToken, algorithms: frozenset[str], *, configured: bool
    ) -> Candidates:
        """Narrow *fitting* keys by the certificate hash in *token*, if it has one.

        Raises Rejected(KEY_AMBIGUOUS).
        """
        keys: dict[str, Key] = {}  # a key with two ids counts once
        for key in fitting:
            keys.setdefault(key.thumbprint, key)
        by_hash = {
            key.thumbprint: key
            for member, digest in (("x5t#S256", token.x5t_s256), ("x5t", token.x5t))
            if digest is not None
            for key in self._by_certificate.get((member, digest), ())
            if token.kid is None or key.kid == fitting[0].kid
            if key.supports(token.alg, algorithms, configured=configured)
        }
        chosen = tuple((by_hash or keys).values())
        if len(chosen) > MAX_CANDIDATES:
            raise Rejected(Reason.KEY_AMBIGUOUS, f"more than {MAX_CANDIDATES} keys are candidates")
        # If every candidate has a certificate and none matches the hash, the key is not in the set.
        has_hash = token.x5t_s256 is not None or token.x5t is not None
        missing = has_hash and not by_hash and token.kid is None and all(key.certificates for key in chosen)
        return Candidates(chosen, "x5t" if missing else None)

    def _unusable(
        self, token: UnverifiedToken, candidates: tuple[Key, ...], algorithms: frozenset[str], *, configured: bool
    ) -> Rejected:
        """Return the rejection if none of *candidates* (all keys, without a `kid`) is for the token's algorithm."""
        if not configured and any(
            key.alg is None and fits_type(key.kty, key.crv, token.alg, algorithms) for key in candidates
        ):
            # Only RSA keys get here: see RSA_WITHOUT_ALG.
            return Rejected(
                Reason.KEY_UNUSABLE,
                f"the key has no alg and is used for {RSA_WITHOUT_ALG} only, unless the issuer is configured with"
                f" algorithms: [{token.alg}]",
            )
        if token.kid is None:
            if any(key.may_be_for(token.alg, algorithms, configured=configured) for key in self._rejected_by_kind):
                return Rejected(Reason.KEY_UNUSABLE, "no key id, and the key for this alg was rejected")
            return Rejected(Reason.KEY_NOT_FOUND, "no key id, and no key for this alg")
        if candidates:
            return Rejected(Reason.KEY_UNUSABLE, "the key with this id is not for this alg")
        why = self._rejected_kids[token.kid]
        return Rejected(Reason.KEY_UNUSABLE, f"the key with this id was rejected: {why}")

    def verify(self, token: UnverifiedToken, algorithms: Iterable[str]) -> SignedPayload:
        """Verify *token* with its candidate keys, for an issuer with *algorithms*.

        *algorithms* other than the default ones count as configured by the operator.

        Raises Rejected: ALG_NOT_ALLOWED, KEY_NOT_FOUND, KEY_UNUSABLE, KEY_AMBIGUOUS, SIGNATURE_INVALID.
        """
        allowed = frozenset(algorithms)
        check_algorithm(token, allowed)
        return verify(token, self.select(token, allowed, configured=allowed != _DEFAULT))


def _block(key: Key) -> RejectedKey:
    return RejectedKey(key.kid, BLOCKED, key.kty, key.crv, key.alg, thumbprint=key.thumbprint)


def _limit_per_type(keys: Iterable[Key]) -> tuple[Key, ...]:
    """Return at most MAX_CANDIDATES + 1 keys of each type and algorithm, enough to detect ambiguity.

    This bounds the cost of a token, however large the key set is.
    """
    kinds: defaultdict[tuple[object, ...], set[str]] = defaultdict(set)
    limited = []
    for key in keys:
        kind = kinds[key.kty, key.crv, key.alg, key.kid is None, key.bits if key.kty == "oct" else None]
        if len(kind) <= MAX_CANDIDATES and key.thumbprint not in kind:
            kind.add(key.thumbprint)
            limited.append(key)
    return tuple(limited)
