"""One key: its parameters, the algorithms that it may be used for, and signature verification.

Rules of this file:
1. One key, one algorithm: the key's `alg`. A key without `alg` may be used for the algorithms that the operator
   configured and that fit its type; by default an RSA key without `alg` is used for RS256 only (RFC 8725 section 3.1).
2. Length and range of a signature are checked before the library is called.
3. Only this file imports the JOSE library; the demo, which signs tokens, is the exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto.jwa import JWA
from jwcrypto.jwk import JWK

from authz.core.algorithms import ALGORITHMS, fully_specified
from authz.core.certificate import CertificateHashes, CertificateMismatch, read_certificate
from authz.core.jwk_validation import InvalidJwk, validate_jwk
from authz.core.reasons import Reason, Rejected
from authz.core.token import UnverifiedToken

_KEY_TYPES: Final = frozenset((algorithm.kty, algorithm.crv) for algorithm in ALGORITHMS.values())
RSA_WITHOUT_ALG: Final = "RS256"  # for RSA keys without alg, if no algorithms are configured for the issuer


@dataclass(frozen=True, slots=True)
class Key:
    """One usable key: its RFC 7638 *thumbprint*, and its size in *bits*. *alg* is None if the JWK has none.

    *notes* describe accepted deviations from the standard form. *certificates* are the hashes of its certificate.
    *issuers* are from the JWK's own `issuer` member, each an `iss` or a template; empty if absent.
    """

    kid: str | None
    thumbprint: str
    kty: str
    crv: str | None
    alg: str | None
    bits: int
    _jwk: JWK = field(repr=False, compare=False)
    notes: tuple[str, ...] = ()
    certificates: CertificateHashes = field(default=CertificateHashes(), repr=False)
    issuers: frozenset[str] = frozenset()

    def supports(self, alg: str, algorithms: frozenset[str], *, configured: bool = True) -> bool:
        """Return whether this key may be used for *alg*.

        *algorithms* are those allowed for the issuer, *configured* tells whether the operator chose them.
        """
        if not fits_type(self.kty, self.crv, alg, algorithms):
            return False
        if self.alg is not None:
            return self.alg == alg or (self.crv == "Ed448" and self.alg == "EdDSA")  # RFC 8037 names both curves EdDSA
        # RFC 7518 section 3.2: a secret at least as long as the hash.
        long_enough = self.bits >= 8 * (ALGORITHMS[alg].min_secret_bytes or 0)
        return long_enough and allowed_without_alg(alg, configured=configured)


@dataclass(frozen=True, slots=True)
class RejectedKey:
    """A key that must not be used, and *why*.

    *kty*, *crv* and *alg* are as published. *other_purpose* marks keys that are not for signatures, for example
    encryption keys: they are not errors of the issuer. *thumbprint* is None if the members define no public key.
    """

    kid: str | None
    why: str
    kty: str | None = None
    crv: str | None = None
    alg: str | None = None
    other_purpose: bool = False
    thumbprint: str | None = field(default=None, compare=False)

    @property
    def kind(self) -> tuple[str | None, str | None] | str | None:
        """What a token without `kid` may select it by: `alg`, or type and curve; None if it verifies no token."""
        if self.other_purpose:
            return None
        if self.alg is not None:
            return self.alg if self.alg in ALGORITHMS else None
        return (self.kty, self.crv) if (self.kty, self.crv) in _KEY_TYPES else None

    def may_be_for(self, alg: str, algorithms: frozenset[str], *, configured: bool = True) -> bool:
        """Return whether this key would be for *alg* if it were usable; parameters as in `Key.supports`."""
        if self.alg is not None:
            return self.alg == alg
        return fits_type(self.kty, self.crv, alg, algorithms) and allowed_without_alg(alg, configured=configured)


def fits_type(kty: str | None, crv: str | None, alg: str, algorithms: frozenset[str]) -> bool:
    """Return whether *alg* is for keys of this type and curve. EdDSA includes Ed448 if *algorithms* contain Ed448."""
    name = fully_specified(alg, crv)
    wanted = ALGORITHMS[name]
    return (wanted.kty, wanted.crv) == (kty, crv) and (name == alg or name in algorithms)


def allowed_without_alg(alg: str, *, configured: bool) -> bool:
    """Return whether a key without `alg` may be used for *alg*, an algorithm that fits its type."""
    return configured or ALGORITHMS[alg].kty != "RSA" or alg == RSA_WITHOUT_ALG


def import_key(members: dict[str, object], *, local: bool, x5c_mismatch: bool, notes: tuple[str, ...] = ()) -> Key:
    """Validate and import one JWK in standard form; *notes* are those of its normalization.

    Raises InvalidJwk.
    """
    valid = validate_jwk(members, local=local)
    kid = members.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise InvalidJwk("kid is not a string")
    try:
        jwk = JWK(**valid.material)
        public: Any = jwk.get_op_key("verify")  # rejects a point that is not on the curve
    except Exception as error:  # the library raises many unrelated exceptions
        raise InvalidJwk("the key's numbers are not a valid public key") from error
    pem = None if valid.kty == "oct" else public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        certificates, certificate_notes = read_certificate(members, pem, allow_mismatch=x5c_mismatch)
    except CertificateMismatch as mismatch:
        raise InvalidJwk(str(mismatch)) from None
    issuer = members.get("issuer")  # not in RFC 7517: a member of Entra's multi-tenant key sets
    return Key(
        kid,
        jwk.thumbprint(),
        valid.kty,
        valid.crv,
        valid.alg,
        valid.bits,
        jwk,
        (*notes, *certificate_notes),
        certificates,
        frozenset({issuer} if isinstance(issuer, str) else ()),
    )


def thumbprint_of(members: dict[str, object]) -> str | None:
    """Return the RFC 7638 thumbprint of the public key in *members*; None if they define no valid key."""
    try:
        return import_key(members, local=False, x5c_mismatch=True).thumbprint
    except InvalidJwk:
        return None


def verify_signature(key: Key, token: UnverifiedToken) -> None:
    """Verify the signature of *token* with *key*. Raises Rejected(SIGNATURE_INVALID)."""
    name = fully_specified(token.alg, key.crv)
    algorithm = ALGORITHMS[name]
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
        _VERIFIERS[name].verify(key._jwk, token.signing_input, signature)  # noqa: SLF001 - same file
    except Exception as error:  # any exception of the library means failure
        raise _bad_signature("signature does not verify") from error


class _Verifier(Protocol):
    """The common method of the library's algorithms, which its type stubs lack."""

    def verify(self, key: JWK, payload: bytes, signature: bytes, /) -> None: ...


_VERIFIERS: Final[Mapping[str, _Verifier]] = {alg: cast("_Verifier", JWA.signing_alg(alg)) for alg in ALGORITHMS}


def _bad_signature(detail: str) -> Rejected:
    return Rejected(Reason.SIGNATURE_INVALID, detail)
