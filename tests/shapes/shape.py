"""One shape of a key set: a document, a token by its key, and what is expected of them."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authz.core import base64url
from authz.demo.signing import SigningKey
from tests.fixtures import changed

ISSUER: Final = "https://issuer.test"
NOW: Final = 1_900_000_000
CLAIMS: Final[Mapping[str, object]] = {
    "iss": ISSUER,
    "sub": "bob",
    "aud": "api",
    "iat": 1_764_000_000,
    "exp": 4_102_444_800,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A *document* and a *token*. With *refused* the decision is a denial, whose detail contains that text.

    *algorithms* are what the operator wrote, None for nothing. *notes* are those of the keys that serve. *deliberate*
    says why it is refused although Envoy's jwt_authn takes it.
    """

    name: str
    document: bytes = field(repr=False)
    token: str = field(repr=False)
    algorithms: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    refused: str = ""
    deliberate: str = ""
    local: bool = False


def jwk_set(*keys: object) -> bytes:
    """Write a set."""
    return json.dumps({"keys": keys}).encode()


def sign(key: SigningKey, **header: object) -> str:
    """Write a token; *header* changes its header."""
    return key.sign(CLAIMS, header=changed({"alg": key.algorithm, "typ": "JWT", "kid": key.kid}, header))


def octets(jwk: Mapping[str, object], member: str) -> bytes:
    """Read a member in base64url."""
    return base64url.decode(str(jwk[member]).encode())


def text(raw: bytes) -> str:
    """Write octets in base64url."""
    return base64url.encode(raw).decode()


@cache
def certificate(key: SigningKey) -> bytes:
    """Make a self-signed certificate, in DER."""
    private: Any = key.jwk.get_op_key("sign")  # its stubs allow for a secret
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer.test")])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 7, day, day + dt.timedelta(days=3650))
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.DER)


def standard(raw: bytes) -> str:
    """Write octets in base64 of the standard alphabet, padded."""
    return base64.b64encode(raw).decode()
