"""The certificate of a JWK: `x5c`, `x5t` and `x5t#S256` (RFC 7517 sections 4.7 to 4.9).

Rules of this file:
1. A certificate never makes a key trusted. If it holds another public key, the JWK is rejected; if it cannot be read,
   it is ignored.
2. Certificate hashes only select among the keys of one issuer, as a key id does.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha1, sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authz.core import base64url
from authz.core.jwk_normalization import decode_base64

X5C_UNREADABLE: Final = "x5c holds no readable certificate, and is ignored"
X5C_MISMATCH: Final = "x5c holds another key"
X5C_MISMATCH_ALLOWED: Final = "x5c holds another key, allowed by insecure.x5c_mismatch"
X5C_FORM: Final = "x5c is not a list of base64 DER"
X5T_MISMATCH: Final = "x5t is not the hash of the certificate in x5c"

_MAX_HASH_CHARS: Final = 128
_PEM: Final = re.compile(r"\s*-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")


class CertificateMismatch(Exception):
    """Raised if the certificate of a key holds another key."""


@dataclass(frozen=True, slots=True)
class CertificateHashes:
    """The values of `x5t` and `x5t#S256` in a token's header that select a key by its certificate."""

    sha1: frozenset[str] = frozenset()
    sha256: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.sha1 or self.sha256)

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield each hash with the name of its header parameter."""
        yield from (("x5t", digest) for digest in self.sha1)
        yield from (("x5t#S256", digest) for digest in self.sha256)

    def __or__(self, other: CertificateHashes) -> CertificateHashes:
        return CertificateHashes(self.sha1 | other.sha1, self.sha256 | other.sha256)


def read_certificate(
    jwk: Mapping[str, object], public_key: bytes | None, *, allow_mismatch: bool
) -> tuple[CertificateHashes, tuple[str, ...]]:
    """Return the certificate hashes of *jwk*, and notes for the operator.

    *public_key* is the key as PEM (SubjectPublicKeyInfo), None for a symmetric one. Raises CertificateMismatch unless
    *allow_mismatch*.
    """
    notes = []
    sha1_hashes, sha256_hashes = _read_hash(jwk.get("x5t")), _read_hash(jwk.get("x5t#S256"))
    if "x5c" in jwk:
        der, well_formed = _decode_first(jwk["x5c"])
        certified = _public_key_of(der)
        if certified is None:
            notes.append(X5C_UNREADABLE)
        elif certified != public_key:
            if not allow_mismatch:
                raise CertificateMismatch(X5C_MISMATCH)
            notes.append(X5C_MISMATCH_ALLOWED)
        else:
            if not well_formed:
                notes.append(X5C_FORM)
            # RFC 7517 section 4.8 asks for SHA-1.
            digest1, digest256 = _encode(sha1(der, usedforsecurity=False).digest()), _encode(sha256(der).digest())
            if not (sha1_hashes <= {digest1} and sha256_hashes <= {digest256}):
                notes.append(X5T_MISMATCH)
            sha1_hashes, sha256_hashes = sha1_hashes | {digest1}, sha256_hashes | {digest256}
    return CertificateHashes(sha1_hashes, sha256_hashes), tuple(notes)


def _decode_first(chain: object) -> tuple[bytes, bool]:
    """Return the first certificate of *chain*, empty if there is none, and whether *chain* is a list of base64 DER."""
    first = chain[0] if isinstance(chain, list) and chain else chain
    if not isinstance(first, str):
        return b"", False
    pem = _PEM.match(first)
    try:
        der, _ = decode_base64(pem[1] if pem else first)
    except ValueError:
        return b"", False
    return der, isinstance(chain, list) and b64encode(der).decode() == first


def _public_key_of(der: bytes) -> bytes | None:
    """Return the public key of a certificate as PEM; None if the certificate cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        return certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # noqa: BLE001 - the library's exceptions differ between releases
        return None


def _read_hash(digest: object) -> frozenset[str]:
    """Return a hash from a JWK in the form of a token's header: base64url without padding."""
    if not isinstance(digest, str) or len(digest) > _MAX_HASH_CHARS:
        return frozenset()
    return frozenset({digest.rstrip("=").replace("+", "-").replace("/", "_")})


def _encode(digest: bytes) -> str:
    return base64url.encode(digest).decode()
