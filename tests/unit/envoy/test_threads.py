"""Proves authz.envoy.threads: what is held, what is told of calls given up, and that no call costs a thread."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

from authz.envoy.threads import CallThreads, Lane
from tests.fakes.waiting import wait_until


class Office:
    """Threads for calls, and how many calls were given up."""

    def __init__(self, number: int) -> None:
        self.given_up = 0
        self.now = 100.0
        self.threads = CallThreads(
            {Lane.JUDGED: number, Lane.REFUSED: 1, Lane.HEALTH: 1}, self._note, monotonic=lambda: self.now
        )

    def _note(self) -> None:
        self.given_up += 1

    def is_idle(self) -> bool:
        """Tell whether every call has ended."""
        return self.threads.held == 0


@pytest.fixture
def office() -> Iterator[Office]:
    """Two threads."""
    office = Office(2)
    yield office
    office.threads.shutdown()


def test_calls_are_held_until_they_end(office: Office) -> None:
    """Those that run and those that wait for a thread count alike."""
    released = Event()
    for _ in range(5):
        office.threads.submit(released.wait)
    assert office.threads.held == 5
    released.set()
    wait_until(office.is_idle)


def test_a_call_that_never_began_was_given_up(office: Office) -> None:
    """Grpcio drops a call that nobody waits for before our code sees it: that is counted."""
    office.threads.submit(lambda: None)
    office.threads.submit(office.threads.begin)
    wait_until(office.is_idle)
    assert office.given_up == 1


def test_a_call_knows_when_it_came(office: Office) -> None:
    """The time in the queue counts: it is read when grpcio hands the call over, not when a thread takes it."""
    seen: list[float] = []
    released = Event()
    for _ in range(2):
        office.threads.submit(released.wait)
    office.threads.submit(lambda: seen.append(office.threads.received))
    office.now = 250.0
    released.set()
    wait_until(office.is_idle)
    assert seen == [100.0]


def test_a_call_that_raises_costs_no_thread(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a call raises is logged, and the next calls are answered."""

    def fail() -> None:
        raise SystemExit

    for _ in range(8):
        office.threads.submit(fail)
    done = Event()
    office.threads.submit(done.set)
    wait_until(done.is_set)
    wait_until(office.is_idle)
    assert len(caplog.records) == 8


def test_calls_in_the_queue_are_answered_at_the_end() -> None:
    """Shutting down lets what was taken come to its end."""
    office = Office(1)
    released, answered = Event(), Event()
    office.threads.submit(released.wait)
    office.threads.submit(answered.set)
    office.threads.shutdown()
    released.set()
    wait_until(answered.is_set)


def test_the_future_is_done(office: Office) -> None:
    """Grpcio adds a callback to the future of a call; it is called at once and never kept."""
    released = Event()
    called: list[object] = []
    office.threads.submit(released.wait).add_done_callback(called.append)
    assert len(called) == 1
    released.set()


def test_keyword_arguments_are_refused(office: Office) -> None:
    """Grpcio passes none; one that was dropped in silence would be a bug to search for."""
    with pytest.raises(TypeError, match="keyword"):
        office.threads.submit(lambda **_: None, answer=42)


def test_lanes_do_not_wait_for_one_another(office: Office) -> None:
    """With every judging thread held, a refusal and a health call are answered; the choice is for one call only."""
    released = Event()
    for _ in range(3):
        office.threads.submit(released.wait)
    for lane in (Lane.REFUSED, Lane.HEALTH):
        answered = Event()
        office.threads.choose(lane)
        office.threads.submit(answered.set)
        wait_until(answered.is_set)
    assert office.threads.held == 3
    last = Event()
    office.threads.submit(last.set)
    assert office.threads.held == 4
    released.set()
    wait_until(last.is_set)
    wait_until(office.is_idle)


def test_a_crowd_is_more_calls_than_threads(office: Office) -> None:
    """As many as there are threads is no crowd: nobody waits."""
    released = Event()
    for crowded in (False, False, True):
        office.threads.submit(released.wait)
        assert office.threads.are_crowded() is crowded
    released.set()
    wait_until(office.is_idle)


def test_only_judged_calls_are_given_up(office: Office) -> None:
    """A refusal or a health call does not begin, and nobody gave it up."""
    for lane in (Lane.REFUSED, Lane.HEALTH):
        answered = Event()
        office.threads.choose(lane)
        office.threads.submit(answered.set)
        wait_until(answered.is_set)
    assert (office.threads.held, office.given_up) == (0, 0)
