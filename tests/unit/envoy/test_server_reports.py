"""Proves what the gRPC server passes to reports: the call's metadata, its load, and calls that were abandoned."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import grpc
import pytest

from authz.envoy.admission import METHOD
from authz.envoy.checker import Checker
from authz.envoy.server import AuthorizationServer
from authz.envoy.transport.cygrpc import CygrpcTransport
from authz.telemetry.check_record import CheckRecord
from tests.fakes.http2 import HEADERS, begin_call, greet, send_message
from tests.fakes.waiting import wait_until
from tests.unit.envoy.asking import HANG, UNKNOWN, HeldLane, make_checker, told, write_check
from tests.unit.envoy.serving import SECONDS, method, short_folder

PARENT = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


class StubService:
    """What was reported."""

    def __init__(self) -> None:
        self.reports: list[CheckRecord] = []
        self.abandoned = 0
        self.address = ""  # of its socket, while it serves

    def note_abandoned(self) -> None:
        self.abandoned += 1

    @contextmanager
    def serve(
        self, checker: Checker, *, max_concurrent: int = 64
    ) -> Iterator[tuple[AuthorizationServer, grpc.UnaryUnaryMultiCallable[bytes, bytes]]]:
        """Serve; give the server, and the method as a caller has it."""
        with short_folder() as folder:
            server = AuthorizationServer(
                checker,
                transport=CygrpcTransport,
                max_concurrent=max_concurrent,
                on_abandoned=self.note_abandoned,
            )
            self.address = f"{folder}/s"
            server.listen_unix(Path(self.address), mode=0o600)
            server.start()
            try:
                with grpc.insecure_channel(f"unix:{self.address}") as channel:
                    yield server, method(channel)
            finally:
                server.stop(grace=0)


@pytest.mark.parametrize("state", ["", "x" * 20_000])
def test_metadata_comes_with_the_report(state: str) -> None:
    """The caller's span is in it, whatever else a client had Envoy send."""
    stub = StubService()
    with stub.serve(make_checker(report=stub.reports.append)) as (_, check):
        check(write_check(), metadata=(PARENT, ("tracestate", state)), timeout=SECONDS)
    (record,) = stub.reports
    assert dict(record.metadata)["traceparent"] == PARENT[1]


def test_a_refused_call_has_its_metadata_too() -> None:
    """Overload is when traces are looked at most."""
    stub, lane = StubService(), HeldLane()
    checker = make_checker(lane=lane, report=stub.reports.append)
    with stub.serve(checker, max_concurrent=1) as (_, check):
        held = check.future(UNKNOWN, timeout=SECONDS)
        assert lane.waiting.wait(HANG)
        assert told(check(write_check(), metadata=(PARENT,), timeout=SECONDS)) == "overloaded"
        lane.release()
        held.result()
    assert dict(stub.reports[0].metadata)["traceparent"] == PARENT[1]


def test_load_and_calls_that_were_abandoned_are_told() -> None:
    """Those that wait are in flight; one that its caller left before it was evaluated is counted, and not evaluated."""
    stub, lane = StubService(), HeldLane()
    reached, released = Event(), Event()

    def stand_still(record: CheckRecord) -> None:
        stub.reports.append(record)
        reached.set()
        assert released.wait(SECONDS)

    checker = make_checker(lane=lane, report=stand_still)
    with stub.serve(checker) as (server, check), socket.socket(socket.AF_UNIX) as caller:
        assert server.in_flight() == 0
        held = check.future(UNKNOWN, timeout=SECONDS)
        assert lane.waiting.wait(HANG)
        assert server.in_flight() == 1
        first = check.future(write_check(), timeout=SECONDS)
        assert reached.wait(SECONDS)
        assert server.in_flight() == 2

        caller.settimeout(SECONDS)
        caller.connect(stub.address)
        late = begin_call(METHOD, stream=1, timeout="200m") + send_message(write_check(), stream=1)
        frames = greet(caller)
        caller.sendall(late)  # is met after its time
        assert next(each for each in frames if each.stream == 1).kind == HEADERS  # which is over
        released.set()
        first.result()
        check(write_check(), timeout=SECONDS)
        lane.release()
        held.result()
        wait_until(lambda: server.in_flight() == 0)
    assert stub.abandoned == 1
    assert len(stub.reports) == 3
