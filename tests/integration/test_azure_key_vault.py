"""Proves what signing with a key in Azure Key Vault does: the real client, and a service with the documented answers.

Azure has no emulator of it: what the service answers is as its REST reference says.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from authz.demo.loopback import Responder
from authz.signing.azure_key_vault import AzureKey, open_azure_key
from authz.signing.checked import CheckedSigner
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey
from tests.fakes.azure_vault import TOKEN, FakeAzure, azure_error
from tests.fakes.kms import PrivateKey, reset
from tests.fakes.waiting import HANG_SECONDS

P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65_537, 2048)


def opened(
    azure: FakeAzure, *, key: str | None = None, algorithm: str | None = None, timeout: float = HANG_SECONDS
) -> CheckedSigner:
    """Open the key of a vault."""
    where = AzureKey(key=key or azure.url, algorithm=algorithm, timeout=timeout)
    return open_azure_key(where, **azure.options())


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (P256, None),
        (ec.generate_private_key(ec.SECP384R1()), None),
        (ec.generate_private_key(ec.SECP521R1()), None),
        (ec.generate_private_key(ec.SECP256K1()), "ES256K"),
        (RSA, None),
        (RSA, "RS512"),
        (RSA, "PS256"),
    ],
)
def test_signatures(key: PrivateKey, algorithm: str | None, tmp_path: Path) -> None:
    """Each is in the form of JWS, and the public key that was published verifies it."""
    with FakeAzure(key, tmp_path) as azure:
        signer = opened(azure, algorithm=algorithm)
        public = PublicKey.of(key.public_key(), algorithm)
        assert public.verifies(b"header.payload", signer.sign(b"header.payload"))
        assert signer.public_jwk() == public.jwk(public.thumbprint)
        signer.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    """Each cause is named, and classified; the credential is in no text."""
    with FakeAzure(P256, tmp_path) as azure:
        for options, text in (
            ({"algorithm": "RS256"}, "cannot sign by RS256, but by ES256"),
            ({"key": f"{azure.url[:-4]}ffff"}, "KeyNotFound"),
        ):
            with pytest.raises(SigningUnavailable, match=text) as caught:
                opened(azure, **options)  # type: ignore[arg-type]  # texts
            assert caught.value.failure is Failure.KEY_UNUSABLE
            assert TOKEN not in str(caught.value)
        azure.operations = ["verify"]
        with pytest.raises(SigningUnavailable, match="is not for signing"):
            opened(azure)


FAULTS: dict[str, tuple[Responder, Failure]] = {
    "throttled": (azure_error("Throttled", 429), Failure.THROTTLED),
    "not allowed": (azure_error("Forbidden", 403), Failure.UNAUTHORIZED),
    "deleted": (azure_error("KeyNotFound", 404), Failure.KEY_UNUSABLE),
    "internal": (azure_error("InternalServerError", 500), Failure.FAILED),
    "reset": (reset, Failure.UNREACHABLE),
}


@pytest.mark.parametrize(("fault", "classified"), FAULTS.values(), ids=FAULTS)
def test_a_fault_costs_one_signature(fault: Responder, classified: Failure, tmp_path: Path) -> None:
    """It is classified, and not tried again: when the fault ends, the same signer signs."""
    with FakeAzure(P256, tmp_path) as azure:
        signer = opened(azure)
        signer.sign(b"m")
        azure.fault, azure.asked[:] = fault, []
        with pytest.raises(SigningUnavailable) as caught:
            signer.sign(b"m")
        assert (caught.value.failure, azure.asked) == (classified, ["POST sign"])
        azure.fault = None
        assert PublicKey.of(P256.public_key()).verifies(b"m", signer.sign(b"m"))
        azure.key = ec.generate_private_key(ec.SECP256R1())
        with pytest.raises(SigningUnavailable, match="not a signature of this key"):
            signer.sign(b"m")
        signer.close()


def test_a_silent_service_is_left_after_the_timeout(tmp_path: Path) -> None:
    """The thread of the lane comes back, and says why."""
    with FakeAzure(P256, tmp_path) as azure:
        with azure.gate.closed(), pytest.raises(SigningUnavailable) as caught:
            opened(azure, timeout=1.0)
        assert caught.value.failure in {Failure.TIMEOUT, Failure.UNREACHABLE}
