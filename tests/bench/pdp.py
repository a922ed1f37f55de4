"""Measure checks whose rule asks a PDP, beside the same checks without it, in one run.

`python -m tests.bench.pdp` starts a PDP, and a sidecar's server with its real lanes on a process of its own. It sends
1,000 checks a second, each at its time whatever the answers do, in turns of five seconds: without and with a decision
that is asked for each time of a PDP that takes 2 ms. It prints how long they took, and the CPU of the server's process.
Then it sends 2,000 a second, of which every other one asks a PDP that takes 500 ms, which is far more than that PDP can
answer: it prints how long those took that need no PDP, what the others got, and how much memory grew.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from statistics import median, quantiles
from typing import Final

import grpc
from prometheus_client import CollectorRegistry

from authz.cli.serve import READ_WHILE_POLLING, SWITCH_INTERVAL
from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.demo.process import Process
from authz.envoy.admission import METHOD
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer
from authz.envoy.server import AuthorizationServer
from authz.envoy.transport.cygrpc import CygrpcTransport
from authz.facts.loop import Loop
from authz.feeds.fact_lanes import FactLanes
from authz.feeds.signature_cache import SignatureCache
from authz.telemetry.facts import FactMetrics
from tests.fakes.ports import free_address
from tests.fixtures import A_RSA, T, ask, jwks, mint
from tests.unit.envoy.asking import told, write_check

PDP_SECONDS: Final = 0.002
SLOW_SECONDS: Final = 0.5
SECONDS: Final = 5
TURNS: Final = 3
RATE: Final = 1000  # checks a second
OVERLOAD: Final = 2000  # checks a second, half of them to the slow PDP
PATHS: Final = {"without": "/open", "with a PDP": "/asked"}

_CONFIG: Final = """version: 1
issuers:
  a: {{issuer: "https://a.test", audiences: [api], jwks: {keys}}}
pdps:
  policies: {{url: "http://{address}/access/v1/evaluation"}}
  slow: {{url: "http://{slow}/access/v1/evaluation"}}
rules:
  - {{name: open, match: {{paths: ["/open/{{id}}"]}}}}
  - name: asked
    match: {{paths: ["/asked/{{id}}"]}}
    require: {{pdp: {{name: policies, resource: {{type: item, id: "${{params.id}}"}}}}}}
  - name: slow
    match: {{paths: ["/slow/{{id}}"]}}
    require: {{pdp: {{name: slow, resource: {{type: item, id: "${{params.id}}"}}}}}}
"""
_ANSWER: Final = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{"decision":true}'


class _Decider(asyncio.Protocol):
    """Answers each request after *seconds*; requests of one connection come one after another."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if end and len(body) >= length:
            self._received = b""
            asyncio.get_running_loop().call_later(self._seconds, self._answer)

    def _answer(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def decide(address: str, slow: str) -> None:
    """Serve decisions at both addresses until this process is ended."""
    loop = asyncio.get_running_loop()
    servers = []
    for at, seconds in ((address, PDP_SECONDS), (slow, SLOW_SECONDS)):
        host, _, port = at.rpartition(":")
        servers.append(await loop.create_server(partial(_Decider, seconds), host, int(port)))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def serve(socket: str, address: str, slow: str, keys: str) -> None:
    """Serve checks on *socket*, with PDPs at *address* and *slow* and the issuer's *keys*, until this process ends.

    The process is set up as `authz serve` does on a Unix socket.
    """
    config = parse(_CONFIG.format(keys=keys, address=address, slow=slow), file="bench")
    snapshot = build_snapshot(config, verify_signature=SignatureCache().verify)
    loop = Loop(time.monotonic)
    lanes = FactLanes(FactMetrics(CollectorRegistry()), max_waiting=256, loop=loop)
    lanes.reconfigure(config)
    gatherer = Gatherer(lanes.by_kind(), monotonic=time.monotonic, loop=loop)
    checker = Checker(
        snapshot=lambda: snapshot,
        gatherer=gatherer,
        report=lambda _record: None,
        now=lambda: float(T),
        elapsed=time.monotonic,
        new_id=lambda: "0",
    )
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()
    server = AuthorizationServer(checker, transport=CygrpcTransport, max_concurrent=1024)
    server.listen_unix(Path(socket), mode=0o600)
    gatherer.start()
    server.start()
    while True:
        time.sleep(3600)


@dataclass
class Measured:
    """What the turns of one kind took: seconds of each check, and of CPU for each."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answered:
    """One check: its path, the seconds from when it was due to its answer, and the reason, or "RPC error"."""

    path: str
    seconds: float
    reason: str


def load(check: grpc.UnaryUnaryMultiCallable[bytes, bytes], *paths: str, rate: int = RATE) -> list[Answered]:
    """Send checks for each of *paths* in turn, each when it is due, and return what became of them."""
    token = mint()
    answered: SimpleQueue[Answered] = SimpleQueue()
    sent = [(paths[number % len(paths)], number) for number in range(rate * SECONDS)]
    messages = [(path, write_check(ask(token, path=f"{path}/{number}"))) for path, number in sent]
    began = time.monotonic() + 0.1

    def note(path: str, due: float) -> Callable[[grpc.Future[bytes]], None]:
        def noted(call: grpc.Future[bytes]) -> None:
            seconds, error = time.monotonic() - due, call.exception()
            reason = "RPC error" if error is not None else str(told(call.result()))
            answered.put(Answered(path, seconds, reason))

        return noted

    for number, (path, message) in enumerate(messages):
        due = began + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        check.future(message, timeout=30).add_done_callback(note(path, due))
    return [answered.get(timeout=60) for _ in messages]


def allowed(answers: list[Answered]) -> list[float]:
    """Return how long the checks took that were allowed."""
    return [each.seconds for each in answers if each.reason == "authenticated"]


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    used = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def measure(check: grpc.UnaryUnaryMultiCallable[bytes, bytes], pid: int) -> dict[str, Measured]:
    """Measure each kind of check, in turns."""
    found = {kind: Measured() for kind in PATHS}
    load(check, PATHS["without"])  # warms up
    for _ in range(TURNS):
        for kind, path in PATHS.items():
            before = cpu_of(pid)
            found[kind].seconds += allowed(load(check, path))
            found[kind].cpu.append((cpu_of(pid) - before) / (RATE * SECONDS))
    return found


def memory_of(pid: int) -> float:
    """Return the memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def overload(check: grpc.UnaryUnaryMultiCallable[bytes, bytes], pid: int) -> None:
    """Offer more than a slow PDP can answer, and print what that does to checks that need none."""
    alone = allowed(load(check, PATHS["without"]))
    load(check, PATHS["without"], "/slow", rate=OVERLOAD)  # threads and caches are made
    before = memory_of(pid)
    answers = [each for _ in range(TURNS) for each in load(check, PATHS["without"], "/slow", rate=OVERLOAD)]
    beside = allowed([each for each in answers if each.path == PATHS["without"]])
    print("\n| checks that need no PDP | allowed | p50 ms | p99 ms |\n|---|---:|---:|---:|")
    for name, seconds, count in (
        (f"{RATE:,} a second, alone", alone, RATE * SECONDS),
        (f"{RATE:,} a second, beside as many to a PDP of 500 ms", beside, RATE * SECONDS * TURNS),
    ):
        cuts = quantiles(seconds, n=100)
        print(f"| {name} | {100 * len(seconds) / count:.1f} % | {1000 * cuts[49]:.2f} | {1000 * cuts[98]:.2f} |")
    reasons = Counter(each.reason for each in answers if each.path == "/slow")
    said = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
    print(f"\nThe others got: {said}. Memory grew by {memory_of(pid) - before:.1f} MB.")


def main() -> None:
    """Serve with --serve or --decide; else measure."""
    if sys.argv[1:2] == ["--serve"]:
        Path(f"{sys.argv[2]}.pid").write_text(str(os.getpid()), encoding="ascii")
        serve(*sys.argv[2:6])
    if sys.argv[1:2] == ["--decide"]:
        asyncio.run(decide(sys.argv[2], sys.argv[3]))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        socket, address, slow = Path(folder) / "s", free_address(), free_address()
        module = [sys.executable, "-m", "tests.bench.pdp"]
        pdp = Process("the PDP", [*module, "--decide", address, slow], log=Path(folder) / "pdp", fix="read its log")
        as_served = [f"{name}={value}" for name, value in READ_WHILE_POLLING.items()]  # read when grpcio is imported
        serving = ["env", *as_served, *module, "--serve", str(socket), address, slow, jwks(A_RSA)]
        server = Process("the server", serving, log=Path(folder) / "log", fix="read its log")
        pdp.start()
        server.start()
        try:
            server.wait_until(socket.exists)
            with grpc.insecure_channel(f"unix:{socket}") as channel:
                check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                    METHOD, request_serializer=bytes, response_deserializer=bytes
                )
                pid = int(Path(f"{socket}.pid").read_text(encoding="ascii"))
                report(measure(check, pid))
                overload(check, pid)
        finally:
            server.stop()
            pdp.stop()


def report(found: dict[str, Measured]) -> None:
    """Print what each kind of check took."""
    print("| checks, 1,000 a second | allowed | p50 ms | p99 ms | CPU us |\n|---|---:|---:|---:|---:|")
    for kind, each in found.items():
        cuts = quantiles(each.seconds, n=100)
        allowed = 100 * len(each.seconds) / (RATE * SECONDS * TURNS)
        shown = (
            f"{allowed:.1f} %",
            f"{1000 * cuts[49]:.2f}",
            f"{1000 * cuts[98]:.2f}",
            f"{1e6 * median(each.cpu):.0f}",
        )
        print(f"| {kind} | {' | '.join(shown)} |")
    if any(len(each.seconds) < RATE * SECONDS * TURNS for each in found.values()):
        print("\nNot all were allowed: the machine was too busy for a comparison.")
        return
    p99 = [quantiles(found[kind].seconds, n=100)[98] for kind in PATHS]
    cpu = [median(found[kind].cpu) for kind in PATHS]
    beyond = 1000 * (p99[1] - p99[0] - PDP_SECONDS)
    print(
        f"\nA PDP of 2 ms adds {beyond:.2f} ms to its own time at p99, and takes {cpu[1] / cpu[0]:.1f} times the CPU."
    )


if __name__ == "__main__":
    main()
