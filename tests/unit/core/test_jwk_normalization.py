"""Proves authz.core.jwk_normalization: each form with one meaning is converted, with a note, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core import base64url
from authz.core.algorithms import ALGORITHMS
from authz.core.jwk_normalization import (
    COORDINATE_BYTES,
    COORDINATE_LENGTH,
    KEY_OPS_AS_TEXT,
    KEY_OPS_CASE,
    KEY_OPS_SIGN,
    LEADING_ZEROS,
    NULL_OR_EMPTY,
    PADDED,
    STANDARD_ALPHABET,
    UNUSED_BITS,
    WHITE_SPACE,
    decode_base64,
    normalize_jwk,
)
from authz.core.key import import_key
from authz.core.keys import KeySet
from authz.core.reasons import Rejected
from authz.core.token import parse_token
from authz.demo.signing import SigningKey
from tests.fixtures import A_EC, A_RSA, ABSENT, changed, jwks, mint, signer


def text(raw: bytes) -> str:
    """Write octets in base64url."""
    return base64url.encode(raw).decode()


Changes = dict[str, object]
RSA: Changes = {"kty": "RSA", "n": text(b"\1\2\3"), "e": "AQAB"}
EC: Changes = {"kty": "EC", "crv": "P-256", "x": text(bytes([7]) * 32), "y": text(bytes([8]) * 32)}
FORMS: dict[str, tuple[Changes, Changes, Changes, tuple[str, ...]]] = {
    "nothing-to-do": (RSA, {}, {}, ()),
    "null": (RSA, {"d": None}, {"d": ABSENT}, (f"{NULL_OR_EMPTY}: d",)),
    "empty-text": (RSA, {"use": ""}, {"use": ABSENT}, (f"{NULL_OR_EMPTY}: use",)),
    "empty-list": (RSA, {"oth": []}, {"oth": ABSENT}, (f"{NULL_OR_EMPTY}: oth",)),
    "empty-object": (RSA, {"oth": {}}, {"oth": ABSENT}, (f"{NULL_OR_EMPTY}: oth",)),
    "list-of-nothing": (RSA, {"oth": [{"r": None}, ""]}, {"oth": ABSENT}, (f"{NULL_OR_EMPTY}: oth",)),
    "several": (RSA, {"q": None, "d": None}, {"q": ABSENT, "d": ABSENT}, (f"{NULL_OR_EMPTY}: d, q",)),
    "unregistered-name-is-not-repeated": (RSA, {"made\nup": None}, {"made\nup": ABSENT}, ()),
    "zero-and-false-are-something": (RSA, {"d": 0, "p": False}, {"d": 0, "p": False}, ()),
    "list-of-something": (RSA, {"oth": [None, {"r": "AQ"}]}, {"oth": [None, {"r": "AQ"}]}, ()),
    "leading-zero": (RSA, {"n": text(b"\0\0\1")}, {"n": "AQ"}, (f"{LEADING_ZEROS}: n",)),
    "zero-stays": (RSA, {"n": "AAAA"}, {"n": "AAAA"}, ()),
    "padded": (RSA, {"n": "AQ=="}, {"n": "AQ"}, (f"{PADDED}: n",)),
    "padded-too-much": (RSA, {"n": "AQ==="}, {"n": "AQ"}, (f"{PADDED}: n",)),
    "standard": (RSA, {"n": "+/+/"}, {"n": "-_-_"}, (f"{STANDARD_ALPHABET}: n",)),
    "both-alphabets": (RSA, {"n": "+_-/"}, {"n": "-_-_"}, (f"{STANDARD_ALPHABET}: n",)),
    "lines": (RSA, {"n": "AQ\r\nID\n"}, {"n": "AQID"}, (f"{WHITE_SPACE}: n",)),
    "unused-bits-of-two": (RSA, {"n": "AR"}, {"n": "AQ"}, (f"{UNUSED_BITS}: n",)),
    "unused-bits-of-three": (RSA, {"n": "AQJ"}, {"n": "AQI"}, (f"{UNUSED_BITS}: n",)),
    "all-at-once": (
        RSA,
        {"n": "AAE+\n/x=="},
        {"n": text(b"\x01\x3e\xff")},
        tuple(f"{note}: n" for note in (WHITE_SPACE, STANDARD_ALPHABET, PADDED, UNUSED_BITS, LEADING_ZEROS)),
    ),
    "padding-inside": (RSA, {"n": "AQ=B"}, {"n": "AQ=B"}, ()),
    "foreign-character": (RSA, {"n": "AQ!B"}, {"n": "AQ!B"}, ()),
    "foreign-last-character": (RSA, {"n": "AQI!"}, {"n": "AQI!"}, ()),
    "foreign-last-of-two": (RSA, {"n": "A!"}, {"n": "A!"}, ()),
    "one-character-too-many": (RSA, {"n": "AQABA"}, {"n": "AQABA"}, ()),
    "unicode": (RSA, {"n": "AQüB"}, {"n": "AQüB"}, ()),
    "number": (RSA, {"e": 65537}, {"e": 65537}, ()),
    "members-of-another-type": (RSA, {"x": "AQ=="}, {"x": "AQ=="}, ()),
    "short-coordinate": (EC, {"x": text(b"\1" * 30)}, {"x": text(b"\0\0" + b"\1" * 30)}, (f"{COORDINATE_LENGTH}: x",)),
    "long-coordinate": (EC, {"y": text(bytes(3) + b"\1" * 32)}, {"y": text(b"\1" * 32)}, (f"{COORDINATE_LENGTH}: y",)),
    "coordinate-too-large": (EC, {"x": text(b"\1" * 33)}, {"x": text(b"\1" * 33)}, ()),
    "unknown-curve": (EC, {"crv": "P-999", "x": "AQ=="}, {"x": "AQ"}, (f"{PADDED}: x",)),
    "curve-of-no-text": (EC, {"crv": 1, "x": "AQ"}, {"x": "AQ"}, ()),
    "okp-keeps-its-length": ({"kty": "OKP", "crv": "Ed25519"}, {"x": text(bytes(31))}, {"x": text(bytes(31))}, ()),
    "unknown-type": ({"kty": "XYZ"}, {"n": "AQ=="}, {"n": "AQ=="}, ()),
    "type-of-no-text": ({"kty": ["RSA"]}, {"n": "AQ=="}, {"n": "AQ=="}, ()),
    "use": (RSA, {"use": "sig"}, {"use": "sig"}, ()),
    "use-case": (RSA, {"use": "Sig"}, {"use": "sig"}, ("use Sig read as sig",)),
    "use-spiffe": (RSA, {"use": "jwt-svid"}, {"use": "sig"}, ("use jwt-svid read as sig",)),
    "use-list": (RSA, {"use": ["SIG"]}, {"use": "sig"}, ("use [sig] read as sig",)),
    "use-list-of-two": (RSA, {"use": ["sig", "enc"]}, {"use": ["sig", "enc"]}, ()),
    "use-enc": (RSA, {"use": "enc"}, {"use": "enc"}, ()),
    "use-x509": (RSA, {"use": "x509-svid"}, {"use": "x509-svid"}, ()),
    "use-number": (RSA, {"use": 1}, {"use": 1}, ()),
    "key-ops": (RSA, {"key_ops": ["verify", 1]}, {"key_ops": ["verify", 1]}, ()),
    "key-ops-text": (RSA, {"key_ops": "verify"}, {"key_ops": ["verify"]}, (KEY_OPS_AS_TEXT,)),
    "key-ops-text-case": (RSA, {"key_ops": "Verify"}, {"key_ops": ["verify"]}, (KEY_OPS_AS_TEXT, KEY_OPS_CASE)),
    "key-ops-sign": (RSA, {"key_ops": ["sign"]}, {"key_ops": ["verify"]}, (KEY_OPS_SIGN,)),
    "key-ops-case": (RSA, {"key_ops": ["VERIFY"]}, {"key_ops": ["verify"]}, (KEY_OPS_CASE,)),
    "key-ops-something-else": (RSA, {"key_ops": ["encrypt"]}, {"key_ops": ["encrypt"]}, ()),
    "key-ops-text-something-else": (RSA, {"key_ops": "encrypt"}, {"key_ops": "encrypt"}, ()),
    "key-ops-object": (RSA, {"key_ops": {"verify": True}}, {"key_ops": {"verify": True}}, ()),
}


@pytest.mark.parametrize(("jwk", "changes", "read", "notes"), FORMS.values(), ids=FORMS)
def test_form(jwk: Changes, changes: Changes, read: Changes, notes: tuple[str, ...]) -> None:
    """A form is read as what it means, and says so; what has two meanings, or none, stays as it is."""
    made = normalize_jwk({**jwk, **changes})
    assert (made.members, made.notes) == (changed({**jwk, **changes}, read), notes)


def test_lengths_are_those_of_the_curves() -> None:
    """RFC 7518 section 6.2.1.2: P-521 takes 66 octets, whose first holds one bit."""
    assert COORDINATE_BYTES == {"P-256": 32, "P-384": 48, "P-521": 66, "secp256k1": 32}


def test_nothing_is_no_octets() -> None:
    """An empty text stands for no octets, and for no bits that could be unused."""
    assert decode_base64("") == (b"", [])


GOOD_KEYS = [A_RSA, A_EC, *(signer(name, "k") for name in ("ES384", "ES512", "ES256K", "EdDSA", "Ed448", "ML-DSA-44"))]
NUMBERS = {"n", "e"}


@st.composite
def disguises(draw: st.DrawFn) -> tuple[dict[str, object], dict[str, object]]:
    """Draw a good public key, and the same one as a careless issuer would write it."""
    jwk = draw(st.sampled_from(GOOD_KEYS)).public()
    careless: dict[str, object] = dict(jwk)
    for name in sorted({"n", "e", "x", "y", "pub"} & jwk.keys()):
        raw = base64url.decode(str(jwk[name]).encode())
        if name in NUMBERS or jwk["kty"] == "EC":
            raw = bytes(draw(st.integers(0, 3))) + (raw.lstrip(b"\0") if draw(st.booleans()) else raw)
        written = text(raw)
        if draw(st.booleans()):
            written = written.replace("-", "+").replace("_", "/")
        if draw(st.booleans()):
            written += "=" * (-len(written) % 4)
        if draw(st.booleans()):
            at = draw(st.integers(0, len(written)))
            written = f"{written[:at]}{draw(st.sampled_from([' ', chr(10), chr(13) + chr(10)]))}{written[at:]}"
        careless[name] = written
    nothing: st.SearchStrategy[object] = st.sampled_from([None, "", [], {}, [None]])
    for name in draw(st.sets(st.sampled_from(["d", "p", "oth", "k", "priv", "x5c", "x5u", "key_ops", "extra"]))):
        careless[name] = draw(nothing)
    careless["use"] = draw(st.sampled_from(["sig", "SIG", "jwt-svid", ["sig"], None, ""]))
    if draw(st.booleans()):
        careless["key_ops"] = draw(st.sampled_from(["verify", ["sign"], ["VERIFY"], ["verify", "encrypt"]]))
    return jwk, careless


@given(disguises())
def test_a_disguised_key_is_the_same_key(keys: tuple[dict[str, object], dict[str, object]]) -> None:
    """However it is written, it has the thumbprint, name, algorithm and size of its canonical twin."""
    jwk, careless = keys
    made = normalize_jwk(careless)
    plain, read = (import_key(members, local=False, x5c_mismatch=False) for members in (jwk, made.members))
    assert read == plain
    assert normalize_jwk(made.members) == type(made)(made.members)


def tokens_of(key: SigningKey) -> list[str]:
    """Write tokens by the key, good and bad, and by a stranger."""
    good = mint(key)
    head, _, signature = good.rpartition(".")
    return [
        good,
        mint(key, header={"kid": ABSENT}),
        mint(key, header={"kid": "another"}),
        mint(key, header={"alg": "RS512"}),
        mint(signer(key.algorithm, "stranger"), header={"kid": key.kid}),
        f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
    ]


TOKENS = {key.kid + key.algorithm: tokens_of(key) for key in GOOD_KEYS}


def outcome(keys: KeySet, token: str) -> str:
    """Verify *token*, and return whose it is, or why it was refused."""
    try:
        return keys.verify(parse_token(token), ALGORITHMS).key.thumbprint
    except Rejected as rejected:
        return rejected.reason


@given(disguises())
def test_a_disguised_key_decides_as_its_twin(keys: tuple[dict[str, object], dict[str, object]]) -> None:
    """Every token, good or bad, has the same outcome under a key and under the same one carelessly written."""
    plain, careless = (KeySet.from_json(jwks(jwk, signer("ES256", "beside"))) for jwk in keys)
    for token in TOKENS[f"{keys[0]['kid']}{keys[0]['alg']}"]:
        assert outcome(careless, token) == outcome(plain, token)


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(GOOD_KEYS),
    st.dictionaries(st.sampled_from(["kty", "crv", "alg", "use", "key_ops", "n", "e", "x", "y", "d"]), json_values),
)
def test_what_is_canonical_is_read_as_it_stands(key: Any, changes: dict[str, object]) -> None:  # noqa: ANN401
    """No member of any JSON raises; what is read once is read the same again, without a note."""
    made = normalize_jwk({**key.public(), **changes})
    assert normalize_jwk(made.members) == type(made)(made.members)
