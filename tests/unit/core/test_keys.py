"""Proves authz.core.keys."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from jwcrypto.jwk import JWK

from authz.core import base64url
from authz.core.algorithms import ALGORITHMS, DEFAULT_ALGORITHMS
from authz.core.certificate import (
    X5C_FORM,
    X5C_MISMATCH,
    X5C_MISMATCH_ALLOWED,
    X5C_UNREADABLE,
    CertificateHashes,
)
from authz.core.jwk_validation import LEAKED_PRIVATE_KEY
from authz.core.keys import (
    MAX_DOCUMENT_BYTES,
    MAX_KEYS,
    Candidates,
    Key,
    KeySet,
    Verified,
    check_algorithm,
    verify,
    verify_by_keys,
    verify_signature,
)
from authz.core.reasons import Reason, Rejected
from authz.core.token import MAX_KID_CHARS, UnverifiedToken, parse_token
from authz.demo.signing import SigningKey
from tests.fixtures import A_EC, A_RSA, ABSENT, B_EC, changed, jwks, key_set, mint, signer, unsigned

PLAIN_RSA = changed(A_RSA.public(), {"alg": ABSENT})
SECRET = {"kty": "oct", "kid": "secret", "k": base64url.encode(bytes(range(64))).decode()}
HMAC = {name: {**SECRET, "alg": name} for name in ("HS256", "HS384", "HS512")}


def reason(keys: KeySet, token: str, *algorithms: str) -> Reason | None:
    """Verify *token*, and return why it was refused, or None."""
    try:
        keys.verify(parse_token(token), algorithms or ALGORITHMS)
    except Rejected as rejected:
        return rejected.reason
    return None


def kids(keys: KeySet) -> list[str | None]:
    """Return the ids of the usable keys."""
    return [key.kid for key in keys.keys]


def why(keys: KeySet, kid: str | None) -> str:
    """Return why the key of that id was rejected."""
    return dict(keys.rejected)[kid]


# Reading a set


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - set(HMAC)))
def test_every_asymmetric_algorithm_verifies(name: str) -> None:
    """A token signed by another library's key of each algorithm verifies, and gives back what was signed."""
    key = signer(name, "k")
    signed = key_set(key).verify(parse_token(mint(key, sub="ann")), [name])
    assert json.loads(signed.payload) == signed.members
    assert (signed.members["sub"], signed.key.kid, signed.verified) == ("ann", "k", Verified.COMPUTED)


@pytest.mark.parametrize("name", HMAC)
def test_every_symmetric_algorithm_verifies(name: str) -> None:
    """A token under a secret of a local file verifies."""
    key = SigningKey("secret", name, JWK(**HMAC[name]))
    assert reason(key_set(HMAC[name], local=True), mint(key), name) is None


DOCUMENTS: dict[str, str | bytes] = {
    "empty": b"",
    "not-json": b"<html>",
    "cut-short": jwks(A_RSA)[:-1],
    "array": b"[]",
    "no-keys": b"{}",
    "keys-null": b'{"keys":null}',
    "keys-object": b'{"keys":{}}',
    "keys-twice": b'{"keys":[],"keys":[]}',
    "nan": b'{"keys":[{"kty":"RSA","x":NaN}]}',
    "too-deep": b'{"keys":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "duplicate-member-in-a-key": b'{"keys":[{"kty":"RSA","kty":"EC"}]}',
    "ten-thousand-keys": jwks(*[A_EC] * 10_000),
    "five-megabytes": b'{"keys":[]' + b" " * 5_000_000 + b"}",
    "one-byte-too-many": b'{"keys":[]' + b" " * (MAX_DOCUMENT_BYTES - 10) + b"}",
    "kid-of-64-kib": jwks(A_RSA, {"kid": "k" * 65_536}),
    "kid-one-too-long": jwks(A_RSA, {"kid": "k" * (MAX_KID_CHARS + 1)}),
    "surrogate": '{"keys":[]}\ud800',
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_unusable_document(document: str | bytes) -> None:
    """A document that is no key set, or beyond a bound, fails as a whole: the last good one shall stay."""
    with pytest.raises(ValueError):  # noqa: PT011 - several texts
        KeySet.from_json(document)


def test_document_may_be_text_or_bytes() -> None:
    """Both forms of one document give equal sets; an empty one is a set."""
    assert KeySet.from_json(jwks(A_RSA)) == KeySet.from_json(jwks(A_RSA).encode())
    assert KeySet.from_json('{"keys":[]}').keys == ()
    longest = changed(A_RSA.public(), {"kid": "k" * MAX_KID_CHARS})
    assert kids(key_set(longest)) == ["k" * MAX_KID_CHARS]
    assert KeySet.from_json(b'{"keys":[]' + b" " * (MAX_DOCUMENT_BYTES - 11) + b"}").keys == ()


def test_bounds_are_the_callers() -> None:
    """As many bytes as are allowed are allowed."""
    document = jwks(A_RSA, A_EC)
    assert KeySet.from_json(document, max_keys=2, max_bytes=len(document)).rejected == []
    with pytest.raises(ValueError, match="bytes, at most"):
        KeySet.from_json(document, max_bytes=len(document) - 1)


def test_of_too_many_keys_the_first_are_kept() -> None:
    """The bound on keys refuses no set: what is beyond it is rejected by name, and named by its setting."""
    unusable = {"kid": "odd", "kty": "RSA"}
    keys = KeySet.from_json(jwks(unusable, A_RSA, A_RSA, A_EC, B_EC), max_keys=2)
    assert kids(keys) == ["a-rsa", "a-ec"]
    assert why(keys, "b-ec") == "beyond the first 2 usable keys (fetch.max_keys)"
    assert reason(keys, mint(B_EC)) is Reason.KEY_UNUSABLE
    assert reason(keys, mint(A_EC)) is None


def test_a_set_may_have_as_many_keys_as_its_bytes_allow() -> None:
    """65 keys are no matter, and no more are 1,000; the sixty-fifth serves."""
    others = [changed(signer("Ed25519", "o").public(), {"kid": str(number)}) for number in range(MAX_KEYS - 1)]
    keys = KeySet.from_json(jwks(*others, A_EC))
    assert (len(keys.keys), keys.rejected) == (MAX_KEYS, [])
    assert reason(keys, mint(A_EC)) is None


ODD_ENTRIES: dict[str, object] = {
    "text": "string",
    "null": None,
    "list": [1],
    "number": 7,
    "empty": {},
    "kid-number": changed(B_EC.public(), {"kid": 5}),
    "without-y": changed(B_EC.public(), {"y": ABSENT}),
    "n-junk": {"kty": "RSA", "n": "####", "e": "AQAB"},
    "n-number": {"kty": "RSA", "n": 12345, "e": "AQAB"},
    "off-curve": changed(B_EC.public(), {"y": B_EC.public()["x"]}),
    "unknown-type": {"kty": "XYZ", "x": "AA"},
    "unknown-akp": {"kty": "AKP", "alg": "ML-DSA-999", "pub": "AA"},
    "unknown-alg": changed(B_EC.public(), {"alg": "ES999"}),
    "unknown-curve": changed(B_EC.public(), {"crv": "P-999"}),
    "private": changed(B_EC.public(), {"d": "AA"}),
    "symmetric": SECRET,
}


@pytest.mark.parametrize("entry", ODD_ENTRIES.values(), ids=ODD_ENTRIES)
def test_one_unfit_key_spoils_no_other(entry: object) -> None:
    """An unfit entry is rejected and counted; its neighbours on both sides serve."""
    keys = key_set(A_RSA, entry, A_EC)
    assert kids(keys) == ["a-rsa", "a-ec"]
    assert len(keys.rejected) == 1
    assert reason(keys, mint()) is None
    assert reason(keys, mint(A_EC)) is None


def test_off_curve_is_found_when_the_set_is_read() -> None:
    """A point that lies on no curve is found out at once, not by the first token."""
    off = changed(A_EC.public(), {"y": A_EC.public()["x"]})
    assert why(key_set(off), "a-ec") == "the key's numbers are not a valid public key"


def test_identical_duplicates_count_once() -> None:
    """The same key twice is one key; the same key under two ids is two."""
    assert kids(key_set(A_RSA, A_RSA)) == ["a-rsa"]
    assert kids(key_set(A_RSA, changed(A_RSA.public(), {"kid": "other"}))) == ["a-rsa", "other"]


def test_copies_with_and_without_alg_count_once() -> None:
    """The copy that names its algorithm stands; where two are named, each does."""
    pss = changed(A_RSA.public(), {"alg": "PS256"})
    assert [key.alg for key in key_set(PLAIN_RSA, A_RSA, PLAIN_RSA).keys] == ["RS256"]
    assert [key.alg for key in key_set(A_RSA, PLAIN_RSA, pss).keys] == ["RS256", "PS256"]
    assert [key.alg for key in key_set(PLAIN_RSA, PLAIN_RSA).keys] == [None]


def test_thumbprint_and_size() -> None:
    """A key is known by its RFC 7638 thumbprint, its size and what its JWK says."""
    (key,) = key_set(A_RSA).keys
    assert key == Key("a-rsa", A_RSA.jwk.thumbprint(), "RSA", None, "RS256", 2048, A_RSA.jwk)


def test_secret_needs_a_word() -> None:
    """Unless the caller says that a set is local, no symmetric key of it serves."""
    assert KeySet.from_json(jwks(SECRET)).rejected == [("secret", "symmetric key in a published set")]
    assert kids(KeySet.from_json(jwks(SECRET), local=True)) == ["secret"]


# Certificates beside a key


def certificate(key: SigningKey) -> bytes:
    """Make a self-signed certificate of *key*, in DER."""
    private: Any = key.jwk.get_op_key("sign")  # its stubs allow for a secret
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.test")])
    day = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, day, day + dt.timedelta(days=1))
    return builder.sign(private, hashes.SHA256() if key.algorithm[0] in "RE" else None).public_bytes(Encoding.DER)


def with_chain(*chain: object) -> KeySet:
    """Read a set of A's two keys, the first of them with an x5c."""
    return key_set(changed(A_RSA.public(), {"x5c": list(chain)}), A_EC)


def encoded(der: bytes) -> str:
    """Write a certificate as x5c does: in plain base64 (RFC 7517 section 4.7)."""
    return base64.b64encode(der).decode()


@pytest.mark.parametrize("name", ["RS256", "ES256", "ES512"])
def test_certificate_of_the_same_key(name: str) -> None:
    """A certificate that holds the key changes nothing."""
    key = signer(name, "k")
    assert kids(key_set(changed(key.public(), {"x5c": [encoded(certificate(key))]}))) == ["k"]


def test_certificate_of_another_key() -> None:
    """A key whose certificate holds another one is at odds with itself."""
    keys = with_chain(encoded(certificate(A_EC)))
    assert (kids(keys), why(keys, "a-rsa")) == (["a-ec"], "x5c holds another key")


GOOD_DER = certificate(A_RSA)
RSA_ENCRYPTION = bytes.fromhex("06092a864886f70d010101")
CHAINS: dict[str, list[object]] = {
    "number": [1],
    "object": [{"x": 1}],
    "not-base64": ["####"],
    "one-character-too-many": [encoded(GOOD_DER) + "-"],
    "public-key": [encoded(A_RSA.jwk.export_to_pem())],
    "unicode": ["ü"],
    "no-certificate": ["AAAA"],
    "cut-short": [encoded(GOOD_DER[:-1])],
    "pem": ["-----BEGIN CERTIFICATE-----\n" + encoded(GOOD_DER)],
    # Neither of what the library raises for these two is a ValueError.
    "key-of-an-unknown-type": [encoded(GOOD_DER.replace(RSA_ENCRYPTION, RSA_ENCRYPTION[:-1] + b"\x63", 1))],
    "version-that-does-not-exist": [encoded(GOOD_DER.replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\5", 1))],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_unreadable_certificate(chain: list[object]) -> None:
    """A certificate that cannot be read says nothing: its key serves, with a note."""
    keys = with_chain(*chain)
    assert [key.notes for key in keys.keys] == [(X5C_UNREADABLE,), ()]
    assert reason(keys, mint()) is None


FORMS_OF_CHAINS: dict[str, object] = {
    "text": encoded(GOOD_DER),
    "base64url": [base64url.encode(GOOD_DER).decode()],
    "unpadded": [encoded(GOOD_DER).rstrip("=")] if encoded(GOOD_DER).endswith("=") else [encoded(GOOD_DER) + "\n"],
    "line-breaks": [encoded(GOOD_DER[:60]) + "\n" + encoded(GOOD_DER[60:])],
    "pem": ["-----BEGIN CERTIFICATE-----\n" + encoded(GOOD_DER) + "\n-----END CERTIFICATE-----\n"],
    "pem-text": "-----BEGIN CERTIFICATE-----" + encoded(GOOD_DER) + "-----END CERTIFICATE-----",
}


@pytest.mark.parametrize("chain", FORMS_OF_CHAINS.values(), ids=FORMS_OF_CHAINS)
def test_certificate_in_another_form(chain: object) -> None:
    """A certificate may be written in PEM, over several lines or outside of a list: the same key in it is noted."""
    (key,) = key_set(changed(A_RSA.public(), {"x5c": chain})).keys
    assert key.notes == (X5C_FORM,)


def test_certificate_of_another_key_in_another_form() -> None:
    """However it is written, a certificate of another key speaks against this one."""
    text = "-----BEGIN CERTIFICATE-----" + encoded(certificate(A_EC)) + "-----END CERTIFICATE-----"
    assert key_set(changed(A_RSA.public(), {"x5c": [text]})).rejected == [("a-rsa", X5C_MISMATCH)]


def test_certificate_of_another_key_where_the_operator_allows_it() -> None:
    """insecure.x5c_mismatch lets the key serve, with a note; the certificate does not name it."""
    der = certificate(A_EC)
    jwk = changed(A_RSA.public(), {"x5c": [encoded(der)]})
    (key,) = KeySet.from_json(jwks(jwk), x5c_mismatch=True).keys
    assert (key.notes, key.certificates) == ((X5C_MISMATCH_ALLOWED,), CertificateHashes())


def test_certificate_that_a_later_library_would_refuse() -> None:
    """A serial number that is not positive makes the library warn today, which is an error here: the key serves."""
    serial = b"\x02\x01\x01\x30"  # INTEGER 1, before the algorithm
    der = GOOD_DER.replace(serial, b"\x02\x01\x00\x30", 1)
    assert der != GOOD_DER
    assert [key.notes for key in with_chain(encoded(der)).keys] == [(X5C_UNREADABLE,), ()]


def test_certificate_beside_a_secret() -> None:
    """A symmetric key has nothing that a certificate could hold: what it holds is another key."""
    keys = key_set({**SECRET, "x5c": [encoded(GOOD_DER)]}, A_RSA, local=True)
    assert (kids(keys), why(keys, "secret")) == (["a-rsa"], X5C_MISMATCH)


# Choosing a key

PLAIN_EC = changed(A_EC.public(), {"alg": ABSENT})
PLAIN_ED = changed(signer("Ed25519", "ed").public(), {"alg": ABSENT})
NO_KID = {"kid": ABSENT}
NAMELESS = mint(header=NO_KID)
NAMELESS_RSA = changed(A_RSA.public(), NO_KID)
NAMELESS_OTHER = changed(signer("RS256", "r").public(), NO_KID)
THREE_RSA = [signer("RS256", kid) for kid in "rsu"]


def with_kid(key: SigningKey, kid: str) -> dict[str, object]:
    """Publish *key* under another id."""
    return changed(key.public(), {"kid": kid})


CHOICES: dict[str, tuple[KeySet, str, tuple[str, ...], Reason | None]] = {
    "kid": (key_set(A_RSA, A_EC), mint(), (), None),
    "kid-unknown": (key_set(A_RSA), mint(A_EC), (), Reason.KEY_NOT_FOUND),
    "kid-unknown-of-an-empty-set": (key_set(), mint(), (), Reason.KEY_NOT_FOUND),
    "kid-in-other-case": (key_set(A_RSA), mint(header={"kid": "A-RSA"}), (), Reason.KEY_NOT_FOUND),
    "kid-of-a-key-of-another-type": (key_set(A_RSA, A_EC), mint(header={"kid": "a-ec"}), (), Reason.KEY_UNUSABLE),
    "kid-of-a-key-of-another-alg": (key_set(A_RSA), mint(header={"alg": "RS512"}), (), Reason.KEY_UNUSABLE),
    "kid-of-an-unfit-key": (key_set(changed(A_RSA.public(), {"use": "enc"})), mint(), (), Reason.KEY_UNUSABLE),
    "kid-twice-once-unfit": (key_set(A_RSA, changed(A_RSA.public(), {"use": "enc"})), mint(), (), None),
    "kid-twice-of-two-types": (key_set(A_RSA, with_kid(A_EC, "a-rsa")), mint(), (), None),
    "kid-twice-of-one-type": (
        key_set(A_RSA, with_kid(signer("RS256", "r"), "a-rsa")),
        mint(),
        (),
        None,
    ),
    "kid-twice-and-the-other-signed": (
        key_set(A_RSA, with_kid(signer("RS256", "r"), "a-rsa")),
        mint(signer("RS256", "r"), header={"kid": "a-rsa"}),
        (),
        None,
    ),
    "kid-twice-and-none-signed": (
        key_set(A_RSA, with_kid(signer("RS256", "r"), "a-rsa")),
        mint(signer("RS256", "s"), header={"kid": "a-rsa"}),
        (),
        Reason.SIGNATURE_INVALID,
    ),
    "no-kid-one-key": (key_set(A_RSA), mint(header=NO_KID), (), None),
    "no-kid-one-key-of-the-alg": (key_set(A_RSA, A_EC), mint(header=NO_KID), (), None),
    "no-kid-and-the-key-has-none": (key_set(changed(A_RSA.public(), NO_KID)), mint(header=NO_KID), (), None),
    "kid-but-the-key-has-none": (key_set(changed(A_RSA.public(), NO_KID)), mint(), (), None),
    "kid-but-the-key-has-none-beside-one-of-another-type": (
        key_set(changed(A_RSA.public(), NO_KID), A_EC),
        mint(header={"kid": "x"}),
        (),
        None,
    ),
    "kid-but-neither-key-has-one": (key_set(NAMELESS_RSA, NAMELESS_OTHER), mint(header={"kid": "x"}), (), None),
    "kid-but-neither-key-has-one-and-none-signed": (
        key_set(NAMELESS_RSA, NAMELESS_OTHER),
        mint(signer("RS256", "s")),
        (),
        Reason.KEY_NOT_FOUND,
    ),
    "kid-unknown-and-one-key-has-another": (
        key_set(NAMELESS_RSA, signer("RS256", "r")),
        mint(header={"kid": "x"}),
        (),
        Reason.KEY_NOT_FOUND,
    ),
    "kid-of-a-rejected-key-beside-one-without": (
        key_set(NAMELESS_RSA, changed(A_RSA.public(), {"use": "enc"})),
        mint(),
        (),
        Reason.KEY_UNUSABLE,
    ),
    "no-kid-two-keys": (key_set(A_RSA, signer("RS256", "r")), mint(header=NO_KID), (), None),
    "no-kid-two-keys-and-the-second-signed": (
        key_set(signer("RS256", "r"), A_RSA),
        mint(header=NO_KID),
        (),
        None,
    ),
    "no-kid-two-keys-and-none-signed": (
        key_set(signer("RS256", "r"), signer("RS256", "s")),
        mint(header=NO_KID),
        (),
        Reason.SIGNATURE_INVALID,
    ),
    "no-kid-four-keys": (key_set(*THREE_RSA, A_RSA), NAMELESS, (), None),
    "no-kid-five-keys": (key_set(*THREE_RSA, A_RSA, signer("RS256", "t")), NAMELESS, (), Reason.KEY_AMBIGUOUS),
    "no-kid-five-keys-of-two-types": (key_set(*THREE_RSA, A_RSA, A_EC), NAMELESS, (), None),
    "no-kid-five-keys-of-which-one-twice": (
        key_set(*THREE_RSA, A_RSA, with_kid(A_RSA, "again")),
        NAMELESS,
        (),
        None,
    ),
    "no-kid-one-key-under-two-ids": (key_set(A_RSA, with_kid(A_RSA, "again")), mint(header=NO_KID), (), None),
    "empty-kid": (key_set(A_RSA, A_EC), mint(header={"kid": ""}), (), None),
    "empty-kid-of-a-key": (key_set(changed(A_RSA.public(), {"kid": ""}), A_EC), mint(header={"kid": ""}), (), None),
    "null-kid-of-a-key": (key_set(changed(A_RSA.public(), {"kid": None}), A_EC), NAMELESS, (), None),
    "kid-of-a-key-that-is-a-number": (
        key_set(changed(A_RSA.public(), {"kid": 7})),
        mint(header={"kid": "7"}),
        (),
        Reason.KEY_UNUSABLE,
    ),
    "no-kid-no-key": (key_set(A_EC), mint(header=NO_KID), (), Reason.KEY_NOT_FOUND),
    "no-kid-unfit-key": (key_set(A_EC, {"kty": "RSA"}), mint(header=NO_KID), (), Reason.KEY_UNUSABLE),
    "no-kid-one-unfit": (key_set(A_RSA, {"kty": "RSA"}), mint(header=NO_KID), (), None),
    "no-kid-unfit-key-of-the-alg": (key_set(changed(A_RSA.public(), {"e": "AQ"})), NAMELESS, (), Reason.KEY_UNUSABLE),
    "no-kid-unfit-key-of-another-alg": (
        key_set(A_EC, changed(A_RSA.public(), {"e": "AQ", "alg": "PS256"})),
        NAMELESS,
        (),
        Reason.KEY_NOT_FOUND,
    ),
    "no-kid-unfit-key-that-leaves-the-alg-open": (
        key_set(changed(PLAIN_RSA, {"e": "AQ"})),
        NAMELESS,
        (),
        Reason.KEY_UNUSABLE,
    ),
    "no-kid-unfit-key-that-would-serve-the-alg": (
        key_set(changed(PLAIN_RSA, {"e": "AQ"})),
        mint(header={**NO_KID, "alg": "PS256"}),
        ("RS256", "PS256"),
        Reason.KEY_UNUSABLE,
    ),
    "no-kid-unfit-key-that-would-not-serve-the-alg": (
        key_set(changed(PLAIN_RSA, {"e": "AQ"})),
        mint(header={**NO_KID, "alg": "PS256"}),
        DEFAULT_ALGORITHMS,
        Reason.KEY_NOT_FOUND,
    ),
    "no-kid-unfit-key-of-the-curve": (
        key_set(changed(PLAIN_EC, {"y": ABSENT})),
        mint(A_EC, header=NO_KID),
        (),
        Reason.KEY_UNUSABLE,
    ),
    "no-kid-unfit-key-of-another-curve": (
        key_set(changed(PLAIN_EC, {"crv": "P-999"})),
        mint(A_EC, header=NO_KID),
        (),
        Reason.KEY_NOT_FOUND,
    ),
    "no-kid-key-for-encryption": (  # a set of Keycloak's always has one
        key_set(A_EC, changed(A_RSA.public(), {"use": "enc", "alg": "RSA-OAEP"})),
        NAMELESS,
        (),
        Reason.KEY_NOT_FOUND,
    ),
    "no-kid-key-for-encryption-that-names-this-alg": (
        key_set(changed(A_RSA.public(), {"use": "enc"})),
        NAMELESS,
        (),
        Reason.KEY_NOT_FOUND,
    ),
    "no-kid-key-for-encryption-by-its-alg-alone": (
        key_set(changed(A_RSA.public(), {"alg": "RSA-OAEP"})),
        NAMELESS,
        (),
        Reason.KEY_NOT_FOUND,
    ),
    "no-kid-key-for-wrapping": (
        key_set(changed(PLAIN_RSA, {"key_ops": ["wrapKey"]})),
        NAMELESS,
        (),
        Reason.KEY_NOT_FOUND,
    ),
    "no-kid-key-without-type": (key_set(changed(PLAIN_RSA, {"kty": ABSENT})), NAMELESS, (), Reason.KEY_NOT_FOUND),
    "no-kid-and-no-key-at-all": (key_set("string", None, [1]), NAMELESS, (), Reason.KEY_NOT_FOUND),
    "no-kid-published-private-key": (
        key_set(json.loads(A_RSA.jwk.export_private())),
        NAMELESS,
        (),
        Reason.KEY_UNUSABLE,
    ),
    "twice-with-alg-and-without": (key_set(A_RSA, PLAIN_RSA), mint(), (), None),
    "twice-without-alg-and-with": (key_set(PLAIN_RSA, A_RSA), mint(), (), None),
    "twice-with-alg-and-without-by-no-kid": (key_set(A_RSA, PLAIN_RSA), NAMELESS, (), None),
    "twice-and-the-one-without-alg-opens-no-other": (
        key_set(A_RSA, PLAIN_RSA),
        mint(header={"alg": "PS256"}),
        ("PS256",),
        Reason.KEY_UNUSABLE,
    ),
    "twice-with-alg-and-without-under-two-ids": (
        key_set(A_RSA, changed(PLAIN_RSA, {"kid": "again"})),
        NAMELESS,
        (),
        None,
    ),
    "rsa-without-alg-serves-rs256": (key_set(PLAIN_RSA), mint(), DEFAULT_ALGORITHMS, None),
    "rsa-without-alg-serves-the-only-one": (
        key_set(changed(signer("PS512", "p").public(), {"alg": ABSENT})),
        mint(signer("PS512", "p")),
        ("PS512", "ES256"),
        None,
    ),
    "rsa-without-alg-serves-no-other": (
        key_set(PLAIN_RSA),
        mint(SigningKey("a-rsa", "PS256", A_RSA.jwk)),
        DEFAULT_ALGORITHMS,
        Reason.KEY_UNUSABLE,
    ),
    "rsa-without-alg-serves-no-other-without-kid": (
        key_set(PLAIN_RSA),
        mint(SigningKey("a-rsa", "PS256", A_RSA.jwk), header=NO_KID),
        DEFAULT_ALGORITHMS,
        Reason.KEY_UNUSABLE,
    ),
    "rsa-without-alg-serves-each-that-is-written": (
        key_set(PLAIN_RSA),
        mint(SigningKey("a-rsa", "PS256", A_RSA.jwk)),
        ("RS256", "PS256"),
        None,
    ),
    "ec-without-alg": (key_set(PLAIN_EC), mint(A_EC), (), None),
    "ec-without-alg-of-another-curve": (
        key_set(PLAIN_EC),
        mint(A_EC, header={"alg": "ES384"}),
        (),
        Reason.KEY_UNUSABLE,
    ),
    "eddsa-key-is-no-ed25519-key": (
        key_set(signer("EdDSA", "o")),
        mint(signer("EdDSA", "o"), header={"alg": "Ed25519"}),
        (),
        Reason.KEY_UNUSABLE,
    ),
    "hmac-by-the-public-key": (key_set(A_RSA), mint(header={"alg": "HS256"}), (), Reason.KEY_UNUSABLE),
    "alg-not-allowed-though-the-key-has-it": (key_set(A_RSA), mint(), ("ES256",), Reason.ALG_NOT_ALLOWED),
    "alg-in-lower-case": (key_set(A_RSA), mint(header={"alg": "rs256"}), (), Reason.ALG_NOT_ALLOWED),
    "alg-none": (key_set(A_RSA), mint(header={"alg": "none"}), ("none",), Reason.ALG_NOT_ALLOWED),
    "alg-that-nobody-knows": (
        key_set(PLAIN_RSA),
        mint(header={"alg": "XS1"}),
        ("XS1", "RS256"),
        Reason.ALG_NOT_ALLOWED,
    ),
    "algorithms-with-an-unknown-one": (key_set(PLAIN_RSA), mint(), ("XS1", "RS256"), None),
    "no-algorithms": (key_set(A_RSA), mint(), ("",), Reason.ALG_NOT_ALLOWED),
}


@pytest.mark.parametrize(("keys", "token", "algorithms", "expected"), CHOICES.values(), ids=CHOICES)
def test_choice(keys: KeySet, token: str, algorithms: tuple[str, ...], expected: Reason | None) -> None:
    """The key that is named is meant; if nothing names one, at most four that fit are tried."""
    assert reason(keys, token, *algorithms) == expected


ED448_NAMES: dict[str, tuple[object, str, tuple[str, ...], Reason | None]] = {
    "eddsa-as-eddsa": ("EdDSA", "EdDSA", ("EdDSA", "Ed448"), None),
    "eddsa-as-ed448": ("EdDSA", "Ed448", ("EdDSA", "Ed448"), None),
    "unnamed-as-eddsa": (ABSENT, "EdDSA", ("EdDSA", "Ed448"), None),
    "unnamed-as-ed448": (ABSENT, "Ed448", ("Ed448",), None),
    "ed448-as-eddsa": ("Ed448", "EdDSA", ("EdDSA", "Ed448"), Reason.KEY_UNUSABLE),
    "ed448-not-allowed": ("EdDSA", "EdDSA", ("EdDSA",), Reason.KEY_UNUSABLE),
    "eddsa-not-allowed": ("EdDSA", "EdDSA", ("Ed448",), Reason.ALG_NOT_ALLOWED),
}


@pytest.mark.parametrize(("alg", "serves"), [("EdDSA", True), ("Ed25519", True), ("Ed448", False), ("ES256", False)])
def test_edwards_key_without_alg_serves_both_of_its_names(alg: str, serves: bool) -> None:  # noqa: FBT001
    """RFC 9864 gave EdDSA over Ed25519 a second name; a key that names neither serves both."""
    (key,) = key_set(PLAIN_ED).keys
    assert key.supports(alg, frozenset(ALGORITHMS)) is serves


def test_secret_without_alg_serves_what_it_is_long_enough_for() -> None:
    """A secret that names no algorithm serves each that the operator wrote down, and none that it is too short for."""
    (long,) = key_set(SECRET, local=True).keys
    (short,) = key_set({**SECRET, "k": base64url.encode(bytes(range(32))).decode()}, local=True).keys
    several, only = frozenset({"HS256", "HS512"}), frozenset({"HS512"})
    assert long.supports("HS256", several)
    assert long.supports("HS512", several)
    assert long.supports("HS512", only)
    assert not short.supports("HS512", only)
    assert not short.supports("HS512", several)
    assert short.supports("HS256", several)


@pytest.mark.parametrize(("said", "token_alg", "algorithms", "expected"), ED448_NAMES.values(), ids=ED448_NAMES)
def test_the_names_of_ed448(said: object, token_alg: str, algorithms: tuple[str, ...], expected: Reason | None) -> None:
    """RFC 8037 has one name for both curves: EdDSA on Ed448 serves if Ed448 is allowed, under each of its names."""
    key = signer("Ed448", "k")
    keys = key_set(changed(key.public(), {"alg": said}))
    assert reason(keys, mint(key, header={"alg": token_alg}), *algorithms) is expected


# Blocking


@pytest.mark.parametrize("name", ["a-rsa", A_RSA.jwk.thumbprint()], ids=["by-kid", "by-thumbprint"])
def test_blocked_key(name: str) -> None:
    """A blocked key is in the set and cannot serve, with a token's kid and without; its neighbours serve."""
    keys = key_set(A_RSA, A_EC).block([name, "nobody"])
    assert reason(keys, mint()) is Reason.KEY_UNUSABLE
    assert reason(keys, mint(header=NO_KID)) is Reason.KEY_UNUSABLE
    assert reason(keys, mint(A_EC)) is None
    assert keys.rejected == [("a-rsa", "blocked by configuration")]


def test_blocked_thumbprint_hits_every_id() -> None:
    """A key that comes back under another id is blocked all the same."""
    keys = key_set(A_RSA, with_kid(A_RSA, "again")).block([A_RSA.jwk.thumbprint()])
    assert (keys.keys, len(keys.rejected)) == ((), 2)


def test_blocked_key_id_hits_the_key_under_every_id() -> None:
    """A lost key that is published under another id too is lost under that one: its thief chooses the id."""
    keys = key_set(A_RSA, with_kid(A_RSA, "again"), A_EC).block(["a-rsa"])
    assert kids(keys) == ["a-ec"]
    assert reason(keys, mint(header={"kid": "again"})) is Reason.KEY_UNUSABLE


SET_ASIDE = {
    "for-encryption": {"use": "enc"},
    "by-a-wrong-alg": {"alg": "unknown"},
    "by-a-number": {"kid": 7},
}


@pytest.mark.parametrize("changes", SET_ASIDE.values(), ids=SET_ASIDE)
def test_blocked_key_id_of_a_key_that_is_set_aside_hits_its_copy(changes: dict[str, object]) -> None:
    """The lost key is lost as well where it may not serve under the name by which it is blocked."""
    lost = changed(A_RSA.public(), {"kid": "lost", **changes})
    keys = key_set(lost, A_RSA, A_EC).block([str(lost["kid"])])
    assert kids(keys) == ["a-ec"]
    assert reason(keys, mint()) is Reason.KEY_UNUSABLE


def test_blocked_key_id_that_only_tokens_have() -> None:
    """Where keys have no names and tokens have, a blocked one means no key, and is not searched for."""
    keys = key_set(changed(A_RSA.public(), {"kid": ABSENT})).block(["a-rsa"])
    assert reason(keys, mint()) is Reason.KEY_UNUSABLE
    assert reason(keys, mint(header={"kid": "next"})) is None
    assert keys.block(["b"]).unmatched_blocks == ("a-rsa", "b")


PUBLISHED = {
    "rsa": (A_RSA, {}),
    "rsa-for-encryption": (A_RSA, {"use": "enc", "alg": "RSA-OAEP"}),
    "ec": (A_EC, {"kid": ABSENT}),
    "okp": (signer("EdDSA", "a-ed"), {"key_ops": ["sign"]}),
    "akp": (signer("ML-DSA-44", "a-ml"), {"kid": "a-ml"}),
}


@pytest.mark.parametrize(("key", "changes"), PUBLISHED.values(), ids=PUBLISHED)
def test_the_public_copy_of_a_published_private_key_verifies_nothing(
    key: SigningKey, changes: dict[str, object]
) -> None:
    """C11: anyone can sign by it, whatever its private copy says it is for."""
    private = changed({**json.loads(key.jwk.export_private()), "kid": "private", "alg": key.algorithm}, changes)
    keys = key_set(key, private, B_EC)
    assert kids(keys) == ["b-ec"]
    assert why(keys, key.kid) == LEAKED_PRIVATE_KEY
    assert reason(keys, mint(key)) is Reason.KEY_UNUSABLE


def test_a_published_private_key_that_makes_no_public_one_exposes_none() -> None:
    """Nothing can be compared with it."""
    keys = key_set(A_EC, changed(A_EC.public(), {"kid": "odd", "x": "AA", "d": "AA"}))
    assert kids(keys) == ["a-ec"]


def test_nothing_to_block() -> None:
    """Where no key is named the set is the same, and has the name."""
    keys = key_set(A_RSA)
    assert keys.block([]) is keys
    assert keys.block(["a-ec"]) == KeySet(keys.keys, unmatched_blocks=("a-ec",))


def test_blocked_key_of_another_alg_may_be_replaced() -> None:
    """A token without a key id means none of the blocked keys that are not for its algorithm."""
    keys = key_set(A_RSA, A_EC).block(["a-ec"])
    assert reason(keys, mint(header={**NO_KID, "alg": "PS256"})) is Reason.KEY_NOT_FOUND
    assert reason(keys, mint(A_EC, header=NO_KID)) is Reason.KEY_UNUSABLE


def test_names_that_block_nothing() -> None:
    """A name is matched by a key id, also of an unfit key, or by the thumbprint of a usable one."""
    keys = key_set(A_RSA, A_EC, {"kid": "odd"}, B_EC)
    assert keys.block(["a-rsa", A_EC.jwk.thumbprint(), "odd", "ahead"]).unmatched_blocks == ("ahead",)
    assert keys.unmatched_blocks == ()


def test_what_was_set_aside_stays_so() -> None:
    """Blocking one key forgets no other that was rejected before."""
    keys = key_set(A_RSA, {"kid": "odd"}).block(["a-rsa"])
    assert reason(keys, mint(header={"kid": "odd"})) is Reason.KEY_UNUSABLE


# The arithmetic


def forged(token: str, signature: bytes) -> str:
    """Put another signature under *token*."""
    return f"{token.rpartition('.')[0]}.{base64url.encode(signature).decode()}"


def halves(r: int, s: int) -> bytes:
    """Write an ES256 signature."""
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


ES256_TOKEN = mint(A_EC)
ORDER = ALGORITHMS["ES256"].order or 0
GENUINE = parse_token(ES256_TOKEN).signature
R, S = int.from_bytes(GENUINE[:32], "big"), int.from_bytes(GENUINE[32:], "big")
LENGTH, RANGE, WRONG = "octets, not", "r or s out of range", "does not verify"
# The library would refuse these too, today: the checks before it are proved by what they say.
FORGERIES: dict[str, tuple[str, str]] = {
    "one-bit": (forged(ES256_TOKEN, halves(R, S ^ 1)), WRONG),
    "zeros": (forged(ES256_TOKEN, halves(0, 0)), RANGE),  # CVE-2022-21449
    "r-zero": (forged(ES256_TOKEN, halves(0, S)), RANGE),
    "s-zero": (forged(ES256_TOKEN, halves(R, 0)), RANGE),
    "r-is-the-order": (forged(ES256_TOKEN, halves(ORDER, S)), RANGE),
    "s-is-the-order": (forged(ES256_TOKEN, halves(R, ORDER)), RANGE),
    "both-the-order": (forged(ES256_TOKEN, halves(ORDER, ORDER)), RANGE),
    "one-less-than-the-order": (forged(ES256_TOKEN, halves(ORDER - 1, ORDER - 1)), WRONG),
    "ones": (forged(ES256_TOKEN, halves(1, 1)), WRONG),
    "all-bits": (forged(ES256_TOKEN, b"\xff" * 64), RANGE),
    "one-octet-short": (forged(ES256_TOKEN, GENUINE[:-1]), LENGTH),
    "one-octet-long": (forged(ES256_TOKEN, GENUINE + b"\0"), LENGTH),
    "halves-each-padded": (forged(ES256_TOKEN, b"\0" + GENUINE[:32] + b"\0" + GENUINE[32:]), LENGTH),
    "der": (forged(ES256_TOKEN, bytes.fromhex("3006020101020101")), LENGTH),
    "another-key": (forged(ES256_TOKEN, parse_token(mint(B_EC)).signature), WRONG),
    "another-payload": (forged(mint(A_EC, sub="eve"), GENUINE), WRONG),
    "rsa-zeros": (forged(mint(), bytes(256)), WRONG),
    "rsa-all-bits": (forged(mint(), b"\xff" * 256), WRONG),
    "rsa-one-octet-short": (forged(mint(), parse_token(mint()).signature[:-1]), LENGTH),
    "rsa-leading-zero": (forged(mint(), b"\0" + parse_token(mint()).signature), LENGTH),
    "rsa-of-another-key": (forged(mint(), parse_token(mint(signer("RS256", "r"))).signature), WRONG),
    "rsa-of-another-hash": (mint(SigningKey("a-rsa", "RS512", A_RSA.jwk), header={"alg": "RS256"}), WRONG),
    "rsa-of-another-padding": (mint(SigningKey("a-rsa", "PS256", A_RSA.jwk), header={"alg": "RS256"}), WRONG),
}


@pytest.mark.parametrize(("token", "detail"), FORGERIES.values(), ids=FORGERIES)
def test_forgery(token: str, detail: str) -> None:
    """A signature of the wrong length, out of range or simply wrong is refused, and nothing else is raised."""
    with pytest.raises(Rejected, match=detail) as caught:
        key_set(A_RSA, A_EC).verify(parse_token(token), ALGORITHMS)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - set(HMAC)))
def test_every_algorithm_refuses_another_payload(name: str) -> None:
    """Under every algorithm the signature of one payload does not serve for another."""
    key = signer(name, "k")
    mine, theirs = mint(key, sub="ann").split("."), mint(key, sub="eve").split(".")
    assert reason(key_set(key), ".".join([mine[0], theirs[1], mine[2]])) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("name", HMAC)
def test_hmac_refuses_what_is_wrong(name: str) -> None:
    """A MAC of the right length that is wrong, and one of the wrong length, are refused."""
    keys = key_set(HMAC[name], local=True)
    octets = ALGORITHMS[name].signature_bytes or 0
    for signature in (bytes(octets), bytes(octets - 1), bytes(octets + 1)):
        assert reason(keys, unsigned({"alg": name, "kid": "secret"}, signature), name) is Reason.SIGNATURE_INVALID


def test_a_signature_is_computed_by_default() -> None:
    """Without a cache every signature is computed, and a wrong one raises: there is nothing to forget to look at."""
    (key,) = key_set(A_RSA).keys
    assert verify_by_keys("a", (key,), parse_token(mint())) == (key, Verified.COMPUTED)
    with pytest.raises(Rejected) as caught:
        verify_signature(key, parse_token(mint(signer("RS256", "a-rsa"))))
    assert caught.value.reason is Reason.SIGNATURE_INVALID


def test_a_cache_takes_the_place_of_the_arithmetic() -> None:
    """It is asked with issuer, key and token, and what it says of the signature goes on."""
    asked: list[tuple[str, str | None, str]] = []

    def look_up(issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
        asked.extend((issuer, key.kid, token.alg) for key in keys)
        return keys[0], Verified.CACHED

    candidates = Candidates(key_set(A_RSA).keys)
    assert verify(parse_token(mint()), candidates, issuer="a", by=look_up).verified is Verified.CACHED
    assert asked == [("a", "a-rsa", "RS256")]


def test_algorithm_is_compared_character_by_character() -> None:
    """No other spelling of an allowed algorithm is that algorithm."""
    for alg in ("rs256", "RS256 ", "RS2５6", "RS25"):
        with pytest.raises(Rejected) as caught:
            check_algorithm(parse_token(unsigned({"alg": alg})), frozenset({"RS256", alg}))
        assert caught.value.reason is Reason.ALG_NOT_ALLOWED


def test_secrets_have_no_repr() -> None:
    """What a log would show of keys and payloads has neither secret nor claim in it."""
    keys = key_set(HMAC["HS256"], local=True)
    signed = key_set(A_RSA).verify(parse_token(mint()), ["RS256"])
    assert HMAC["HS256"]["k"] not in repr(keys)
    assert "bob" not in repr(signed)
