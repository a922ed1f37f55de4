"""A supervisor with its workers as processes, and callers that speak to each worker as Envoy does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from prometheus_client.parser import text_string_to_metric_families

from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.process import Process, tail
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo_server
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.fixtures import ask
from tests.integration.sidecars import config
from tests.unit.envoy.asking import told, write_check
from tests.unit.envoy.serving import SECONDS, health_of, method

WORKER = "authz-worker-"
FAST = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]


@dataclass(frozen=True, slots=True)
class Crew:
    """A supervisor with two workers, and a channel to each."""

    sidecar: Sidecar
    addresses: tuple[str, str]
    channels: tuple[grpc.Channel, grpc.Channel]

    @property
    def process(self) -> Process:
        return self.sidecar.process

    @property
    def pid(self) -> int:
        child = self.process._child
        assert child is not None
        return child.pid

    @property
    def sockets(self) -> list[Path]:
        """The sockets that Envoy calls."""
        return [Path(address.removeprefix("unix:")) for address in self.addresses]

    def workers(self) -> list[int]:
        """The pids of all workers; none where the supervisor has ended."""
        with suppress(FileNotFoundError, ProcessLookupError):
            return [pid for pid in below(self.pid) if name_of(pid).startswith(WORKER)]
        return []

    def worker(self, number: int) -> int:
        """The pid of a worker; 0 while it has none."""
        return next((pid for pid in self.workers() if name_of(pid) == f"{WORKER}{number}"), 0)

    def fork_server(self) -> int:
        """The pid of the process that workers are forked from; 0 while there is none."""
        return next((pid for pid in below(self.pid) if pid not in self.workers() and below(pid)), 0)

    def check(self, number: int, token: str | None = None, target: str = "/items/1") -> str:
        """Make one Check of a worker; return its reason."""
        return str(told(method(self.channels[number])(write_check(ask(token, path=target)), timeout=SECONDS)))

    def serves(self, number: int) -> bool:
        """Whether a worker's health says so."""
        try:
            return health_of(self.channels[number]) == "SERVING"
        except grpc.RpcError:
            return False

    def admin(self, target: str, *, accept: str = "*/*") -> Answer:
        """Ask the supervisor."""
        return send(f"{self.sidecar.admin_url}{target}", headers=[("accept", accept)])

    def readiness(self) -> str:
        """What `/readyz` says; nothing where no one answers."""
        try:
            return self.admin("/readyz").body.decode()
        except OSError:
            return ""

    def await_ready(self) -> None:
        """Wait until all workers serve."""
        wait_until(lambda: self.readiness() == "ready\n" and self.serves(0) and self.serves(1))

    def value(self, name: str, **labels: str) -> float | None:
        """One number of the merged ones."""
        for family in text_string_to_metric_families(self.admin("/metrics").body.decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None

    def decisions(self, number: int) -> float:
        """How many requests a worker let pass."""
        labels = {"reason": "authenticated", "worker": str(number)}
        return self.value("authz_decisions_total", **labels) or 0.0

    def kill(self) -> None:
        """End the supervisor and its workers at once, and wait until they are gone."""
        if self.process.running:
            os.kill(self.pid, signal.SIGSTOP)  # it starts no worker meanwhile
        started = below(self.pid) if self.process.running else []
        self.process.kill()
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(running, started)))

    def await_end(self) -> int | None:
        """Wait until the supervisor has ended; return its status."""
        wait_until(lambda: self.process.status is not None)
        return self.process.status


def below(pid: int) -> list[int]:
    """The children of the main thread of a process, and all below them."""
    children: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [found for child in children for found in (child, *below(child))]


def name_of(pid: int) -> str:
    """The name of a process, as `ps` shows it; empty if it has ended, or is about to."""
    with suppress(FileNotFoundError, ProcessLookupError):
        if Path(f"/proc/{pid}/cmdline").read_bytes():  # else without memory
            return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


@contextmanager
def crew(folder: Path, *issuers: str, listen: str | None = None, more: str = "") -> Iterator[Crew]:
    """Start a supervisor with two workers, and end all three whatever happens; the log is shown where a test fails."""
    admin = free_address()
    listen = listen or f"unix:{folder}/authz.sock"
    # A worker that ends later than its drain allows is killed: no figure for a machine that is busy.
    text = config(*issuers, listen=listen, admin=admin, drain="1m", server="workers: 2") + more
    sidecar = Sidecar(text, admin=admin, folder=folder)
    if listen.startswith("unix:"):
        addresses = (f"unix:{folder}/authz-0.sock", f"unix:{folder}/authz-1.sock")
    else:
        host, _, port = listen.rpartition(":")
        addresses = (listen, f"{host}:{int(port) + 1}")
    sidecar.process.start()
    with ExitStack() as parts:
        first, second = (parts.enter_context(grpc.insecure_channel(address, FAST)) for address in addresses)
        started = Crew(sidecar, addresses, (first, second))
        try:
            started.await_ready()
            yield started
        except BaseException:
            print("\n".join(tail(sidecar.process.log, lines=60)))  # noqa: T201 - shown with the failure
            raise
        finally:
            started.kill()


def running(pid: int) -> bool:
    """Whether a process runs."""
    return bool(name_of(pid))


@contextmanager
def envoy_before(two: Crew, folder: Path) -> Iterator[Envoy]:
    """A real Envoy that asks both workers."""
    with echo_server() as upstream:
        envoy = Envoy(Proxy(upstream=f"127.0.0.1:{upstream.port}", sidecars=two.addresses, timeout_ms=60_000), folder)
        try:
            envoy.start()
            yield envoy
        finally:
            envoy.stop()


def get(envoy: Envoy, token: str) -> int:
    """Send one request; return the status of its answer."""
    return send(f"{envoy.url}/items/1", headers=[("Authorization", f"Bearer {token}")]).status


def numbers_of(two: Crew, *, up: dict[int, int], accept: str = "*/*") -> str:
    """What `/metrics` says once just these workers are up: one that is too busy to answer in time looks gone."""
    said: list[str] = []

    def as_expected() -> bool:
        said.append(two.admin("/metrics", accept=accept).body.decode())
        lines = said[-1].splitlines()
        return all(f'authz_worker_up{{worker="{number}"}} {is_up}.0' in lines for number, is_up in up.items())

    wait_until(as_expected)
    return said[-1]


def keys_of(two: Crew, *, silent: list[int]) -> Any:  # noqa: ANN401 - a JSON document
    """What `/keys` says once just these workers are silent."""
    said: list[Any] = []

    def as_expected() -> bool:
        said.append(two.admin("/keys").json())
        return bool(said[-1]["silent_workers"] == silent)

    wait_until(as_expected)
    return said[-1]


def private_folder(two: Crew) -> Path:
    """Where the admin sockets of the workers are."""
    held = (descriptor.readlink() for descriptor in Path(f"/proc/{two.pid}/fd").iterdir())
    return next(path for path in held if path.is_dir())  # the supervisor locks it
