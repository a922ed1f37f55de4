"""The public half of a signing key: its JWK, and the verification of signatures.

A signature by a remote key is verified before it is used. Otherwise, a device or a service that signs with another key,
or in another form, would cause tokens that every upstream rejects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from authz.core import base64url
from authz.signing.port import Failure, SigningUnavailable

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
_HASHES: Final[Mapping[str, HashAlgorithm]] = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
# By curve, as cryptography names it: the algorithm, the `crv`, and the octets of a coordinate (RFC 7518 section 3.4).
_CURVES: Final[Mapping[str, tuple[str, str, int]]] = {
    "secp256r1": ("ES256", "P-256", 32),
    "secp384r1": ("ES384", "P-384", 48),
    "secp521r1": ("ES512", "P-521", 66),
    "secp256k1": ("ES256K", "secp256k1", 32),
}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_MLDSA: Final[Mapping[type, str]] = {
    mldsa.MLDSA44PublicKey: "ML-DSA-44",
    mldsa.MLDSA65PublicKey: "ML-DSA-65",
    mldsa.MLDSA87PublicKey: "ML-DSA-87",
}
# RFC 7638 section 3.2, RFC 8037 section 2, RFC 9964: the members that a thumbprint is of, by key type.
THUMBPRINT_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
    "RSA": ("e", "kty", "n"),
    "AKP": ("alg", "kty", "pub"),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key for one *algorithm*: its *members* as a JWK, and *check*, which raises InvalidSignature."""

    algorithm: str
    members: Mapping[str, object]
    check: Callable[[bytes, bytes], None] = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: object, algorithm: str | None = None) -> Self:
        """Read a key of the library `cryptography`, for *algorithm* or the one that it is for.

        Raises SigningUnavailable.
        """
        match key:
            case rsa.RSAPublicKey():
                return cls(*_read_rsa(key, _choose_algorithm(algorithm, _RSA)))
            case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
                return cls(*_read_ec(key, _choose_algorithm(algorithm, (_CURVES[key.curve.name][0],))))
            case Ed25519PublicKey():
                chosen = _choose_algorithm(algorithm, ("EdDSA", "Ed25519"))
                members = {"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_bytes_raw())}
                return cls(chosen, members, lambda message, signature: key.verify(signature, message))
            case mldsa.MLDSA44PublicKey() | mldsa.MLDSA65PublicKey() | mldsa.MLDSA87PublicKey():
                names = tuple(name for kind, name in _MLDSA.items() if isinstance(key, kind))
                chosen = _choose_algorithm(algorithm, names)
                members = {"kty": "AKP", "alg": chosen, "pub": encode(key.public_bytes_raw())}
                return cls(chosen, members, lambda message, signature: key.verify(signature, message))
            case _:
                raise SigningUnavailable("the key is of a kind that signs no JWTs", Failure.KEY_UNUSABLE)

    @property
    def thumbprint(self) -> str:
        """The SHA-256 thumbprint (RFC 7638)."""
        return thumbprint_of(self.members)

    def jwk(self, kid: str) -> dict[str, object]:
        """Return the JWK with *kid*, alg and use."""
        return {**self.members, "kid": kid, "alg": self.algorithm, "use": "sig"}

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Return whether *signature*, in the form of JWS, is one of *message*."""
        try:
            self.check(message, signature)
        except (InvalidSignature, ValueError):
            return False
        return True


def thumbprint_of(public: Mapping[str, object]) -> str:
    """Return the SHA-256 thumbprint of a public JWK (RFC 7638)."""
    members = {name: public[name] for name in THUMBPRINT_MEMBERS[str(public["kty"])]}
    return encode(sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest())


def hash_of(algorithm: str) -> HashAlgorithm:
    """Return the hash of an algorithm of RSA or ECDSA: ES256K has SHA-256 (RFC 8812)."""
    return _HASHES[algorithm[2:5]]


def ecdsa_from_der(der: bytes, algorithm: str) -> bytes:
    """Return r || s of an ECDSA signature in DER (RFC 3279 section 2.2.3). Raises SigningUnavailable."""
    size = next(size for name, _, size in _CURVES.values() if name == algorithm)
    try:
        r, s = decode_dss_signature(der)
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    except (ValueError, OverflowError):
        raise SigningUnavailable("the signature is not one of ECDSA in DER", Failure.WRONG_ANSWER) from None


def p256_from_der(der: bytes) -> bytes:
    """Return r || s of a signature over P-256 in DER, in half the time of `ecdsa_from_der`.

    It is a sequence of two integers, whose lengths take one octet each. Raises ValueError, IndexError, OverflowError.
    """
    offset = 4 + der[3]
    r, s = der[4:offset], der[offset + 2 :]
    if len(s) != der[offset + 1] or len(der) != 2 + der[1]:
        raise ValueError("not a signature over P-256 in DER")
    return int.from_bytes(r, "big").to_bytes(32, "big") + int.from_bytes(s, "big").to_bytes(32, "big")


def encode(octets: bytes) -> str:
    """Return base64url, as a JWK has it."""
    return base64url.encode(octets).decode("ascii")


def encode_number(value: int, size: int | None = None) -> str:
    """Return Base64urlUInt (RFC 7518 section 2); coordinates have a fixed *size* in octets."""
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _read_rsa(key: rsa.RSAPublicKey, algorithm: str) -> tuple[str, dict[str, object], Callable[[bytes, bytes], None]]:
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        text = f"the key is of {key.key_size} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
        raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
    hash_algorithm = hash_of(algorithm)
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm.startswith("PS"):  # RFC 7518 section 3.5: the salt is as long as the hash
        scheme = padding.PSS(mgf=padding.MGF1(hash_algorithm), salt_length=hash_algorithm.digest_size)
    numbers = key.public_numbers()
    members: dict[str, object] = {"kty": "RSA", "n": encode_number(numbers.n), "e": encode_number(numbers.e)}
    return algorithm, members, lambda message, signature: key.verify(signature, message, scheme, hash_algorithm)


def _read_ec(
    key: ec.EllipticCurvePublicKey, algorithm: str
) -> tuple[str, dict[str, object], Callable[[bytes, bytes], None]]:
    _, crv, size = _CURVES[key.curve.name]
    numbers = key.public_numbers()
    members: dict[str, object] = {
        "kty": "EC",
        "crv": crv,
        "x": encode_number(numbers.x, size),
        "y": encode_number(numbers.y, size),
    }

    def check(message: bytes, signature: bytes) -> None:
        if len(signature) != 2 * size:
            raise ValueError("not r || s")
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hash_of(algorithm)))

    return algorithm, members, check


def _choose_algorithm(algorithm: str | None, supported: tuple[str, ...]) -> str:
    chosen = algorithm or supported[0]
    if chosen not in supported:
        text = f"the key cannot sign by {chosen}, but by {' or '.join(supported)}"
        raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
    return chosen
