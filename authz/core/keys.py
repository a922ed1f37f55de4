"""Key sets: read them, choose the one key that a token can mean, verify the signature.

Rules of this file:
1. An unfit key is set aside with its reason; only an unusable document fails as a whole.
2. Exactly one key may match. A token never chooses by trying, and none is tried in turn.
3. One key, one algorithm: the key's `alg`, or what its type and curve leave open (RFC 8725 section 3.1).
4. Lengths and ranges of a signature are checked before the library sees it.
5. This is the only file of the project, the demo aside, that knows the JOSE library.
"""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final, Protocol, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto.jwa import JWA
from jwcrypto.jwk import JWK

from authz.core.algorithms import ALGORITHMS
from authz.core.jwk_validation import (
    LEAKED_PRIVATE_KEY,
    InvalidJwk,
    NotASigningKey,
    ValidatedJwk,
    public_part,
    publishes_private_part,
    validate_jwk,
)
from authz.core.reasons import Reason, Rejected
from authz.core.record import record
from authz.core.strictjson import MAX_CONTAINERS, parse_object
from authz.core.token import MAX_KID_CHARS, UnverifiedToken

MAX_KEYS: Final = 64
MAX_DOCUMENT_BYTES: Final = 262_144
_CONTAINERS_OF_A_KEY: Final = 8  # itself, key_ops, x5c, and what else a provider may add
_RSA_DEFAULT: Final = "RS256"
_HMAC_DEFAULT: Final = "HS256"


@dataclass(frozen=True, slots=True)
class Key:
    """One usable key. *thumbprint* is RFC 7638's, *bits* its size; *alg* is None where the JWK names none."""

    kid: str | None
    thumbprint: str
    kty: str
    crv: str | None
    alg: str | None
    bits: int
    _jwk: JWK = field(repr=False, compare=False)

    def supports(self, alg: str, algorithms: frozenset[str]) -> bool:
        """Tell whether this is a key for *alg*, at an issuer that may use *algorithms*."""
        if self.alg is not None:
            return self.alg == alg
        # RFC 7518 section 3.2: a secret at least as long as the hash.
        long_enough = self.bits >= 8 * (ALGORITHMS[alg].min_secret_bytes or 0)
        return long_enough and _allowed_without_alg(self.kty, self.crv, alg, algorithms)


def _allowed_without_alg(kty: str | None, crv: str | None, alg: str, algorithms: frozenset[str]) -> bool:
    """Tell whether a key of this type and curve that names no algorithm is for *alg*, at such an issuer."""
    wanted = ALGORITHMS[alg]
    if (wanted.kty, wanted.crv) != (kty, crv):
        return False
    if kty == "RSA":
        return alg == _sole_alg(algorithms, "RSA", _RSA_DEFAULT)
    if kty == "oct":
        return alg == _sole_alg(algorithms, "oct", _HMAC_DEFAULT)
    return True


@lru_cache
def _sole_alg(algorithms: frozenset[str], kty: str, default: str) -> str:
    """Return the issuer's only algorithm for *kty*, or *default* where it has several."""
    of_type = [alg for alg in algorithms if alg in ALGORITHMS and ALGORITHMS[alg].kty == kty]
    return of_type[0] if len(of_type) == 1 else default


@dataclass(frozen=True, slots=True)
class RejectedKey:
    """A key of a document that may not be used, and why.

    What it says it is for counts on: *kty*, *crv* and *alg*, all None for a key that is not for signatures.
    """

    kid: str | None
    why: str
    kty: str | None = None
    crv: str | None = None
    alg: str | None = None

    def may_be_for(self, alg: str, algorithms: frozenset[str]) -> bool:
        """Tell whether this would be a key for *alg*, were it fit for use."""
        return self.alg == alg if self.alg is not None else _allowed_without_alg(self.kty, self.crv, alg, algorithms)


class Verified(Enum):
    """How a signature was found to be right. There is no other outcome: a wrong one raises."""

    COMPUTED = "computed"
    CACHED = "cached"


@record
class SignedPayload:
    """A payload whose signature verified. Only `verify` makes one.

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


def check_algorithm(token: UnverifiedToken, algorithms: frozenset[str]) -> None:
    """Refuse an `alg` that is not among *algorithms*, compared case by case. Raises Rejected(ALG_NOT_ALLOWED)."""
    if token.alg not in algorithms or token.alg not in ALGORITHMS:
        raise Rejected(Reason.ALG_NOT_ALLOWED, "alg is not allowed for this issuer")


def verify_signature(key: Key, token: UnverifiedToken) -> None:
    """Do the arithmetic. Raises Rejected(SIGNATURE_INVALID)."""
    algorithm = ALGORITHMS[token.alg]
    signature = token.signature
    expected = (key.bits + 7) // 8 if algorithm.signature_bytes is None else algorithm.signature_bytes
    if len(signature) != expected:
        raise _bad_signature(f"signature of {len(signature)} octets, not {expected}")
    if algorithm.order is not None:
        # RFC 7518 section 3.4 and FIPS 186-5 section 6.4.2: 0 < r, s < n (CVE-2022-21449: zero passed for any key).
        half = expected // 2
        r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        if not (0 < r < algorithm.order and 0 < s < algorithm.order):
            raise _bad_signature("r or s out of range")
    try:
        _ARITHMETIC[token.alg].verify(key._jwk, token.signing_input, signature)  # noqa: SLF001 - same file
    except Exception as error:  # foreign exceptions of every kind stop here, and nothing but success passes
        raise _bad_signature("signature does not verify") from error


def compute(_issuer: str, key: Key, token: UnverifiedToken) -> Verified:
    """Verify the signature without a cache. Raises Rejected(SIGNATURE_INVALID)."""
    verify_signature(key, token)
    return Verified.COMPUTED


VerifySignature = Callable[[str, Key, UnverifiedToken], Verified]
"""Verifies a signature under a key of the issuer configured by that name. Raises Rejected(SIGNATURE_INVALID)."""


def verify(token: UnverifiedToken, key: Key, *, issuer: str = "", by: VerifySignature = compute) -> SignedPayload:
    """Verify *token* under *key*, which `KeySet.select` chose at *issuer*. Raises Rejected(SIGNATURE_INVALID)."""
    return SignedPayload(token, key, by(issuer, key, token))


class _Arithmetic(Protocol):
    """What the library's algorithms have in common; its stubs leave it out."""

    def verify(self, key: JWK, payload: bytes, signature: bytes, /) -> None: ...


_ARITHMETIC: Final = {alg: cast("_Arithmetic", JWA.signing_alg(alg)) for alg in ALGORITHMS}


def _bad_signature(detail: str) -> Rejected:
    return Rejected(Reason.SIGNATURE_INVALID, detail)


@dataclass(frozen=True, slots=True)
class KeySet:
    """An immutable set of keys: the usable ones and those set aside. *unmatched* are names that should block a key."""

    keys: tuple[Key, ...]
    rejected_keys: tuple[RejectedKey, ...] = ()
    unmatched: tuple[str, ...] = ()
    _by_kid: Mapping[str, tuple[Key, ...]] = field(init=False, repr=False, compare=False)
    _unusable_kids: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_kid: defaultdict[str, tuple[Key, ...]] = defaultdict(tuple)
        for key in self.keys:
            if key.kid is not None:
                by_kid[key.kid] += (key,)
        object.__setattr__(self, "_by_kid", dict(by_kid))
        object.__setattr__(
            self, "_unusable_kids", frozenset(key.kid for key in self.rejected_keys if key.kid is not None)
        )

    @property
    def rejected(self) -> list[tuple[str | None, str]]:
        """The keys set aside, as pairs of key id (None where there is none) and reason."""
        return [(key.kid, key.why) for key in self.rejected_keys]

    @classmethod
    def from_json(
        cls,
        document: str | bytes,
        *,
        local: bool = False,
        max_keys: int = MAX_KEYS,
        max_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> KeySet:
        """Read a JWK Set (RFC 7517 section 5), each key alone. *local* lets symmetric keys in.

        Raises ValueError when the document itself is unusable.
        """
        data = document.encode() if isinstance(document, str) else document
        if len(data) > max_bytes:
            raise ValueError(f"{len(data)} bytes, at most {max_bytes}")
        members = parse_object(data, max_containers=max(MAX_CONTAINERS, _CONTAINERS_OF_A_KEY * max_keys))
        entries = members.get("keys")
        if not isinstance(entries, list):
            raise ValueError("the document has no array `keys`")  # noqa: TRY004 - bad data
        if len(entries) > max_keys:
            raise ValueError(f"{len(entries)} keys, at most {max_keys}")
        usable: dict[tuple[object, ...], Key] = {}
        rejected_keys: list[RejectedKey] = []
        for entry in entries:
            kid = _read_kid(entry)
            try:
                key = _import_key(entry, kid, local=local)
            except NotASigningKey as not_signing:
                rejected_keys.append(RejectedKey(kid, str(not_signing)))
            except InvalidJwk as invalid:
                said = (_read_text(entry, member) for member in ("kty", "crv", "alg"))
                rejected_keys.append(RejectedKey(kid, str(invalid), *said))
            else:
                usable[key.kid, key.thumbprint, key.alg] = key  # identical duplicates count once
        leaked = {thumbprint for entry in entries if (thumbprint := _leaked_thumbprint(entry)) is not None}
        for key in [key for key in usable.values() if key.thumbprint in leaked]:
            # Its public copy stands elsewhere in the set; anybody can sign by it.
            del usable[key.kid, key.thumbprint, key.alg]
            rejected_keys.append(RejectedKey(key.kid, LEAKED_PRIVATE_KEY, key.kty, key.crv, key.alg))
        # So does a copy without `alg` beside one with it: one key, one algorithm, and the set names it.
        named = {(kid, thumbprint) for kid, thumbprint, alg in usable if alg is not None}
        keys = (key for key in usable.values() if key.alg is not None or (key.kid, key.thumbprint) not in named)
        return cls(tuple(keys), tuple(rejected_keys))

    def block(self, names: Iterable[str]) -> KeySet:
        """Return this set without the keys whose key id or thumbprint is among *names*."""
        blocked = tuple(names)
        if not blocked:
            return self
        named = {key.thumbprint for key in self.keys if key.kid in blocked}
        # The same key under another id is as lost as this one: whoever holds it chooses the id.
        hit = [key for key in self.keys if key.thumbprint in named or key.thumbprint in blocked]
        known = {key.kid for key in self.keys} | {key.thumbprint for key in self.keys} | self._unusable_kids
        why = "blocked by configuration"
        return KeySet(
            tuple(key for key in self.keys if key not in hit),
            self.rejected_keys + tuple(RejectedKey(key.kid, why, key.kty, key.crv, key.alg) for key in hit),
            tuple(name for name in blocked if name not in known),
        )

    def select(self, token: UnverifiedToken, algorithms: frozenset[str]) -> Key:
        """Choose the one key that *token* can mean.

        Raises Rejected: KEY_NOT_FOUND, KEY_UNUSABLE, KEY_AMBIGUOUS.
        """
        named = self.keys if token.kid is None else self._by_kid.get(token.kid, ())
        serving = [key for key in named if key.supports(token.alg, algorithms)]
        if len(serving) == 1:
            return serving[0]
        if serving:
            raise Rejected(Reason.KEY_AMBIGUOUS, f"{len(serving)} keys could be meant")
        if token.kid is None:
            if any(key.may_be_for(token.alg, algorithms) for key in self.rejected_keys):
                raise Rejected(Reason.KEY_UNUSABLE, "no key id, and the key of this alg was set aside")
            raise Rejected(Reason.KEY_NOT_FOUND, "no key id, and no key of this alg")
        if named:
            raise Rejected(Reason.KEY_UNUSABLE, "the key with this id is not for this alg")
        if token.kid in self._unusable_kids:
            why = next(key.why for key in self.rejected_keys if key.kid == token.kid)
            raise Rejected(Reason.KEY_UNUSABLE, f"the key with this id was set aside: {why}")
        raise Rejected(Reason.KEY_NOT_FOUND, "no key with this id")

    def verify(self, token: UnverifiedToken, algorithms: Iterable[str]) -> SignedPayload:
        """Verify *token* under the one key that it can mean, at an issuer that may use *algorithms*.

        Raises Rejected: ALG_NOT_ALLOWED, KEY_NOT_FOUND, KEY_UNUSABLE, KEY_AMBIGUOUS, SIGNATURE_INVALID.
        """
        allowed = frozenset(algorithms)
        check_algorithm(token, allowed)
        return verify(token, self.select(token, allowed))


def _leaked_thumbprint(entry: object) -> str | None:
    """Return the thumbprint of a key whose private part *entry* publishes, or None."""
    if not isinstance(entry, dict) or not publishes_private_part(entry):
        return None
    try:
        return _import_key(public_part(entry), None, local=False).thumbprint
    except InvalidJwk:
        return None


def _read_kid(entry: object) -> str | None:
    kid = _read_text(entry, "kid")
    if kid is not None and len(kid) > MAX_KID_CHARS:
        raise ValueError(f"a key id of {len(kid)} characters, at most {MAX_KID_CHARS}")
    return kid


def _read_text(entry: object, member: str) -> str | None:
    value = entry.get(member) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else None


def _import_key(entry: object, kid: str | None, *, local: bool) -> Key:
    """Vet and import one entry of a set. Raises InvalidJwk."""
    if not isinstance(entry, dict):
        raise InvalidJwk("not a JSON object")
    validated = validate_jwk(entry, local=local)
    if "kid" in entry and kid is None:
        raise InvalidJwk("kid is not a string")
    try:
        jwk = JWK(**validated.material)
        jwk.get_op_key("verify")  # builds the key now: a point off its curve must not wait for the first token
    except Exception as error:  # the library raises exceptions of many families for bad keys
        raise InvalidJwk("the key's numbers make no key") from error
    if "x5c" in entry:
        _check_certificate(entry["x5c"], jwk)
    return _key(kid, validated, jwk)


def _key(kid: str | None, validated: ValidatedJwk, jwk: JWK) -> Key:
    return Key(kid, jwk.thumbprint(), validated.kty, validated.crv, validated.alg, validated.bits, jwk)


def _check_certificate(chain: object, jwk: JWK) -> None:
    """RFC 7517 section 4.7: the first certificate of `x5c` holds the same key. It is not a reason to trust it."""
    if not isinstance(chain, list) or not chain or not isinstance(chain[0], str):
        raise InvalidJwk("x5c is not a list of certificates")
    try:
        certificate = x509.load_der_x509_certificate(b64decode(chain[0], validate=True))
        held = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        same = held == jwk.export_to_pem()  # a symmetric key has no such form
    except Exception as error:  # UnsupportedAlgorithm and InvalidVersion are no ValueErrors
        raise InvalidJwk("x5c holds no readable certificate") from error
    if not same:
        raise InvalidJwk("x5c holds another key")
