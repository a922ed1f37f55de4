"""Proves several workers as real processes: behind Envoy, killed, stopped, reloaded, drained, and left alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest
import trustme

from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.sidecar import Sidecar
from tests.fakes.idp import JWKS, FakeIdp, fail
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.integration.crew import FAST, Crew, crew, envoy_before, get, private_folder, running
from tests.integration.sidecars import config, issuer
from tests.tools import ROOT
from tests.unit.envoy.asking import write_check
from tests.unit.envoy.serving import SECONDS, method, short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer."""
    with FakeIdp() as provider:
        yield provider


@pytest.fixture
def two(folder: Path, idp: FakeIdp) -> Iterator[Crew]:
    """Two workers that serve."""
    with crew(folder, issuer("a", idp)) as started:
        yield started


# Behind Envoy.


@pytest.mark.needs("envoy")
def test_a_killed_worker_comes_back_under_requests(two: Crew, folder: Path, idp: FakeIdp) -> None:
    """Readiness dips and names it, its restart is counted, no one passes who should not, and then all is as before."""
    token, ended = idp.mint(), Event()
    killed = two.worker(1)

    def call(envoy: Envoy) -> set[tuple[int, int]]:
        statuses = set()
        while not ended.is_set():
            statuses.add((get(envoy, token), get(envoy, token + "x")))
        return statuses

    with envoy_before(two, folder) as envoy, ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(call, envoy) for _ in range(2)]
        try:
            wait_until(lambda: two.decisions(0) > 0 and two.decisions(1) > 0)
            idp.answers[JWKS] = fail(500)  # it has no keys for as long as its unreadiness is looked for
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: "worker 1" in two.readiness())
            del idp.answers[JWKS]
            two.await_ready()
            wait_until(lambda: two.decisions(1) > 0)
        finally:
            ended.set()
        seen = {pair for caller in callers for pair in caller.result()}
        assert {good for good, _ in seen} <= {200, 503}
        assert {bad for _, bad in seen} <= {401, 503}
        assert [get(envoy, token) for _ in range(10)] == [200] * 10
    assert two.worker(1) not in {0, killed}
    assert two.value("authz_worker_restarts_total", worker="1") == 1
    assert two.value("authz_worker_restarts_total", worker="0") == 0
    assert "worker 1 ended with status -9" in two.process.log.read_text()


# Reload.


def test_a_reload_reaches_both(two: Crew) -> None:
    """SIGHUP is passed on; what is broken changes nothing in either."""
    file = two.sidecar.config_file
    good = file.read_text()
    file.write_text(good.replace("allow: public", "allow: deny"))
    os.kill(two.pid, signal.SIGHUP)
    wait_until(lambda: public(two) == ["policy_denied"] * 2)
    file.write_text(good + "surprise: true\n")
    os.kill(two.pid, signal.SIGHUP)
    rejected = "authz_config_last_reload_successful"
    wait_until(lambda: [two.value(rejected, worker=number) for number in "01"] == [0, 0])
    assert public(two) == ["policy_denied"] * 2
    told = [json.loads(line) for line in two.process.log.read_text().splitlines() if "configuration " in line]
    for part in ("configuration reloaded", "configuration not reloaded"):  # also after the logging was set up again
        assert sorted(line["worker"] for line in told if line["message"].startswith(part)) == [0, 1]


def public(two: Crew) -> list[str]:
    """What each worker says of a path that was public."""
    return [two.check(number, target="/public/x") for number in range(2)]


def test_workers_outlive_the_process_that_they_come_from(two: Crew, idp: FakeIdp) -> None:
    """It may be killed: both workers serve on, and one that is killed then comes back from a new one."""

    def comes_back(number: int) -> bool:
        return two.worker(number) != 0 and two.serves(number)

    first = [two.worker(0), two.worker(1)]
    os.kill(two.fork_server(), signal.SIGKILL)
    wait_until(lambda: two.fork_server() == 0)
    assert [two.check(number, idp.mint()) for number in (0, 1)] == ["authenticated"] * 2
    for number in (1, 0):
        os.kill(first[number], signal.SIGKILL)
        wait_until(partial(comes_back, number))
        assert two.check(number, idp.mint()) == "authenticated"


def test_a_process_that_serves_has_neither_pydantic_nor_yaml(two: Crew) -> None:
    """They are for a child that checks the configuration, and ends."""
    for pid in (two.pid, two.worker(0), two.worker(1)):
        libraries = Path(f"/proc/{pid}/maps").read_text()
        assert "_pydantic_core" not in libraries
        assert "_yaml" not in libraries


def test_a_worker_comes_back_to_its_own_address(two: Crew, folder: Path, idp: FakeIdp) -> None:
    """Where to listen takes effect at the next start of all: Envoy knows the old sockets."""
    file = two.sidecar.config_file
    file.write_text(file.read_text().replace("authz.sock", "other.sock").replace("workers: 2", "workers: 1"))
    killed = two.worker(1)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: two.worker(1) not in {0, killed})
    two.await_ready()
    assert two.check(1, idp.mint()) == "authenticated"
    assert not list(folder.glob("other*"))


def test_a_worker_comes_back_with_the_tls_of_the_others(folder: Path, idp: FakeIdp) -> None:
    """The file says another address and no TLS by then: with the old address, that would be plaintext on a port."""
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(folder / "key"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "cert"))
    port, admin = free_pair(), free_address()
    tls = f"{{cert_file: {folder}/cert, key_file: {folder}/key}}"
    text = config(issuer("a", idp), listen=f"127.0.0.1:{port}", admin=admin, server=f"workers: 2\n  tls: {tls}")
    sidecar = Sidecar(text, admin=admin, folder=folder)
    addresses = (f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}")
    credentials = grpc.ssl_channel_credentials(ca.cert_pem.bytes())
    with ExitStack() as parts:
        first, second = (parts.enter_context(grpc.secure_channel(one, credentials, FAST)) for one in addresses)
        plaintext = parts.enter_context(grpc.insecure_channel(addresses[1]))
        sidecar.process.start()
        two = Crew(sidecar, addresses, (first, second))
        parts.callback(two.kill)
        two.await_ready()
        sidecar.config_file.write_text(
            config(issuer("a", idp), listen=f"unix:{folder}/authz.sock", admin=admin, server="workers: 2")
        )
        killed = two.worker(1)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: two.worker(1) not in {0, killed})
        two.await_ready()
        assert two.check(1, idp.mint()) == "authenticated"
        with pytest.raises(grpc.RpcError):
            method(plaintext)(write_check(), timeout=SECONDS)


# The end.


def test_sigterm_drains_both(two: Crew) -> None:
    """Exit 0, and nothing is left: no process, no socket, no folder."""
    workers, private = [two.worker(0), two.worker(1)], private_folder(two)
    os.kill(two.pid, signal.SIGTERM)
    wait_until(lambda: "the end of the drain" in two.readiness())
    assert two.await_end() == 0
    assert not any(map(running, workers))
    assert not any(made.exists() for made in two.sockets)
    assert not private.exists()


def test_a_second_signal_ends_everything_at_once(two: Crew) -> None:
    """Also a worker that hears nothing any more."""
    workers, private = [two.worker(0), two.worker(1)], private_folder(two)
    os.kill(workers[0], signal.SIGSTOP)
    os.kill(two.pid, signal.SIGTERM)
    wait_until(lambda: not two.serves(1))
    assert two.process.running
    os.kill(two.pid, signal.SIGTERM)
    assert two.await_end() == -signal.SIGTERM
    wait_until(lambda: not any(map(running, workers)))
    assert not private.exists()


def test_workers_end_when_their_supervisor_is_gone(two: Crew) -> None:
    """No one would start or stop them any more: they drain, and free their sockets for the next."""
    workers = [two.worker(0), two.worker(1)]
    two.process.kill()
    wait_until(lambda: not any(map(running, workers)))
    assert not any(made.exists() for made in two.sockets)


def test_what_others_left_behind_makes_nobody_unhealthy(folder: Path, idp: FakeIdp) -> None:
    """Killed as one process, then as two with their supervisor, as the system does when memory runs out."""
    asked = [sys.executable, "-m", "authz", "health", f"unix:{folder}/authz.sock", "--wait", str(SECONDS)]
    with single(folder, idp):
        pass
    with crew(folder, issuer("a", idp)) as two:
        assert subprocess.run(asked, cwd=ROOT, check=False).returncode == 0
        private, pids = private_folder(two), [two.pid, two.worker(0), two.worker(1)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        two.await_end()
        assert private.exists()
        assert all(made.exists() for made in two.sockets)
    with single(folder, idp):
        assert subprocess.run(asked, cwd=ROOT, check=False).returncode == 0
        assert not any(made.exists() for made in two.sockets)
    with crew(folder, issuer("a", idp)):
        assert not private.exists()


# The start.


def test_workers_run_nothing_from_the_working_directory(folder: Path, idp: FakeIdp) -> None:
    """`python -m` would take a yaml.py from there: anyone who can write there could run code in the workers."""
    (folder / "yaml.py").write_text("raise SystemExit('this is not ours')\n")
    admin, listen = free_address(), f"unix:{folder}/authz.sock"
    text = config(issuer("a", idp), listen=listen, admin=admin, drain="200ms", server="workers: 2")
    sidecar = Sidecar(text, admin=admin, folder=folder)
    argv = [sys.executable, "-P", "-m", "authz", "serve", "--config", str(sidecar.config_file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=folder, env=environment, stderr=subprocess.DEVNULL) as child:
        try:
            wait_until(lambda: sidecar._ready() or child.poll() is not None)
            assert child.poll() is None
        finally:
            child.terminate()


_TEXT: dict[str, Any] = {"capture_output": True, "text": True}


def start(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run `authz serve` with a configuration by which it cannot start."""
    (folder / "authz.yaml").write_text(text)
    argv = [sys.executable, "-m", "authz", "serve", "--config", str(folder / "authz.yaml")]
    return subprocess.run(argv, cwd=ROOT, check=False, timeout=SECONDS, **_TEXT)


def free_pair() -> int:
    """A port that is free, as the next one is."""
    before = 0
    while (port := int(free_address().rpartition(":")[2])) != before + 1:
        before = port
    return before


def test_a_port_of_one_worker_that_is_taken_is_explained(folder: Path, idp: FakeIdp) -> None:
    """Exit 3 with the address, and the other worker does not go on alone."""
    port = free_pair()
    with socket.create_server(("127.0.0.1", port + 1)):
        listen = f"127.0.0.1:{port}"
        text = config(issuer("a", idp), listen=listen, admin=free_address(), drain="200ms", server="workers: 2")
        done = start(folder, text)
    assert done.returncode == 3
    assert "authz cannot start: " in done.stderr
    assert f"cannot listen on 127.0.0.1:{port + 1}" in done.stderr
    assert "Traceback" not in done.stderr
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_an_admin_port_that_is_taken_is_explained(folder: Path, idp: FakeIdp) -> None:
    """Exit 3 with the address, before any worker is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        text = config(issuer("a", idp), listen=f"unix:{folder}/authz.sock", admin=admin, server="workers: 2")
        done = start(folder, text)
    assert (done.returncode, done.stderr.count("authz cannot start: ")) == (3, 1)
    assert admin in done.stderr
    assert not list(folder.glob("*.sock"))


def test_a_bad_configuration_is_explained_once(folder: Path, idp: FakeIdp) -> None:
    """Exit 2, as for one process."""
    text = config(issuer("a", idp), listen=f"unix:{folder}/s", admin=free_address(), server="workers: 2")
    done = start(folder, text.replace("rules:", "rulez:"))
    assert (done.returncode, done.stderr.count("did you mean `rules`?")) == (2, 1)


def test_tcp_workers_listen_on_one_port_after_the_other(folder: Path, idp: FakeIdp) -> None:
    """N and N+1."""
    with crew(folder, issuer("a", idp), listen=f"127.0.0.1:{free_pair()}") as two:
        assert [two.check(number, idp.mint()) for number in range(2)] == ["authenticated"] * 2


def test_workers_may_share_one_cache_of_keys(folder: Path, idp: FakeIdp) -> None:
    """Both write it and both read it: after a restart without the issuer, both serve."""
    section = issuer("a", idp) + f"    cache_dir: {folder}/cache\n"
    with crew(folder, section) as two:
        os.kill(two.pid, signal.SIGTERM)
        assert two.await_end() == 0
    token = idp.mint()
    idp.stop()
    with crew(folder, section) as two:
        assert [two.check(number, token) for number in range(2)] == ["authenticated"] * 2
    assert [made.name for made in (folder / "cache").iterdir()] == ["a.json"]


@contextmanager
def single(folder: Path, idp: FakeIdp) -> Iterator[Sidecar]:
    """One process that serves; at the end it is killed."""
    admin = free_address()
    text = config(issuer("a", idp), listen=f"unix:{folder}/authz.sock", admin=admin, server="workers: 1")
    sidecar = Sidecar(text, admin=admin, folder=folder)
    try:
        sidecar.start()
        yield sidecar
    finally:
        sidecar.process.kill()


def test_one_worker_is_one_process(folder: Path, idp: FakeIdp) -> None:
    """No supervisor, no number in the name of the socket, no label."""
    with single(folder, idp) as sidecar:
        child = sidecar.process._child
        assert child is not None
        assert Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text() == ""
        assert (folder / "authz.sock").is_socket()
        assert b"worker" not in send(f"{sidecar.admin_url}/metrics").body
        assert b"worker" not in send(f"{sidecar.admin_url}/keys").body
