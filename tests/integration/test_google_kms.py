"""Proves what signing with a key in Google Cloud KMS does: the real client, and a service with the real messages.

Google has no emulator: what the service answers is as its API reference says.
"""

from __future__ import annotations

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authz.signing.google_kms import GoogleKey, open_google_key
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey
from tests.fakes.google_kms import VERSION, FakeGoogle
from tests.fakes.kms import PrivateKey
from tests.fakes.waiting import HANG_SECONDS

P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65_537, 2048)
ED = Ed25519PrivateKey.generate()


def where(key: str = VERSION, *, algorithm: str | None = None, timeout: float = HANG_SECONDS) -> GoogleKey:
    """Say where a key is."""
    return GoogleKey(key=key, algorithm=algorithm, timeout=timeout)


@pytest.mark.parametrize(
    ("key", "named", "algorithm"),
    [
        (P256, "EC_SIGN_P256_SHA256", "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "EC_SIGN_P384_SHA384", "ES384"),
        (ec.generate_private_key(ec.SECP256K1()), "EC_SIGN_SECP256K1_SHA256", "ES256K"),
        (ED, "EC_SIGN_ED25519", "EdDSA"),
        (ED, "EC_SIGN_ED25519", "Ed25519"),
        (RSA, "RSA_SIGN_PKCS1_2048_SHA256", "RS256"),
        (RSA, "RSA_SIGN_PSS_2048_SHA256", "PS256"),
        (RSA, "RSA_SIGN_PSS_4096_SHA512", "PS512"),
    ],
)
def test_signatures(key: PrivateKey, named: str, algorithm: str) -> None:
    """Each is in the form of JWS, and the public key that was published verifies it."""
    with FakeGoogle(key, named) as google:
        signer = open_google_key(where(algorithm=algorithm if algorithm == "Ed25519" else None), connect=google.connect)
        public = PublicKey.of(key.public_key(), algorithm)
        assert public.verifies(b"header.payload", signer.sign(b"header.payload"))
        assert signer.public_jwk() == public.jwk(public.thumbprint)
        signer.close()


@pytest.mark.parametrize(
    ("named", "place", "text"),
    [
        ("EC_SIGN_P256_SHA256", where(algorithm="RS256"), "signs by ES256, and not by RS256"),
        ("RSA_SIGN_RAW_PKCS1_2048", where(), "is for RSA_SIGN_RAW_PKCS1_2048, which signs no JWTs"),
        ("EC_SIGN_P256_SHA256", where("projects/p/other"), "projects/p/other not found."),
    ],
)
def test_what_cannot_be_opened(named: str, place: GoogleKey, text: str) -> None:
    """Each cause is named, and classified."""
    with FakeGoogle(P256, named) as google, pytest.raises(SigningUnavailable, match=text) as caught:
        open_google_key(place, connect=google.connect)
    assert caught.value.failure is Failure.KEY_UNUSABLE


FAULTS = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: Failure.THROTTLED,
    grpc.StatusCode.PERMISSION_DENIED: Failure.UNAUTHORIZED,
    grpc.StatusCode.UNAUTHENTICATED: Failure.UNAUTHORIZED,
    grpc.StatusCode.FAILED_PRECONDITION: Failure.KEY_UNUSABLE,
    grpc.StatusCode.UNAVAILABLE: Failure.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Failure.TIMEOUT,
    grpc.StatusCode.INTERNAL: Failure.FAILED,
}


@pytest.mark.parametrize(("fault", "classified"), FAULTS.items(), ids=[each.name for each in FAULTS])
def test_a_fault_costs_one_signature(fault: grpc.StatusCode, classified: Failure) -> None:
    """It is classified, and not tried again: when the fault ends, the same signer signs."""
    with FakeGoogle(P256, "EC_SIGN_P256_SHA256") as google:
        signer = open_google_key(where(), connect=google.connect)
        google.fault, google.asked[:] = fault, []
        with pytest.raises(SigningUnavailable) as caught:
            signer.sign(b"m")
        assert (caught.value.failure, google.asked) == (classified, ["AsymmetricSign"])
        google.fault = None
        assert PublicKey.of(P256.public_key()).verifies(b"m", signer.sign(b"m"))
        google.key = ec.generate_private_key(ec.SECP256R1())
        with pytest.raises(SigningUnavailable, match="not a signature of this key"):
            signer.sign(b"m")
        signer.close()


def test_a_silent_service_is_left_after_the_timeout() -> None:
    """The thread of the lane comes back, and says why."""
    with FakeGoogle(P256, "EC_SIGN_P256_SHA256") as google:
        with google.gate.closed(), pytest.raises(SigningUnavailable) as caught:
            open_google_key(where(timeout=0.5), connect=google.connect)
        assert caught.value.failure is Failure.TIMEOUT


def test_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said that there are none."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/credentials.json")
    with pytest.raises(SigningUnavailable) as caught:
        open_google_key(where(timeout=1.0))
    assert caught.value.failure is Failure.UNAUTHORIZED
