"""Proves authz.signing.local: every algorithm verifies, and nothing that leaves the signer has a private member."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given
from hypothesis import strategies as st

from authz.core import base64url
from authz.core.keys import KeySet
from authz.core.token import parse_token
from authz.demo.signing import SigningKey
from authz.signing.local import ALGORITHMS, LocalSigner
from authz.signing.port import SigningUnavailable
from authz.signing.public import ecdsa_from_der, p256_from_der

SIGNERS: Final = {name: LocalSigner.generate(name) for name in ALGORITHMS}
PRIVATE: Final = {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}


def compact(signer: LocalSigner) -> str:
    """Sign a token."""
    head = {"alg": signer.algorithm, "kid": signer.kid}
    parts = [base64url.encode(json.dumps(members).encode()) for members in (head, {"sub": "bob"})]
    return b".".join([*parts, base64url.encode(signer.sign(b".".join(parts)))]).decode()


def pem(key: Any) -> bytes:  # noqa: ANN401 - keys of several types
    """Write a private key as PEM."""
    written: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return written


@pytest.mark.parametrize("signer", SIGNERS.values(), ids=SIGNERS)
def test_what_it_signs_is_verified_by_what_it_publishes(signer: LocalSigner) -> None:
    """Our own verifier accepts each signature under the public JWK, and under no other key's."""
    keys = KeySet.from_json(json.dumps({"keys": [signer.public_jwk()]}))
    assert list(keys.rejected) == []
    token = parse_token(compact(signer))
    assert json.loads(keys.verify(token, [signer.algorithm]).payload) == {"sub": "bob"}


@pytest.mark.parametrize("signer", SIGNERS.values(), ids=SIGNERS)
def test_only_public_members_are_published(signer: LocalSigner) -> None:
    """No private member, and no value of one, is in the public JWK, in its repr, or in that of its parts."""
    private = signer.export_private()
    secrets = {str(private[name]) for name in PRIVATE & private.keys()}
    assert secrets
    shown = json.dumps(signer.public_jwk()) + repr(signer) + str(signer) + repr([signer]) + f"{signer!r:>9}"
    assert not PRIVATE & signer.public_jwk().keys()
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_it_is_not_copied(copier: Any) -> None:  # noqa: ANN401 - functions of several types
    """A signer in a message for another process, or in a crash report, would take its key along."""
    with pytest.raises(TypeError):
        copier(SIGNERS["ES256"])


@pytest.mark.parametrize("signer", SIGNERS.values(), ids=SIGNERS)
def test_a_jwk_is_read_as_it_was_written(signer: LocalSigner) -> None:
    """The state file's keys are the same after a restart: kid, algorithm and public members."""
    again = LocalSigner.read(json.dumps(signer.export_private()).encode())
    assert again.public_jwk() == signer.public_jwk()


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"EdDSA"}))
def test_keys_of_another_library(algorithm: str) -> None:
    """A private JWK and a PEM of jwcrypto are read, and have the thumbprint that it computes (RFC 7638)."""
    key = SigningKey.create(algorithm)
    jwk = json.loads(key.jwk.export())
    jwk.pop("kid", None)
    signer = LocalSigner.read(json.dumps(jwk).encode(), algorithm)
    assert signer.kid == key.jwk.thumbprint()
    written = key.jwk.export_to_pem(private_key=True, password=None)
    assert LocalSigner.read(written, algorithm).kid == signer.kid


def test_names_of_the_operator_come_first() -> None:
    """The kid and algorithm of the configuration are in place of those of the JWK."""
    data = json.dumps({**SIGNERS["EdDSA"].export_private(), "kid": "own"}).encode()
    assert LocalSigner.read(data).kid == "own"
    renamed = LocalSigner.read(data, "Ed25519", kid="2026")
    assert (renamed.kid, renamed.algorithm) == ("2026", "Ed25519")


EC: Final = SIGNERS["ES256"].export_private()
RSA: Final = SIGNERS["RS256"].export_private()
UNUSABLE: Final[dict[str, tuple[bytes, str | None]]] = {
    "nothing": (b"", None),
    "no-pem": (b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n", None),
    "encrypted-for-another": (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nsecret\n-----END", None),
    "another-curve": (pem(ec.generate_private_key(ec.SECP384R1())), None),
    "Ed448": (pem(Ed448PrivateKey.generate()), None),
    "short-rsa": (pem(rsa.generate_private_key(65_537, 1024)), None),  # noqa: S505 - it is to be refused
    "another-algorithm": (pem(ec.generate_private_key(ec.SECP256R1())), "RS256"),
    "unknown-algorithm": (pem(ec.generate_private_key(ec.SECP256R1())), "secret"),
    "no-json": (b"{secret", None),
    "public-jwk": (json.dumps(SIGNERS["ES256"].public_jwk()).encode(), None),
    "no-text": (json.dumps({**EC, "d": 7}).encode(), None),
    "other-public-members": (json.dumps({**EC, "x": RSA["e"]}).encode(), None),
    "wrong-rsa": (json.dumps({**RSA, "p": RSA["q"]}).encode(), None),
    "symmetric": (b'{"kty":"oct","k":"c2VjcmV0"}', None),
    "ml-dsa-of-another-kind": (json.dumps({"kty": "AKP", "alg": "ML-DSA-44", "priv": "c2VjcmV0"}).encode(), None),
}


@pytest.mark.parametrize(("data", "algorithm"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_key_that_cannot_be_used_is_not_quoted(data: bytes, algorithm: str | None) -> None:
    """The error says what is wrong, has no part of the file, and no other error behind it that has."""
    with pytest.raises(ValueError, match=r"\w") as raised:
        LocalSigner.read(data, algorithm)
    said = str(raised.value)
    for secret in ("c2VjcmV0", str(EC["d"]), str(RSA["d"]), str(RSA["p"])):
        assert secret not in said
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_algorithms_that_are_not_generated() -> None:
    """An unknown algorithm is an error that names those that there are."""
    with pytest.raises(ValueError, match="ES256"):
        LocalSigner.generate("HS256")


class _Broken:
    def sign(self, *_: object) -> bytes:
        raise OSError("secret")


def test_a_signature_that_fails_is_not_explained_with_secrets() -> None:
    """What the library says is not repeated: only its kind is."""
    signer = LocalSigner.generate("Ed25519")
    object.__setattr__(signer, "_sign", _Broken().sign)
    with pytest.raises(SigningUnavailable, match=r"^cannot sign by Ed25519: OSError$") as raised:
        signer.sign(b"x")
    assert raised.value.__suppress_context__
    signer.close()


@given(st.integers(1, 2**256 - 1), st.integers(1, 2**256 - 1))
@example(1, 2**256 - 1)
@example(2**255, 2**255 - 1)
@example(127, 128)
def test_a_signature_is_read_from_der_as_the_library_reads_it(r: int, s: int) -> None:
    """Each number has 32 octets, however short it is, or whether DER has a zero before it."""
    der = encode_dss_signature(r, s)
    assert p256_from_der(der) == ecdsa_from_der(der, "ES256") == r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.mark.parametrize("numbers", [(1, 2**256), (2**256, 1), (2**264, 2**264)], ids=["long-s", "long-r", "both"])
def test_what_is_no_signature_over_p256_is_none(numbers: tuple[int, int]) -> None:
    """Numbers that are too long, and DER that is cut off or goes on, are refused: no wrong signature is sent."""
    good = encode_dss_signature(2**255, 2**200)
    for der in (encode_dss_signature(*numbers), b"", *(good[:end] for end in range(len(good))), good + b"\0"):
        with pytest.raises((ValueError, IndexError, OverflowError)):
            p256_from_der(der)
