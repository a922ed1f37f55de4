"""The signature algorithms that can be verified, as one table.

Sources: RFC 7518 section 3.1 (HS, RS, PS, ES), RFC 8037 and RFC 9864 (EdDSA, Ed25519, Ed448), RFC 8812 (ES256K),
RFC 9964 (ML-DSA). Any other name is a configuration error, and a key or token that has it is rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm: its key type, its curve if it has one, and the length of its signatures in octets.

    *signature_bytes* is None if it depends on the key (RSA: the length of the modulus). *order* is the order of the
    curve's group for ECDSA, the bound of both halves of a signature. *min_secret_bytes* is the minimum of RFC 7518
    section 3.2 for HMAC.
    """

    kty: str
    crv: str | None = None
    signature_bytes: int | None = None
    order: int | None = None
    min_secret_bytes: int | None = None


# FIPS 186-5 and SEC 2: group orders.
_P256: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P384: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
_P521: Final = 2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7
_SECP256K1: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "HS256": Algorithm("oct", signature_bytes=32, min_secret_bytes=32),
    "HS384": Algorithm("oct", signature_bytes=48, min_secret_bytes=48),
    "HS512": Algorithm("oct", signature_bytes=64, min_secret_bytes=64),
    "RS256": Algorithm("RSA"),
    "RS384": Algorithm("RSA"),
    "RS512": Algorithm("RSA"),
    "PS256": Algorithm("RSA"),
    "PS384": Algorithm("RSA"),
    "PS512": Algorithm("RSA"),
    "ES256": Algorithm("EC", "P-256", 64, _P256),
    "ES384": Algorithm("EC", "P-384", 96, _P384),
    "ES512": Algorithm("EC", "P-521", 132, _P521),
    "ES256K": Algorithm("EC", "secp256k1", 64, _SECP256K1),
    "EdDSA": Algorithm("OKP", "Ed25519", 64),
    "Ed25519": Algorithm("OKP", "Ed25519", 64),
    "Ed448": Algorithm("OKP", "Ed448", 114),
    "ML-DSA-44": Algorithm("AKP", signature_bytes=2420),
    "ML-DSA-65": Algorithm("AKP", signature_bytes=3309),
    "ML-DSA-87": Algorithm("AKP", signature_bytes=4627),
}

# The algorithms of an issuer whose configuration names none.
DEFAULT_ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)


def fully_specified(alg: str, crv: str | None) -> str:
    """Return the fully specified name (RFC 9864) of *alg* for a key on *crv*: EdDSA with an Ed448 key is Ed448."""
    return crv if alg == "EdDSA" and crv == "Ed448" else alg
