"""C: what an issuer publishes. A token is good where its row does not say otherwise; the set around its key is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from jwcrypto.jwk import JWK

from authz.core import base64url
from authz.core.algorithms import DEFAULT_ALGORITHMS
from authz.core.keys import KeySet
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.demo.signing import SigningKey
from tests.cases.case import Case, case
from tests.cases.token_header import mac
from tests.fixtures import (
    A_EC,
    A_RSA,
    ABSENT,
    B_EC,
    changed,
    issuer_a,
    jwks,
    key_set,
    make_snapshot,
    mint,
    signer,
    unsigned,
)
from tests.shapes.shape import certificate, standard

ALLOWED, UNUSABLE, NOT_FOUND = Reason.AUTHENTICATED, Reason.KEY_UNUSABLE, Reason.KEY_NOT_FOUND


def published(*keys: object, algorithms: tuple[str, ...] = ("RS256", "ES256")) -> Snapshot:
    """Return the world with issuer A publishing *keys*."""
    return make_snapshot(a=issuer_a(algorithms, key_set(*keys)))


def by_default(*keys: object) -> Snapshot:
    """Return the world with issuer A publishing *keys*, and no algorithms in the configuration."""
    return make_snapshot(a=replace(issuer_a(DEFAULT_ALGORITHMS, key_set(*keys)), algorithms_configured=False))


def number(value: int) -> str:
    """Write an integer as a JWK does."""
    return base64url.encode(value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")).decode()


def broken(name: str, jwk: object, token: str, reason: Reason = UNUSABLE) -> list[Case]:
    """Write two rows: the token by the broken key is refused, and its neighbour in the same set serves."""
    snapshot = published(jwk, A_EC)
    return [
        case(name, reason, token, snapshot=snapshot),
        case(f"neighbour-of-{name}", ALLOWED, mint(A_EC), snapshot=snapshot),
    ]


RSA: Final = A_RSA.public()
EC: Final = signer("ES256", "ec").public()
EC_TOKEN: Final = mint(signer("ES256", "ec"))
N: Final = int.from_bytes(base64url.decode(str(RSA["n"]).encode()), "big")
X: Final = base64url.decode(str(EC["x"]).encode())
SHORT: Final[Any] = JWK.from_pyca(rsa.generate_private_key(65537, 1024))  # noqa: S505 - too weak, as it shall be
WEAK: Final = SigningKey("weak", "RS256", SHORT)
SECRET: Final = bytes(range(32))
PSS_TOKEN: Final = mint(SigningKey("a-rsa", "PS256", A_RSA.jwk))
OCT: Final = {"kty": "oct", "kid": "secret", "alg": "HS256", "k": base64url.encode(SECRET).decode()}
WITH_HMAC: Final = ("RS256", "ES256", "HS256")
# What OpenID's conformance suite adds to a set to see whether a client stumbles.
DECOYS: Final = [
    {"kty": "AKP", "kid": "d1", "alg": "UNKNOWN-44", "pub": "AAAA"},
    {"kty": "made-up", "kid": "d2", "x": "AAAA"},
    {"kty": "RSA", "kid": "d3", "alg": "RS999", "n": RSA["n"], "e": RSA["e"]},
    {"kty": "EC", "kid": "d4", "alg": "ES999", "crv": "P-256", "x": EC["x"], "y": EC["y"]},
    {"kty": "EC", "kid": "d5", "crv": "P-999", "x": EC["x"], "y": EC["y"]},
]
JUNK: Final[dict[str, object]] = {
    "ec-without-y": changed(EC, {"y": ABSENT}),
    "rsa-modulus-of-junk": {"kty": "RSA", "kid": "j", "n": "####", "e": "AQAB"},
    "rsa-modulus-as-a-number": {"kty": "RSA", "kid": "j", "n": 12345, "e": "AQAB"},
    "text": "string",
    "null": None,
    "list": [1],
    "empty-object": {},
}

CASES: Final = [
    case("five-decoys-before-the-key-C01", ALLOWED, mint(), snapshot=published(*DECOYS, A_RSA)),
    case("five-decoys-behind-the-key-C01", ALLOWED, mint(), snapshot=published(A_RSA, *DECOYS)),
    case("token-by-a-decoy-C01", UNUSABLE, mint(header={"kid": "d3"}), snapshot=published(*DECOYS, A_RSA)),
    *[
        case(f"{name}-beside-the-key-C02", ALLOWED, mint(), snapshot=published(junk, A_RSA))
        for name, junk in JUNK.items()
    ],
    case("all-junk-at-once-C02", ALLOWED, mint(), snapshot=published(*JUNK.values(), A_RSA)),
    *broken("key-of-1024-bits-C05", WEAK.public(), mint(WEAK)),
    *broken(
        "key-of-512-bits-C05",
        changed(RSA, {"kid": "weak", "n": number(2**511 + 111)}),
        unsigned({"alg": "RS256", "kid": "weak", "typ": "at+jwt"}, bytes(64)),
    ),
    *broken("exponent-one-C06", changed(RSA, {"e": number(1)}), mint()),
    *broken("exponent-two-C06", changed(RSA, {"e": number(2)}), mint()),
    *broken("exponent-even-C06", changed(RSA, {"e": number(65536)}), mint()),
    *broken("exponent-above-the-modulus-C06", changed(RSA, {"e": number(N + 2)}), mint()),
    *broken("modulus-even-C06", changed(RSA, {"n": number(N + 1)}), mint()),
    *broken("modulus-zero-C06", changed(RSA, {"n": number(0)}), mint()),
    *broken("modulus-one-C06", changed(RSA, {"n": number(1)}), mint()),
    *broken("modulus-empty-C06", changed(RSA, {"n": ""}), mint()),
    *broken("point-off-the-curve-C09", changed(EC, {"y": EC["x"]}), EC_TOKEN),
    *broken("point-at-zero-C09", changed(EC, {"x": "A" * 43, "y": "A" * 43}), EC_TOKEN),
    *broken("x-one-byte-short-C09", changed(EC, {"x": base64url.encode(X[:-1]).decode()}), EC_TOKEN),
    *broken("x-one-byte-long-C09", changed(EC, {"x": base64url.encode(b"\1" + X).decode()}), EC_TOKEN),
    case(
        "x-with-a-zero-byte-more-C09",
        ALLOWED,
        EC_TOKEN,
        snapshot=published(changed(EC, {"x": base64url.encode(b"\0" + X).decode()}), A_EC),
    ),
    *broken("p-256-key-with-alg-es384-C09", changed(EC, {"alg": "ES384"}), EC_TOKEN),
    *broken("curve-for-another-purpose-C09", changed(EC, {"use": "enc"}), EC_TOKEN),
    case("es256-key-named-by-an-rs256-token-C09", UNUSABLE, mint(header={"kid": "a-ec"})),
    case("rs256-key-named-by-an-es256-token-C09", UNUSABLE, mint(A_EC, header={"kid": "a-rsa"})),
    case("kid-that-is-in-no-set-C09", NOT_FOUND, mint(header={"kid": "nobody"})),
    *broken("private-part-published-C11", changed(EC, {"d": base64url.encode(bytes(32)).decode()}), EC_TOKEN),
    *broken("private-part-of-rsa-published-C11", changed(RSA, {"d": "AQAB"}), mint()),
    *broken(
        "whole-private-key-published-C11", {**A_RSA.jwk.export(private_key=True, as_dict=True), "kid": "a-rsa"}, mint()
    ),
    case(
        "secret-published-C12",
        UNUSABLE,
        mac(SECRET, kid="secret"),
        snapshot=published(OCT, A_RSA, algorithms=WITH_HMAC),
    ),
    case(
        "empty-secret-published-C12",
        UNUSABLE,
        mac(b"", kid="secret"),
        snapshot=published(changed(OCT, {"k": ""}), A_RSA, algorithms=WITH_HMAC),
    ),
    case(
        "secret-published-without-kid-C12",
        UNUSABLE,
        mac(SECRET),
        snapshot=published(changed(OCT, {"kid": ABSENT}), A_RSA, algorithms=WITH_HMAC),
    ),
    case(
        "secret-published-where-hmac-is-not-allowed-C12",
        Reason.ALG_NOT_ALLOWED,
        mac(SECRET, kid="secret"),
        snapshot=published(OCT, A_RSA),
    ),
    case("neighbour-of-a-published-secret-C12", ALLOWED, mint(), snapshot=published(OCT, A_RSA, algorithms=WITH_HMAC)),
    case("no-kid-one-key-C13", ALLOWED, mint(header={"kid": ABSENT}), snapshot=published(A_RSA)),
    case("no-kid-one-key-of-the-alg-C13", ALLOWED, mint(header={"kid": ABSENT}), snapshot=published(A_RSA, A_EC)),
    case(
        "no-kid-two-keys-C13",
        ALLOWED,
        mint(header={"kid": ABSENT}),
        snapshot=published(signer("RS256", "r"), A_RSA),
    ),
    case(
        "no-kid-two-keys-and-neither-signed-C13",
        Reason.SIGNATURE_INVALID,
        mint(signer("RS256", "s"), header={"kid": ABSENT}),
        snapshot=published(signer("RS256", "r"), A_RSA),
    ),
    case(
        "no-kid-five-keys-C13",
        Reason.KEY_AMBIGUOUS,
        mint(header={"kid": ABSENT}),
        snapshot=published(A_RSA, *(signer("RS256", kid) for kid in "rstu")),
    ),
    case("same-kid-twice-C13", ALLOWED, mint(), snapshot=published(signer("RS256", "a-rsa"), A_RSA)),
    case(
        "same-kid-twice-and-neither-signed-C13",
        Reason.SIGNATURE_INVALID,
        mint(signer("RS256", "s"), header={"kid": "a-rsa"}),
        snapshot=published(signer("RS256", "a-rsa"), A_RSA),
    ),
    case("same-key-twice-C13", ALLOWED, mint(), snapshot=published(A_RSA, A_RSA)),
    case(
        "kid-that-no-key-has-in-a-set-without-ids-C13",
        ALLOWED,
        mint(header={"kid": "new"}),
        snapshot=published(changed(RSA, {"kid": ABSENT}), A_EC),
    ),
    case(
        "kid-that-no-key-has-in-a-set-without-ids-and-none-signed-C13",
        NOT_FOUND,
        mint(signer("RS256", "s")),
        snapshot=published(changed(RSA, {"kid": ABSENT}), A_EC),
    ),
    case(
        "certificate-that-no-key-has-C13",
        NOT_FOUND,
        mint(signer("RS256", "s"), header={"kid": ABSENT, "x5t": "new"}),
        snapshot=published(changed(RSA, {"x5t": "old"}), A_EC),
    ),
    case(
        "certificate-chooses-among-many-keys-C13",
        ALLOWED,
        mint(header={"kid": ABSENT, "x5t": "mine"}),
        snapshot=published(*(signer("RS256", kid) for kid in "rstu"), changed(RSA, {"x5t": "mine"})),
    ),
    case(
        "certificate-chooses-the-wrong-key-C13",
        Reason.SIGNATURE_INVALID,
        mint(header={"kid": ABSENT, "x5t": "theirs"}),
        snapshot=published(A_RSA, changed(signer("RS256", "r").public(), {"x5t": "theirs"})),
    ),
    case("key-without-alg-C14", ALLOWED, mint(), snapshot=by_default(changed(RSA, {"alg": ABSENT}))),
    case("key-without-alg-for-another-C14", UNUSABLE, PSS_TOKEN, snapshot=by_default(changed(RSA, {"alg": ABSENT}))),
    case(
        "key-without-alg-for-what-is-written-C14",
        ALLOWED,
        PSS_TOKEN,
        snapshot=published(changed(RSA, {"alg": ABSENT}), algorithms=("RS256", "PS256")),
    ),
    *broken("certificate-of-another-key-C11", changed(RSA, {"x5c": [standard(certificate(B_EC))]}), mint()),
    case(
        "key-beyond-those-that-are-kept-C15",
        UNUSABLE,
        mint(),
        snapshot=make_snapshot(a=issuer_a(keys=KeySet.from_json(jwks(A_EC, A_RSA), max_keys=1))),
    ),
    case(
        "key-before-those-that-are-not-kept-C15",
        ALLOWED,
        mint(A_EC),
        snapshot=make_snapshot(a=issuer_a(keys=KeySet.from_json(jwks(A_EC, A_RSA), max_keys=1))),
    ),
    case("no-keys-at-all", Reason.KEYS_UNAVAILABLE, mint(), snapshot=make_snapshot(a=issuer_a(keys=None))),
    case("an-empty-set", NOT_FOUND, mint(), snapshot=published()),
]

# Documents that are refused as a whole: the last good set stays.
DOCUMENTS: Final[dict[str, str | bytes]] = {
    "ten-thousand-keys-C15": jwks(*[{"kty": "x"}] * 10_000),
    "five-megabytes-C15": b'{"keys":[{"kty":"x","x":"' + b"A" * 5_000_000 + b'"}]}',
    "kid-of-64-kibibytes-C15": jwks(A_RSA, {"kid": "k" * 65_536}),
}
