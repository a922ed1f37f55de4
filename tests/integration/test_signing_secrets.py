"""What opens a key, or proves who asks for a token, is in nothing that leaves a real process.

Logs at debug level, exported spans, metrics, every admin page, the console's decisions, explain, tail, and a crash.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

from authz.demo.client import send
from authz.demo.loopback import Request, Response
from authz.signing.local import LocalSigner
from tests.fakes.idp import FakeIdp
from tests.fakes.kms import ARN, FakeAws
from tests.fakes.tls import server_context
from tests.fakes.waiting import wait_until
from tests.integration.sidecars import Running, issuer, running
from tests.integration.softhsm import PIN, SoftHsm
from tests.unit.envoy.serving import short_folder

pytestmark = pytest.mark.needs("softhsm2-util")

AWS_SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AWS_SESSION: Final = "FwoGZXIvYXdzEEXAMPLESESSIONTOKEN"
CLIENT_SECRET: Final = "exchange-geheim-7"
SEALING: Final = "sealing-secret-of-32-octets-or-more"
TELEMETRY: Final = "traces: {exporter: console}\n  log_level: debug"
PAGES: Final = (
    *("/signing", "/.well-known/jwks.json", "/keys", "/metrics", "/readyz"),
    *("/configuration", "/decisions", "/history", "/pressure", "/"),
)
KEYS: Final = """identity:
  token: {{header: x-token, issuer: "https://gateway.test", audience: [orders], lifetime: 10s}}
signing:
  keys:
    away: {{kind: aws_kms, key: "{arn}", endpoint: "{aws}", timeout: 10s, max_wait: 10s}}
    locked: {{kind: pkcs11, module: "{folder}/module.so", token: authz, pin_file: "{folder}/wrong", key: signing}}
    hsm: {{kind: pkcs11, module: "{folder}/module.so", token: authz, pin_file: "{folder}/pin", key: signing}}
    disk: {{kind: file, file: "{folder}/key.json"}}
"""
EXCHANGE: Final = """identity:
  token:
    header: x-token
    audience: [orders]
    exchange: {{issuer: a, url: "{url}", max_wait: 10s, client: {{id: gw, secret_file: "{folder}/client"}}}}
"""
SHARED: Final = """identity:
  token: {{header: x-token, issuer: "https://gateway.test", audience: [orders], lifetime: 10s}}
shared_state: {{url: "redis://127.0.0.1:9", timeout: 10s}}
signing: {{rotation: {{shared_secret_file: "{folder}/sealing"}}}}
"""


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Put all secrets where a sidecar finds them; the list has them in every form that is sent."""
    device = SoftHsm.make(tmp_path)
    device.add_token()
    device.add_key(ec.generate_private_key(ec.SECP256R1()))
    key = LocalSigner.generate("ES256").export_private()
    files = {"wrong": "wrong-pin-0815", "client": CLIENT_SECRET, "sealing": SEALING, "key.json": json.dumps(key)}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", AWS_SESSION)
    basic = b64encode(f"gw:{CLIENT_SECRET}".encode()).decode()
    yield [PIN, files["wrong"], CLIENT_SECRET, basic, SEALING, AWS_SECRET, AWS_SESSION, str(key["d"])]
    os.environ.pop("SOFTHSM2_CONF", None)


def echo(request: Request) -> Response:
    """Refuse, with all that was sent in the answer: servers do such things."""
    sent = f"{request.headers} {request.body.decode('utf-8', 'replace')}".encode()
    return Response(400, (("Content-Type", "application/json"),), b'{"error": "%s"}' % sent.replace(b'"', b"'"))


def collect(started: Running, folder: Path, tokens: Sequence[str]) -> str:
    """Return all that leaves a process that is used, asked about everything, and made to crash."""
    file = started.sidecar.config_file
    said = [started.check(token) for token in tokens for _ in range(3)]
    said += [send(f"{started.sidecar.admin_url}{page}").body.decode("utf-8", "replace") for page in PAGES]
    (folder / "token").write_text(tokens[0])
    for command in (
        ("explain", "--config", str(file), "--path", "/items/1", "--token-file", str(folder / "token")),
        ("explain", "--live", "--config", str(file), "--path", "/items/1", "--token-file", str(folder / "token")),
        ("tail", "--kept", "--json", "--config", str(file)),
        ("keys", "--own", "--config", str(file)),
        ("check-config", "--fetch", str(file)),
    ):
        done = subprocess.run([sys.executable, "-m", "authz", *command], capture_output=True, text=True, check=False)
        said += [done.stdout, done.stderr]
    started.send_signal(signal.SIGABRT)
    started.await_end()
    log = started.process.log.read_text()
    assert '"name": "authz' in log or "trace_id" in log
    return "\n".join([*said, log])


@pytest.mark.parametrize("kind", ["keys", "exchange", "shared"])
def test_no_secret_leaves(secrets: list[str], tmp_path: Path, kind: str) -> None:
    """Of keys in hardware, in a service, in a file and in the shared state, and of a client of token exchange."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with short_folder() as folder, FakeIdp() as idp, ExitStack() as opened:
        aws = opened.enter_context(FakeAws(ec.generate_private_key(ec.SECP256R1()), tls=server_context(authority)))
        idp.answers["/token"] = echo
        texts = {"keys": KEYS, "exchange": EXCHANGE, "shared": SHARED}
        more = texts[kind].format(arn=ARN, aws=aws.url, folder=tmp_path, url=f"{idp.url}/token")
        started = opened.enter_context(running(folder, issuer("a", idp), more=more, telemetry=TELEMETRY))
        wait_until(lambda: started.health() is not None)
        if kind == "keys":
            started.await_ready()
            aws.fault = echo
        tokens = [idp.mint(sub=f"user-{number}") for number in range(3)]
        text = collect(started, tmp_path, tokens)
        assert (len(aws.asked) > 1) is (kind == "keys")
        assert (idp.count("/token") > 0) is (kind == "exchange")
        assert ("rejects the PIN" in text) is (kind == "keys")
    assert not [secret for secret in secrets if secret in text]
    assert not [token for token in tokens if token.rpartition(".")[2] in text]
