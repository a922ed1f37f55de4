"""Proves what a PKCS#11 library that hangs in a call costs: its own keys, and nothing else.

The call hangs in SoftHSM itself, which waits for the lock of a file.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from authz.demo.client import send
from authz.signing.hsm import open_hsm_key
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import wait_until
from tests.integration.sidecars import issuer, running
from tests.integration.softhsm import SoftHsm
from tests.integration.station import Station
from tests.unit.envoy.serving import short_folder

pytestmark = pytest.mark.needs("softhsm2-util")

P256: Final = ec.generate_private_key(ec.SECP256R1())
HANGS: Final = "module.so hangs: a call has not returned for "
# The last of the keys that begin together signs: the operator adds new ones in front.
SIGNING: Final = """identity: {{token: {{header: x-token, issuer: "https://gateway.test", audience: [orders]}}}}
signing:
  keys:
    spare: {{kind: memory, kid: spare}}
    hsm: {{kind: pkcs11, module: "{folder}/module.so", token: authz, pin_file: "{folder}/pin", key: signing,
           kid: hsm, timeout: {timeout}, max_wait: {timeout}, max_concurrent: 1}}
"""


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    """Return a device with a token and a key."""
    device = SoftHsm.make(tmp_path)
    device.add_token()
    device.add_key(P256)
    yield device
    os.environ.pop("SOFTHSM2_CONF", None)


def test_nothing_waits_longer_than_its_timeout(hsm: SoftHsm) -> None:
    """Neither for the call itself, nor behind it, nor to log out; when the call returns, the key signs again."""
    signer = open_hsm_key(replace(hsm.where(), timeout=0.05))
    other = open_hsm_key(hsm.where())
    with hsm.hanging():
        for _ in range(3):
            with pytest.raises(SigningUnavailable, match=HANGS) as caught:
                signer.sign(b"m")
            assert (caught.value.failure, signer.problem) == (Failure.TIMEOUT, str(caught.value))
        with pytest.raises(SigningUnavailable, match=HANGS):
            open_hsm_key(replace(hsm.where(), timeout=0.05))
        signer.close()
    assert PublicKey.of(P256.public_key()).verifies(b"m", other.sign(b"m"))
    assert other.problem == ""
    other.close()


def test_another_key_signs_after_the_withdrawal(hsm: SoftHsm, caplog: pytest.LogCaptureFixture) -> None:
    """Until then requests get 503; the log, metrics and `authz keys --own` name the hang, also with a single slot."""
    with FakeIdp() as idp:
        whole = f"""version: 1
issuers:
  a: {{issuer: '{idp.issuer}', audiences: [api], insecure: {{http: true}}}}
rules: [{{match: {{paths: ["/**"]}}}}]
{SIGNING.format(folder=hsm.folder, timeout="100ms")}"""
        with Station(whole=whole).settle() as sidecar:
            assert sidecar.keyring.describe()["signing"] == "hsm"
            with hsm.hanging():
                wait_until(lambda: sidecar.ask(idp.mint()) == "upstream_token_unavailable")
                wait_until(lambda: sidecar.asked("hsm", "timeout", "minted token") > 0)
                assert str(sidecar.keyring.describe()["problem"]).startswith("key hsm does not sign: ")
                assert HANGS in str(sidecar.keyring.describe()["problem"])
                assert sidecar.keyring.problem == ""  # it was read, and is not overdue
                assert [text for text in caplog.messages if text.startswith("signing by hsm failed") and HANGS in text]
                sidecar.keyring.step()
                assert sidecar.keyring.withdraw("hsm")
                assert sidecar.keyring.describe()["problem"] is None
                assert "x-token" in sidecar.identity(idp.mint(), "GET api.test/orders")
                sidecar.keyring.reconfigure(sidecar.config)
                assert sidecar.keyring.describe()["signing"] == "spare"
                sidecar.keyring.stop()


def test_a_process_ends_while_the_library_hangs(hsm: SoftHsm) -> None:
    """The end waits for no call: neither to log out, nor when the interpreter unloads the library."""
    with short_folder() as folder, FakeIdp() as idp:
        more = SIGNING.format(folder=hsm.folder, timeout="1s")
        with running(folder, issuer("a", idp), more=more, drain="0s") as started:
            started.await_ready()
            wait_until(lambda: started.check(idp.mint()) == "authenticated")
            with hsm.hanging():
                wait_until(lambda: started.check(idp.mint()) == "upstream_token_unavailable")
                wait_until(lambda: HANGS in str(send(f"{started.sidecar.admin_url}/signing").json()["problem"]))
                started.send_signal(signal.SIGTERM)
                assert started.await_end() == 0
