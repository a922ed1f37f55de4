"""The contract of the transport port, proved of each transport over real sockets."""

from __future__ import annotations

import time
from threading import Event, Thread
from typing import Any, Final

import grpc
import pytest

from authz.envoy.transport import cygrpc, pool
from authz.envoy.transport.arrivals import Arrivals
from authz.envoy.transport.other_threads import OtherThreads
from authz.envoy.transport.port import Call, Deferred, Respond
from tests.fakes.clock import FakeClock
from tests.fakes.http2 import RST_STREAM, begin_call, frame, send_message
from tests.fakes.waiting import wait_until
from tests.unit.envoy.serving import SECONDS, code_of, method
from tests.unit.envoy.transport.stub import (
    ASK,
    MAX_MESSAGE,
    NO_WINDOW,
    OPTIONS,
    TRANSPORTS,
    Caller,
    Kind,
    StubService,
    Waiting,
    busy_thread,
    end_of,
    serving,
    whole_call,
)

TROUBLES: Final = [ValueError("trouble"), SystemExit(), KeyboardInterrupt(), MemoryError()]
MAX_UNSENT: Final = cygrpc._MAX_UNSENT
assert MAX_UNSENT == pool._MAX_UNSENT


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each transport in turn."""
    found: Kind = request.param
    return found


# What is answered.


def test_every_call_is_answered_and_one_handled_at_a_time(kind: Kind) -> None:
    """The service needs no locks: nothing calls into it while it is busy."""
    service = StubService()
    with serving(service, kind) as (_, channel, _):
        calls = [method(channel, ASK).future(b"%d" % number, timeout=SECONDS) for number in range(200)]
        assert [call.result() for call in calls] == [b"re: %d" % number for number in range(200)]
    assert service.overlaps == 0


def test_a_deferred_answer_holds_up_no_other(kind: Kind) -> None:
    """It counts as in flight until it is sent."""
    service, waiting = StubService(), Waiting()
    service.handling = lambda call: waiting if call.message == b"wait" else b"at once"
    with serving(service, kind) as (transport, channel, _):
        call = method(channel, ASK).future(b"wait", timeout=SECONDS)
        wait_until(lambda: bool(waiting.responds))
        assert method(channel, ASK)(b"go", timeout=SECONDS) == b"at once"
        wait_until(lambda: transport.in_flight == 1)
        assert not call.done()
        waiting.answer(b"later")
        assert call.result() == b"later"
        wait_until(lambda: transport.in_flight == 0)


def test_a_deferred_answer_may_come_at_once(kind: Kind) -> None:
    """Who finds the answer while it is asked gives it on the same thread; a second answer changes nothing."""
    service = StubService()

    def twice(respond: Respond) -> None:
        respond(b"first")
        respond(b"second")

    service.handling = lambda _call: twice
    with serving(service, kind) as (transport, channel, _):
        assert [method(channel, ASK)(b"x", timeout=SECONDS) for _ in range(3)] == [b"first"] * 3
        wait_until(lambda: transport.in_flight == 0)


def test_a_call_may_end_without_a_message(kind: Kind) -> None:
    """It is handled as one with an empty message: the service says that it is malformed."""
    service = StubService()
    with serving(service, kind) as (_, channel, _):
        call: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(ASK)
        assert call(iter(()), timeout=SECONDS) == b"re: "
    assert service.handled == [b""]


def test_an_unknown_method_is_not_implemented(kind: Kind) -> None:
    """The service is not asked, and the next call is answered."""
    service = StubService()
    with serving(service, kind) as (_, channel, _):
        for name in ("/test/Other", "/", "/test/Ask/", "/test/\u00fc"):
            with pytest.raises(grpc.RpcError) as raised:
                method(channel, name)(b"", timeout=SECONDS)
            assert code_of(raised.value) is grpc.StatusCode.UNIMPLEMENTED
        assert service.handled == []
        assert method(channel, ASK)(b"x", timeout=SECONDS) == b"re: x"


def test_what_came_with_a_call_is_there(kind: Kind) -> None:
    """Its metadata, when it came, and how long its caller waits."""
    service = StubService()
    seen: list[tuple[Any, float, float]] = []

    def handle(call: Call) -> bytes:
        seen.append(
            (dict(call.metadata).get("parent"), call.deadline - call.received, time.monotonic() - call.received)
        )
        return b""

    service.handling = handle
    with serving(service, kind) as (_, channel, _):
        method(channel, ASK)(b"x", timeout=1000.0, metadata=(("parent", "p"),))
        method(channel, ASK)(b"x", metadata=(("parent", "p"),))
    (parent, left, age), (_, without_deadline, _) = seen
    assert parent == "p"
    assert 0 < left < 1100  # gRPC rounds it up on its way
    assert without_deadline > 1e6
    assert 0 <= age < SECONDS


def test_a_big_message_is_handled_and_one_above_the_limit_leaves_no_mark(kind: Kind) -> None:
    """The core of gRPC ends the call of the latter by itself: no transport can answer it."""
    service = StubService()
    service.handling = lambda call: b"%d" % len(call.message)
    with serving(service, kind) as (transport, channel, _):
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as raised:
                method(channel, ASK)(bytes(MAX_MESSAGE + 1), timeout=SECONDS)
            assert code_of(raised.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert method(channel, ASK)(bytes(MAX_MESSAGE), timeout=SECONDS) == b"%d" % MAX_MESSAGE
        wait_until(lambda: transport.in_flight == 0)


# Whatever is raised.


@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("stage", ["admit", "handle", "defer"])
def test_whatever_is_raised_is_answered(kind: Kind, stage: str, error: BaseException) -> None:
    """By the fallback response, never by a gRPC error, and the next calls are answered as ever."""
    service = StubService()

    def fail(*_: object) -> bytes:
        raise error

    def defer(_respond: Respond) -> None:
        raise error

    def handle(_call: Call) -> bytes | Deferred:
        if stage == "handle":
            raise error
        return defer

    with serving(service, kind) as (transport, channel, _):
        service.admitting = fail if stage == "admit" else service.admitting
        service.handling = handle
        assert [method(channel, ASK)(b"x", timeout=SECONDS) for _ in range(3)] == [b"fallback"] * 3
        service.admitting, service.handling = StubService().admitting, StubService().handling
        assert method(channel, ASK)(b"x", timeout=SECONDS) == b"re: x"
        wait_until(lambda: transport.in_flight == 0)


@pytest.mark.parametrize("stage", ["admit", "handle", "respond"])
def test_an_answer_that_is_not_bytes_is_replaced(kind: Kind, stage: str) -> None:
    """It could not be sent, and an error instead of it might let a request pass."""
    service = StubService()
    no_bytes: Any = "no bytes"

    def defer(respond: Respond) -> None:
        respond(no_bytes)

    with serving(service, kind) as (_, channel, _):
        match stage:
            case "admit":
                service.admitting = lambda _call, _in_flight: no_bytes
            case "handle":
                service.handling = lambda _call: no_bytes
            case _:
                service.handling = lambda _call: defer
        assert method(channel, ASK)(b"x", timeout=SECONDS) == b"fallback"


# What is bounded.


def test_calls_above_the_bound_are_answered_unread(kind: Kind) -> None:
    """With as many in flight as may be, others are answered at once, even those whose message never comes."""
    service, waiting = StubService(), Waiting()
    service.bound(3)
    service.handling = lambda _call: waiting
    with serving(service, kind) as (transport, _, port), Caller(port) as caller:
        caller.call(1, 3, 5)
        wait_until(lambda: len(waiting.responds) == 3)
        caller.call(7, 9)
        caller.begin(11, 13)
        assert caller.receive(4) == dict.fromkeys((7, 9, 11, 13), b"rejected")
        assert transport.in_flight == 3
        waiting.answer(b"later")
        assert caller.receive(3) == dict.fromkeys((1, 3, 5), b"later")
        wait_until(lambda: transport.in_flight == 0)
        service.handling = StubService().handling
        caller.call(15)
        assert caller.receive(1) == {15: b"re: 15"}
    assert len(service.handled) == 4


def test_a_burst_never_exceeds_the_bound(kind: Kind) -> None:
    """However many calls come at one time, no more are admitted than there is room for, and each is answered."""
    service, waiting = StubService(), Waiting()
    service.bound(5)
    reached, released = Event(), Event()

    def stand(call: Call) -> bytes | Deferred:
        reached.set()
        assert released.wait(SECONDS)
        service.handling = lambda _call: waiting
        return waiting

    service.handling = stand
    with serving(service, kind) as (transport, _, port), Caller(port) as caller:
        caller.call(1)
        assert reached.wait(SECONDS)
        caller.call(*range(3, 403, 2))
        released.set()
        assert set(caller.receive(196).values()) == {b"rejected"}
        assert transport.in_flight == 5
        wait_until(lambda: len(waiting.responds) == 5)
        waiting.answer(b"later")
        assert set(caller.receive(5).values()) == {b"later"}


def test_calls_that_were_reset_hold_no_place(kind: Kind) -> None:
    """Calls whose callers left before they were handled are not in flight, and no other is rejected for them."""
    service = StubService()
    reached, released = service.hold()
    with serving(service, kind) as (transport, _, port), Caller(port) as caller:
        caller.call(1)
        assert reached.wait(SECONDS)
        reset = (whole_call(stream) + frame(RST_STREAM, bytes(4), stream=stream) for stream in range(3, 43, 2))
        caller.say(*reset)
        released.set()
        assert caller.receive(1) == {1: b"handled"}
        wait_until(lambda: service.abandoned == 20)
        wait_until(lambda: transport.in_flight == 0)
        caller.call(43)
        assert caller.receive(1) == {43: b"handled"}
        assert service.handled == [b"1", b"43"]


def test_a_call_whose_time_is_up_is_not_handled(kind: Kind) -> None:
    """It was admitted, and its caller left before its turn came: it does no work, and is noted."""
    service = StubService()
    reached, released = service.hold()
    with serving(service, kind) as (transport, channel, port), Caller(port) as caller:
        first = method(channel, ASK).future(b"first", timeout=SECONDS)
        assert reached.wait(SECONDS)
        caller.say(begin_call(ASK, stream=1, timeout="200m"), send_message(b"late", stream=1))
        assert b"grpc-status\x014" in next(came.payload for came in caller.frames if came.stream == 1)
        released.set()
        assert first.result() == b"handled"
        wait_until(lambda: service.abandoned == 1)
        wait_until(lambda: transport.in_flight == 0)
        assert service.handled == [b"first"]


def test_answers_that_are_not_read_are_bounded(kind: Kind) -> None:
    """Beyond the bound the oldest call is ended: a caller whose window is closed keeps no more of them."""
    with serving(StubService(), kind) as (_, channel, port), Caller(port) as caller:
        caller.say(NO_WINDOW)
        ended = 0
        # In portions, each as large as may be in flight: what is refused for want of threads is no answer less.
        for begin in range(1, 2 * (MAX_UNSENT + 10), 200):
            caller.call(*range(begin, min(begin + 200, 2 * (MAX_UNSENT + 10)), 2))
        while ended < 10:
            ended += list(caller.receive(1).values()) == [b""]
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"


def test_a_deferred_call_is_not_ended_for_answers_that_are_not_read(kind: Kind) -> None:
    """An answer that is not made yet is no answer that its caller does not read."""
    service, waiting = StubService(), Waiting()
    service.handling = lambda call: waiting if call.message == b"wait" else b"at once"
    with serving(service, kind) as (transport, channel, port), Caller(port) as caller:
        call = method(channel, ASK).future(b"wait", timeout=SECONDS)
        wait_until(lambda: bool(waiting.responds))
        caller.say(NO_WINDOW)
        caller.call(*range(1, 2 * (MAX_UNSENT + 10), 2))
        assert set(caller.receive(10).values()) == {b""}
        waiting.answer(b"later")
        assert call.result() == b"later"
        wait_until(lambda: transport.in_flight == 0)


def test_nothing_is_kept_of_an_answered_call(kind: Kind) -> None:
    """A caller that does not read its answer does not make us keep a request of megabytes."""
    service = StubService()
    calls: list[Call] = []

    def defer(respond: Respond) -> None:
        respond(b"later")

    def handle(call: Call) -> bytes | Deferred:
        calls.append(call)
        return b"at once" if len(calls) == 1 else defer

    service.handling = handle
    with serving(service, kind) as (_, channel, _):
        assert method(channel, ASK)(b"x" * 1000, timeout=SECONDS, metadata=(("k", "v" * 1000),)) == b"at once"
        assert method(channel, ASK)(b"x" * 1000, timeout=SECONDS, metadata=(("k", "v" * 1000),)) == b"later"
        wait_until(lambda: [(call.message, call.metadata) for call in calls] == [(b"", ())] * 2)


def test_half_calls_are_ended_and_whole_ones_answered_meanwhile(kind: Kind) -> None:
    """The private layer can answer them, the public one can only cancel them (see `pool`)."""
    service, clock = StubService(), FakeClock()
    with serving(service, kind, monotonic=clock.monotonic) as (_, channel, port), Caller(port) as caller:
        caller.begin(1, 3, 5)
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        ended: dict[int, bytes] = {}
        reading = Thread(target=lambda: ended.update(caller.receive(3)))
        reading.start()

        def time_passes() -> bool:
            clock.advance(cygrpc._SWEEP_INTERVAL)
            return not reading.is_alive()

        wait_until(time_passes)
        assert ended == dict.fromkeys((1, 3, 5), b"" if kind is pool.PoolTransport else b"no room")
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        assert service.handled == [b"whole"] * 2


class CountedLooks(OtherThreads):
    """Counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def all_sleep(self) -> bool:
        self.looks += 1
        return super().all_sleep()


def test_a_half_call_is_not_ended_while_a_thread_has_work(kind: Kind) -> None:
    """Its other half may be on its way in a thread that gets no processor."""
    others = CountedLooks()
    with serving(StubService(), kind, others=others) as (_, _, port), Caller(port) as caller, busy_thread():
        caller.begin(1)
        wait_until(lambda: others.looks > cygrpc._MAX_SWEEPS)
        caller.end(1)
        assert caller.receive(1) == {1: b"re: 1"}


# The end.


def test_a_transport_that_never_started_ends(kind: Kind) -> None:
    """Its address was bound, and nothing else."""
    transport = kind(StubService(), ())
    transport.bind("127.0.0.1:0")
    transport.stop(grace=1)


def test_what_came_before_the_stop_is_answered(kind: Kind) -> None:
    """However many calls stand in the queue, those too that gRPC has not handed over yet."""
    service = StubService()
    reached, released = service.hold()
    with serving(service, kind) as (transport, _, port):
        with Caller(port) as caller:
            caller.call(1)
            assert reached.wait(SECONDS)
            caller.call(*range(3, 203, 2))
            stopping = Thread(target=lambda: transport.stop(grace=SECONDS))
            stopping.start()
            released.set()
            assert set(caller.receive(101).values()) == {b"handled"}
        stopping.join(SECONDS)
        assert not stopping.is_alive()


def test_a_call_slower_than_any_quiet_period_costs_no_other(kind: Kind) -> None:
    """The bound of the stop is the grace: how long one call takes, or how slow the machine is, decides nothing else."""
    service, clock = StubService(), FakeClock()
    reached, released = service.hold()
    hold = service.handling

    def handle_slowly(call: Call) -> bytes | Deferred:
        answer = hold(call)
        # In one step: half calls are swept by this clock, and their messages come at the speed of this machine.
        clock.advance(10 if len(service.handled) == 50 else 0)
        return answer

    service.handling = handle_slowly
    with serving(service, kind, monotonic=clock.monotonic) as (transport, _, port):
        with Caller(port) as caller:
            caller.call(1)
            assert reached.wait(SECONDS)
            caller.call(*range(3, 203, 2))
            stopping = Thread(target=lambda: transport.stop(grace=SECONDS))
            stopping.start()
            wait_until(lambda: is_stopping(transport))
            clock.advance(SECONDS / 4)  # of the first call
            released.set()
            assert set(caller.receive(101).values()) == {b"handled"}
        stopping.join(SECONDS)
        assert not stopping.is_alive()


def is_stopping(transport: Any) -> bool:  # noqa: ANN401 - each has its own way
    """Return whether `stop` was entered."""
    return bool(transport._drain_until < float("inf"))


class FakeArrivals(Arrivals):
    """Says what the test says; `looks` counts how often it was asked."""

    def __init__(self, *, unread: bool) -> None:
        super().__init__()
        self.unread = unread
        self.looks = 0

    def were_read(self) -> bool:
        self.looks += 1
        return not self.unread


def test_the_stop_waits_for_what_is_not_read_yet(kind: Kind) -> None:
    """Silence is no proof that nothing has come: while the kernel holds a byte, calls are accepted and answered."""
    arrivals = FakeArrivals(unread=True)
    with serving(StubService(), kind, arrivals=arrivals) as (transport, channel, _):
        stopping = Thread(target=lambda: transport.stop(grace=10 * SECONDS))
        stopping.start()
        wait_until(lambda: arrivals.looks >= 5)  # far more than the polls that may end it
        assert method(channel, ASK)(b"x", timeout=SECONDS) == b"re: x"
        arrivals.unread = False
        stopping.join(SECONDS)
        assert not stopping.is_alive()


def test_silence_proves_nothing_while_a_thread_has_work(kind: Kind) -> None:
    """A call may be on its way in a thread that gets no processor: the stop waits for it, and it is answered."""
    arrivals = FakeArrivals(unread=False)
    with serving(StubService(), kind, arrivals=arrivals) as (transport, channel, _):
        with busy_thread() as busy:
            stopping = Thread(target=lambda: transport.stop(grace=10 * SECONDS))
            stopping.start()
            # More than the checks that end it where all threads sleep.
            wait_until(lambda: arrivals.looks > 2 * pool._DRAIN_CHECKS or not stopping.is_alive())
            assert stopping.is_alive()
            assert method(channel, ASK)(b"x", timeout=SECONDS) == b"re: x"
            assert busy.is_alive()
        stopping.join(SECONDS)
        assert not stopping.is_alive()


def test_who_never_stops_sending_holds_up_the_stop_for_the_grace_at_most(kind: Kind) -> None:
    """The grace is the only bound by a clock."""
    arrivals, clock = FakeArrivals(unread=True), FakeClock()
    with serving(StubService(), kind, arrivals=arrivals, monotonic=clock.monotonic) as (transport, _, _):
        stopping = Thread(target=lambda: transport.stop(grace=10 * SECONDS))
        stopping.start()
        wait_until(lambda: arrivals.looks >= 5)
        clock.advance(10 * SECONDS)
        stopping.join(SECONDS)
        assert not stopping.is_alive()


def test_calls_that_do_not_end_are_cancelled(kind: Kind) -> None:
    """After the grace the caller gets an error, whatever its call waits for."""
    service, waiting = StubService(), Waiting()
    service.handling = lambda _call: waiting
    with serving(service, kind) as (transport, channel, _):
        call = method(channel, ASK).future(b"x", timeout=SECONDS)
        wait_until(lambda: bool(waiting.responds))
        transport.stop(grace=0)
        assert end_of(call) in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
        waiting.answer(b"too late")


def test_an_address_in_use_is_an_error(kind: Kind) -> None:
    """Two transports never share a port."""
    first = kind(StubService(), OPTIONS)
    port = first.bind("127.0.0.1:0")
    with pytest.raises(RuntimeError, match=rf"127\.0\.0\.1:{port}"):
        kind(StubService(), OPTIONS).bind(f"127.0.0.1:{port}")
