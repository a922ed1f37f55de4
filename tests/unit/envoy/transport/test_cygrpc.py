"""Proves authz.envoy.transport.cygrpc beyond the contract: one thread, no place for half calls, an endless loop."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from threading import Event
from typing import Any, cast

import grpc
import pytest

from authz.envoy.admission import MAX_STREAMS, OPTIONS
from authz.envoy.transport.cygrpc import _MAX_PENDING_ACCEPTS, _MAX_SWEEPS, _MAX_UNREAD, CygrpcTransport
from authz.envoy.transport.cygrpc_call import CoreCall
from authz.envoy.transport.port import Call, Deferred, Service
from tests.fakes.clock import FakeClock
from tests.fakes.http2 import RST_STREAM, frame
from tests.fakes.waiting import wait_until
from tests.unit.envoy.serving import SECONDS, method
from tests.unit.envoy.transport.stub import ASK, Caller, StubService, Waiting, end_of, serving, whole_call


def test_every_call_is_handled_on_one_thread() -> None:
    """There is no hand-over from one to another."""
    service = StubService()
    with serving(service, CygrpcTransport) as (_, channel, _):
        calls = [method(channel, ASK).future(b"x", timeout=SECONDS) for _ in range(100)]
        assert {call.result() for call in calls} == {b"re: x"}
    assert service.threads == {"calls"}


def test_what_came_is_admitted_before_the_next_call_is_handled() -> None:
    """While one is handled others come: as many as may be in flight are handled, and all others rejected, unhandled."""
    service = StubService()
    reached, released = service.hold()
    service.bound(3)
    with serving(service, CygrpcTransport) as (_, _, port), Caller(port) as caller:
        caller.call(1)
        assert reached.wait(SECONDS)
        caller.call(*range(3, 19, 2))
        released.set()
        answers = caller.receive(9)
    assert answers[1] == b"handled"
    assert sorted(answers.values()) == [b"handled"] * 4 + [b"rejected"] * 5
    assert len(service.handled) == 4


def test_half_calls_that_are_completed_at_one_time_find_no_more_room_than_others() -> None:
    """They held no place while they were half, and so are admitted again; else a queue without a bound would form."""
    service, waiting = StubService(), Waiting()
    service.bound(3)
    service.handling = lambda _call: waiting
    streams = tuple(range(1, 201, 2))
    with serving(service, CygrpcTransport) as (transport, channel, port), Caller(port) as caller:
        caller.begin(*streams)
        wait_until(lambda: len(cast("CygrpcTransport", transport)._unread) == 100)
        call = method(channel, ASK).future(b"whole", timeout=SECONDS)
        wait_until(lambda: len(waiting.responds) == 1)  # a whole call is not refused for a hundred half ones
        caller.end(*streams)
        assert set(caller.receive(98).values()) == {b"rejected"}
        assert transport.in_flight == 3
        waiting.answer(b"later")
        assert call.result() == b"later"
        assert set(caller.receive(2).values()) == {b"later"}


def test_calls_that_are_reset_in_the_queue_give_their_places_back() -> None:
    """They were read and queued, and their callers leave: as many others are admitted in their stead."""
    service = StubService()
    first, second = Event(), Event()

    def stop_twice(_call: Call) -> bytes:
        for number, released in enumerate((first, second), 1):
            assert len(service.handled) != number or released.wait(SECONDS)
        return b"handled"

    service.handling = stop_twice
    service.bound(3)
    with serving(service, CygrpcTransport) as (_, _, port), Caller(port) as caller:
        caller.call(1)
        wait_until(lambda: len(service.handled) == 1)
        caller.call(3, 5, 7)
        first.set()
        wait_until(lambda: len(service.handled) == 2)
        left = sorted({3, 5, 7} - {int(service.handled[1])})
        caller.say(*(frame(RST_STREAM, bytes(4), stream=each) for each in left), *map(whole_call, (9, 11, 13)))
        caller.await_reading()
        second.set()
        answers = caller.receive(5)
    assert answers == dict.fromkeys((1, int(service.handled[1]), 9, 11, 13), b"handled")
    assert service.abandoned == 2


def test_a_pause_of_the_process_ends_no_call() -> None:
    """However long it lasts it is one sweep, and a message that came meanwhile is read before the next."""
    service, clock = StubService(), FakeClock()
    parts = {"monotonic": clock.monotonic}
    with serving(service, CygrpcTransport, **parts) as (_, channel, port), Caller(port) as caller:
        caller.begin(1)
        for _ in range(10):  # polls that find nothing more are no sweeps
            assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        for _ in range(_MAX_SWEEPS):
            clock.advance(3600)
            assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        caller.end(1)
        assert caller.receive(1) == {1: b"re: 1"}


def test_half_calls_have_little_room() -> None:
    """Beyond so many the oldest is rejected at once, by an answer: an error to Envoy might let it pass."""
    service, clock = StubService(), FakeClock()
    parts = {"monotonic": clock.monotonic}
    with serving(service, CygrpcTransport, **parts) as (_, channel, port), Caller(port) as caller:
        streams = range(1, 2 * (_MAX_UNREAD + 10), 2)
        caller.begin(*streams)
        rejected = caller.receive(10)
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
        rejected |= caller.receive(1)
        assert set(rejected.values()) == {b"no room"}
        left = max(set(streams) - set(rejected))
        caller.end(left)
        assert caller.receive(1) == {left: b"re: %d" % left}


# Whatever goes wrong.


class Served(CygrpcTransport):
    """Has the options of the server, in place of those of these tests."""

    def __init__(self, service: Service, _options: Iterable[tuple[str, int]]) -> None:
        super().__init__(service, OPTIONS)


def test_calls_that_have_ended_cost_no_other_an_error() -> None:
    """Answers are sent while the deciding thread is busy: it has not noted yet that these calls are over.

    By default gRPC's core counts them all the same, and refuses streams that its peer may open: an RPC error.
    """
    service, waiting = StubService(), Waiting()
    service.handling = lambda _call: waiting
    number = 3 * MAX_STREAMS // 4
    first, held, last = range(1, 2 * number, 2), 2 * number + 1, range(2 * number + 3, 4 * number + 3, 2)
    with serving(service, Served) as (_, _, port), Caller(port) as caller:
        caller.call(*first)
        wait_until(lambda: len(waiting.responds) == number)
        reached, released = service.hold()
        caller.call(held)
        assert reached.wait(SECONDS)
        waiting.answer(b"later")
        assert caller.receive(number) == dict.fromkeys(first, b"later")
        caller.call(*last)
        caller.await_reading()
        released.set()
        assert caller.receive(number + 1) == dict.fromkeys((held, *last), b"handled")


@pytest.mark.parametrize("is_deferred", [False, True], ids=["at once", "deferred"])
def test_an_answer_that_cannot_be_sent_is_logged(caplog: pytest.LogCaptureFixture, *, is_deferred: bool) -> None:
    """Its call is ended and holds no place, and no other one is disturbed."""
    service = StubService()

    def answer_twice(call: Call) -> bytes | Deferred:
        cast("CoreCall", call).reject(lambda _event: None)  # so gRPC refuses a second end
        return (lambda respond: respond(b"x")) if is_deferred else b"x"

    service.handling = answer_twice
    with serving(service, CygrpcTransport) as (transport, channel, _), caplog.at_level(logging.ERROR, "authz"):
        call = method(channel, ASK).future(b"x", timeout=SECONDS)
        assert end_of(call) in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNIMPLEMENTED}
        service.handling = StubService().handling
        assert method(channel, ASK)(b"x", timeout=SECONDS) == b"re: x"
        wait_until(lambda: transport.in_flight == 0)
    assert [record.message for record in caplog.records] == ["a call failed"]


class Faulty(CygrpcTransport):
    """Loses the events of its first calls: more than gRPC may hand over before it is asked again."""

    lost = 0

    def _poll(self, until: float) -> Any:  # noqa: ANN401 - as cygrpc has it
        event = super()._poll(until)
        if hasattr(event, "call_details") and self.lost <= _MAX_PENDING_ACCEPTS:
            self.lost += 1
            raise MemoryError
        return event


def test_calls_that_are_lost_are_the_only_ones() -> None:
    """Whatever becomes of them, the next is asked for."""
    with serving(StubService(), Faulty) as (transport, channel, _):
        lost = [method(channel, ASK).future(b"x", timeout=SECONDS) for _ in range(_MAX_PENDING_ACCEPTS + 1)]
        wait_until(lambda: cast("Faulty", transport).lost == len(lost))
        assert method(channel, ASK)(b"y", timeout=SECONDS) == b"re: y"
        assert not any(call.done() for call in lost)
