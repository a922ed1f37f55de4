"""Keys and tokens of our own making, evaluated by other libraries."""

from __future__ import annotations

import base64
import json

import pytest
from joserfc import jws
from joserfc.jwk import import_key

from authz.demo.signing import SigningKey

PUBLIC_MEMBERS = {"kty", "kid", "alg", "use", "n", "e", "crv", "x", "y", "pub"}


def decode(segment: str) -> bytes:
    """Decode one base64url segment."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519", "Ed448"]
)
def test_another_library_verifies_what_a_key_signs(algorithm: str) -> None:
    """A token by a key of each algorithm verifies under the published JWK, as joserfc sees it."""
    key = SigningKey.create(algorithm)

    token = key.sign({"sub": "alice"})

    verified = jws.deserialize_compact(token, import_key(key.public()), algorithms=[algorithm])  # type: ignore[arg-type]
    assert json.loads(verified.payload) == {"sub": "alice"}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "ML-DSA-44"])
def test_nothing_private_is_published(algorithm: str) -> None:
    """The published JWK has public members only."""
    assert set(SigningKey.create(algorithm).public()) <= PUBLIC_MEMBERS


def test_a_header_may_lie_about_its_algorithm() -> None:
    """A test can write any header over a signature that the key's own algorithm made."""
    key = SigningKey.create("ES256")

    header, payload, signature = key.sign({}, header={"alg": "none"}).split(".")

    assert json.loads(decode(header)) == {"alg": "none"}
    assert decode(payload) == b"{}"
    assert len(decode(signature)) == 64


def test_payload_bytes_are_signed_as_they_stand() -> None:
    """A test can sign what is not JSON at all."""
    _, payload, _ = SigningKey.create("ES256").sign_bytes(b"\xff{", header=b"{}").split(".")

    assert decode(payload) == b"\xff{"


def test_a_key_is_named_by_its_thumbprint_or_by_the_caller() -> None:
    """Without a kid the RFC 7638 thumbprint names the key."""
    key = SigningKey.create("ES256")

    assert key.kid == key.jwk.thumbprint()
    assert SigningKey.create("ES256", kid="blue").public()["kid"] == "blue"


def test_a_private_key_has_no_repr() -> None:
    """Printing a key shows its name only."""
    key = SigningKey.create("ES256", kid="blue")

    assert repr(key) == "SigningKey(kid='blue', algorithm='ES256')"
