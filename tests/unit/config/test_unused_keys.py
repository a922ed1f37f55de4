"""Proves authz.config.diagnostics.unused_keys: a key that no token of its issuer can mean is found, and only that."""

from __future__ import annotations

import pytest

from authz.config.diagnostics.unused_keys import why_unused
from authz.core import base64url
from tests.fixtures import A_EC, A_RSA, ABSENT, changed, key_set, signer

PLAIN_RSA = changed(A_RSA.public(), {"alg": ABSENT})
PLAIN_EC = changed(A_EC.public(), {"alg": ABSENT})
PLAIN_SECRET = {"kty": "oct", "kid": "s", "k": base64url.encode(bytes(range(32))).decode()}
KIND = "the issuer's algorithms for a key of type"


@pytest.mark.parametrize(
    ("key", "algorithms", "why"),
    [
        (A_RSA, "RS256 PS256", None),
        (A_RSA, "PS256 ES256", "its alg RS256 is not among the issuer's algorithms"),
        (PLAIN_RSA, "RS256 PS256", None),
        (PLAIN_RSA, "PS512 ES256", None),
        (PLAIN_RSA, "RS512 PS256 ES256", None),
        (PLAIN_RSA, "ES256", "none of the issuer's algorithms is for a key of type RSA"),
        (PLAIN_EC, "ES256 ES384", None),
        (PLAIN_EC, "ES384", "none of the issuer's algorithms is for a key of type EC P-256"),
        (signer("Ed25519", "k"), "EdDSA", "its alg Ed25519 is not among the issuer's algorithms"),
        (PLAIN_SECRET, "HS256 HS512", None),
        (PLAIN_SECRET, "HS384 HS512", f"it is too short for HS384 or HS512, {KIND} oct"),
        (PLAIN_SECRET, "HS512 RS256", f"it is too short for HS512, {KIND} oct"),
    ],
)
def test_idle_keys(key: object, algorithms: str, why: str | None) -> None:
    """The reason says what to change; a key that serves one algorithm is not idle."""
    (read,) = key_set(key, local=True).keys
    assert why_unused(read, frozenset(algorithms.split())) == why
