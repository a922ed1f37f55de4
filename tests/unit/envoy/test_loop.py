"""Proves authz.envoy.loop: what is met before what, what waits, what is ended, and that nothing ends the loop."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, current_thread
from typing import Any, Final, Self

import grpc
import pytest

from authz.envoy.check import Later
from authz.envoy.loop import _LOOK, _MOST_UNREAD, _PATIENCE, Call, CallLoop
from tests.fakes.clock import FakeClock
from tests.fakes.http2 import DATA, PREFACE, RST_STREAM, begin_call, read_frames, send_message
from tests.fakes.waiting import wait_until
from tests.unit.envoy.serving import SECONDS, code_of, method

ASK: Final = "/test/Ask"
TROUBLES: Final = [ValueError("trouble"), SystemExit(), KeyboardInterrupt(), MemoryError()]


class Desk:
    """A service whose parts are in the test's hands; *threads* and *judged* tell what it did."""

    methods = frozenset([ASK.encode()])
    last_resort = b"last resort"

    def __init__(self) -> None:
        self.meeting: Callable[[Call, int], bytes | None] = lambda _call, _held: None
        self.judging: Callable[[Call], bytes | Later | None] = lambda call: b"re: " + call.message
        self.judged: list[bytes] = []
        self.threads: set[str] = set()

    def meet(self, call: Call, held: int) -> bytes | None:
        return self.meeting(call, held)

    def judge(self, call: Call) -> bytes | Later | None:
        self.judged.append(call.message)
        self.threads.add(current_thread().name)
        return self.judging(call)


@contextmanager
def serving(desk: Desk, *, clock: FakeClock | None = None) -> Iterator[tuple[CallLoop, grpc.Channel, int]]:
    """Serve *desk* on a port, with one waiter."""
    loop = CallLoop(desk, (), waiters=1, **({"monotonic": clock.monotonic} if clock is not None else {}))
    port = loop.bind("127.0.0.1:0")
    loop.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield loop, channel, port
    finally:
        loop.stop(grace=0)


class Caller:
    """A caller that writes frames as it likes, on a connection of its own."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._connection.sendall(PREFACE)
        self.frames: Final = read_frames(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def begin(self, *streams: int) -> None:
        """Begin a call on each stream."""
        self._connection.sendall(b"".join(begin_call(ASK, stream=stream) for stream in streams))

    def call(self, *streams: int) -> None:
        """Make a whole call on each stream."""
        calls = (begin_call(ASK, stream=each) + send_message(b"%d" % each, stream=each) for each in streams)
        self._connection.sendall(b"".join(calls))

    def end(self, stream: int) -> None:
        """Send the message of a call that was begun."""
        self._connection.sendall(send_message(b"%d" % stream, stream=stream))

    def receive(self, number: int) -> dict[int, bytes]:
        """Return so many answers, by stream; b"" where the call was reset."""
        answers: dict[int, bytes] = {}
        while len(answers) < number:
            frame = next(self.frames)
            if frame.kind == DATA:
                answers[frame.stream] = frame.payload[5:]
            elif frame.kind == RST_STREAM and frame.stream not in answers:
                answers[frame.stream] = b""
        return answers


def end_of(call: grpc.Future[bytes]) -> grpc.StatusCode:
    """Return how a call failed."""
    error = call.exception(timeout=SECONDS)
    assert error is not None
    return code_of(error)


# What is answered, and by whom.


def test_every_call_is_judged_on_one_thread() -> None:
    """There is no hand-over from one to another."""
    desk = Desk()
    with serving(desk) as (_, channel, _):
        calls = [method(channel, ASK).future(b"%d" % number, timeout=SECONDS) for number in range(100)]
        assert [call.result() for call in calls] == [b"re: %d" % number for number in range(100)]
    assert desk.threads == {"calls"}


def test_what_waits_holds_nobody_up() -> None:
    """An answer that comes later is waited for elsewhere, and is held until it is sent."""
    desk, landed = Desk(), Event()
    threads: list[str] = []

    def later() -> bytes:
        threads.append(current_thread().name)
        assert landed.wait(SECONDS)
        return b"later"

    desk.judging = lambda call: later if call.message == b"wait" else b"at once"
    with serving(desk) as (loop, channel, _):
        waits = method(channel, ASK).future(b"wait", timeout=SECONDS)
        wait_until(lambda: bool(threads))
        assert method(channel, ASK)(b"go", timeout=SECONDS) == b"at once"
        assert (loop.held, waits.done()) == (1, False)
        landed.set()
        assert waits.result() == b"later"
        wait_until(lambda: loop.held == 0)
    assert threads == ["waiter-0"]


def test_what_came_is_met_before_the_next_one_is_judged() -> None:
    """While one is judged others come: of them so many as may be held are judged, and all others refused, unjudged."""
    desk = Desk()
    reached, released = Event(), Event()

    def stand_still(call: Call) -> bytes:
        reached.set()
        assert released.wait(SECONDS)
        return b"judged"

    desk.judging = stand_still
    desk.meeting = lambda _call, held: b"refused" if held >= 3 else None
    with serving(desk) as (_, _, port), Caller(port) as caller:
        caller.call(1)
        assert reached.wait(SECONDS)
        caller.call(*range(3, 19, 2))
        released.set()
        answers = caller.receive(9)
    assert answers == dict.fromkeys((1, 3, 5, 7), b"judged") | dict.fromkeys(range(9, 19, 2), b"refused")
    assert desk.judged == [b"1", b"3", b"5", b"7"]


def test_a_call_may_end_without_a_message() -> None:
    """It is judged as one with an empty message: whoever reads it says that it is malformed."""
    desk = Desk()
    with serving(desk) as (_, channel, _):
        call: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(ASK)
        assert call(iter(()), timeout=SECONDS) == b"re: "
    assert desk.judged == [b""]


def test_an_unknown_method_is_not_implemented() -> None:
    """The service is not asked."""
    desk = Desk()
    with serving(desk) as (_, channel, _), pytest.raises(grpc.RpcError) as raised:
        method(channel, "/test/Other")(b"", timeout=SECONDS)
    assert code_of(raised.value) is grpc.StatusCode.UNIMPLEMENTED
    assert desk.judged == []


# Whatever is raised.


@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("stage", ["meet", "judge", "wait"])
def test_whatever_is_raised_is_answered(stage: str, error: BaseException) -> None:
    """The last resort is the answer, never a gRPC error, and the next calls are answered as ever."""
    desk = Desk()

    def fail(*_: object) -> bytes:
        raise error

    with serving(desk) as (loop, channel, _):
        match stage:
            case "meet":
                desk.meeting = fail
            case "judge":
                desk.judging = fail
            case _:
                desk.judging = lambda _call: fail
        assert [method(channel, ASK)(b"x", timeout=SECONDS) for _ in range(3)] == [desk.last_resort] * 3
        desk.meeting, desk.judging = Desk().meeting, Desk().judging
        assert method(channel, ASK)(b"x", timeout=SECONDS) == b"re: x"
        wait_until(lambda: loop.held == 0)


def test_an_answer_that_cannot_be_sent_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its call is ended, and no other one."""
    desk = Desk()
    no_bytes: Any = "no bytes"
    desk.meeting = lambda _call, _held: no_bytes
    with serving(desk) as (_, channel, _), caplog.at_level(logging.ERROR, "authz"):
        call = method(channel, ASK).future(b"x", timeout=SECONDS)
        assert end_of(call) is grpc.StatusCode.CANCELLED
        desk.meeting = Desk().meeting
        assert method(channel, ASK)(b"x", timeout=SECONDS) == b"re: x"
    assert [record.message for record in caplog.records] == ["a call ended badly"]


# Half calls.


def test_half_a_call_is_ended() -> None:
    """It is seen without its message three times, and ended; whole ones are answered all the while."""
    desk, clock = Desk(), FakeClock()
    with serving(desk, clock=clock) as (_, channel, port), Caller(port) as caller:
        caller.begin(1, 3, 5)
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        ended: dict[int, bytes] = {}
        reading = Thread(target=lambda: ended.update(caller.receive(3)))
        reading.start()

        def time_passes() -> bool:
            clock.advance(_LOOK)
            return not reading.is_alive()

        wait_until(time_passes)
        assert ended == dict.fromkeys((1, 3, 5), b"")
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"


def test_a_pause_of_the_process_ends_no_call() -> None:
    """However long it lasts it is one look, and a message that came meanwhile is read before the next."""
    desk, clock = Desk(), FakeClock()
    with serving(desk, clock=clock) as (_, channel, port), Caller(port) as caller:
        caller.begin(1)
        for _ in range(_PATIENCE):
            clock.advance(3600)
            assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        caller.end(1)
        assert caller.receive(1) == {1: b"re: 1"}


def test_half_calls_have_little_room() -> None:
    """Beyond so many the oldest is ended at once: time alone does not bound them."""
    desk, clock = Desk(), FakeClock()
    with serving(desk, clock=clock) as (_, channel, port), Caller(port) as caller:
        streams = range(1, 2 * (_MOST_UNREAD + 10), 2)
        caller.begin(*streams)
        assert caller.receive(10) == dict.fromkeys(streams[:10], b"")
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        assert caller.receive(1) == {streams[10]: b""}
        caller.end(streams[-1])
        assert caller.receive(1) == {streams[-1]: b"re: %d" % streams[-1]}


# The end.


def test_a_loop_that_never_began_ends() -> None:
    """Its address was bound, and nothing else."""
    loop = CallLoop(Desk(), (), waiters=1)
    loop.bind("127.0.0.1:0")
    loop.stop(grace=1)


def test_calls_that_do_not_end_are_cancelled() -> None:
    """After the grace the caller is told, whatever its call waits for."""
    desk, never = Desk(), Event()
    waiting = Event()

    def later() -> bytes:
        waiting.set()
        never.wait(SECONDS)
        return b"too late"

    desk.judging = lambda _call: later
    with serving(desk) as (loop, channel, _):
        call = method(channel, ASK).future(b"x", timeout=SECONDS)
        assert waiting.wait(SECONDS)
        loop.stop(grace=0)
        assert end_of(call) in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
        never.set()
