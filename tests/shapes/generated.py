"""Shapes of our own making, by keys of this run: of each kind that was seen, its brothers at other members and keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha1, sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwcrypto.jwk import JWK

from authz.core import certificate as x5c
from authz.core import jwk_normalization
from authz.core.algorithms import DEFAULT_ALGORITHMS
from authz.demo.signing import SigningKey
from tests.fixtures import ABSENT, changed, signer
from tests.shapes.shape import Shape, certificate, jwk_set, octets, sign, standard, text

ALG_NO_TEXT: Final = "a key whose `alg` is no text"
AMBIGUOUS: Final = "more than four keys that a token without `kid` can mean"
ANOTHER_KEY: Final = "a key whose certificate (`x5c`) holds another key"
OTHER_PURPOSE: Final = "a key that is published for something else than signatures"
KID_NO_TEXT: Final = "a key id that is no text"
NO_ALG: Final = "an RSA key without `alg`, for another algorithm than RS256"
OTHER_KID: Final = "keys with and without `kid`, for a token that names another"
PRIVATE: Final = "a private key that was published"
SYMMETRIC: Final = "a secret that was published"
PEM_MAP: Final = "certificates by key id in place of a set"
WEAK: Final = "an RSA key of fewer than 2,048 bits"

RSA: Final = signer("RS256", "k")
MORE_RSA: Final = tuple(signer("RS256", f"more-{number}") for number in range(5))
EC: Final = signer("ES256", "k")
JWK_RSA: Final = RSA.public()
CURVES: Final = {"ES256": 32, "ES384": 48, "ES512": 66, "ES256K": 32}
# The smallest private key that has such a public one: to look for them takes thousands of keys.
_SHORT: Final[Mapping[tuple[str, str], tuple[ec.EllipticCurve, int]]] = {
    ("ES256", "x"): (ec.SECP256R1(), 379),
    ("ES256", "y"): (ec.SECP256R1(), 43),
    ("ES384", "x"): (ec.SECP384R1(), 197),
    ("ES384", "y"): (ec.SECP384R1(), 176),
    ("ES512", "x"): (ec.SECP521R1(), 2),
    ("ES512", "y"): (ec.SECP521R1(), 2),
    ("ES256K", "x"): (ec.SECP256K1(), 153),
    ("ES256K", "y"): (ec.SECP256K1(), 122),
}
ALL: Final = (*DEFAULT_ALGORITHMS, "ES256K", "Ed448", "ML-DSA-44")
EMPTIES: Final[Mapping[str, object]] = {"null": None, "list": [], "text": "", "list-of-null": [None]}
OPTIONAL: Final = ("use", "key_ops", "alg", "x5u", "x5c", "x5t", "x5t#S256")
PRIVATE_MEMBERS: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv")


def short_coordinate(algorithm: str, member: str) -> SigningKey:
    """Return a key one of whose coordinates begins with a zero octet, as one in 256 does."""
    curve, private = _SHORT[algorithm, member]
    key = SigningKey("k", algorithm, JWK.from_pyca(ec.derive_private_key(private, curve)))
    assert octets(key.public(), member)[0] == 0
    return key


def _one(
    name: str,
    key: SigningKey,
    changes: Mapping[str, object] = {},
    *notes: str,
    **others: Any,  # noqa: ANN401 - fields of Shape
) -> Shape:
    """A set of one key with *changes*, and its token."""
    document = jwk_set(changed(key.public(), changes))
    return Shape(**{"name": name, "document": document, "token": sign(key), "notes": notes, **others})


def empties() -> Iterator[Shape]:
    """Null, [] and "" are absent, for every member."""
    for key in (RSA, EC, signer("EdDSA", "k"), signer("ML-DSA-44", "k")):
        kty = str(key.public()["kty"])
        for said, empty in EMPTIES.items():
            for member in (*OPTIONAL, *PRIVATE_MEMBERS):
                if member == "alg" and kty == "AKP":
                    continue  # RFC 9964: there it is required
                note = f"{jwk_normalization.NULL_OR_EMPTY}: {member}"
                yield _one(f"{kty}-{member}-{said}", key, {member: empty}, note, algorithms=ALL)
    everything = dict.fromkeys((*OPTIONAL, *PRIVATE_MEMBERS))
    names = "use, key_ops, alg, x5u, x5c, x5t, x5t#S256, k, d, p, q, dp, dq, qi, oth, priv"
    yield _one("all-null", RSA, everything, f"{jwk_normalization.NULL_OR_EMPTY}: {names}")


def numbers() -> Iterator[Shape]:
    """Zero octets before numbers, lost and gained before coordinates."""
    for zeros in (1, 2, 5):
        for member in ("n", "e"):
            changes = {member: text(bytes(zeros) + octets(JWK_RSA, member))}
            yield _one(f"rsa-{member}-{zeros}-zeros", RSA, changes, f"{jwk_normalization.LEADING_ZEROS}: {member}")
    for algorithm in CURVES:
        for member in ("x", "y"):
            key, note = short_coordinate(algorithm, member), f"{jwk_normalization.COORDINATE_LENGTH}: {member}"
            lost = octets(key.public(), member).lstrip(b"\0")
            yield _one(f"{algorithm}-{member}-lost", key, {member: text(lost)}, note, algorithms=ALL)
            for zeros in (1, 3):
                gained = bytes(zeros) + octets(key.public(), member)
                name = f"{algorithm}-{member}-gained-{zeros}"
                yield _one(name, key, {member: text(gained)}, note, algorithms=ALL)
    both = {member: text(b"\0" + octets(EC.public(), member)) for member in ("x", "y")}
    yield _one("ec-both-gained", EC, both, f"{jwk_normalization.COORDINATE_LENGTH}: x, y")


def encodings() -> Iterator[Shape]:
    """Padding, the standard alphabet, both, line breaks, unused bits: of every member that is octets."""
    keys = {
        "n": RSA,
        "x": EC,
        "y": EC,
        "okp-x": _with_standard_letters("EdDSA", "x"),
        "ed448-x": signer("Ed448", "k"),
        "pub": signer("ML-DSA-44", "k"),
    }
    for name, key in keys.items():
        member = name.rpartition("-")[2]
        raw = octets(key.public(), member)
        whole = standard(raw)
        forms = {
            "standard": whole,
            "standard-unpadded": whole.rstrip("="),
            "padded": whole.replace("+", "-").replace("/", "_"),
            "lines": "\r\n".join(whole[at : at + 64] for at in range(0, len(whole), 64)) + "\n",
        }
        for form, written in forms.items():
            notes = tuple(
                f"{note}: {member}"
                for note, found in (
                    (jwk_normalization.WHITE_SPACE, "\n" in written),
                    (jwk_normalization.STANDARD_ALPHABET, "+" in written or "/" in written),
                    (jwk_normalization.PADDED, "=" in written),
                )
                if found
            )
            yield _one(f"{name}-{form}", key, {member: written}, *notes, algorithms=ALL)
    for name, key in (("n", RSA), ("x", EC)):
        written = str(key.public()[name])
        broken = written[:-1] + chr(ord(written[-1]) + 1)  # the last letter stands for two bits or four, and zeros
        yield _one(f"{name}-unused-bits", key, {name: broken}, f"{jwk_normalization.UNUSED_BITS}: {name}")
    secret = signer("HS256", "k")
    k = standard(octets(json.loads(secret.jwk.export()), "k"))
    yield Shape(
        name="k-padded",
        document=jwk_set({"kty": "oct", "kid": "k", "k": k.replace("+", "-").replace("/", "_")}),
        token=sign(secret),
        algorithms=("HS256",),
        notes=(f"{jwk_normalization.PADDED}: k",),
        local=True,
    )


@cache
def _with_standard_letters(algorithm: str, member: str) -> SigningKey:
    while True:
        key = SigningKey.create(algorithm, kid="k")
        if {"-", "_"} & set(str(key.public()[member])):
            return key


def purposes() -> Iterator[Shape]:
    """What a key is said to be for, in other words."""
    for use in ("SIG", "Sig", "jwt-svid", "JWT-SVID"):
        yield _one(f"use-{use}", EC, {"use": use}, f"use {use} read as sig")
    yield _one("use-list", EC, {"use": ["sig"]}, "use [sig] read as sig")
    plain = {"use": ABSENT}
    yield _one("key_ops-text", EC, {**plain, "key_ops": "verify"}, jwk_normalization.KEY_OPS_AS_TEXT)
    yield _one(
        "key_ops-text-sign",
        EC,
        {**plain, "key_ops": "sign"},
        jwk_normalization.KEY_OPS_AS_TEXT,
        jwk_normalization.KEY_OPS_SIGN,
    )
    yield _one("key_ops-sign", EC, {"key_ops": ["sign"]}, jwk_normalization.KEY_OPS_SIGN)
    yield _one("key_ops-case", EC, {"key_ops": ["Verify"]}, jwk_normalization.KEY_OPS_CASE)
    yield _one("key_ops-both", EC, {"key_ops": ["sign", "verify"]})
    yield _one("key_ops-and-more", EC, {"key_ops": ["verify", "encrypt"]})
    for name, purpose, why in (
        ("use-enc", {"use": "enc"}, "use is not sig"),
        ("use-ENC", {"use": "ENC"}, "use is not sig"),
        ("use-x509-svid", {"use": "x509-svid"}, "use is not sig"),
        ("use-unknown", {"use": "x"}, "use is not sig"),
        ("key_ops-encrypt", {**plain, "key_ops": ["encrypt"]}, "key_ops has no verify"),
        ("key_ops-wrapKey", {**plain, "key_ops": "wrapKey"}, "key_ops has no verify"),
    ):
        yield _one(name, EC, purpose, refused=why, deliberate=OTHER_PURPOSE)


def certificates() -> Iterator[Shape]:
    """x5c in every form, right, wrong and unreadable."""
    der = certificate(RSA)
    pem = f"-----BEGIN CERTIFICATE-----\n{standard(der)}\n-----END CERTIFICATE-----\n"
    for name, chain, notes in (
        ("good", [standard(der)], ()),
        ("chain", [standard(der), standard(certificate(EC))], ()),
        ("unreadable-chain", [standard(der), "x"], ()),
        ("pem", [pem], (x5c.X5C_FORM,)),
        ("base64url", [text(der)], (x5c.X5C_FORM,)),
        ("text", standard(der), (x5c.X5C_FORM,)),
        ("junk", ["AAAA"], (x5c.X5C_UNREADABLE,)),
        ("number", [1], (x5c.X5C_UNREADABLE,)),
        ("cut-short", [standard(der[:-9])], (x5c.X5C_UNREADABLE,)),
        ("public-key", [RSA.jwk.export_to_pem().decode()], (x5c.X5C_UNREADABLE,)),
        ("serial-zero", [standard(der.replace(b"\2\1\7\x30", b"\2\1\0\x30", 1))], (x5c.X5C_UNREADABLE,)),
    ):
        yield _one(f"x5c-{name}", RSA, {"x5c": chain}, *notes)
    for name, chain in (("another", [standard(certificate(EC))]), ("another-in-text", standard(certificate(EC)))):
        yield _one(f"x5c-{name}", RSA, {"x5c": chain}, refused=x5c.X5C_MISMATCH, deliberate=ANOTHER_KEY)
    yield _one("x5t-of-nothing", RSA, {"x5t": "abc", "x5c": [standard(der)]}, x5c.X5T_MISMATCH)


def algorithms() -> Iterator[Shape]:
    """Keys without alg, by what the operator wrote; EdDSA on both of its curves; names that no one knows."""
    for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
        key = SigningKey("k", algorithm, RSA.jwk)
        refused, why = ("", "") if algorithm == "RS256" else (f"algorithms: [{algorithm}]", NO_ALG)
        yield _one(f"no-alg-{algorithm}", key, {"alg": ABSENT}, refused=refused, deliberate=why)
        yield _one(f"no-alg-{algorithm}-written", key, {"alg": ABSENT}, algorithms=(algorithm,))
        yield _one(f"no-alg-{algorithm}-written-with-others", key, {"alg": ABSENT}, algorithms=("RS384", *ALL))
    for algorithm in ("ES256", "ES384", "ES512", "EdDSA", "Ed25519"):
        yield _one(f"no-alg-{algorithm}", signer(algorithm, "k"), {"alg": ABSENT})
    ed448 = SigningKey("k", "EdDSA", signer("Ed448", "k").jwk)
    yield _one("ed448-eddsa", ed448, algorithms=ALL)
    yield _one("ed448-no-alg", ed448, {"alg": ABSENT}, algorithms=ALL)
    yield _one("ed448-not-allowed", ed448, refused="the key with this id is not for this alg")
    unknown = "alg is not a supported signature algorithm"
    for alg in ("RSA256", "SHA256withRSA", "rs256", "RS1", "none"):
        yield _one(f"alg-{alg}", RSA, {"alg": alg}, refused=unknown)
    for name, alg_of_no_text in (("list", ["RS256"]), ("number", 256)):
        yield _one(f"alg-{name}", RSA, {"alg": alg_of_no_text}, refused=unknown, deliberate=ALG_NO_TEXT)
    for alg, key in (
        ("ECDSA", EC),
        ("ES999", EC),
        ("EDDSA", signer("EdDSA", "k")),
        ("Ed25519ph", signer("EdDSA", "k")),
    ):
        yield _one(f"alg-{alg}", key, {"alg": alg}, refused=unknown)


def choices() -> Iterator[Shape]:
    """Which key is meant."""
    others = [key.public() for key in MORE_RSA]
    nameless = [changed(jwk, {"kid": ABSENT}) for jwk in (*others, JWK_RSA)]
    der = certificate(RSA)
    x5t, x5t_s256 = text(sha1(der, usedforsecurity=False).digest()), text(sha256(der).digest())
    for name, keys, header in (
        ("kid-empty-in-the-token", [JWK_RSA, others[0]], {"kid": ""}),
        ("no-kid-last-of-four", [*others[:3], JWK_RSA], {"kid": ABSENT}),
        ("kid-in-no-key", nameless[-1:], {}),
        ("kid-in-neither-key", nameless[-2:], {}),
        ("kid-in-both-keys", [changed(others[0], {"kid": "k"}), JWK_RSA], {}),
        ("kid-twice-by-alg", [changed(JWK_RSA, {"alg": "RS512"}), JWK_RSA], {}),
        ("kid-of-another-use", [changed(others[0], {"use": "enc", "kid": "k"}), JWK_RSA], {}),
        ("no-kid-x5t", [*others, changed(JWK_RSA, {"x5t": x5t})], {"kid": ABSENT, "x5t": x5t}),
        (
            "no-kid-x5t#S256",
            [*others, changed(JWK_RSA, {"x5t#S256": x5t_s256})],
            {"kid": ABSENT, "x5t#S256": x5t_s256},
        ),
        ("no-kid-x5t-of-x5c", [*others, changed(JWK_RSA, {"x5c": [standard(der)]})], {"kid": ABSENT, "x5t": x5t}),
        ("no-kid-x5t-unknown", [*others[:3], JWK_RSA], {"kid": ABSENT, "x5t": "x"}),
        ("no-kid-x5t-of-no-text", [*others[:3], JWK_RSA], {"kid": ABSENT, "x5t": 1}),
    ):
        yield Shape(name=name, document=jwk_set(*keys), token=sign(RSA, **header))
    for said, empty in EMPTIES.items():
        yield _one(f"kid-{said}-in-the-key", RSA, {"kid": empty}, f"{jwk_normalization.NULL_OR_EMPTY}: kid")
    yield Shape(
        name="no-kid-five-keys",
        document=jwk_set(*others[:4], JWK_RSA),
        token=sign(RSA, kid=ABSENT),
        refused="more than 4 keys are candidates",
        deliberate=AMBIGUOUS,
    )
    yield Shape(
        name="kid-in-no-key-beside-one-with",
        document=jwk_set(others[0], nameless[-1]),
        token=sign(RSA),
        refused="no key with this id",
        deliberate=OTHER_KID,
    )
    for said, kid in (("list-of-text", ["k"]), ("bool", True)):
        yield _one(f"kid-{said}-in-the-key", RSA, {"kid": kid}, refused="kid is not a string", deliberate=KID_NO_TEXT)
    many = [changed(signer("EdDSA", "o").public(), {"kid": f"o{number}"}) for number in range(70)]
    yield Shape(name="71-keys-the-last-signs", document=jwk_set(*many, JWK_RSA), token=sign(RSA))


def documents() -> Iterator[Shape]:
    """What surrounds the keys."""
    good = jwk_set(JWK_RSA)
    token = sign(RSA)
    yield Shape(name="byte-order-mark", document=b"\xef\xbb\xbf" + good, token=token)
    yield Shape(name="pretty", document=json.dumps(json.loads(good), indent=4).encode(), token=token)
    yield Shape(name="more-members", document=good[:-1] + b', "issuer": null, "exp": 1}', token=token)
    html = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
    html += b" " * (1534 - len(html))
    page = "the document is HTML, 1,534 bytes, beginning with '<!DOCTYPE html> <html><head><title>Sign in"
    yield Shape(name="html", document=html, token=token, refused=page)
    for name, document, why in (
        ("empty", b"", "the document is empty, 0 bytes"),
        ("xml", b'<?xml version="1.0"?><Error/>', "the document is XML, 29 bytes, beginning with '<?xml"),
        (
            "words",
            b"upstream connect error",
            "the document is not JSON, 22 bytes, beginning with 'upstream connect error'",
        ),
        ("pem", b"-----BEGIN PUBLIC KEY-----\nMIIB", "the document is PEM, 31 bytes"),
        ("token", token.encode(), "the document is a signed token (compact JWS), "),
        ("gzip", b"\x1f\x8b\x08\0", "the document is compressed by gzip, 4 bytes"),
        ("utf-16", good.decode().encode("utf-16"), "the document is UTF-16, not UTF-8, "),
        ("cut-short", good[:-2], "the document is not usable JSON, "),
        ("array", b"[" + good + b"]", "the document is a JSON array, "),
        ("discovery", b'{"issuer": "x", "jwks_uri": "https://x"}', "it is a discovery document"),
    ):
        yield Shape(name=name, document=document, token=token, refused=why)
    pem = f"-----BEGIN CERTIFICATE-----\n{standard(certificate(RSA))}\n-----END CERTIFICATE-----\n"
    yield Shape(
        name="certificates-by-kid",
        document=json.dumps({"k": pem}).encode(),
        token=token,
        refused="the document has no array `keys`",
        deliberate=PEM_MAP,
    )
    yield Shape(name="bare-jwk", document=json.dumps(JWK_RSA).encode(), token=token, refused="one JWK")


def bad_keys() -> Iterator[Shape]:
    """Keys that no one should use."""
    weak: Any = JWK.from_pyca(rsa.generate_private_key(65537, 1024))  # noqa: S505 - too weak, as it shall be
    yield _one("weak", SigningKey("k", "RS256", weak), refused="RSA modulus of 1024 bits", deliberate=WEAK)
    for name, key in (("rsa", RSA), ("ec", EC), ("okp", signer("EdDSA", "k"))):
        private = {**json.loads(key.jwk.export_private()), "kid": "k", "alg": key.algorithm}
        why = "private key material was published"
        token = sign(key)
        yield Shape(name=f"private-{name}", document=jwk_set(private), token=token, refused=why, deliberate=PRIVATE)
        twin = jwk_set({**private, "kid": "twin"}, key.public())
        yield Shape(name=f"private-{name}-twin", document=twin, token=token, refused=why, deliberate=PRIVATE)
        padded = {**private, "d": f"{private['d']}="}
        yield Shape(
            name=f"private-{name}-padded", document=jwk_set(padded), token=token, refused=why, deliberate=PRIVATE
        )
    secret = signer("HS256", "k")
    yield Shape(
        name="symmetric",
        document=jwk_set(json.loads(secret.jwk.export())),
        token=sign(secret),
        refused="symmetric key in a published set",
        deliberate=SYMMETRIC,
    )


GENERATED: Final = [
    shape
    for shapes in (empties, numbers, encodings, purposes, certificates, algorithms, choices, documents, bad_keys)
    for shape in shapes()
]
