"""One key: what it says of itself, what it may verify, and the arithmetic of a signature.

Rules of this file:
1. One key, one algorithm: the key's `alg`; a key without it serves what the operator wrote down for its type, and only
   RS256 of RSA if nothing was written (RFC 8725 section 3.1).
2. Lengths and ranges of a signature are checked before the library sees it.
3. This is the only file of the project, the demo aside, that knows the JOSE library.
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

_KINDS: Final = frozenset((algorithm.kty, algorithm.crv) for algorithm in ALGORITHMS.values())
RSA_WITHOUT_ALG: Final = "RS256"  # what an RSA key without alg serves at an issuer without written algorithms


@dataclass(frozen=True, slots=True)
class Key:
    """One usable key. *thumbprint* is RFC 7638's, *bits* its size; *alg* is None if the JWK names none.

    *notes* say in which forms it was published that are read, and should not be. *certificates* name it by hash.
    *issuers* are those that the set ascribes it to, each an `iss` or a template of one; none if it does not say.
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

    def supports(self, alg: str, algorithms: frozenset[str], *, written: bool = True) -> bool:
        """Tell whether this is a key for *alg*, at an issuer that may use *algorithms*, *written* by the operator."""
        if not fits_type(self.kty, self.crv, alg, algorithms):
            return False
        if self.alg is not None:
            return self.alg == alg or (self.crv == "Ed448" and self.alg == "EdDSA")  # RFC 8037 has no other name
        # RFC 7518 section 3.2: a secret at least as long as the hash.
        long_enough = self.bits >= 8 * (ALGORITHMS[alg].min_secret_bytes or 0)
        return long_enough and allowed_without_alg(alg, written=written)


@dataclass(frozen=True, slots=True)
class RejectedKey:
    """A key of a document that may not be used, and why.

    What it says it is for counts on: *kty*, *crv* and *alg*. A key that is for something *else* than signatures is no
    mistake of the issuer's, and no token can mean it. *thumbprint* is RFC 7638's, None if it makes no public key.
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
        """What a token without a key id could mean it by: its algorithm, or its type; None if no token can."""
        if self.other_purpose:
            return None
        if self.alg is not None:
            return self.alg if self.alg in ALGORITHMS else None
        return (self.kty, self.crv) if (self.kty, self.crv) in _KINDS else None

    def may_be_for(self, alg: str, algorithms: frozenset[str], *, written: bool = True) -> bool:
        """Tell whether this would be a key for *alg*, if it could be used."""
        if self.alg is not None:
            return self.alg == alg
        return fits_type(self.kty, self.crv, alg, algorithms) and allowed_without_alg(alg, written=written)


def fits_type(kty: str | None, crv: str | None, alg: str, algorithms: frozenset[str]) -> bool:
    """Tell whether *alg* is for keys of this type and curve. EdDSA is for Ed448 if that is among *algorithms*."""
    name = fully_specified(alg, crv)
    wanted = ALGORITHMS[name]
    return (wanted.kty, wanted.crv) == (kty, crv) and (name == alg or name in algorithms)


def allowed_without_alg(alg: str, *, written: bool) -> bool:
    """Tell whether a key that names no algorithm serves *alg*, an algorithm for its type."""
    return written or ALGORITHMS[alg].kty != "RSA" or alg == RSA_WITHOUT_ALG


def import_key(members: dict[str, object], *, local: bool, x5c_mismatch: bool, notes: tuple[str, ...] = ()) -> Key:
    """Validate and import one JWK in its canonical form. *notes* say how it was published.

    Raises InvalidJwk.
    """
    valid = validate_jwk(members, local=local)
    kid = members.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise InvalidJwk("kid is not a string")
    try:
        jwk = JWK(**valid.material)
        public: Any = jwk.get_op_key("verify")  # now: a point off its curve must not wait for the first token
    except Exception as error:  # the library raises exceptions of many families for bad keys
        raise InvalidJwk("the key's numbers make no key") from error
    pem = None if valid.kty == "oct" else public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        certificates, found = read_certificate(members, pem, allow_mismatch=x5c_mismatch)
    except CertificateMismatch as mismatch:
        raise InvalidJwk(str(mismatch)) from None
    issuer = members.get("issuer")  # no member of RFC 7517: Entra's sets for many tenants have it
    return Key(
        kid,
        jwk.thumbprint(),
        valid.kty,
        valid.crv,
        valid.alg,
        valid.bits,
        jwk,
        (*notes, *found),
        certificates,
        frozenset({issuer} if isinstance(issuer, str) else ()),
    )


def thumbprint_of(members: dict[str, object]) -> str | None:
    """Return the RFC 7638 thumbprint of the public key that *members* make; None if they make none."""
    try:
        return import_key(members, local=False, x5c_mismatch=True).thumbprint
    except InvalidJwk:
        return None


def verify_signature(key: Key, token: UnverifiedToken) -> None:
    """Do the arithmetic. Raises Rejected(SIGNATURE_INVALID)."""
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
        _ARITHMETIC[name].verify(key._jwk, token.signing_input, signature)  # noqa: SLF001 - same file
    except Exception as error:  # foreign exceptions of every kind stop here, and nothing but success passes
        raise _bad_signature("signature does not verify") from error


class _Arithmetic(Protocol):
    """What the library's algorithms have in common; its stubs leave it out."""

    def verify(self, key: JWK, payload: bytes, signature: bytes, /) -> None: ...


_ARITHMETIC: Final[Mapping[str, _Arithmetic]] = {alg: cast("_Arithmetic", JWA.signing_alg(alg)) for alg in ALGORITHMS}


def _bad_signature(detail: str) -> Rejected:
    return Rejected(Reason.SIGNATURE_INVALID, detail)
