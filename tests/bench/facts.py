"""Measure checks that each need a fact from a source that takes 20 ms, beside checks that need none.

`python -m tests.bench.facts` serves a kind of need that the product does not have, on a process of its own, asks it
1,000 such checks a second and 200 others for ten seconds, each at its time whatever the answers do, and prints how long
they took. The lane may ask 64 questions at a time: 20 of them are under way on average.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from statistics import quantiles
from typing import Final

import grpc

from authz.core.authorize import authorize
from authz.core.decision import AuditTrail, Decision, Deny
from authz.core.needs import Facts, Need
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.snapshot import Snapshot
from authz.demo.process import Process
from authz.envoy.admission import METHOD
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer
from authz.envoy.server import AuthorizationServer
from authz.envoy.transport.cygrpc import CygrpcTransport
from authz.facts.bounds import Bounds
from authz.facts.lane import SourceLane
from authz.facts.source import Fact
from tests.fixtures import DEFAULT_SNAPSHOT, T, ask, mint
from tests.unit.envoy.asking import write_check

SOURCE_SECONDS: Final = 0.020
SECONDS: Final = 10
RATES: Final = {"needs a fact": 1000, "needs nothing": 200}  # checks a second
BOUNDS: Final = Bounds(max_concurrent=64, max_waiting=256, max_wait=1.0, burst=1_000_000, refill=1e-6)


def decide(request: Request, snapshot: Snapshot, now: float, facts: Facts) -> Decision:
    """Decide as ever, once the fact is there that a check with a `x-fact` header needs."""
    asked = request.headers.get("x-fact")
    need = Need("weather", "almanac", asked)
    if asked is not None and need not in facts:
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=(need,)), "the weather is unknown")
    return authorize(request, snapshot, now)


def look_up(need: Need) -> Fact:
    """Take as long as a server near by."""
    time.sleep(SOURCE_SECONDS)
    return Fact(need.identifier)


def serve(socket: str) -> None:
    """Serve such checks on *socket* until this process is ended."""
    gatherer = Gatherer(
        {"weather": SourceLane("weather", look_up, bounds=BOUNDS, monotonic=time.monotonic)}, monotonic=time.monotonic
    )
    checker = Checker(
        snapshot=lambda: DEFAULT_SNAPSHOT,
        gatherer=gatherer,
        report=lambda _record: None,
        now=lambda: float(T),
        elapsed=time.monotonic,
        new_id=lambda: "0",
        decide=decide,
    )
    sys.setswitchinterval(0.0005)  # as `authz serve` does
    server = AuthorizationServer(checker, transport=CygrpcTransport, max_concurrent=1024)
    server.listen_unix(Path(socket), mode=0o600)
    gatherer.start()
    server.start()
    while True:
        time.sleep(3600)


def load(check: grpc.UnaryUnaryMultiCallable[bytes, bytes]) -> dict[str, list[float]]:
    """Send each check when it is due; return the seconds from then to its answer, by kind."""
    token = mint()
    plan = sorted((number / rate, kind, number) for kind, rate in RATES.items() for number in range(rate * SECONDS))
    answered: SimpleQueue[tuple[str, float]] = SimpleQueue()
    began = time.monotonic() + 0.5

    def note(kind: str, due: float) -> Callable[[object], None]:
        return lambda _call: answered.put((kind, time.monotonic() - due))

    for offset, kind, number in plan:
        headers = {"x-fact": str(number)} if kind == "needs a fact" else {}
        message = write_check(ask(token, headers=headers))
        due = began + offset
        time.sleep(max(0.0, due - time.monotonic()))
        check.future(message, timeout=30).add_done_callback(note(kind, due))
    latencies: dict[str, list[float]] = {kind: [] for kind in RATES}
    for _ in plan:
        kind, seconds = answered.get()
        latencies[kind].append(seconds)
    return latencies


def main() -> None:
    """Serve with --serve; else measure."""
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        socket = Path(folder) / "s"
        argv = [sys.executable, "-m", "tests.bench.facts", "--serve", str(socket)]
        server = Process("the server", argv, log=Path(folder) / "log", fix="read its log")
        server.start()
        try:
            server.wait_until(socket.exists)
            with grpc.insecure_channel(f"unix:{socket}") as channel:
                latencies = load(channel.unary_unary(METHOD, request_serializer=bytes, response_deserializer=bytes))
        finally:
            server.stop()
    print("| checks | a second | p50 ms | p99 ms |\n|---|---:|---:|---:|")
    for kind, seconds in latencies.items():
        cuts = quantiles(seconds, n=100)
        print(f"| {kind} | {RATES[kind]} | {1000 * cuts[49]:.1f} | {1000 * cuts[98]:.1f} |")


if __name__ == "__main__":
    main()
