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

from authz.envoy.call import Call
from authz.envoy.check import Later
from authz.envoy.loop import _AHEAD, _LOOK, _MOST_UNREAD, _MOST_UNSENT, _PATIENCE, CallLoop
from tests.fakes.clock import FakeClock
from tests.fakes.http2 import DATA, PREFACE, RST_STREAM, SETTINGS, begin_call, frame, read_frames, send_message
from tests.fakes.waiting import wait_until
from tests.unit.envoy.serving import SECONDS, code_of, method

ASK: Final = "/test/Ask"
MANY_PENDING: Final = [  # or gRPC would end calls by itself where many come at one time
    ("grpc.server.max_pending_requests", 1_000_000),
    ("grpc.server.max_pending_requests_hard_limit", 1_000_000),
]
NO_WINDOW: Final = frame(SETTINGS, b"\x00\x04" + bytes(4))  # SETTINGS_INITIAL_WINDOW_SIZE of 0
TROUBLES: Final = [ValueError("trouble"), SystemExit(), KeyboardInterrupt(), MemoryError()]


class Desk:
    """A service whose parts are in the test's hands; *threads* and *judged* tell what it did."""

    methods = frozenset([ASK.encode()])
    last_resort = b"last resort"

    def __init__(self) -> None:
        self.meeting: Callable[[Call, int], bytes | None] = lambda _call, _held: None
        self.judging: Callable[[Call], bytes | Later] = lambda call: b"re: " + call.message
        self.judged: list[bytes] = []
        self.given_up = 0
        self.threads: set[str] = set()

    def stand_still(self) -> tuple[Event, Event]:
        """Judge nothing until the second event; the first one tells that there is a call to judge."""
        reached, released = Event(), Event()

        def judge(_call: Call) -> bytes:
            reached.set()
            assert released.wait(SECONDS)
            return b"judged"

        self.judging = judge
        return reached, released

    def meet(self, call: Call, held: int) -> bytes | None:
        return self.meeting(call, held)

    def refuse(self, call: Call) -> bytes:
        return b"no room"

    def give_up(self, call: Call) -> None:
        self.given_up += 1

    def judge(self, call: Call) -> bytes | Later:
        self.judged.append(call.message)
        self.threads.add(current_thread().name)
        return self.judging(call)


@contextmanager
def serving(
    desk: Desk, *, clock: FakeClock | None = None, kind: type[CallLoop] = CallLoop
) -> Iterator[tuple[CallLoop, grpc.Channel, int]]:
    """Serve *desk* on a port, with one waiter."""
    loop = kind(desk, MANY_PENDING, waiters=1, **({"monotonic": clock.monotonic} if clock is not None else {}))
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
        self._answered: Final[set[int]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def say(self, *frames: bytes) -> None:
        """Send *frames* as they are."""
        self._connection.sendall(b"".join(frames))

    def begin(self, *streams: int) -> None:
        """Begin a call on each stream."""
        self._connection.sendall(b"".join(begin_call(ASK, stream=stream) for stream in streams))

    def call(self, *streams: int) -> None:
        """Make a whole call on each stream."""
        self.say(*map(whole_call, streams))

    def end(self, stream: int) -> None:
        """Send the message of a call that was begun."""
        self._connection.sendall(send_message(b"%d" % stream, stream=stream))

    def receive(self, number: int) -> dict[int, bytes]:
        """Return so many answers, by stream; b"" where the call was reset."""
        answers: dict[int, bytes] = {}
        while len(answers) < number:
            came = next(self.frames)
            if came.kind == DATA:
                answers[came.stream] = came.payload[5:]
            elif came.kind == RST_STREAM and came.stream not in self._answered:
                answers[came.stream] = b""
            self._answered.update(answers)
        return answers


def whole_call(stream: int) -> bytes:
    """Write a call whose message is the number of its stream."""
    return begin_call(ASK, stream=stream) + send_message(b"%d" % stream, stream=stream)


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
        assert method(channel, ASK)(b"go", timeout=SECONDS) == b"at once"
        wait_until(lambda: not loop._unsent)
    assert threads == ["waiter-0"]


def test_what_came_is_met_before_the_next_one_is_judged() -> None:
    """While one is judged others come: of them so many as may be held are judged, and all others refused, unjudged."""
    desk = Desk()
    reached, released = desk.stand_still()
    desk.meeting = lambda _call, held: b"refused" if held >= 3 else None
    with serving(desk) as (_, _, port), Caller(port) as caller:
        caller.call(1)
        assert reached.wait(SECONDS)
        caller.call(*range(3, 19, 2))
        released.set()
        answers = caller.receive(9)
    assert answers[1] == b"judged"
    assert sorted(answers.values()) == [b"judged"] * 4 + [b"refused"] * 5
    assert len(desk.judged) == 4


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


@pytest.mark.parametrize("stage", ["meet", "wait"])
def test_an_answer_that_cannot_be_sent_is_logged(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its call is ended and holds no place, and no other one is disturbed."""
    desk = Desk()
    no_bytes: Any = "no bytes"
    if stage == "meet":
        desk.meeting = lambda _call, _held: no_bytes
    else:
        desk.judging = lambda _call: lambda: no_bytes
    with serving(desk) as (loop, channel, _), caplog.at_level(logging.ERROR, "authz"):
        call = method(channel, ASK).future(b"x", timeout=SECONDS)
        assert end_of(call) is grpc.StatusCode.CANCELLED
        desk.meeting, desk.judging = Desk().meeting, Desk().judging
        assert method(channel, ASK)(b"x", timeout=SECONDS) == b"re: x"
        wait_until(lambda: loop.held == 0)
    assert [record.message for record in caplog.records] == ["a call ended badly"]


class Faulty(CallLoop):
    """A loop that loses the events of its first calls: more than gRPC may hand over before it is asked again."""

    lost = 0

    def _poll(self, until: float) -> Any:  # noqa: ANN401 - as cygrpc has it
        event = super()._poll(until)
        if hasattr(event, "call_details") and self.lost <= _AHEAD:
            self.lost += 1
            raise MemoryError
        return event


def test_calls_that_are_lost_are_the_only_ones() -> None:
    """Whatever becomes of them, the next is asked for."""
    with serving(Desk(), kind=Faulty) as (loop, channel, _):
        assert isinstance(loop, Faulty)
        lost = [method(channel, ASK).future(b"x", timeout=SECONDS) for _ in range(_AHEAD + 1)]
        wait_until(lambda: loop.lost > _AHEAD)
        assert method(channel, ASK)(b"y", timeout=SECONDS) == b"re: y"
        assert [call.done() for call in lost] == [False] * len(lost)
        for call in lost:
            call.cancel()


# What callers can pile up.


def test_calls_that_were_reset_hold_no_place() -> None:
    """Those whose callers went before they were judged are not among the held, and nobody is refused for them."""
    desk = Desk()
    reached, released = desk.stand_still()
    desk.meeting = lambda _call, held: b"refused" if held >= 3 else None
    with serving(desk) as (_, _, port), Caller(port) as caller:
        caller.call(1)
        assert reached.wait(SECONDS)
        reset = (whole_call(stream) + frame(RST_STREAM, bytes(4), stream=stream) for stream in range(3, 43, 2))
        caller.say(*reset, whole_call(43))  # in one piece: all of it is read before any of it is met
        released.set()
        assert caller.receive(2) == {1: b"judged", 43: b"judged"}
        assert (desk.judged, desk.given_up) == ([b"1", b"43"], 20)


def test_calls_that_are_reset_in_the_queue_give_their_places_back() -> None:
    """They were read and held, and their callers go: as many others are held in their stead."""
    desk = Desk()
    first, second = Event(), Event()

    def stand_still_twice(_call: Call) -> bytes:
        for number, released in enumerate((first, second), 1):
            assert len(desk.judged) != number or released.wait(SECONDS)
        return b"judged"

    desk.judging = stand_still_twice
    desk.meeting = lambda _call, held: b"refused" if held >= 3 else None
    with serving(desk) as (_, _, port), Caller(port) as caller:
        caller.call(1)
        wait_until(lambda: len(desk.judged) == 1)
        caller.call(3, 5, 7)
        first.set()
        wait_until(lambda: len(desk.judged) == 2)
        left = sorted({3, 5, 7} - {int(desk.judged[1])})
        caller.say(*(frame(RST_STREAM, bytes(4), stream=each) for each in left), *map(whole_call, (9, 11, 13)))
        second.set()
        answers = caller.receive(5)
    assert answers == dict.fromkeys((1, int(desk.judged[1]), 9, 11, 13), b"judged")
    assert desk.given_up == 2


def test_answers_that_nobody_reads_are_bounded() -> None:
    """Beyond so many the oldest is ended: a caller whose window is closed keeps no more of them."""
    with serving(Desk()) as (_, channel, port), Caller(port) as caller:
        caller.say(NO_WINDOW)
        caller.call(*range(1, 2 * (_MOST_UNSENT + 10), 2))
        assert set(caller.receive(10).values()) == {b""}
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"


def test_who_waits_is_not_ended_for_those_who_do_not_read() -> None:
    """An answer that is not made yet is no answer that nobody reads, however many of those there are."""
    desk, landed = Desk(), Event()
    waiting = Event()

    def later() -> bytes:
        waiting.set()
        assert landed.wait(SECONDS)
        return b"later"

    desk.judging = lambda call: later if call.message == b"wait" else b"at once"
    with serving(desk) as (loop, channel, port), Caller(port) as caller:
        waits = method(channel, ASK).future(b"wait", timeout=SECONDS)
        assert waiting.wait(SECONDS)
        caller.say(NO_WINDOW)
        caller.call(*range(1, 2 * (_MOST_UNSENT + 10), 2))
        assert set(caller.receive(10).values()) == {b""}
        landed.set()
        assert waits.result() == b"later"
        wait_until(lambda: loop.held == 0)


def test_of_an_answered_call_nothing_is_kept() -> None:
    """Who does not read an answer does not make us keep a question of megabytes."""
    desk = Desk()
    calls: list[Call] = []

    def judge(call: Call) -> bytes | Later:
        calls.append(call)
        return b"at once" if len(calls) == 1 else lambda: b"later"

    desk.judging = judge
    with serving(desk) as (_, channel, _):
        assert method(channel, ASK)(b"x" * 1000, timeout=SECONDS, metadata=(("k", "v" * 1000),)) == b"at once"
        assert method(channel, ASK)(b"x" * 1000, timeout=SECONDS, metadata=(("k", "v" * 1000),)) == b"later"
        wait_until(lambda: [(call.message, call.metadata) for call in calls] == [(b"", ())] * 2)


# Half calls.


def test_half_a_call_is_turned_away() -> None:
    """It is seen without its message three times, and answered; whole ones are answered all the while."""
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
        assert ended == dict.fromkeys((1, 3, 5), b"no room")
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        assert desk.judged == [b"whole"] * 2


def test_a_pause_of_the_process_ends_no_call() -> None:
    """However long it lasts it is one look, and a message that came meanwhile is read before the next."""
    desk, clock = Desk(), FakeClock()
    with serving(desk, clock=clock) as (_, channel, port), Caller(port) as caller:
        caller.begin(1)
        for _ in range(10):  # polls that find nothing more are no looks
            assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        for _ in range(_PATIENCE):
            clock.advance(3600)
            assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        caller.end(1)
        assert caller.receive(1) == {1: b"re: 1"}


def test_half_calls_have_little_room() -> None:
    """Beyond so many the oldest is turned away at once, by an answer: an error to Envoy might let it pass."""
    desk, clock = Desk(), FakeClock()
    with serving(desk, clock=clock) as (_, channel, port), Caller(port) as caller:
        streams = range(1, 2 * (_MOST_UNREAD + 10), 2)
        caller.begin(*streams)
        turned_away = caller.receive(10)
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        turned_away |= caller.receive(1)
        assert set(turned_away.values()) == {b"no room"}
        left = max(set(streams) - set(turned_away))
        caller.end(left)
        assert caller.receive(1) == {left: b"re: %d" % left}


# The end.


def test_a_loop_that_never_began_ends() -> None:
    """Its address was bound, and nothing else."""
    loop = CallLoop(Desk(), (), waiters=1)
    loop.bind("127.0.0.1:0")
    loop.stop(grace=1)


def test_what_came_before_the_stop_is_answered() -> None:
    """However many calls stand in the queue, those too that gRPC has not handed over yet."""
    desk = Desk()
    reached, released = desk.stand_still()
    with serving(desk) as (loop, _, port):
        with Caller(port) as caller:
            caller.call(1)
            assert reached.wait(SECONDS)
            caller.call(*range(3, 203, 2))
            stopping = Thread(target=lambda: loop.stop(grace=SECONDS))
            stopping.start()
            released.set()
            assert set(caller.receive(101).values()) == {b"judged"}
        stopping.join(SECONDS)
        assert not stopping.is_alive()


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


def test_an_address_in_use_is_an_error() -> None:
    """Two loops never share a port."""
    alone = [("grpc.so_reuseport", 0)]
    first = CallLoop(Desk(), alone, waiters=0)
    port = first.bind("127.0.0.1:0")
    with pytest.raises(RuntimeError, match=rf"127\.0\.0\.1:{port}"):
        CallLoop(Desk(), alone, waiters=0).bind(f"127.0.0.1:{port}")
