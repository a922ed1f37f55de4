"""Proves authz.envoy.transport.pool where it differs from the contract's best: what threads bound, and half calls."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from authz.envoy.transport.other_threads import OtherThreads
from authz.envoy.transport.pool import MAX_THREADS, PoolTransport, _Threads
from tests.fakes.waiting import wait_until
from tests.unit.envoy.serving import SECONDS, method
from tests.unit.envoy.transport.stub import ASK, Caller, StubService, Waiting, serving


def test_calls_beyond_the_threads_are_rejected_by_an_answer() -> None:
    """However many the service would admit: each call has a thread from its message to its answer."""
    service, waiting = StubService(), Waiting()
    service.handling = lambda _call: waiting
    with serving(service, PoolTransport) as (transport, _, port), Caller(port) as caller:
        caller.call(*range(1, 2 * MAX_THREADS, 2))
        wait_until(lambda: len(waiting.responds) == MAX_THREADS)
        caller.call(2 * MAX_THREADS + 1)
        assert caller.receive(1) == {2 * MAX_THREADS + 1: b"no room"}
        assert transport.in_flight == MAX_THREADS
        waiting.answer(b"later")
        assert set(caller.receive(MAX_THREADS).values()) == {b"later"}


def test_half_calls_take_every_thread_only_until_they_are_swept() -> None:
    """Meanwhile others are rejected by an answer, never by an error; then they are served again."""
    service, admitted = StubService(), list[int]()
    service.admitting = lambda _call, in_flight: admitted.append(in_flight)
    with serving(service, PoolTransport) as (transport, channel, port), Caller(port) as caller:
        caller.begin(*range(1, 2 * MAX_THREADS, 2))
        # On a busy machine the first may be swept before the last has come: all in flight at one time is never certain.
        wait_until(lambda: len(admitted) == MAX_THREADS)
        assert method(channel, ASK)(b"whole", timeout=SECONDS) in {b"no room", b"re: whole"}
        assert set(caller.receive(MAX_THREADS).values()) == {b""}
        wait_until(lambda: transport.in_flight == 0)
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"
    assert set(service.handled) == {b"whole"}


class NeverIdle(OtherThreads):
    """Threads of which one always has work."""

    def all_sleep(self) -> bool:
        return False


def test_half_calls_keep_no_thread_for_as_long_as_a_load_lasts() -> None:
    """Some thread always has work then, and a message may be on its way: but none is for ever."""
    service = StubService()
    under_load = serving(service, PoolTransport, others=NeverIdle(), sweep_interval=0.001)
    with under_load as (_, channel, port), Caller(port) as caller:
        caller.begin(1, 3)
        assert caller.receive(2) == {1: b"", 3: b""}
        assert method(channel, ASK)(b"whole", timeout=SECONDS) == b"re: whole"


def test_a_deferred_call_whose_caller_left_gives_its_thread_back() -> None:
    """A service that never answers holds nothing beyond the call's end."""
    service, waiting = StubService(), Waiting()
    service.handling = lambda _call: waiting
    with serving(service, PoolTransport) as (transport, channel, _):
        call = method(channel, ASK).future(b"x", timeout=SECONDS)
        wait_until(lambda: bool(waiting.responds))
        call.cancel()
        wait_until(lambda: transport.in_flight == 0)
        wait_until(lambda: not transport._occupied)  # type: ignore[attr-defined]


def test_a_call_waits_for_a_thread_that_the_system_does_not_grant() -> None:
    """At the limit of processes the call is done by a thread that is there already, and is no error."""
    threads = _Threads()
    threads.start()
    real: Callable[..., Future[Any]] = threads._workers.submit
    done: list[int] = []

    def submit(fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[Any]:
        real(fn, *args, **kwargs)
        raise RuntimeError("can't start new thread")

    threads._workers.submit = submit  # type: ignore[method-assign]
    threads.submit(done.append, 1)
    wait_until(lambda: done == [1])
    threads.shutdown()
