"""Proves authz.core.jwk_validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import pytest

from authz.core import base64url
from authz.core.algorithms import ALGORITHMS
from authz.core.jwk_validation import (
    KNOWN_SECRETS,
    MAX_RSA_BITS,
    MAX_RSA_EXPONENT,
    MIN_RSA_BITS,
    MIN_SECRET_BYTES,
    InvalidJwk,
    validate_jwk,
)
from tests.fixtures import A_RSA, ABSENT, changed, signer

Jwk = Mapping[str, object]


def number(value: int, octets: int | None = None) -> str:
    """Write an integer as a JWK does: without leading zero octets, or in that many octets."""
    length = math.ceil(value.bit_length() / 8) if octets is None else octets
    return base64url.encode(value.to_bytes(length, "big")).decode()


def text(raw: bytes) -> str:
    """Write octets as a JWK does."""
    return base64url.encode(raw).decode()


RSA = A_RSA.public()
EC = signer("ES256", "ec").public()
ED = signer("Ed25519", "ed").public()
ED448 = signer("Ed448", "ed448").public()
PQ = signer("ML-DSA-44", "pq").public()
OCT: Jwk = {"kty": "oct", "alg": "HS256", "k": text(bytes(range(32)))}
N = int.from_bytes(base64url.decode(str(RSA["n"]).encode()), "big")
X, Y = (base64url.decode(str(EC[name]).encode()) for name in ("x", "y"))
ODD_2048 = 2**2047 + 1  # of the right length, and divisible by three
# No small factor, and a power of 65537 modulo every small prime: what a key of the faulty library looks like.
SMALL_PRIMORIAL = math.prod(p for p in range(3, 168, 2) if all(p % d for d in range(3, p, 2)))
ROCA_2048 = 65537 + SMALL_PRIMORIAL * 2 ** (2047 - SMALL_PRIMORIAL.bit_length() + 1)


def rough(bits: int) -> int:
    """Find the first number of that many bits whose prime factors are all larger than 1000."""
    return next(n for n in range(2 ** (bits - 1) + 1, 2**bits, 2) if all(n % d for d in range(3, 1000, 2)))


INVALID: dict[str, tuple[Jwk, str]] = {
    "no-kty": (changed(RSA, {"kty": ABSENT}), "kty is missing"),
    "kty-number": (changed(RSA, {"kty": 1}), "kty is missing"),
    "kty-made-up": (changed(RSA, {"kty": "rsa"}), "kty is unknown"),
    "use-enc": (changed(RSA, {"use": "enc"}), "use is not sig"),
    "use-null": (changed(RSA, {"use": None}), "use is not sig"),
    "key-ops-sign": (changed(RSA, {"key_ops": ["sign"]}), "key_ops has no verify"),
    "key-ops-empty": (changed(RSA, {"key_ops": []}), "key_ops has no verify"),
    "key-ops-text": (changed(RSA, {"key_ops": "verify"}), "key_ops has no verify"),
    "alg-of-encryption": (changed(RSA, {"alg": "RSA-OAEP"}), "alg RSA-OAEP is for encryption"),
    "alg-unknown": (changed(RSA, {"alg": "RS1"}), "alg is not a supported"),
    "alg-none": (changed(RSA, {"alg": "none"}), "alg is not a supported"),
    "alg-null": (changed(RSA, {"alg": None}), "alg is not a supported"),
    "alg-list": (changed(RSA, {"alg": ["RS256"]}), "alg is not a supported"),
    "alg-of-another-type": (changed(RSA, {"alg": "ES256"}), "alg ES256 does not match"),
    "alg-of-hmac-on-rsa": (changed(RSA, {"alg": "HS256"}), "alg HS256 does not match"),
    "alg-of-another-curve": (changed(EC, {"alg": "ES384"}), "alg ES384 does not match"),
    "alg-of-another-edwards-curve": (changed(ED, {"alg": "Ed448"}), "alg Ed448 does not match"),
    "ed25519-on-ed448": (changed(ED448, {"alg": "Ed25519"}), "alg Ed25519 does not match"),
    **{f"private-{name}": (changed(RSA, {name: "AQAB"}), "private key") for name in ("d", "p", "q", "dp", "dq", "qi")},
    "private-oth": (changed(RSA, {"oth": []}), "private key"),
    "private-ec": (changed(EC, {"d": text(bytes(32))}), "private key"),
    "private-okp": (changed(ED, {"d": text(bytes(32))}), "private key"),
    "private-akp": (changed(PQ, {"priv": text(bytes(32))}), "private key"),
    "secret-in-a-public-key": (changed(RSA, {"k": "AQAB"}), "private key"),
    "symmetric": (OCT, "symmetric key in a published set"),
    "symmetric-empty": ({"kty": "oct", "k": ""}, "symmetric key in a published set"),
    "symmetric-without-a-secret": ({"kty": "oct"}, "k is missing"),
    "rsa-no-n": (changed(RSA, {"n": ABSENT}), "n is missing"),
    "rsa-n-number": (changed(RSA, {"n": 12345}), "n is missing or not a string"),
    "rsa-n-junk": (changed(RSA, {"n": "####"}), "n is not base64url"),
    "rsa-n-padded": (changed(RSA, {"n": f"{RSA['n']}=="}), "n is not base64url"),
    "rsa-n-unicode": (changed(RSA, {"n": "ü"}), "n is not base64url"),
    "rsa-n-zero": (changed(RSA, {"n": "AA"}), "n is empty or has a leading zero"),
    "rsa-n-empty": (changed(RSA, {"n": ""}), "n is empty"),
    "rsa-n-leading-zero": (changed(RSA, {"n": number(N, 257)}), "n is empty or has a leading zero"),
    "rsa-512": (changed(RSA, {"n": number(2**511 + 1)}), "512 bits"),
    "rsa-1024": (changed(RSA, {"n": number(2**1023 + 1)}), "1024 bits"),
    "rsa-one-bit-short": (changed(RSA, {"n": number(2**MIN_RSA_BITS // 2 - 1)}), "2047 bits"),
    "rsa-one-bit-long": (changed(RSA, {"n": number(2**MAX_RSA_BITS + 1)}), "8193 bits"),
    "rsa-n-even": (changed(RSA, {"n": number(2 * rough(2047))}), "small factor"),
    "rsa-n-even-and-divisible-by-three": (changed(RSA, {"n": number(6 * rough(2046))}), "small factor"),
    "rsa-n-divisible-by-three": (changed(RSA, {"n": number(ODD_2048)}), "small factor"),
    "rsa-n-divisible-by-167": (changed(RSA, {"n": number(167 * (2**2047 // 167 | 1) + 167 * 2)}), "small factor"),
    "rsa-roca": (changed(RSA, {"n": number(ROCA_2048)}), "ROCA"),
    "rsa-e-one": (changed(RSA, {"e": "AQ"}), "exponent"),
    "rsa-e-even": (changed(RSA, {"e": number(65536)}), "exponent"),
    "rsa-e-two": (changed(RSA, {"e": "Ag"}), "exponent"),
    "rsa-e-zero": (changed(RSA, {"e": "AA"}), "leading zero"),
    "rsa-e-too-long": (changed(RSA, {"e": number(MAX_RSA_EXPONENT + 2)}), "exponent"),
    "rsa-e-above-n": (changed(RSA, {"e": number(N + 2)}), "exponent"),
    "rsa-e-leading-zero": (changed(RSA, {"e": "AAEAAQ"}), "leading zero"),
    "ec-no-y": (changed(EC, {"y": ABSENT}), "y is missing"),
    "ec-x-one-octet-short": (changed(EC, {"x": text(X[1:])}), "x has 31 octets, not 32"),
    "ec-y-one-octet-long": (changed(EC, {"y": text(b"\0" + Y)}), "y has 33 octets, not 32"),
    "ec-no-crv": (changed(EC, {"crv": ABSENT}), "crv is not a supported"),
    "ec-crv-unknown": (changed(EC, {"crv": "P-257"}), "crv is not a supported"),
    "ec-crv-of-edwards": (changed(EC, {"crv": "Ed25519"}), "crv is not a supported"),
    "ec-crv-list": (changed(EC, {"crv": ["P-256"]}), "crv is not a supported"),
    "okp-x25519-is-for-encryption": (changed(ED, {"crv": "X25519"}), "crv X25519 is for encryption"),
    "okp-crv-unknown": (changed(ED, {"crv": "Ed41417"}), "crv is not a supported"),
    "okp-short": (changed(ED, {"x": text(bytes(31))}), "x has 31 octets"),
    "okp-long": (changed(ED448, {"x": text(bytes(58))}), "x has 58 octets"),
    "akp-no-alg": (changed(PQ, {"alg": ABSENT}), "AKP key without a supported alg"),
    "akp-alg-of-another-type": (changed(PQ, {"alg": "RS256"}), "AKP key without a supported alg"),
    "akp-of-another-size": (changed(PQ, {"alg": "ML-DSA-65"}), "pub has 1312 octets, not 1952"),
    "akp-no-pub": (changed(PQ, {"pub": ABSENT}), "pub is missing"),
}


@pytest.mark.parametrize(("jwk", "why"), INVALID.values(), ids=INVALID)
def test_invalid(jwk: dict[str, object], why: str) -> None:
    """A key that is weak, private, meant for something else or at odds with itself is not used."""
    with pytest.raises(InvalidJwk, match=why):
        validate_jwk(jwk, local=False)


P25519 = 2**255 - 19
# The list of libsodium, ed25519_ref10.c, ge25519_has_small_order; its order 8 in decimal, as written there.
ORDER_8 = 55188659117513257062467267217118295137698188065244968500265048394206261417927
SMALL_25519 = {
    "order-1": 1,
    "order-2": P25519 - 1,
    "order-4": 0,
    "order-4-not-canonical": P25519,
    "order-1-not-canonical": P25519 + 1,
    "order-8": ORDER_8,
    "order-8-mirrored": P25519 - ORDER_8,
}


@pytest.mark.parametrize("y", SMALL_25519.values(), ids=SMALL_25519)
@pytest.mark.parametrize("sign", [0, 1])
def test_small_order_of_ed25519(y: int, sign: int) -> None:
    """Anybody can sign for a point of small order, in each of its encodings."""
    with pytest.raises(InvalidJwk, match="Ed25519 point of small order"):
        validate_jwk(changed(ED, {"x": text((y | sign << 255).to_bytes(32, "little"))}), local=False)


@pytest.mark.parametrize("y", [0, 1, 2**448 - 2**224 - 2])
@pytest.mark.parametrize("sign", [0, 128])
def test_small_order_of_ed448(y: int, sign: int) -> None:
    """The same holds for Ed448: the library verifies forged signatures under the points of order four."""
    with pytest.raises(InvalidJwk, match="Ed448 point of small order"):
        validate_jwk(changed(ED448, {"x": text(y.to_bytes(56, "little") + bytes([sign]))}), local=False)


@pytest.mark.parametrize("sign", [0, 128])
def test_small_order_of_ed448_in_a_second_spelling(sign: int) -> None:
    """The prime stands for zero, so for a point of order four: it is refused as the first that is not canonical."""
    prime = 2**448 - 2**224 - 1
    with pytest.raises(InvalidJwk, match="Ed448 point is not in canonical form"):
        validate_jwk(changed(ED448, {"x": text(prime.to_bytes(56, "little") + bytes([sign]))}), local=False)


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"HS256", "HS384", "HS512"}))
def test_fit(name: str) -> None:
    """A fresh public key of every asymmetric algorithm may be used, with its algorithm or without."""
    jwk = signer(name, "k").public()
    validated = validate_jwk(jwk, local=False)
    assert (validated.kty, validated.crv, validated.alg) == (jwk["kty"], jwk.get("crv"), name)
    assert validated.material.items() <= {**jwk, "kty": validated.kty}.items()
    if validated.kty != "AKP":
        assert validate_jwk(changed(jwk, {"alg": ABSENT, "use": ABSENT}), local=False).alg is None


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("RS256", 2048),
        ("ES256", 256),
        ("ES384", 384),
        ("ES512", 521),
        ("ES256K", 256),
        ("Ed25519", 256),
        ("Ed448", 456),
        ("ML-DSA-44", 1312 * 8),
    ],
)
def test_bits(name: str, bits: int) -> None:
    """The size of a key is that of its modulus, field or encoding."""
    assert validate_jwk(signer(name, "k").public(), local=False).bits == bits


def test_only_what_the_arithmetic_needs_goes_on() -> None:
    """Names, purposes and certificates of a JWK never reach the library."""
    jwk = changed(RSA, {"x5u": "https://evil.test", "key_ops": ["verify", "encrypt"], "ext": True})
    assert validate_jwk(jwk, local=False).material == {"kty": "RSA", "n": RSA["n"], "e": RSA["e"]}


def test_bounds_of_rsa() -> None:
    """The smallest and the largest exponent and modulus may be used."""
    for bits in (MIN_RSA_BITS, MAX_RSA_BITS):
        assert validate_jwk(changed(RSA, {"n": number(rough(bits))}), local=False).bits == bits
    for e in (3, MAX_RSA_EXPONENT):
        assert validate_jwk(changed(RSA, {"e": number(e)}), local=False).bits == 2048


def test_secret() -> None:
    """A symmetric key from a local file is usable, with its algorithm or without."""
    assert validate_jwk(dict(OCT), local=True).bits == 256
    assert validate_jwk(changed(OCT, {"alg": ABSENT}), local=True).alg is None
    assert validate_jwk(changed(OCT, {"k": text(b"abcdefgh" * 4)}), local=True).bits == 256


BAD_SECRETS: dict[str, tuple[Jwk, str]] = {
    "none": (changed(OCT, {"k": ABSENT}), "k is missing"),
    "empty": (changed(OCT, {"k": ""}), "secret of 0 octets"),
    "short": (changed(OCT, {"k": text(bytes(range(31)))}), "secret of 31 octets, at least 32"),
    "short-without-alg": (changed(OCT, {"alg": ABSENT, "k": text(bytes(range(31)))}), "at least 32"),
    "short-for-hs384": (changed(OCT, {"alg": "HS384", "k": text(bytes(range(47)))}), "at least 48"),
    "short-for-hs512": (changed(OCT, {"alg": "HS512", "k": text(bytes(range(63)))}), "at least 64"),
    "zeros": (changed(OCT, {"k": text(bytes(64))}), "too few different octets"),
    "seven-octets-over-and-over": (changed(OCT, {"k": text(b"abcdefg" * 10)}), "too few different octets"),
    "alg-of-rsa": (changed(OCT, {"alg": "RS256"}), "alg RS256 does not match"),
    "use-enc": (changed(OCT, {"use": "enc"}), "use is not sig"),
}


@pytest.mark.parametrize(("jwk", "why"), BAD_SECRETS.values(), ids=BAD_SECRETS)
def test_bad_secret(jwk: dict[str, object], why: str) -> None:
    """A secret that could be guessed is refused even where symmetric keys are allowed."""
    with pytest.raises(InvalidJwk, match=why):
        validate_jwk(jwk, local=True)


PUBLISHED = {
    "jwt-io": b"a-string-secret-at-least-256-bits-long",
    "jwt-io-hs384": b"a-valid-string-secret-that-is-at-least-384-bits-long",
    "jwt-io-hs512": b"a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "rfc-7520-encryption": base64url.decode(b"AAPapAv4LbFbiVawEjagUBluYqN5rhna-8nuldDvOx8"),
    "fastapi": b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "fastapi-from-hex": bytes.fromhex("09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"),
    "postgrest": b"reallyreallyreallyreallyverysafe",
    "supabase": b"your-super-secret-jwt-token-with-at-least-32-characters-long",
}


@pytest.mark.parametrize("secret", PUBLISHED.values(), ids=PUBLISHED)
def test_published_secret(secret: bytes) -> None:
    """A secret that stands in a document is no secret, however long it is."""
    assert len(secret) >= MIN_SECRET_BYTES
    with pytest.raises(InvalidJwk, match="publicly known"):
        validate_jwk(changed(OCT, {"k": text(secret)}), local=True)


def test_known_secrets_are_digests() -> None:
    """The list of known secrets holds digests only, so that no one takes it for a list of secrets."""
    assert all(len(bytes.fromhex(digest)) == hashlib.sha256().digest_size for digest in KNOWN_SECRETS)


def test_reason_tells_nothing_of_the_key() -> None:
    """Why a key is unfit may be logged: no member's value is in it."""
    bad = [(jwk, False) for jwk, _ in INVALID.values()] + [(jwk, True) for jwk, _ in BAD_SECRETS.values()]
    for jwk, local in bad:
        with pytest.raises(InvalidJwk) as caught:
            validate_jwk(dict(jwk), local=local)
        values = [value for value in jwk.values() if isinstance(value, str) and len(value) > 12]
        assert not [value for value in values if value in str(caught.value)]


@pytest.mark.parametrize(("crv", "length", "field"), [("Ed25519", 32, 2**255 - 19), ("Ed448", 57, 2**448 - 2**224 - 1)])
def test_edwards_point_beyond_its_field(crv: str, length: int, field: int) -> None:
    """A coordinate that is not below the prime is a second spelling of another one (RFC 8032 sections 5.1.3, 5.2.3)."""
    for y in (field + 2, field + 3):
        x = base64url.encode(y.to_bytes(length, "little")).decode()
        with pytest.raises(InvalidJwk, match="not in canonical form"):
            validate_jwk({"kty": "OKP", "crv": crv, "x": x}, local=False)
