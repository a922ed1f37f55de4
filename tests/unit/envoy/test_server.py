"""Proves authz.envoy.server over real sockets: what is answered, what is bounded, and how it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from threading import Event

import grpc
import pytest

from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.envoy.admission import MAX_MESSAGE_BYTES, MAX_STREAMS, METHOD, SERVICE
from authz.telemetry.report import CheckRecord
from tests.fakes.http2 import (
    ACK,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    begin_call,
    frame,
    greet,
    send_message,
)
from tests.fakes.waiting import wait_until
from tests.fixtures import ask, mint
from tests.unit.envoy.asking import (
    HANG,
    UNKNOWN,
    Current,
    FakeLane,
    HeldLane,
    RecordingGatherer,
    make_checker,
    read,
    told,
    write_check,
)
from tests.unit.envoy.serving import SECONDS, code_of, health_of, make_server, method, serving, short_folder

GOOD = write_check(ask(mint()))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as path:
        yield path


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    """A channel to a server on a Unix socket."""
    with serving(make_checker()) as address, grpc.insecure_channel(address) as opened:
        yield opened


# What is answered.


def test_checks_are_answered_on_a_unix_socket(channel: grpc.Channel) -> None:
    """Envoy's bytes in, our bytes out, gRPC OK for both outcomes."""
    assert told(method(channel)(GOOD, timeout=SECONDS)) == "authenticated"
    assert told(method(channel)(write_check(), timeout=SECONDS)) == "token_missing"


def test_checks_are_answered_on_tcp() -> None:
    """The same on a TCP port."""
    server = make_server()
    port = server.listen_tcp("127.0.0.1:0", credentials=None)
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert told(method(channel)(GOOD, timeout=SECONDS)) == "authenticated"
    finally:
        server.stop(grace=0)


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x0a\x7f", bytes(100_000)], ids=["empty", "junk", "cut", "nul"])
def test_no_bytes_end_a_call_with_an_error(channel: grpc.Channel, data: bytes) -> None:
    """Undecodable bytes are a decision too: a gRPC error could fail open."""
    message = read(method(channel)(data, timeout=SECONDS))
    assert (told(message), message.status.code) == ("request_malformed", 7)


@pytest.mark.parametrize("deadline", [None, 3600.0])
def test_a_call_may_come_with_and_without_a_deadline(channel: grpc.Channel, deadline: float | None) -> None:
    """A caller that names no deadline is answered like one that names a far one."""
    assert told(method(channel)(GOOD, timeout=deadline)) == "authenticated"


@pytest.mark.parametrize("deadline", [None, 3600.0])
def test_a_call_without_a_deadline_waits_as_long_as_any(deadline: float | None) -> None:
    """The wait for a new key is bounded by max_wait where no deadline is near."""
    gatherer = RecordingGatherer({"key": FakeLane()})
    gatherer.start()
    with serving(make_checker(gatherer=gatherer)) as address, grpc.insecure_channel(address) as channel:
        assert told(method(channel)(UNKNOWN, timeout=deadline)) == "key_not_found"
    assert gatherer.waits == [0.1]


def test_a_call_with_a_deadline_waits_no_longer() -> None:
    """Whatever max_wait is, the answer comes before the caller gives up."""
    gatherer = RecordingGatherer({"key": FakeLane(wait=3600.0)})
    gatherer.start()
    with serving(make_checker(gatherer=gatherer)) as address, grpc.insecure_channel(address) as channel:
        assert told(method(channel)(UNKNOWN, timeout=SECONDS)) == "key_not_found"
    (waited,) = gatherer.waits
    assert 0 < waited < 1.1 * SECONDS  # gRPC rounds it up on its way


@pytest.mark.parametrize(
    "name",
    [
        f"/{SERVICE}/Watch",
        f"{METHOD}/",
        "/envoy.service.auth.v2.Authorization/Check",
        "/authz.wire.Authorization/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/",
    ],
)
def test_nothing_else_is_served(channel: grpc.Channel, name: str) -> None:
    """Neither other methods nor reflection or channelz are there."""
    with pytest.raises(grpc.RpcError) as raised:
        method(channel, name)(GOOD, timeout=SECONDS)
    assert code_of(raised.value) is grpc.StatusCode.UNIMPLEMENTED
    assert told(method(channel)(GOOD, timeout=SECONDS)) == "authenticated"


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_says_whether_to_send_checks(service: str, folder: Path) -> None:
    """Not serving before it is ready and after; Checks are answered all the same."""
    server = make_server()
    server.listen_unix(folder / "s", mode=0o600)
    server.start()
    try:
        with grpc.insecure_channel(f"unix:{folder}/s") as channel:
            assert health_of(channel, service) == "NOT_SERVING"
            server.show_ready(ready=True)
            assert health_of(channel, service) == "SERVING"
            server.show_ready(ready=False)
            assert health_of(channel, service) == "NOT_SERVING"
            assert told(method(channel)(GOOD, timeout=SECONDS)) == "authenticated"
    finally:
        server.stop(grace=0)


# What is bounded.


def test_a_message_that_is_too_large_is_refused_and_leaves_no_mark(channel: grpc.Channel) -> None:
    """What no Envoy can send is RESOURCE_EXHAUSTED, and the next call is answered."""
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as raised:
            method(channel)(bytes(MAX_MESSAGE_BYTES + 1), timeout=SECONDS)
        assert code_of(raised.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told(method(channel)(GOOD, timeout=SECONDS)) == "authenticated"


def test_a_request_of_3_mib_is_judged(channel: grpc.Channel) -> None:
    """A large body that Envoy is configured to send along is no error."""
    body = b"\x0a" + _varint(len(_with_body(3 << 20))) + _with_body(3 << 20)
    assert read(method(channel)(body, timeout=SECONDS)).status.code == 7


@pytest.mark.parametrize("where", ["path", "header"])
def test_as_much_as_envoy_can_be_told_to_accept_is_a_decision(channel: grpc.Channel, where: str) -> None:
    """A client chooses the length of its headers, up to max_request_headers_kb: no length may end in an RPC error."""
    longest = "a" * (8192 * 1024 - 100)
    path = f"/{longest}" if where == "path" else "/items/1"
    request = ask(path=path, headers={":path": path, "x": longest if where == "header" else ""})
    assert read(method(channel)(write_check(request), timeout=SECONDS)).status.code != 0


def _with_body(size: int) -> bytes:
    http = b"\x5a" + _varint(size) + bytes(size)  # body 11
    request = b"\x12" + _varint(len(http)) + http  # http 2
    return b"\x22" + _varint(len(request)) + request  # request 4


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


METADATA = {
    "tracestate of 20 KB": (("tracestate", "k=" + "x" * 20_000),),
    "tracestate of 60 KB": (("tracestate", "k=" + "x" * 60_000),),
    "60 KB of baggage in pieces": tuple(("baggage", "k=" + "x" * 1000) for _ in range(60)),
    "1,000 pairs": tuple((f"x-{number}", str(number)) for number in range(1000)),
    "binary": (("grpc-trace-bin", bytes(range(256))),),
    "empty": (("tracestate", ""), ("traceparent", "")),
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_metadata_that_a_client_chose_ends_no_call(
    channel: grpc.Channel, metadata: tuple[tuple[str, str | bytes], ...]
) -> None:
    """A tracing Envoy copies a client's tracestate into our metadata: its size decides nothing."""
    check = method(channel)
    for _ in range(10):  # above a soft limit, gRPC refuses by chance
        assert told(check(GOOD, metadata=metadata, timeout=SECONDS)) == "authenticated"
    assert told(check(write_check(), metadata=metadata, timeout=SECONDS)) == "token_missing"


def test_calls_above_max_concurrent_are_refused_at_once() -> None:
    """With as many calls held as may be, the next one gets 503 by a decision, not by a gRPC error."""
    lane = HeldLane()
    reports: list[CheckRecord] = []
    checker = make_checker(lane=lane, report=reports.append)
    with serving(checker, max_concurrent=2) as address, grpc.insecure_channel(address) as channel:
        check = method(channel)
        held = [check.future(UNKNOWN, timeout=SECONDS) for _ in range(2)]
        wait_until(lambda: len(lane.found) == 2)
        message = read(check(GOOD, timeout=SECONDS))
        assert (told(message), message.status.code, message.denied_response.status.code) == ("overloaded", 7, 503)

        lane.release()
        assert [told(call.result()) for call in held] == ["key_not_found"] * 2
        wait_until(lambda: bool(told(check(GOOD, timeout=SECONDS)) == "authenticated"))
    assert Reason.OVERLOADED in {record.decision.reason for record in reports}


def test_many_refusals_do_not_hold_up_one_another() -> None:
    """Hundreds of calls above the bound are each answered while another one waits."""
    lane = HeldLane()
    with (
        serving(make_checker(lane=lane), max_concurrent=1) as address,
        grpc.insecure_channel(address) as channel,
    ):
        check = method(channel)
        held = check.future(UNKNOWN, timeout=SECONDS)
        assert lane.waiting.wait(HANG)
        refused = [check.future(GOOD, timeout=SECONDS) for _ in range(500)]
        assert {told(call.result()) for call in refused} == {"overloaded"}
        lane.release()
        assert told(held.result()) == "key_not_found"


class HeldSnapshot(Current):
    """A snapshot that a decision stands still at, until *released*."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.released = Event(), Event()

    def __call__(self) -> Snapshot:
        self.reached.set()
        assert self.released.wait(SECONDS)
        return super().__call__()


def test_a_burst_of_calls_ends_none_with_an_error() -> None:
    """Calls that come faster than they are looked up wait: gRPC cancels some of them beyond a thousand by default."""
    snapshot = HeldSnapshot()
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel
    with serving(make_checker(snapshot=snapshot)) as address, ExitStack() as opened:
        checks = [method(opened.enter_context(grpc.insecure_channel(address, options=own))) for _ in range(4)]
        first = checks[0].future(GOOD, timeout=SECONDS)
        assert snapshot.reached.wait(SECONDS)
        calls = [check.future(GOOD, timeout=SECONDS) for _ in range(MAX_STREAMS - 1) for check in checks]
        snapshot.released.set()
        assert {told(call.result()) for call in (first, *calls)} == {"authenticated", "overloaded"}


class Backlog:
    """Checks by a checker that stands still at its first snapshot, until *released*; *reports*, and calls abandoned."""

    def __init__(self) -> None:
        self._snapshot = HeldSnapshot()
        self.reached, self.released = self._snapshot.reached, self._snapshot.released
        self.reasons: list[Reason] = []
        self.abandoned = 0
        self.checker = make_checker(snapshot=self._snapshot, report=self._note)

    def note_abandoned(self) -> None:
        self.abandoned += 1

    def _note(self, record: CheckRecord) -> None:
        self.reasons.append(record.decision.reason)


def test_a_call_whose_time_is_up_is_not_judged() -> None:
    """It stood in the queue for longer than its caller waits: it does no work, and no allow is counted."""
    backlog = Backlog()
    with (
        serving(backlog.checker, on_abandoned=backlog.note_abandoned) as address,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(SECONDS)
        connection.connect(address.removeprefix("unix:"))
        frames = greet(connection)
        connection.sendall(_check(1, write_check()))
        assert backlog.reached.wait(SECONDS)
        connection.sendall(begin_call(METHOD, stream=3, timeout="200m") + send_message(GOOD, stream=3))
        ended = next(each for each in frames if each.stream == 3)
        assert (ended.kind, b"grpc-status\x014" in ended.payload) == (HEADERS, True)  # DEADLINE_EXCEEDED
        backlog.released.set()
        connection.sendall(_check(5, write_check()))
        assert [each.stream for each in islice((each for each in frames if each.kind == DATA), 2)] == [1, 5]
        assert (backlog.reasons, backlog.abandoned) == ([Reason.TOKEN_MISSING] * 2, 1)


def test_a_call_that_was_reset_is_not_judged() -> None:
    """Its caller left while it stood in the queue: it does no work, and no allow is counted."""
    backlog = Backlog()
    with (
        serving(backlog.checker, on_abandoned=backlog.note_abandoned) as address,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(SECONDS)
        connection.connect(address.removeprefix("unix:"))
        answers = (each.stream for each in greet(connection) if each.kind == DATA)
        connection.sendall(_check(1, write_check()))
        assert backlog.reached.wait(SECONDS)
        connection.sendall(_check(3, GOOD) + frame(RST_STREAM, bytes(4), stream=3) + _check(5, write_check()))
        backlog.released.set()
        assert [next(answers), next(answers)] == [1, 5]
        assert (backlog.reasons, backlog.abandoned) == ([Reason.TOKEN_MISSING] * 2, 1)


def _check(stream: int, message: bytes) -> bytes:
    return begin_call(METHOD, stream=stream) + send_message(message, stream=stream)


def test_pings_do_not_close_the_channel(folder: Path) -> None:
    """Keep-alive pings on an idle connection, far more often than Envoy's, are answered; there is no GOAWAY."""
    server = make_server()
    server.listen_unix(folder / "s", mode=0o600)
    server.start()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(str(folder / "s"))
            frames = (each for each in greet(connection) if each.kind in {GOAWAY, PING})
            for number in range(50):
                connection.sendall(frame(PING, number.to_bytes(8, "big")))
                answer = next(frames)
                assert (answer.kind, answer.flags, int.from_bytes(answer.payload, "big")) == (PING, ACK, number)
    finally:
        server.stop(grace=0)


# The end.


def test_calls_in_flight_finish_at_the_end(folder: Path) -> None:
    """Stopping lets what is being evaluated be answered, and takes no more."""
    lane = HeldLane()
    server = make_server(make_checker(lane=lane))
    server.listen_unix(folder / "s", mode=0o600)
    server.start()
    with grpc.insecure_channel(f"unix:{folder}/s") as channel, ThreadPoolExecutor(1) as pool:
        held = method(channel).future(UNKNOWN, timeout=SECONDS)
        assert lane.waiting.wait(HANG)
        stopped = pool.submit(lambda: server.stop(grace=SECONDS))

        def refused() -> bool:
            with grpc.insecure_channel(f"unix:{folder}/s") as another:
                try:
                    method(another)(GOOD, timeout=SECONDS)
                except grpc.RpcError:
                    return True
                return False

        wait_until(refused)
        assert not stopped.done()
        lane.release()
        assert told(held.result()) == "key_not_found"
        stopped.result(SECONDS)


def test_health_is_answered_while_others_wait() -> None:
    """A busy sidecar is not a dead one: while checks wait for a key, health is answered, and so are other Checks."""
    lane = HeldLane()
    with (
        serving(make_checker(lane=lane)) as address,
        grpc.insecure_channel(address) as channel,
    ):
        held = [method(channel).future(UNKNOWN, timeout=SECONDS) for _ in range(2)]
        try:
            wait_until(lambda: len(lane.found) == 2)
            assert health_of(channel) == "NOT_SERVING"
            assert told(method(channel)(GOOD, timeout=SECONDS)) == "authenticated"
        finally:
            lane.release()
        assert {told(call.result()) for call in held} == {"key_not_found"}
