"""A private key in this process: generated, or read from PEM or a JWK.

Rules of this file:
1. No `repr`, no error and no attribute with a public name contains private members; errors of parsers are replaced,
   because they may quote their input.
2. Signing takes less time than a hand-over to another thread, and the library holds the interpreter lock: only this
   signer may be called on the deciding thread.
3. A key must be one that verifiers accept: P-256, Ed25519, RSA of 2048 to 4096 bits, ML-DSA-65.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self, assert_never

from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authz.core import base64url
from authz.core.strictjson import parse_object
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import THUMBPRINT_MEMBERS, encode, encode_number, p256_from_der, thumbprint_of

ALGORITHMS: Final = ("ES256", "EdDSA", "Ed25519", "RS256", "PS256", "ML-DSA-65")
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 4096  # a larger one would hold up all checks while it signs
MAX_KEY_BYTES: Final = 65_536

PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey | rsa.RSAPrivateKey | mldsa.MLDSA65PrivateKey
_KINDS: Final[Mapping[str, type]] = {
    "ES256": ec.EllipticCurvePrivateKey,
    "EdDSA": Ed25519PrivateKey,
    "Ed25519": Ed25519PrivateKey,
    "RS256": rsa.RSAPrivateKey,
    "PS256": rsa.RSAPrivateKey,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey,
}
_PSS: Final = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)  # RFC 7518 section 3.5
_ECDSA: Final = ec.ECDSA(SHA256())


class InvalidKey(ValueError):
    """Raised for a key that cannot be used; the text has no part of it."""


class LocalSigner:
    """A signer whose key is in this process."""

    __slots__ = ("_key", "_public", "_sign", "algorithm", "kid")
    problem: Final = ""  # one signature fails by itself, and not because the key is away

    def __init__(self, key: PrivateKey, algorithm: str | None = None, *, kid: str | None = None) -> None:
        """Sign by *algorithm*, by default the one of the key. Raises ValueError for a key that verifiers reject."""
        self._key: Final = key
        self.algorithm: Final = _choose_algorithm(key, algorithm)
        public = _public_members(key, self.algorithm)
        self.kid: Final = kid or thumbprint_of(public)
        self._public: Final[Mapping[str, object]] = {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig"}
        self._sign: Final = _signing_function(key, self.algorithm)

    @classmethod
    def generate(cls, algorithm: str, *, kid: str | None = None) -> Self:
        """Generate a key for *algorithm*. Raises ValueError for an unknown one."""
        match algorithm:
            case "ES256":
                return cls(ec.generate_private_key(ec.SECP256R1()), algorithm, kid=kid)
            case "EdDSA" | "Ed25519":
                return cls(Ed25519PrivateKey.generate(), algorithm, kid=kid)
            case "RS256" | "PS256":
                return cls(rsa.generate_private_key(65_537, MIN_RSA_BITS), algorithm, kid=kid)
            case "ML-DSA-65":
                return cls(mldsa.MLDSA65PrivateKey.generate(), algorithm, kid=kid)
            case _:
                raise ValueError(f"no keys are generated for {algorithm}, but for one of {', '.join(ALGORITHMS)}")

    @classmethod
    def read(cls, data: bytes, algorithm: str | None = None, *, kid: str | None = None) -> Self:
        """Read a private key, unencrypted PEM or a JWK; *algorithm* and *kid* take precedence over those of a JWK.

        Raises ValueError, without a part of the key.
        """
        if data.lstrip()[:1] != b"{":
            return cls(_read_pem(data), algorithm, kid=kid)
        members = _read_members(data)
        own_alg, own_kid = members.get("alg"), members.get("kid")
        chosen = algorithm or (own_alg if isinstance(own_alg, str) else None)
        return cls(_read_jwk(members), chosen, kid=kid or (own_kid if isinstance(own_kid, str) else None))

    def __repr__(self) -> str:
        """Return kid and algorithm."""
        return f"LocalSigner(kid={self.kid!r}, algorithm={self.algorithm!r})"

    def __reduce__(self) -> str:
        """Refuse to be copied or pickled."""
        raise TypeError("a private key is not copied")

    def public_jwk(self) -> Mapping[str, object]:
        """Return the public members, with kid, alg and use."""
        return self._public

    def export_private(self) -> dict[str, object]:
        """Return the private JWK, for the state file alone."""
        return {**self._public, **_private_members(self._key)}

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*. Raises SigningUnavailable."""
        try:
            return self._sign(message)
        except Exception as error:  # noqa: BLE001 - the library has many, and their text may contain anything
            why = f"cannot sign by {self.algorithm}: {type(error).__name__}"
            raise SigningUnavailable(why, Failure.FAILED) from None

    def close(self) -> None:
        """Do nothing: there is no connection."""


def _choose_algorithm(key: PrivateKey, algorithm: str | None) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, ec.SECP256R1):
        raise InvalidKey(f"its curve is {key.curve.name}, and ES256 needs P-256")
    if isinstance(key, rsa.RSAPrivateKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise InvalidKey(f"an RSA key of {key.key_size} bits: it must have {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    fitting = [name for name in ALGORITHMS if isinstance(key, _KINDS[name])]
    chosen = algorithm or fitting[0]
    if chosen not in fitting:
        raise InvalidKey(f"cannot sign by {chosen}, but by {' or '.join(fitting)}")
    return chosen


def _signing_function(key: PrivateKey, algorithm: str) -> Callable[[bytes], bytes]:
    match key:
        case ec.EllipticCurvePrivateKey():
            return lambda message: p256_from_der(key.sign(message, _ECDSA))
        case rsa.RSAPrivateKey():
            scheme: padding.AsymmetricPadding = _PSS if algorithm == "PS256" else padding.PKCS1v15()
            return lambda message: key.sign(message, scheme, SHA256())
        case Ed25519PrivateKey() | mldsa.MLDSA65PrivateKey():
            return key.sign
        case _:
            assert_never(key)


def _read_pem(data: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(data, password=None)
    except Exception:  # noqa: BLE001 - the library has many
        raise InvalidKey("neither an unencrypted private key in PEM nor a JWK") from None
    return _check_kind(key)


def _check_kind(key: object) -> PrivateKey:
    match key:
        case ec.EllipticCurvePrivateKey() | Ed25519PrivateKey() | rsa.RSAPrivateKey() | mldsa.MLDSA65PrivateKey():
            return key
        case _:
            raise InvalidKey("a private key of a kind that is not supported")


def _read_members(data: bytes) -> dict[str, object]:
    try:
        return parse_object(data)
    except ValueError:
        raise InvalidKey("not a JWK: no JSON object") from None


class _ReadNumber(Protocol):
    def __call__(self, name: str) -> int: ...


def _read_jwk(members: Mapping[str, object]) -> PrivateKey:
    """Read a private JWK (RFC 7518 section 6, RFC 8037 section 2, RFC 9964). Raises ValueError."""

    def octets(name: str) -> bytes:
        value = members[name]
        if not isinstance(value, str):
            raise TypeError(name)
        return base64url.decode(value.encode())

    def number(name: str) -> int:
        return int.from_bytes(octets(name), "big")

    try:
        key = _build_private_key(members, octets, number)
    except InvalidKey:
        raise
    except Exception:  # noqa: BLE001 - the library has many, and a KeyError names a member
        raise InvalidKey("not a complete private JWK of a supported kind") from None
    public = _public_members(key, str(members.get("alg")))
    if any(members.get(name) != public[name] for name in THUMBPRINT_MEMBERS[str(public["kty"])] if name != "alg"):
        raise InvalidKey("a JWK whose public members do not belong to its private ones")
    return key


def _build_private_key(
    members: Mapping[str, object], octets: Callable[[str], bytes], number: _ReadNumber
) -> PrivateKey:
    match members.get("kty"), members.get("crv"):
        case "EC", "P-256":
            return ec.derive_private_key(number("d"), ec.SECP256R1())
        case "OKP", "Ed25519":
            return Ed25519PrivateKey.from_private_bytes(octets("d"))
        case "RSA", _:
            public = rsa.RSAPublicNumbers(number("e"), number("n"))
            p, q, d = number("p"), number("q"), number("d")
            return rsa.RSAPrivateNumbers(p, q, d, number("dp"), number("dq"), number("qi"), public).private_key()
        case "AKP", _ if members.get("alg") == "ML-DSA-65":
            return mldsa.MLDSA65PrivateKey.from_seed_bytes(octets("priv"))
        case _:
            raise InvalidKey("a JWK of a kind that is not supported")


def _public_members(key: PrivateKey, algorithm: str) -> dict[str, object]:
    match key:
        case ec.EllipticCurvePrivateKey():
            point = key.public_key().public_numbers()
            return {"kty": "EC", "crv": "P-256", "x": encode_number(point.x, 32), "y": encode_number(point.y, 32)}
        case Ed25519PrivateKey():
            return {"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().public_bytes_raw())}
        case rsa.RSAPrivateKey():
            numbers = key.public_key().public_numbers()
            return {"kty": "RSA", "n": encode_number(numbers.n), "e": encode_number(numbers.e)}
        case mldsa.MLDSA65PrivateKey():
            return {"kty": "AKP", "alg": algorithm, "pub": encode(key.public_key().public_bytes_raw())}
        case _:
            assert_never(key)


def _private_members(key: PrivateKey) -> dict[str, object]:
    match key:
        case ec.EllipticCurvePrivateKey():
            return {"d": encode_number(key.private_numbers().private_value, 32)}
        case Ed25519PrivateKey():
            return {"d": encode(key.private_bytes_raw())}
        case rsa.RSAPrivateKey():
            numbers = key.private_numbers()
            members = {"d": numbers.d, "p": numbers.p, "q": numbers.q}
            members |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
            return {name: encode_number(value) for name, value in members.items()}
        case mldsa.MLDSA65PrivateKey():
            return {"priv": encode(key.private_bytes_raw())}
        case _:
            assert_never(key)
