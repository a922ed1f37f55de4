"""Proves what signing with a key in a PKCS#11 token does, with SoftHSM: forms, errors, tokens that come and go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from authz.signing import hsm as hsm_module
from authz.signing.hsm import open_hsm_key
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.softhsm import PIN, SoftHsm

pytestmark = pytest.mark.needs("softhsm2-util")

P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65_537, 2048)


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    """Return a device with one token."""
    before = os.environ.get("SOFTHSM2_CONF")
    device = SoftHsm.make(tmp_path)
    device.add_token()
    yield device
    del os.environ["SOFTHSM2_CONF"]
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


def failure(device: SoftHsm, key: str = "signing", **more: object) -> SigningUnavailable:
    """Return why a key cannot be opened; the PIN is never in the text."""
    with pytest.raises(SigningUnavailable) as caught:
        open_hsm_key(replace(device.where(key), **more))  # type: ignore[arg-type]
    assert PIN not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("key", "algorithm", "size"),
    [
        (P256, None, 64),
        (ec.generate_private_key(ec.SECP384R1()), "ES384", 96),
        (ec.generate_private_key(ec.SECP521R1()), None, 132),
        (ec.generate_private_key(ec.SECP256K1()), None, 64),
        (Ed25519PrivateKey.generate(), None, 64),
        (Ed25519PrivateKey.generate(), "Ed25519", 64),
        (RSA, None, 256),
        (RSA, "RS512", 256),
        (RSA, "PS256", 256),
        (RSA, "PS384", 256),
    ],
)
def test_signatures(hsm: SoftHsm, key: PrivateKeyTypes, algorithm: str | None, size: int) -> None:
    """Each is in the form of JWS, and the key that was put into the token verifies it."""
    hsm.add_key(key)
    signer = open_hsm_key(hsm.where(algorithm=algorithm))
    known = PublicKey.of(key.public_key(), algorithm)
    signature = signer.sign(b"header.payload")
    assert len(signature) == size
    assert known.verifies(b"header.payload", signature)
    assert not known.verifies(b"header.changed", signature)
    assert signer.public_jwk() == known.jwk(known.thumbprint)
    assert (signer.algorithm, signer.kid) == (known.algorithm, known.thumbprint)
    signer.close()


def test_one_of_several_keys(hsm: SoftHsm) -> None:
    """Keys of one label are told apart by their id; a token may hold several keys that sign in turn."""
    hsm.add_key(P256, identity="0a")
    hsm.add_key(RSA, identity="0b")
    assert failure(hsm).failure is Failure.KEY_UNUSABLE
    first, second = (open_hsm_key(hsm.where(key_id=bytes([number]))) for number in (0x0A, 0x0B))
    assert (first.algorithm, second.algorithm) == ("ES256", "RS256")
    first.sign(b"m")
    first.close()  # logs out nobody: the token has another user
    assert PublicKey.of(RSA.public_key()).verifies(b"m", second.sign(b"m"))
    with pytest.raises(SigningUnavailable, match="configuration has changed"):
        first.sign(b"m")
    second.close()
    open_hsm_key(hsm.where(key_id=b"\x0b")).close()  # a closed token can be opened again


def test_what_cannot_be_opened(hsm: SoftHsm) -> None:
    """Each cause is named, with what to do about it, and classified."""
    hsm.add_key(P256)
    absent = failure(hsm, "other")
    assert (str(absent), absent.failure) == ("key 'other' of token 'authz': there is none", Failure.KEY_UNUSABLE)
    wrong = failure(hsm, algorithm="RS256")
    assert (str(wrong), wrong.failure) == ("the key cannot sign by RS256, but by ES256", Failure.KEY_UNUSABLE)
    lost = failure(hsm, token="other")
    assert lost.failure is Failure.UNREACHABLE
    assert "there is no token with this label" in str(lost)
    assert failure(hsm, module="/no/module.so").failure is Failure.MISCONFIGURED
    assert failure(hsm, pin_file="/no/pin").failure is Failure.MISCONFIGURED
    (hsm.folder / "empty").write_text("\n")
    assert failure(hsm, pin_file=str(hsm.folder / "empty")).failure is Failure.MISCONFIGURED
    (hsm.folder / "text.so").write_text("no library")
    assert failure(hsm, module=str(hsm.folder / "text.so")).failure is Failure.FAILED


def test_a_rejected_pin_is_tried_once(hsm: SoftHsm) -> None:
    """A few wrong attempts lock a token for good: the next attempt waits for another content of the file."""
    hsm.add_key(P256)
    (hsm.folder / "pin").write_text("0000-falsch")
    first = failure(hsm)
    assert (first.failure, "rejects the PIN" in str(first)) == (Failure.UNAUTHORIZED, True)
    for _ in range(20):
        assert "not tried again until the file changes" in str(failure(hsm))
    (hsm.folder / "pin").write_text(PIN)
    signer = open_hsm_key(hsm.where())
    assert signer.sign(b"m")
    signer.close()


def test_a_token_that_comes_back(hsm: SoftHsm) -> None:
    """While it is away there is no signature; with it, the same signer signs again, without a restart."""
    hsm.add_key(P256)
    signer = open_hsm_key(hsm.where())
    assert signer.sign(b"m")
    hsm.remove()
    for _ in range(2):
        with pytest.raises(SigningUnavailable) as caught:
            signer.sign(b"m")
        assert caught.value.failure is Failure.UNREACHABLE
    hsm.put_back()
    assert PublicKey.of(P256.public_key()).verifies(b"m", signer.sign(b"m"))
    signer.close()


def test_another_key_of_the_same_name(hsm: SoftHsm) -> None:
    """It signs nothing: its public half is not the one that was published."""
    hsm.add_key(P256)
    signer = open_hsm_key(hsm.where())
    hsm.destroy()
    hsm.add_token()
    hsm.add_key(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(SigningUnavailable, match="is another one than before") as caught:
        signer.sign(b"m")
    assert caught.value.failure is Failure.KEY_UNUSABLE
    signer.close()


def test_a_lost_token_costs_no_other(hsm: SoftHsm) -> None:
    """Looking for one initializes the library again, which ends the sessions of all: the others log in again."""
    hsm.add_key(P256)
    signer = open_hsm_key(hsm.where())
    assert failure(hsm, token="other").failure is Failure.UNREACHABLE
    assert signer.sign(b"m")
    signer.close()


def test_threads_take_turns(hsm: SoftHsm) -> None:
    """The library is initialized for one thread: a call that waits longer than its timeout fails."""
    hsm.add_key(P256)
    signer = open_hsm_key(replace(hsm.where(), timeout=0.01))
    begun, done = Event(), Event()

    def hold() -> None:
        begun.set()
        assert done.wait(HANG_SECONDS)

    calls = hsm_module._library(str(hsm.folder / "module.so")).calls
    holder = Thread(target=lambda: calls.run(hold, seconds=HANG_SECONDS))
    holder.start()
    assert begun.wait(HANG_SECONDS)
    with pytest.raises(SigningUnavailable, match=r"a call has not returned for 0\.01 s") as caught:
        signer.sign(b"m")
    assert caught.value.failure is Failure.TIMEOUT
    done.set()
    holder.join()
    patient = open_hsm_key(hsm.where())
    signatures: list[bytes] = []
    threads = [Thread(target=lambda: signatures.append(patient.sign(b"m"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = PublicKey.of(P256.public_key())
    assert [known.verifies(b"m", each) for each in signatures] == [True] * 8
    patient.close()
    signer.close()


def test_no_pin_leaves(hsm: SoftHsm, caplog: pytest.LogCaptureFixture) -> None:
    """It is in no log, no error and no repr: not of the key, nor of the library that remembers which were rejected."""
    caplog.set_level("DEBUG")
    hsm.add_key(P256)
    (hsm.folder / "pin").write_text(f"{PIN}x")
    failures = [repr(failure(hsm)) for _ in range(2)]
    (hsm.folder / "pin").write_text(PIN)
    signer = open_hsm_key(hsm.where())
    library = hsm_module._library(str(hsm.folder / "module.so"))
    assert library.rejected == {}
    seen = "".join((*failures, caplog.text, repr(signer), repr(library), repr(signer._key), repr(hsm.where())))
    assert PIN not in seen
    signer.close()
