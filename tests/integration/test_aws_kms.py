"""Proves what signing with a key in AWS KMS does: with moto as the service, and with one that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authz.demo.loopback import Responder
from authz.signing.aws_kms import MAX_RAW_BYTES, AwsKey, open_aws_key
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey
from tests.fakes.idp import fail, html
from tests.fakes.kms import ARN, FakeAws, PrivateKey, amz, amz_error, half, reset
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.moto import Moto

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65_537, 2048)
LONG = b"m" * (MAX_RAW_BYTES + 1)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have credentials in the environment, and nothing else of this machine."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def where(endpoint: str, key: str = ARN, *, algorithm: str | None = None, timeout: float = HANG_SECONDS) -> AwsKey:
    """Say where a key is."""
    return AwsKey(key=key, region="eu-central-1", endpoint=endpoint, algorithm=algorithm, timeout=timeout)


def failure(place: AwsKey) -> SigningUnavailable:
    """Return why a key cannot be opened; no secret is in the text."""
    with pytest.raises(SigningUnavailable) as caught:
        open_aws_key(place)
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """Serve the API of AWS."""
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.mark.needs("moto")
@pytest.mark.parametrize(
    ("spec", "algorithm", "size"),
    [
        ("ECC_NIST_P256", "ES256", 64),
        ("ECC_NIST_P384", "ES384", 96),
        ("ECC_NIST_P521", "ES512", 132),
        ("ECC_SECG_P256K1", "ES256K", 64),
        ("RSA_2048", "RS256", 256),
    ],
)
def test_signatures_of_moto(moto: Moto, spec: str, algorithm: str, size: int) -> None:
    """Each kind of key signs in the form of JWS, under the alias that leads to it."""
    moto.create(spec, alias=f"alias/{algorithm}")
    signer = open_aws_key(where(moto.url, f"alias/{algorithm}"))
    assert (signer.algorithm, len(signer.sign(b"header.payload"))) == (algorithm, size)
    signer.close()


@pytest.mark.needs("moto")
def test_a_key_that_is_not_there(moto: Moto) -> None:
    """The service says so, and the text has what it said."""
    absent = failure(where(moto.url, "alias/none"))
    assert (absent.failure, "NotFoundException" in str(absent)) == (Failure.KEY_UNUSABLE, True)


@pytest.mark.parametrize("message", [b"header.payload", LONG], ids=["sent", "its hash is sent"])
@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (P256, None),
        (ec.generate_private_key(ec.SECP521R1()), None),
        (RSA, None),
        (RSA, "RS512"),
        (RSA, "PS256"),
        (RSA, "PS384"),
    ],
)
def test_signatures(key: PrivateKey, algorithm: str | None, message: bytes) -> None:
    """The service hashes up to its limit, and what is longer is hashed before: both verify."""
    with FakeAws(key) as aws:
        signer = open_aws_key(where(aws.url, "alias/a", algorithm=algorithm))
        public = PublicKey.of(key.public_key(), algorithm)
        assert public.verifies(message, signer.sign(message))
        assert signer.public_jwk() == public.jwk(public.thumbprint)
        signer.close()


@pytest.mark.parametrize("key", [Ed25519PrivateKey.generate(), mldsa.MLDSA65PrivateKey.generate()])
def test_keys_that_take_no_hash(key: PrivateKey) -> None:
    """They sign what the service takes; what is longer is refused here, with both sizes."""
    with FakeAws(key) as aws:
        signer = open_aws_key(where(aws.url))
        assert PublicKey.of(key.public_key()).verifies(b"m", signer.sign(b"m"))
        with pytest.raises(SigningUnavailable, match="4097 octets to sign, and the service takes 4096") as caught:
            signer.sign(LONG)
        assert caught.value.failure is Failure.REQUEST
        signer.close()


def test_what_cannot_be_opened() -> None:
    """A key for another purpose or algorithm, and one without a region."""
    with FakeAws(P256) as aws:
        assert "cannot sign by RS256" in str(failure(where(aws.url, algorithm="RS256")))
        aws.usage = "KEY_AGREEMENT"
        assert str(failure(where(aws.url))) == f"{ARN} is not for signing"
    nowhere = failure(AwsKey(key="alias/a"))
    assert (nowhere.failure, str(nowhere)) == (Failure.MISCONFIGURED, "alias/a: You must specify a region.")


FAULTS: dict[str, tuple[Responder, Failure, int]] = {
    "throttled": (amz_error("ThrottlingException"), Failure.THROTTLED, 1),
    "limited": (amz_error("LimitExceededException"), Failure.THROTTLED, 1),
    "not allowed": (amz_error("AccessDeniedException"), Failure.UNAUTHORIZED, 1),
    "expired": (amz_error("ExpiredTokenException"), Failure.UNAUTHORIZED, 1),
    "disabled": (amz_error("DisabledException"), Failure.KEY_UNUSABLE, 1),
    "to be deleted": (amz_error("KMSInvalidStateException"), Failure.KEY_UNUSABLE, 1),
    "internal": (amz_error("KMSInternalException", status=500), Failure.FAILED, 1),
    "unavailable": (fail(503), Failure.FAILED, 1),
    "a login page": (html(), Failure.WRONG_ANSWER, 1),  # the library takes it for an answer without members
    "no signature": (lambda _: amz({"KeyId": ARN}), Failure.WRONG_ANSWER, 1),
    "reset": (reset, Failure.UNREACHABLE, 2),  # an idle connection may be closed: it is replaced once
    "half an answer": (half, Failure.WRONG_ANSWER, 1),  # the same
}


@pytest.mark.parametrize(("fault", "classified", "attempts"), FAULTS.values(), ids=FAULTS)
def test_a_fault_costs_one_signature(fault: Responder, classified: Failure, attempts: int) -> None:
    """It is classified, and not tried again: when the fault ends, the same signer signs."""
    with FakeAws(P256) as aws:
        signer = open_aws_key(where(aws.url))
        signer.sign(b"m")
        aws.fault, aws.asked[:] = fault, []
        with pytest.raises(SigningUnavailable) as caught:
            signer.sign(b"m")
        assert (caught.value.failure, aws.asked) == (classified, ["Sign"] * attempts)
        assert SECRET not in str(caught.value)
        aws.fault = None
        assert PublicKey.of(P256.public_key()).verifies(b"m", signer.sign(b"m"))
        signer.close()


def test_a_silent_service_is_left_after_the_timeout() -> None:
    """The thread of the lane comes back, and says why."""
    with FakeAws(P256) as aws:
        open_aws_key(where(aws.url)).close()
        with aws.gate.closed():
            late = failure(where(aws.url, timeout=0.5))
        assert late.failure is Failure.TIMEOUT


def test_a_service_that_is_away() -> None:
    """Connections are refused."""
    with FakeAws(P256) as aws:
        signer = open_aws_key(where(aws.url))
        aws.stop()
        with pytest.raises(SigningUnavailable) as caught:
            signer.sign(b"m")
        assert caught.value.failure is Failure.UNREACHABLE
        signer.close()


def test_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said that there are none, as a rejected pair is."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with FakeAws(P256) as aws:
        assert failure(where(aws.url)).failure is Failure.UNAUTHORIZED
        assert aws.asked == []


def test_another_key_under_the_id_signs_nothing() -> None:
    """What is not a signature of the published key is not used."""
    with FakeAws(P256) as aws:
        signer = open_aws_key(where(aws.url))
        aws.key = ec.generate_private_key(ec.SECP256R1())
        with pytest.raises(SigningUnavailable, match="not a signature of this key") as caught:
            signer.sign(b"m")
        assert caught.value.failure is Failure.WRONG_ANSWER
        signer.close()
