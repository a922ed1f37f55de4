"""`authz health`, the command of probes and of `helm test`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tests.fakes.waiting import HANG_SECONDS
from tests.tools import ROOT

SERVICE = "envoy.service.auth.v3.Authorization"
CONFIG = """version: 1
server: {server}
issuers: {{a: {{issuer: "https://a.test", audiences: [api]}}}}
rules: [{{name: all}}]
"""


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `authz health`; again where this machine was too busy to answer its question within its second."""
    argv = [sys.executable, "-m", "authz", "health", *arguments]
    while "Deadline Exceeded" in (done := subprocess.run(argv, check=False, capture_output=True, text=True)).stderr:
        continue
    return done


@contextmanager
def server(
    address: str, credentials: grpc.ServerCredentials | None = None
) -> Iterator[tuple[health.HealthServicer, int]]:
    """A gRPC server that knows its health, and its port."""
    servicer = health.HealthServicer()
    served = grpc.server(futures.ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, served)
    bind = served.add_insecure_port if credentials is None else lambda where: served.add_secure_port(where, credentials)
    port = bind(address)
    served.start()
    try:
        yield servicer, port
    finally:
        served.stop(None).wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="authz-") as made:
        yield Path(made)


def test_exit_code_tells_serving_from_not_serving_from_unreachable(folder: Path) -> None:
    """0, 1 and 2 over a Unix socket; the text says which."""
    address = f"unix:{folder / 'authz.sock'}"
    with server(address) as (servicer, _):
        servicer.set(SERVICE, HealthCheckResponse.SERVING)
        done = ask(address)
        assert (done.returncode, done.stdout) == (0, f"{address}: serving\n")
        servicer.set(SERVICE, HealthCheckResponse.NOT_SERVING)
        done = ask(address)
        assert (done.returncode, done.stderr.partition(" (")[0]) == (1, f"{address}: not serving")
        assert "(why: `authz keys`, or GET /readyz at admin.listen)" in done.stderr
    assert ask(address).returncode == 2


@pytest.mark.parametrize("by", ["address", "configuration"])
def test_all_workers_must_serve(folder: Path, by: str) -> None:
    """Numbered sockets beside the address, or those of the configuration, are counted; one that is down is named."""
    first, second = (f"unix:{folder}/authz-{number}.sock" for number in range(2))
    file = folder / "authz.yaml"
    file.write_text(CONFIG.format(server=f"{{listen: unix:{folder}/authz.sock, workers: 2}}"), encoding="utf-8")
    asked = ("--config", str(file)) if by == "configuration" else (f"unix:{folder}/authz.sock",)
    with server(first) as (one, _), server(second) as (other, _):
        one.set(SERVICE, HealthCheckResponse.SERVING)
        other.set(SERVICE, HealthCheckResponse.SERVING)
        assert ask(*asked).stdout == "2 of 2 workers serve\n"
        other.set(SERVICE, HealthCheckResponse.NOT_SERVING)
        done = ask(*asked)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{second}: not serving (")
        assert done.stderr.endswith("\n1 of 2 workers serve\n")


def test_a_configuration_says_where(folder: Path) -> None:
    """A port is asked on this host, whatever the address to listen at; what only TLS or the log shows is asked for."""
    file = folder / "authz.yaml"

    def ask_configured(server_section: str) -> subprocess.CompletedProcess[str]:
        file.write_text(CONFIG.format(server=server_section), encoding="utf-8")
        return ask("--config", str(file))

    with server("127.0.0.1:0") as (servicer, port):
        servicer.set(SERVICE, HealthCheckResponse.SERVING)
        done = ask_configured(f'{{listen: "127.0.0.1:{port}"}}')
        assert (done.returncode, done.stdout) == (0, f"127.0.0.1:{port}: serving\n")
        everywhere = ask_configured(f'{{listen: "0.0.0.0:{port}"}}\ninsecure: {{plaintext: true}}')
        assert (everywhere.returncode, everywhere.stdout) == (0, f"127.0.0.1:{port}: serving\n")
    assert "give ADDRESS" in ask_configured('{listen: "127.0.0.1:0"}').stderr
    assert "give --ca-file" in ask_configured('{listen: "127.0.0.1:9", tls: {cert_file: a, key_file: b}}').stderr
    assert "give one" in ask("--config", str(file), "unix:/x").stderr


def test_wait_ends_when_it_serves(folder: Path) -> None:
    """With `--wait`, a server that comes up meanwhile is found; without, it is not waited for."""
    address = f"unix:{folder / 'authz.sock'}"
    argv = [sys.executable, "-m", "authz", "health", address, "--wait", str(HANG_SECONDS)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as waiting, server(address) as (servicer, _):
        servicer.set(SERVICE, HealthCheckResponse.SERVING)
        assert waiting.wait() == 0
    assert ask(address).returncode == 2


def test_mutual_tls(folder: Path) -> None:
    """With a certificate the server answers; without one, or under another name, it is unreachable."""
    ca = trustme.CA()
    mine, its = ca.issue_cert("client"), ca.issue_cert("authz.shop.svc")
    credentials = grpc.ssl_server_credentials(
        [(its.private_key_pem.bytes(), its.cert_chain_pems[0].bytes())], ca.cert_pem.bytes(), require_client_auth=True
    )
    ca.cert_pem.write_to_path(str(folder / "ca.crt"))
    mine.private_key_pem.write_to_path(str(folder / "tls.key"))
    mine.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
    trust = ("--ca-file", str(folder / "ca.crt"))
    pair = ("--cert-file", str(folder / "tls.crt"), "--key-file", str(folder / "tls.key"))
    with server("127.0.0.1:0", credentials) as (servicer, port):
        servicer.set(SERVICE, HealthCheckResponse.SERVING)
        address = f"127.0.0.1:{port}"
        assert ask(address, *trust, *pair, "--server-name", "authz.shop.svc").returncode == 0
        assert ask(address, *trust, "--server-name", "authz.shop.svc").returncode == 2
        assert ask(address, *trust, *pair).returncode == 2
        assert ask(address).returncode == 2


def test_half_a_pair_is_a_mistake(folder: Path) -> None:
    """A certificate without its key is not reported as a server that is down."""
    (folder / "x").touch()
    done = ask("127.0.0.1:1", "--cert-file", str(folder / "x"))
    assert "--cert-file and --key-file go together" in done.stderr


def test_it_starts_without_what_only_the_server_needs() -> None:
    """The module itself loads neither the server, nor its crypto, nor grpc."""
    code = f"import runpy, sys; runpy.run_path({str(ROOT / 'authz/cli/health.py')!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not {"authz.config", "cryptography", "grpc", "pydantic"} & loaded
    assert {name for name in loaded if name.startswith("authz.core.")} == {"authz.core.implementation"}  # for --version
