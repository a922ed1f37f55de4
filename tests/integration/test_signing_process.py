"""Our own keys in real processes: shared by workers, kept over restarts, and private in all that leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, Final

import pytest

from authz.demo.client import send
from authz.demo.sidecar import Sidecar
from authz.signing.local import LocalSigner
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until

CONFIG: Final = Template("""version: 1
server: {listen: "unix:$folder/authz.sock", workers: $workers, drain: 0s}
admin: {listen: "$admin"}
issuers:
  idp: {issuer: "$issuer", audiences: [api], insecure: {http: true}}
rules: [{match: {paths: ["/**"]}}]
identity: {token: {header: authorization, issuer: "https://gateway.test", audience: [orders], lifetime: 10s}}
signing: {$signing, publish: {max_age: 1s}}
telemetry: {log_level: debug, decisions: all, traces: {exporter: console}}
""")
PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "priv")
PAGES: Final = ("/signing", "/.well-known/jwks.json", "/keys", "/metrics", "/readyz", "/configuration", "/explain")


ROTATED: Final = 'rotation: {ahead: 2s, state_file: "$folder/state.json"}'
LISTED: Final = """keys: {new: {kind: file, file: "$folder/new.json"}, old: {kind: file, file: "$folder/old.json"}},
  rotation: {ahead: 2s}"""


@contextmanager
def started(folder: Path, *, workers: int = 1, signing: str = ROTATED) -> Iterator[tuple[Sidecar, str]]:
    """Start a sidecar on the keys in *folder*; give its admin URL too."""
    with FakeIdp() as idp:
        admin = free_address()
        names = {"folder": folder, "admin": admin, "issuer": idp.issuer, "workers": workers}
        names["signing"] = Template(signing).substitute(names)
        sidecar = Sidecar(CONFIG.substitute(names), admin=admin, folder=folder)
        try:
            sidecar.start()
            yield sidecar, f"http://{admin}"
        finally:
            sidecar.stop()


def secrets_of(state: Path) -> list[str]:
    """Return the private members in a state file."""
    keys: list[dict[str, Any]] = json.loads(state.read_text())["keys"]
    return [each["jwk"][name] for each in keys for name in PRIVATE if name in each["jwk"]]


def test_nothing_that_leaves_has_a_private_part() -> None:
    """Logs at debug level, spans, metrics, pages, errors about the file, a crash: no private member is in any."""
    with tempfile.TemporaryDirectory(prefix="authz-") as name:
        folder = Path(name)
        state = folder / "state.json"
        with started(folder) as (sidecar, admin):
            assert send(f"{admin}/signing/rotate", method="POST").status == 202
            secrets, good = secrets_of(state), state.read_text()
            assert len(secrets) == 2
            said = [send(f"{admin}{page}").body.decode() for page in PAGES]
            state.write_text(good.replace('"EC"', '"XX"'))
            wait_until(lambda: send(f"{admin}/signing").json()["problem"] is not None)
            said.append(send(f"{admin}/signing").body.decode())
            process = sidecar.process._child
            assert process is not None
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
            process.send_signal(signal.SIGABRT)
            process.wait(120)
        said.append((folder / "authz.log").read_text())
        assert "state.json" in said[-1]
        assert not [secret for secret in secrets for text in said if secret in text]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux")
def test_no_core_dump_has_a_key() -> None:
    """Beside the limit, which a kernel that pipes dumps to a program ignores, the process is marked as not dumpable."""
    read = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    forbid = "from authz.runtime.signing import forbid_core_dumps; forbid_core_dumps()"
    shown = [
        subprocess.run([sys.executable, "-c", f"{first}; {read}"], capture_output=True, text=True, check=True).stdout
        for first in ("pass", forbid)
    ]
    assert [line.strip() for line in shown] == ["1", "0"]


def test_workers_and_restarts_have_the_same_keys() -> None:
    """Two workers sign by one key and publish one set; a rotation by one is followed, and a restart keeps all."""
    with tempfile.TemporaryDirectory(prefix="authz-") as name:
        folder = Path(name)
        with started(folder, workers=2) as (_, admin):
            first = send(f"{admin}/signing").json()["signing"]
            keys = send(f"{admin}/.well-known/jwks.json")
            assert [key["kid"] for key in keys.json()["keys"]] == [first]
            assert send(f"{admin}/signing/rotate", method="POST").status == 202
            wait_until(lambda: send(f"{admin}/signing").json()["signing"] != first)
            second = send(f"{admin}/signing").json()["signing"]
            wait_until(lambda: [key["kid"] for key in send(f"{admin}/signing").json()["keys"]] == [second])
            metrics = send(f"{admin}/metrics").body.decode()
            for worker in "01":
                assert f'authz_signing_keys{{phase="signing",worker="{worker}"}} 1.0' in metrics
        with started(folder) as (_, admin):
            assert send(f"{admin}/signing").json()["signing"] == second
            assert send(f"{admin}/signing/withdraw?kid={second}", method="POST").status == 200
            assert send(f"{admin}/signing").json()["signing"] not in {None, second}


def test_an_emergency_reaches_every_worker() -> None:
    """A listed key that leaked is in no worker's set any more when the command has ended, and signs at none."""
    with tempfile.TemporaryDirectory(prefix="authz-") as name:
        folder = Path(name)
        for file in ("new", "old"):
            key = LocalSigner.generate("ES256", kid=file)
            (folder / f"{file}.json").write_text(json.dumps(key.export_private()))
        with started(folder, workers=2, signing=LISTED) as (_, admin):
            leaked = send(f"{admin}/signing").json()["signing"]
            answer = send(f"{admin}/signing/withdraw?kid={leaked}", method="POST")
            assert (answer.status, b"signing.keys" in answer.body) == (200, True)
            phases = [
                send(f"{admin}/metrics")
                .body.decode()
                .count(f'authz_signing_keys{{phase="{phase}",worker="{worker}"}} 1.0')
                for phase in ("signing", "published", "retired")
                for worker in "01"
            ]
            assert phases == [1, 1, 0, 0, 0, 0]
            assert send(f"{admin}/signing/withdraw?kid={leaked}", method="POST").status == 404
