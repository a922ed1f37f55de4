"""Measure checks whose rule asks a PDP that takes 2 ms, beside the same checks without it, in one run.

`python -m tests.bench.pdp` starts a PDP, and a sidecar's server with its real lanes on a process of its own. It sends
1,000 checks a second, each at its time whatever the answers do, in turns of five seconds: without and with a decision
that is asked for each time. It prints how long they took, and the CPU of the server's process.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from statistics import median, quantiles
from typing import Final

import grpc
from prometheus_client import CollectorRegistry

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.demo.process import Process
from authz.envoy.admission import METHOD
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer
from authz.envoy.server import AuthorizationServer
from authz.envoy.transport.cygrpc import CygrpcTransport
from authz.feeds.fact_lanes import FactLanes
from authz.feeds.signature_cache import SignatureCache
from authz.telemetry.facts import FactMetrics
from tests.fakes.ports import free_address
from tests.fixtures import A_RSA, T, ask, jwks, mint
from tests.unit.envoy.asking import write_check

PDP_SECONDS: Final = 0.002
SECONDS: Final = 5
TURNS: Final = 3
RATE: Final = 1000  # checks a second
PATHS: Final = {"without": "/open", "with a PDP": "/asked"}

_CONFIG: Final = """version: 1
issuers:
  a: {{issuer: "https://a.test", audiences: [api], jwks: {keys}}}
pdps:
  policies: {{url: "http://{address}/access/v1/evaluation"}}
rules:
  - {{name: open, match: {{paths: ["/open/{{id}}"]}}}}
  - name: asked
    match: {{paths: ["/asked/{{id}}"]}}
    require: {{pdp: {{name: policies, resource: {{type: item, id: "${{params.id}}"}}}}}}
"""
_ANSWER: Final = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{"decision":true}'


class _Decider(asyncio.Protocol):
    """Answers each request after PDP_SECONDS; requests of one connection come one after another."""

    def __init__(self) -> None:
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
            asyncio.get_running_loop().call_later(PDP_SECONDS, self._answer)

    def _answer(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def decide(address: str) -> None:
    """Serve decisions until this process is ended."""
    host, _, port = address.rpartition(":")
    server = await asyncio.get_running_loop().create_server(_Decider, host, int(port))
    await server.serve_forever()


def serve(socket: str, address: str, keys: str) -> None:
    """Serve checks on *socket*, with the PDP at *address* and the issuer's *keys*, until this process is ended."""
    config = parse(_CONFIG.format(keys=keys, address=address), file="bench")
    snapshot = build_snapshot(config, verify_signature=SignatureCache().verify)
    lanes = FactLanes(FactMetrics(CollectorRegistry()), max_waiting=256)
    lanes.follow(config)
    gatherer = Gatherer(lanes.by_kind(), monotonic=time.monotonic)
    checker = Checker(
        snapshot=lambda: snapshot,
        gatherer=gatherer,
        report=lambda _record: None,
        now=lambda: float(T),
        elapsed=time.monotonic,
        new_id=lambda: "0",
    )
    sys.setswitchinterval(0.0005)  # as `authz serve` does
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


def load(check: grpc.UnaryUnaryMultiCallable[bytes, bytes], path: str) -> list[float]:
    """Send each check when it is due; return the seconds from then to its answer, of those that were allowed."""
    token = mint()
    answered: SimpleQueue[tuple[float, bool]] = SimpleQueue()
    messages = [write_check(ask(token, path=f"{path}/{number}")) for number in range(RATE * SECONDS)]
    began = time.monotonic() + 0.1

    def note(due: float) -> Callable[[grpc.Future[bytes]], None]:
        def noted(call: grpc.Future[bytes]) -> None:
            error = call.exception()
            answered.put((time.monotonic() - due, error is None and b"authenticated" in call.result()))

        return noted

    for number, message in enumerate(messages):
        due = began + number / RATE
        time.sleep(max(0.0, due - time.monotonic()))
        check.future(message, timeout=30).add_done_callback(note(due))
    return [seconds for seconds, allowed in (answered.get(timeout=60) for _ in messages) if allowed]


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
            found[kind].seconds += load(check, path)
            found[kind].cpu.append((cpu_of(pid) - before) / (RATE * SECONDS))
    return found


def main() -> None:
    """Serve with --serve or --decide; else measure."""
    if sys.argv[1:2] == ["--serve"]:
        Path(f"{sys.argv[2]}.pid").write_text(str(os.getpid()), encoding="ascii")
        serve(*sys.argv[2:5])
    if sys.argv[1:2] == ["--decide"]:
        asyncio.run(decide(sys.argv[2]))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        socket, address = Path(folder) / "s", free_address()
        module = [sys.executable, "-m", "tests.bench.pdp"]
        pdp = Process("the PDP", [*module, "--decide", address], log=Path(folder) / "pdp", fix="read its log")
        serving = [*module, "--serve", str(socket), address, jwks(A_RSA)]
        server = Process("the server", serving, log=Path(folder) / "log", fix="read its log")
        pdp.start()
        server.start()
        try:
            server.wait_until(socket.exists)
            with grpc.insecure_channel(f"unix:{socket}") as channel:
                check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                    METHOD, request_serializer=bytes, response_deserializer=bytes
                )
                found = measure(check, int(Path(f"{socket}.pid").read_text(encoding="ascii")))
        finally:
            server.stop()
            pdp.stop()
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
