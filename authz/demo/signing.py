"""Generate signing keys and compact tokens, for the demo's identity provider and for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from jwcrypto.common import base64url_decode, base64url_encode
from jwcrypto.jwa import JWA
from jwcrypto.jwk import JWK

_ELLIPTIC_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "ES256K": "secp256k1"}
_EDWARDS_CURVES = {"EdDSA": "Ed25519", "Ed25519": "Ed25519", "Ed448": "Ed448"}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its only algorithm."""

    kid: str
    algorithm: str
    jwk: JWK = field(repr=False)

    @classmethod
    def create(cls, algorithm: str, *, kid: str | None = None) -> Self:
        """Generate a key for a JWS algorithm; without a *kid* its thumbprint is used (RFC 7638)."""
        jwk = _generate(algorithm)
        return cls(kid=kid or jwk.thumbprint(), algorithm=algorithm, jwk=jwk)

    def public(self) -> dict[str, object]:
        """Return the public JWK with kid, alg and use (RFC 7517). A symmetric key has no public part."""
        members = json.loads(self.jwk.export_public())
        return {**members, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def header(self) -> dict[str, object]:
        """Return the JOSE header that a real provider would use for this key (RFC 9068 for `typ`)."""
        return {"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt"}

    def sign(self, claims: Mapping[str, object], *, header: Mapping[str, object] | None = None) -> str:
        """Return a compact JWS of these claims. The header may contain anything; `algorithm` is used."""
        return self.sign_bytes(_encode(claims), header=_encode(self.header() if header is None else header))

    def sign_bytes(self, payload: bytes, *, header: bytes) -> str:
        """Return a compact JWS over these bytes, also if they are not JSON (RFC 7515 section 7.1)."""
        signing_input = f"{base64url_encode(header)}.{base64url_encode(payload)}"
        signer: Any = JWA.signing_alg(self.algorithm)  # its stubs do not know `sign`
        signature = signer.sign(self.jwk, signing_input.encode("ascii"))
        return f"{signing_input}.{base64url_encode(signature)}"


def read_kid(token: str) -> str:
    """Return the key id in a token of this module."""
    header: dict[str, str] = json.loads(base64url_decode(token.partition(".")[0]))
    return header["kid"]


def _generate(algorithm: str) -> JWK:
    """Return a key of the type that the algorithm needs (RFC 7518, RFC 8037, RFC 8812, RFC 9864, and ML-DSA's AKP)."""
    generate: Any = JWK.generate  # its stubs do not know AKP
    key: JWK
    if algorithm.startswith(("RS", "PS")):
        key = generate(kty="RSA", size=2048)
    elif algorithm.startswith("HS"):
        key = generate(kty="oct", size=512)
    elif algorithm.startswith("ML-DSA"):
        key = generate(kty="AKP", alg=algorithm)
    elif algorithm in _ELLIPTIC_CURVES:
        key = generate(kty="EC", crv=_ELLIPTIC_CURVES[algorithm])
    else:
        key = generate(kty="OKP", crv=_EDWARDS_CURVES[algorithm])
    return key


def _encode(members: Mapping[str, object]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
