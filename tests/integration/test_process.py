"""Proves the real process, `python -m authz serve`: its start, its readiness, its end, and how it fails to start."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import grpc
import pytest
import trustme

from authz.demo.signing import SigningKey
from tests.fakes.http2 import PING, SETTINGS, frame, greet
from tests.fakes.idp import JWKS, FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.fixtures import ask
from tests.integration.sidecars import Running, config, issuer, running
from tests.tools import ROOT
from tests.unit.envoy.asking import told, write_check
from tests.unit.envoy.serving import SECONDS, method, short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as path:
        yield path


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer."""
    with FakeIdp() as provider:
        yield provider


@pytest.fixture
def sidecar(folder: Path, idp: FakeIdp) -> Iterator[Running]:
    """A sidecar that serves."""
    with running(folder, issuer("a", idp)) as started:
        started.await_ready()
        yield started


# Start and readiness.


def test_it_starts_while_an_issuer_is_down_and_serves_when_it_comes(folder: Path, idp: FakeIdp) -> None:
    """The other issuer's tokens pass from the start; the missing one's get 503 and try again, until it is there."""
    with FakeIdp() as late:
        late.stop()
        with running(folder, issuer("a", late), issuer("b", idp)) as sidecar:
            wait_until(lambda: sidecar.check(idp.mint()) == "authenticated")
            assert sidecar.check(late.mint()) == "keys_unavailable"
            assert sidecar.check(path="/public/1") == "public"
            assert sidecar.health() == "NOT_SERVING"
            assert sidecar.admin("/livez")[0] == 200
            assert sidecar.admin("/readyz") == (503, b"waiting for keys of a\n")

            late.start()

            sidecar.await_ready()
            assert sidecar.admin("/readyz")[0] == 200
            assert sidecar.check(late.mint()) == "authenticated"


def test_readiness_does_not_wait_for_an_optional_issuer(folder: Path, idp: FakeIdp) -> None:
    """A partner that is down does not keep the pod from serving."""
    gone = FakeIdp()
    gone.stop()
    with running(folder, issuer("a", idp), issuer("partner", gone, required=False)) as sidecar:
        sidecar.await_ready()
        assert sidecar.check(gone.mint()) == "keys_unavailable"


def test_once_ready_an_issuers_trouble_makes_no_pod_unready(folder: Path, idp: FakeIdp) -> None:
    """Keys that grew too old are withdrawn; the pod continues to serve, for a restart would not fix the issuer."""
    short = "max_wait: 0s, interval: 200ms, min_interval: 200ms, max_stale: 600ms"
    with running(folder, issuer("a", idp, fetch=short)) as sidecar:
        sidecar.await_ready()
        assert sidecar.check(idp.mint()) == "authenticated"
        idp.stop()
        wait_until(lambda: sidecar.check(idp.mint()) == "keys_unavailable")
        assert sidecar.admin("/readyz")[0] == 200
        assert sidecar.health() == "SERVING"

        idp.start()
        wait_until(lambda: sidecar.check(idp.mint()) == "authenticated")


def test_a_new_key_is_fetched_while_the_request_waits(folder: Path, idp: FakeIdp) -> None:
    """A token by a key that was published a moment ago passes at once, through one fetch."""
    with running(folder, issuer("a", idp, fetch="max_wait: 10s")) as sidecar:
        sidecar.await_ready()
        fetches = idp.count(JWKS)
        idp.rotate()
        with ThreadPoolExecutor(8) as pool:
            reasons = set(pool.map(lambda _: sidecar.check(idp.mint()), range(40)))
        assert reasons <= {"authenticated", "keys_unavailable"}
        assert "authenticated" in reasons
        assert idp.count(JWKS) == fetches + 1
        assert sidecar.check(idp.mint(key=SigningKey.create("ES256"))) == "keys_unavailable"  # it may be published yet


def test_the_socket_is_for_owner_and_group(sidecar: Running) -> None:
    """Anyone who can connect can ask: not everybody."""
    assert stat.S_IMODE(sidecar.socket.stat().st_mode) == 0o660


def test_logs_are_json_lines_without_tokens(sidecar: Running, idp: FakeIdp) -> None:
    """Every line that it logs can be parsed, and no token is in any."""
    token = idp.mint()
    assert sidecar.check(token) == "authenticated"
    assert sidecar.check(token + "x") == "token_malformed"
    sidecar.send_signal(signal.SIGTERM)
    assert sidecar.await_end() == 0
    text = sidecar.process.log.read_text()
    lines = text.splitlines()
    assert {json.loads(line)["logger"] for line in lines} >= {"authz.runtime.app", "authz.decisions"}
    assert not [segment for segment in token.split(".") if segment in text]


def test_it_warns_at_its_start(sidecar: Running) -> None:
    """Each insecure option has a line of its own in the log, from the start."""
    wait_until(lambda: "anyone who controls the network to this issuer" in sidecar.process.log.read_text())
    warning = next(line for line in sidecar.process.log.read_text().splitlines() if "controls the network" in line)
    assert json.loads(warning)["level"] == "WARNING"
    assert "issuers.a.insecure.http" in json.loads(warning)["message"]


# The end.


def test_sigterm_under_load_fails_no_check(sidecar: Running, idp: FakeIdp) -> None:
    """Health says NOT_SERVING first, Checks are answered while callers notice, and the process ends with 0."""
    token, noticed = idp.mint(), Event()

    def call() -> list[str]:
        reasons = []
        while not noticed.is_set():
            reasons.append(sidecar.check(token))
        reasons.append(sidecar.check(token))  # one that was on its way
        return reasons

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(call) for _ in range(3)]
        try:
            wait_until(lambda: b'reason="authenticated"' in sidecar.admin("/metrics")[1])
            sidecar.send_signal(signal.SIGTERM)
            wait_until(lambda: sidecar.health() == "NOT_SERVING")
            assert sidecar.admin("/readyz") == (503, b"waiting for the end of the drain\n")
        finally:
            noticed.set()
        assert {reason for caller in callers for reason in caller.result()} == {"authenticated"}

    assert sidecar.await_end() == 0
    assert not sidecar.socket.exists()


@contextmanager
def flooding(address: str, frames: bytes) -> Iterator[None]:
    """Send *frames* again and again on one connection, and read what comes back."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        greet(connection)

        def send_on() -> None:
            with suppress(OSError):
                while True:
                    connection.sendall(frames)

        def read_on() -> None:
            with suppress(OSError):
                while connection.recv(1 << 20):
                    pass

        threads = [Thread(target=work, daemon=True) for work in (send_on, read_on)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(SECONDS)


@pytest.mark.parametrize("kind", [PING, SETTINGS], ids=["pings", "settings"])
def test_frames_without_end_on_tcp_stop_nobody(folder: Path, idp: FakeIdp, kind: int) -> None:
    """They need no call and no permission; checks and health are answered all the while."""
    address, frames = free_address(), frame(kind, bytes(8) if kind == PING else b"") * 4000
    with running(folder, issuer("a", idp), listen=address) as sidecar:
        sidecar.await_ready()
        with flooding(address, frames), flooding(address, frames):
            for _ in range(20):
                assert sidecar.check() == "token_missing"
                assert sidecar.health() == "SERVING"


def hold_a_call(sidecar: Running, idp: FakeIdp) -> grpc.Future[bytes]:
    """Begin a Check that waits for a key, since the issuer does not answer any more."""
    idp.answers[JWKS] = idp.hang
    fetches = idp.count(JWKS)
    token = idp.mint(key=SigningKey.create("ES256"))
    call = method(sidecar.channel).future(write_check(ask(token)), timeout=SECONDS)
    wait_until(lambda: idp.count(JWKS) > fetches)
    return call


def test_a_call_in_flight_at_the_end_is_answered(folder: Path, idp: FakeIdp) -> None:
    """What is being evaluated when SIGTERM comes gets its decision before the process ends."""
    with running(folder, issuer("a", idp, fetch="max_wait: 2s"), drain="10s") as sidecar:
        sidecar.await_ready()
        call = hold_a_call(sidecar, idp)
        sidecar.send_signal(signal.SIGTERM)
        assert told(call.result()) == "keys_unavailable"
        assert sidecar.await_end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(folder: Path, idp: FakeIdp, number: signal.Signals) -> None:
    """Who cannot wait for the drain asks twice."""
    with running(folder, issuer("a", idp, fetch="max_wait: 10s"), drain="60s") as sidecar:
        sidecar.await_ready()
        call = hold_a_call(sidecar, idp)
        sidecar.send_signal(number)
        wait_until(lambda: sidecar.admin("/readyz")[0] == 503)
        assert sidecar.process.running
        sidecar.send_signal(number)
        assert sidecar.await_end() == -number
        assert isinstance(call.exception(), grpc.RpcError)


def test_sigterm_before_it_is_ready_ends_it_too(folder: Path) -> None:
    """An issuer that never answers does not keep the process alive."""
    gone = FakeIdp()
    gone.stop()
    with running(folder, issuer("a", gone)) as sidecar:
        wait_until(lambda: sidecar.health() == "NOT_SERVING")
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.await_end() == 0


def test_a_killed_sidecar_leaves_nothing_in_the_way(folder: Path, idp: FakeIdp) -> None:
    """After a crash the next one takes over the socket that was left behind."""
    with running(folder, issuer("a", idp)) as first:
        first.await_ready()
        first.process.kill()
        assert first.socket.exists()
    with running(folder, issuer("a", idp)) as second:
        second.await_ready()
        assert second.check(idp.mint()) == "authenticated"


# What keeps it from starting.


def serve(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run `authz serve` with a configuration by which it cannot start."""
    file = folder / "authz.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "authz", "serve", "--config", str(file)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=SECONDS)


def cannot_start(done: subprocess.CompletedProcess[str]) -> str:
    """Assert that it ended with 3 and one line of explanation, which is returned."""
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("authz cannot start: ")]
    return line


def test_a_bad_configuration_is_explained(folder: Path, idp: FakeIdp) -> None:
    """Exit 2 with every mistake, before anything is bound."""
    text = config(issuer("a", idp), listen=f"unix:{folder}/s", admin=free_address(), drain="soon")
    done = serve(folder, text.replace("rules:", "rulez:"))
    assert done.returncode == 2
    assert "server.drain" in done.stderr
    assert "did you mean `rules`?" in done.stderr
    assert not (folder / "s").exists()


def test_an_admin_port_that_is_taken_is_explained(folder: Path, idp: FakeIdp) -> None:
    """Exit 3, and the line names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        done = serve(folder, config(issuer("a", idp), listen=f"unix:{folder}/s", admin=admin))
    assert admin in cannot_start(done)


def test_a_port_that_is_taken_is_explained(folder: Path, idp: FakeIdp) -> None:
    """Exit 3, and the line names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = serve(folder, config(issuer("a", idp), listen=listen, admin=free_address()))
    assert listen in cannot_start(done)


def test_a_second_sidecar_on_one_socket_is_explained(sidecar: Running, folder: Path, idp: FakeIdp) -> None:
    """Exit 3, and the first one continues to serve."""
    done = serve(folder, config(issuer("a", idp), listen=f"unix:{sidecar.socket}", admin=free_address()))
    assert f"another process serves {sidecar.socket}" in cannot_start(done)
    assert sidecar.check(idp.mint()) == "authenticated"


def test_a_file_that_is_missing_is_explained(folder: Path, idp: FakeIdp) -> None:
    """Exit 3, and the line names the file."""
    tls = "tls: {cert_file: /nowhere/tls.crt, key_file: /nowhere/tls.key}"
    done = serve(folder, config(issuer("a", idp), listen=free_address(), admin=free_address(), server=tls))
    assert "server.tls: " in cannot_start(done)
    assert "/nowhere/tls.crt" in cannot_start(done)


def test_a_certificate_that_is_none_is_explained(folder: Path, idp: FakeIdp) -> None:
    """Exit 3 for files that are there and hold something else."""
    (folder / "junk").write_text("junk")
    tls = f"tls: {{cert_file: {folder}/junk, key_file: {folder}/junk}}"
    done = serve(folder, config(issuer("a", idp), listen=free_address(), admin=free_address(), server=tls))
    assert f"server.tls: {folder}/junk and {folder}/junk are not a PEM certificate and its key" in cannot_start(done)


def test_mutual_tls_is_what_the_file_says(folder: Path, idp: FakeIdp) -> None:
    """With client_ca_file a caller without a certificate gets no answer, and one with it does."""
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(folder / "key"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "cert"))
    ca.cert_pem.write_to_path(str(folder / "ca"))
    listen, admin = free_address(), free_address()
    tls = f"tls: {{cert_file: {folder}/cert, key_file: {folder}/key, client_ca_file: {folder}/ca}}"
    file = folder / "authz.yaml"
    file.write_text(config(issuer("a", idp), listen=listen, admin=admin, server=tls))
    own = ca.issue_cert("envoy.test")
    root = ca.cert_pem.bytes()
    known = grpc.ssl_channel_credentials(root, own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
    stranger = grpc.ssl_channel_credentials(root)

    child = subprocess.Popen([sys.executable, "-m", "authz", "serve", "--config", str(file)], stderr=subprocess.DEVNULL)
    try:
        with grpc.secure_channel(listen, known) as channel:
            answer = method(channel)(write_check(), timeout=SECONDS, wait_for_ready=True)
            assert told(answer) == "token_missing"
        with grpc.secure_channel(listen, stranger) as channel, pytest.raises(grpc.RpcError):
            method(channel)(write_check(), timeout=SECONDS)
    finally:
        child.kill()
        child.wait()
