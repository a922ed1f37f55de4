"""Proves authz.core.certificate: by which hashes a token can name a key, and what a certificate says against one."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1, sha256

import pytest

from authz.core import base64url
from authz.core.certificate import (
    X5C_UNREADABLE,
    X5T_MISMATCH,
    CertificateHashes,
    CertificateMismatch,
    read_certificate,
)
from authz.core.keys import KeySet
from authz.core.reasons import Reason, Rejected
from authz.core.token import parse_token
from tests.fixtures import A_EC, A_RSA, ABSENT, changed, jwks, key_set, mint, signer
from tests.unit.core.test_keys import certificate

DER = certificate(A_RSA)
PEM: bytes = A_RSA.jwk.export_to_pem()
CHAIN = [b64encode(DER).decode()]
SHA1 = base64url.encode(sha1(DER, usedforsecurity=False).digest()).decode()
SHA256 = base64url.encode(sha256(DER).digest()).decode()
BOTH = CertificateHashes(frozenset({SHA1}), frozenset({SHA256}))
Notes = tuple[str, ...]
MEMBERS: dict[str, tuple[dict[str, object], CertificateHashes, Notes]] = {
    "nothing": ({}, CertificateHashes(), ()),
    "x5c": ({"x5c": CHAIN}, BOTH, ()),
    "x5c-and-its-hashes": ({"x5c": CHAIN, "x5t": SHA1, "x5t#S256": SHA256}, BOTH, ()),
    "x5t-alone": ({"x5t": "abc"}, CertificateHashes(frozenset({"abc"})), ()),
    "x5t-padded": ({"x5t": "+/8="}, CertificateHashes(frozenset({"-_8"})), ()),
    "x5t#S256-alone": ({"x5t#S256": "abc"}, CertificateHashes(sha256=frozenset({"abc"})), ()),
    "x5t-of-no-text": ({"x5t": 1, "x5t#S256": ["x"]}, CertificateHashes(), ()),
    "x5t-too-long": ({"x5t": "x" * 129}, CertificateHashes(), ()),
    "x5t-as-long-as-may-be": ({"x5t": "x" * 128}, CertificateHashes(frozenset({"x" * 128})), ()),
    "x5t-of-another": ({"x5c": CHAIN, "x5t": "abc"}, BOTH | CertificateHashes(frozenset({"abc"})), (X5T_MISMATCH,)),
    "x5t#S256-of-another": (
        {"x5c": CHAIN, "x5t#S256": "abc"},
        BOTH | CertificateHashes(sha256=frozenset({"abc"})),
        (X5T_MISMATCH,),
    ),
    "empty-chain": ({"x5c": []}, CertificateHashes(), (X5C_UNREADABLE,)),
    "unreadable-and-a-hash": (
        {"x5c": ["AAAA"], "x5t": "abc"},
        CertificateHashes(frozenset({"abc"})),
        (X5C_UNREADABLE,),
    ),
}


@pytest.mark.parametrize(("members", "hashes", "notes"), MEMBERS.values(), ids=MEMBERS)
def test_hashes(members: dict[str, object], hashes: CertificateHashes, notes: Notes) -> None:
    """A key is named by what it says, and by the hashes of a certificate that holds it."""
    assert read_certificate(members, PEM, allow_mismatch=False) == (hashes, notes)
    assert bool(hashes) is bool(list(hashes.names()))


def test_another_key() -> None:
    """A certificate of another key speaks against this one, unless the operator says otherwise; it never names it."""
    for other in (A_EC.jwk.export_to_pem(), None):
        with pytest.raises(CertificateMismatch):
            read_certificate({"x5c": CHAIN}, other, allow_mismatch=False)
        hashes, _ = read_certificate({"x5c": CHAIN}, other, allow_mismatch=True)
        assert hashes == CertificateHashes()


def reason(keys: KeySet, token: str) -> Reason | None:
    """Verify *token*, and return why it was refused, or None."""
    try:
        keys.verify(parse_token(token), ["RS256"])
    except Rejected as rejected:
        return rejected.reason
    return None


OTHERS = [changed(signer("RS256", kid).public(), {"x5t": f"x5t-of-{kid}"}) for kid in "rstuv"]
MINE = changed(A_RSA.public(), {"x5c": CHAIN})
NO_KID = {"kid": ABSENT}


@pytest.mark.parametrize("header", [{"x5t": SHA1}, {"x5t#S256": SHA256}, {"x5t": "x", "x5t#S256": SHA256}])
def test_a_certificate_chooses_among_many_keys(header: dict[str, object]) -> None:
    """Of more keys than are tried, the one is meant that the token names by its certificate."""
    keys = key_set(*OTHERS, MINE)
    assert reason(keys, mint(header={**NO_KID, **header})) is None
    assert reason(keys, mint(header=NO_KID)) is Reason.KEY_AMBIGUOUS
    assert reason(key_set(*OTHERS), mint(header={**NO_KID, **header})) is Reason.KEY_AMBIGUOUS


def test_a_certificate_chooses_the_wrong_key() -> None:
    """What a token names is what it is verified under: no other is tried then."""
    token = mint(header={**NO_KID, "x5t": "x5t-of-r"})
    assert reason(key_set(OTHERS[0], MINE), token) is Reason.SIGNATURE_INVALID


def test_a_certificate_of_a_key_for_another_alg_chooses_nothing() -> None:
    """The choice is among the keys that fit."""
    pss = changed(signer("PS256", "p").public(), {"x5t": "mine"})
    assert reason(key_set(pss, A_RSA), mint(header={**NO_KID, "x5t": "mine"})) is None


def test_a_certificate_that_no_key_has_is_looked_for() -> None:
    """If each key has a certificate and none is the token's, its key is not there; otherwise no one can tell."""
    stranger = mint(signer("RS256", "w"), header={**NO_KID, "x5t": "new"})
    assert reason(key_set(*OTHERS[:2]), stranger) is Reason.KEY_NOT_FOUND
    assert reason(key_set(*OTHERS[:2], A_RSA), stranger) is Reason.SIGNATURE_INVALID
    assert reason(key_set(*OTHERS[:2], MINE), mint(header={**NO_KID, "x5t": "new"})) is None


def test_a_certificate_chooses_among_keys_of_one_name() -> None:
    """A kid that several keys have is narrowed as well, and never left: the name counts first."""
    twins = [changed(jwk, {"kid": "k"}) for jwk in (*OTHERS, MINE)]
    assert reason(key_set(*twins), mint(header={"kid": "k", "x5t": SHA1})) is None
    assert reason(key_set(*twins), mint(header={"kid": "k"})) is Reason.KEY_AMBIGUOUS
    assert reason(key_set(*twins[:2], MINE), mint(header={"kid": "k", "x5t": SHA1})) is Reason.SIGNATURE_INVALID


def test_copies_of_a_key_have_the_names_of_both() -> None:
    """A key that stands twice in a set is one, with every name and note of either."""
    copies = [changed(A_RSA.public(), {"x5t": "one", "use": "SIG"}), changed(A_RSA.public(), {"x5t": "two", "d": None})]
    (key,) = key_set(*copies).keys
    assert key.certificates == CertificateHashes(frozenset({"one", "two"}))
    assert key.notes == ("use SIG read as sig", "null or empty, treated as absent: d")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ('{"kty":"RSA","n":"AQ"}', 'the document has no array `keys`: it is one JWK, and a set is {"keys": [...]}'),
        (
            '{"issuer":"x","jwks_uri":"y"}',
            "the document has no array `keys`: it is a discovery document, whose URL belongs in discovery_url",
        ),
        ('{"error":"x"}', "the document has no array `keys`"),
    ],
)
def test_another_document_than_a_set(document: str, said: str) -> None:
    """The operator learns what the document is."""
    with pytest.raises(ValueError, match="no array") as caught:
        KeySet.from_json(document)
    assert str(caught.value) == said


def test_a_token_costs_four_signatures_at_most() -> None:
    """However many keys a set has, what is looked at for one token is bounded, and what is tried is four."""
    many = [changed(signer("RS256", f"many-{number}").public(), {"kid": f"{number}"}) for number in range(7)]
    keys = KeySet.from_json(jwks(*many, A_EC))
    assert len(keys._limited) == 6
    four = key_set(*many[:4]).select(parse_token(mint(header=NO_KID)), frozenset({"RS256"}))
    assert [key.kid for key in four.keys] == ["0", "1", "2", "3"]
