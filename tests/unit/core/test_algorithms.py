"""Proves authz.core.algorithms, against the arithmetic itself."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from authz.core import base64url
from authz.core.algorithms import ALGORITHMS
from tests.fixtures import signer

CURVES: dict[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
    "ES256K": ec.SECP256K1(),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_entry_says_what_a_real_key_is(name: str) -> None:
    """Type, curve and length of signature are those of a key that another library makes for the algorithm."""
    algorithm = ALGORITHMS[name]
    key = signer(name, "k")
    signature = base64url.decode(key.sign({}).split(".")[2].encode())
    assert (key.jwk["kty"], key.jwk.get("crv")) == (algorithm.kty, algorithm.crv)
    assert algorithm.signature_bytes in {None, len(signature)}
    assert (algorithm.signature_bytes is None) == (algorithm.kty == "RSA")


@pytest.mark.parametrize(("name", "curve"), CURVES.items())
def test_order_is_that_of_the_curve(name: str, curve: ec.EllipticCurve) -> None:
    """One less than the order, times the base point, is the base point mirrored."""
    order = ALGORITHMS[name].order
    assert order is not None
    first = ec.derive_private_key(1, curve).public_key().public_numbers()
    last = ec.derive_private_key(order - 1, curve).public_key().public_numbers()
    assert (first.x, first.y) != (last.x, last.y)
    assert first.x == last.x


def test_only_ecdsa_has_an_order() -> None:
    """Every algorithm that splits its signature in two halves has a bound for them, and no other has."""
    assert {name for name, algorithm in ALGORITHMS.items() if algorithm.order} == set(CURVES)


@pytest.mark.parametrize(("name", "octets"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_secret_is_as_long_as_the_hash(name: str, octets: int) -> None:
    """RFC 7518 section 3.2: a shorter key must not be used."""
    assert ALGORITHMS[name].min_secret_bytes == octets


@pytest.mark.parametrize(
    "name", ["none", "RS1", "HS1", "RSA1_5", "RSA-OAEP", "dir", "ECDH-ES", "Ed25519ph", "rs256", ""]
)
def test_nothing_else_is_known(name: str) -> None:
    """`none`, encryption, dead algorithms and other spellings are outside the table."""
    assert name not in ALGORITHMS
