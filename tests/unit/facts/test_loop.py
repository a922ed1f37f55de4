"""Proves authz.facts.loop: what is ready or due is called once, no wake is lost, and nothing ends the thread."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from threading import Event, Thread

import pytest

from authz.facts.loop import READ, WRITE, Loop, Timer, Watch
from tests.fakes.clock import FakeClock
from tests.fakes.waiting import HANG_SECONDS


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def run_once(loop: Loop) -> None:
    """Call what is ready or due, without sleep."""
    loop.run_once(0.0, lambda: False)


def test_a_socket_is_ready_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """What was called is called again only if it asks for it; what is forgotten never."""
    ours, theirs = pair
    loop, called = Loop(time.monotonic), list[str]()
    watch = Watch(loop, ours.fileno())
    watch.set(READ, lambda: called.append("read"))
    run_once(loop)
    assert called == []
    theirs.send(b"x")
    run_once(loop)
    run_once(loop)
    assert called == ["read"]
    watch.set(WRITE, lambda: called.append("write"))
    run_once(loop)
    watch.set(READ, lambda: called.append("forgotten"))
    watch.clear()
    run_once(loop)
    assert called == ["read", "write"]


def test_a_socket_that_is_ready_and_not_watched_wakes_the_loop_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """It stays registered between two watches, but does not keep the thread busy; watched again, it is found ready."""
    ours, theirs = pair
    loop, called = Loop(time.monotonic), list[str]()
    watch = Watch(loop, ours.fileno())
    for number in range(3):
        watch.set(READ, lambda: called.append(f"{len(ours.recv(1))} octet"))
        theirs.send(b"x")
        loop.run_once(None, lambda: False)
        assert called == ["1 octet"] * (number + 1)
        theirs.send(b"x")
        loop.run_once(None, lambda: False)  # wakes, and calls nothing
        Timer(loop).set(time.monotonic() + 0.001, partial(called.append, "due"))
        while called[-1] != "due":  # the socket is ready, and ends none of these sleeps
            assert loop._watches == {}
            loop.run_once(None, lambda: False)
        called.pop()
        assert ours.recv(1) == b"x"


def test_a_descriptor_may_be_that_of_another_socket_later() -> None:
    """What was closed without a word neither hides its successor, nor is called in its place."""
    loop, called = Loop(time.monotonic), list[str]()
    first, peer = socket.socketpair()
    with peer:
        earlier = Watch(loop, first.fileno())
        earlier.set(READ, lambda: called.append("earlier"))
        descriptor = first.fileno()
        first.close()
        run_once(loop)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if ours.fileno() != descriptor:
                os.dup2(ours.fileno(), descriptor)
            Watch(loop, descriptor).set(READ, lambda: called.append("later"))
            earlier.clear()
            theirs.send(b"x")
            loop.run_once(None, lambda: False)
            assert called == ["later"]
            if ours.fileno() != descriptor:
                os.close(descriptor)


def test_a_socket_that_cannot_be_watched_says_so() -> None:
    """Whoever waits for it would wait in vain."""
    ours, theirs = socket.socketpair()
    with theirs:
        watch = Watch(Loop(time.monotonic), ours.fileno())
        ours.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            watch.set(READ, lambda: None)


def test_a_connection_that_ends_is_ready(pair: tuple[socket.socket, socket.socket]) -> None:
    """Whoever waits for it learns that from the socket."""
    ours, theirs = pair
    loop, called = Loop(time.monotonic), list[str]()
    Watch(loop, ours.fileno()).set(READ, lambda: called.append("ended"))
    theirs.close()
    loop.run_once(None, lambda: False)
    assert called == ["ended"]


def test_what_raises_costs_no_other_its_turn(
    pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """The thread is that of all checks that wait."""
    loop, called = Loop(lambda: 0.0), list[str]()

    def fail() -> None:
        raise MemoryError

    for number, each in enumerate(pair):
        Watch(loop, each.fileno()).set(WRITE, (fail, lambda: called.append("other"))[number])
    failing, other = Timer(loop), Timer(loop)
    failing.set(0.0, fail)
    other.set(0.0, lambda: called.append("timer"))
    with caplog.at_level(logging.ERROR):
        run_once(loop)
    assert called == ["other", "timer"]
    assert [record.message for record in caplog.records] == ["a call of the loop failed"] * 2


def test_a_timer_takes_one_place_however_often_it_is_set() -> None:
    """It calls what it was set for last, at that instant, and nothing once it was cleared."""
    clock, called = FakeClock(monotonic=0.0), list[int]()
    loop = Loop(clock.monotonic)
    timer = Timer(loop)

    def note(number: int) -> Callable[[], None]:
        return lambda: called.append(number)

    for number in range(1000):
        timer.set(10.0 + number, note(number))
    assert len(loop._timers) == 1
    clock.advance(1008.9)
    run_once(loop)
    assert called == []
    clock.advance(0.1)
    run_once(loop)
    run_once(loop)
    assert called == [999]
    timer.set(2000.0, note(1))
    timer.clear()
    clock.advance(2000.0)
    run_once(loop)
    assert (called, loop._timers) == ([999], [])


def test_a_timer_ends_the_sleep() -> None:
    """On the real clock: nothing else would."""
    loop, called = Loop(time.monotonic), list[str]()
    Timer(loop).set(time.monotonic() + 0.01, lambda: called.append("due"))
    while not called:
        loop.run_once(None, lambda: False)
    assert called == ["due"]


def test_no_wake_is_lost() -> None:
    """Whatever another thread puts down is found, whether this one sleeps, is awake, or is about to sleep."""
    loop, work, done = Loop(time.monotonic), deque[int](), Event()
    loop.open()
    loop.open()
    found: list[int] = []

    def run() -> None:
        while len(found) < 5000:
            loop.run_once(None, lambda: work)
            while work:
                found.append(work.popleft())
        done.set()

    Thread(target=run, daemon=True).start()
    for number in range(5000):
        work.append(number)
        loop.wake()
    assert done.wait(HANG_SECONDS)
    assert found == list(range(5000))


def test_who_is_awake_is_not_woken() -> None:
    """A wake before the sleep is none: what was put down is found without."""
    loop = Loop(time.monotonic)
    loop.wake()  # before it was opened
    loop.open()
    loop.wake()
    assert loop._waker is not None
    with pytest.raises(BlockingIOError):
        os.eventfd_read(loop._waker.descriptor)
    loop.run_once(None, lambda: True)  # it does not sleep
