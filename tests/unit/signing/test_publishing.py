"""Proves that only public members are published, whatever kinds of keys there are, and whatever their files say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from authz.core.keys import KeySet
from authz.signing.checked import CheckedSigner
from authz.signing.keyring import make_view
from authz.signing.local import ALGORITHMS, LocalSigner
from authz.signing.port import Signer
from authz.signing.public import PublicKey
from authz.signing.rotation import Ring, RingKey
from tests.unit.config.sample import configure

CONFIG: Final = configure(
    more="identity: {token: {issuer: https://gateway.test, audience: [orders]}}\n"
    "signing: {publish: {url: https://gateway.test/.well-known/jwks.json, discovery: true}}\n"
)
# RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2, RFC 9964: what each type of key has for everyone.
COMMON: Final = {"kty", "kid", "alg", "use"}
PUBLIC: Final = {"EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}, "RSA": {"n", "e"}, "AKP": {"pub"}}
CANARY: Final = "Y2FuYXJ5LWluLWEtZmlsZQ"


class _Device:
    """A private key elsewhere, which nothing here asks."""

    def sign(self, message: bytes) -> bytes:
        raise AssertionError(message)

    def close(self) -> None:
        pass


def remote(key: Any, algorithm: str | None = None) -> Signer:  # noqa: ANN401 - keys of several types
    """Return the signer of a key in a device or a service."""
    return CheckedSigner(_Device(), PublicKey.of(key.public_key(), algorithm))


LOCAL: Final = {name: LocalSigner.generate(name) for name in ALGORITHMS}
RSA: Final = rsa.generate_private_key(65_537, 2048)
REMOTE: Final[Mapping[str, tuple[Any, str | None]]] = {
    **{f"EC {curve.name}": (ec.generate_private_key(curve), None) for curve in (ec.SECP256R1(), ec.SECP384R1())},
    **{f"EC {curve.name}": (ec.generate_private_key(curve), None) for curve in (ec.SECP521R1(), ec.SECP256K1())},
    **{name: (RSA, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    "EdDSA": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    "Ed25519": (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
    "ML-DSA-44": (mldsa.MLDSA44PrivateKey.generate(), None),
    "ML-DSA-65": (mldsa.MLDSA65PrivateKey.generate(), None),
    "ML-DSA-87": (mldsa.MLDSA87PrivateKey.generate(), None),
}
# Members that a file may have beside those of its key: private ones of other types, and any other.
EXTRA: Final = st.dictionaries(
    st.sampled_from(["k", "oth", "secret", "x5c", "key_ops", "ext", "password", "priv_", "D"]), st.just(CANARY)
)


@st.composite
def signers(draw: st.DrawFn) -> tuple[Signer, set[str]]:
    """Draw a key of any kind, and what of it must not be seen."""
    if draw(st.booleans()):
        return remote(*REMOTE[draw(st.sampled_from(sorted(REMOTE)))]), set()
    generated = LOCAL[draw(st.sampled_from(ALGORITHMS))]
    private = generated.export_private()
    secrets = {str(value) for name, value in private.items() if name not in generated.public_jwk()}
    file = {**private, **draw(EXTRA)}
    return LocalSigner.read(json.dumps(file).encode(), kid=draw(st.sampled_from([None, "own"]))), secrets


@given(st.lists(signers(), max_size=6), st.integers(0, 5))
def test_only_public_members_are_published(drawn: list[tuple[Signer, set[str]]], which: int) -> None:
    """In both documents, the view and what it says of itself; what is published verifies, and nothing is missing."""
    keys = {signer.kid: signer for signer, _ in drawn}
    ring = Ring(tuple(RingKey(kid, 1.0, started=2.0 if place == which else None) for place, kid in enumerate(keys)))
    view = make_view(CONFIG, ring, keys, {kid: each.public_jwk() for kid, each in keys.items()}, None)
    said = view.key_set + (view.discovery or "") + repr(view) + "".join(each.body for each in view.published)
    assert CANARY not in said
    assert not [secret for _, secrets in drawn for secret in secrets if secret in said]
    published = json.loads(view.key_set)["keys"] if view.key_set else []
    assert {jwk["kid"] for jwk in published} == keys.keys()
    for jwk in published:
        assert jwk.keys() == COMMON | PUBLIC[jwk["kty"]]
    if published:
        assert list(KeySet.from_json(view.key_set, max_keys=16).rejected) == []


def test_a_pem_of_each_kind_is_published_as_its_jwk() -> None:
    """The form of the file makes no difference."""
    for signer in LOCAL.values():
        pem = signer._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert LocalSigner.read(pem, signer.algorithm).public_jwk() == signer.public_jwk()
