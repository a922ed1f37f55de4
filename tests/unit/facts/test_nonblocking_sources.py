"""Proves what a lane does with a source that can be asked without a thread: the same bounds, and each answer once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import get_ident

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.needs import Need, Unanswered
from authz.facts.bounds import Bounds
from authz.facts.breaker import MAX_FAILURES
from authz.facts.lane import SourceLane, start_thread
from authz.facts.loop import Loop
from authz.facts.source import Fact, FactCallback, SourceError
from tests.fakes.waiting import HANG_SECONDS

WIDE = Bounds(max_concurrent=2, max_waiting=8, max_wait=0.5, burst=100, refill=1.0)


def need(asked: str) -> Need:
    """Make a need of a kind that the product does not have."""
    return Need("weather", "almanac", asked)


class Almanac:
    """A source whose answers the test gives, if *connections* are left; else it is asked by a thread."""

    def __init__(self, connections: int) -> None:
        self.connections = connections
        self.broken = False
        self.started: list[tuple[Need, FactCallback]] = []
        self.by_thread: SimpleQueue[str | None] = SimpleQueue()
        self.threads: set[int] = set()

    def __call__(self, need: Need) -> Fact:
        self.threads.add(get_ident())
        self.by_thread.put(need.identifier)
        return Fact(f"{need.identifier}: by a thread")

    def start(self, need: Need, _loop: Loop, callback: FactCallback) -> bool:
        """Ask, while there is a connection."""
        if self.broken:
            raise ValueError
        if not self.connections:
            return False
        self.connections -= 1
        self.started.append((need, callback))
        return True

    def answer(self, outcome: Callable[[], Fact] | None = lambda: Fact("sun", ttl=60.0)) -> None:
        """Answer the oldest question; its connection is free then, unless it was closed."""
        _, callback = self.started.pop(0)
        self.connections += outcome is not None
        callback(outcome)


class Rig:
    """A lane, and its answers."""

    def __init__(self, connections: int, bounds: Bounds = WIDE, *, threads: int = 100) -> None:
        self.almanac = Almanac(connections)
        self.answers: SimpleQueue[tuple[str, object | None]] = SimpleQueue()
        self.threads = threads
        self.lane = SourceLane(
            "weather",
            self.almanac,
            bounds=bounds,
            monotonic=lambda: 0.0,
            start=self._start,
            loop=Loop(time.monotonic),
        )

    def _start(self, run: Callable[[], None], name: str) -> None:
        if not self.threads:
            raise RuntimeError("can't start new thread")
        self.threads -= 1
        start_thread(run, name)

    def ask(self, asked: str) -> None:
        """Ask; the answer comes to `answers`."""
        self.lane.ask(need(asked), lambda fact: self.answers.put((asked, fact)))

    def next(self) -> tuple[str, object | None]:
        """Wait for an answer."""
        return self.answers.get(timeout=HANG_SECONDS)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Open a lane whose source has two connections, and close it."""
    made = Rig(2)
    yield made
    made.lane.stop()


def test_no_thread_is_woken_for_a_question(rig: Rig) -> None:
    """The answer is cached, and no thread was started."""
    rig.ask("a")
    assert rig.answers.empty()
    rig.almanac.answer()
    assert (rig.next(), rig.lane.find(need("a")), rig.threads) == (("a", "sun"), "sun", 100)


def test_not_more_are_asked_than_may_be(rig: Rig) -> None:
    """The others follow, the oldest first, when one is answered; above their bound no check is queued."""
    for asked in "abcdefghij":
        rig.ask(asked)
    full = Unanswered("too many requests are in progress")
    assert [rig.next(), rig.next()] == [("i", full), ("j", full)]
    order: list[str | None] = []
    for _ in range(8):
        assert len(rig.almanac.started) <= 2
        order.append(rig.almanac.started[0][0].identifier)
        rig.almanac.answer()
    assert order == list("abcdefgh")
    assert [rig.next()[0] for _ in range(8)] == list("abcdefgh")
    rig.ask("k")
    rig.almanac.answer()
    assert rig.next() == ("k", "sun")


def test_a_source_that_raises_where_it_must_not_takes_no_place(rig: Rig) -> None:
    """Its question is asked by a thread, and so are more of them than may be asked at one time."""
    rig.almanac.broken = True
    for asked in "abcde":
        rig.ask(asked)
        assert rig.next() == (asked, f"{asked}: by a thread")


def test_what_has_no_connection_is_asked_by_a_thread() -> None:
    """Both count for the bound, and whichever is answered goes on with the queue."""
    rig = Rig(1)
    rig.ask("a")
    for asked in "bcd":
        rig.ask(asked)
        assert rig.next() == (asked, f"{asked}: by a thread")
    rig.almanac.answer()
    assert rig.next() == ("a", "sun")
    rig.lane.stop()


def test_a_question_on_a_closed_connection_is_asked_once_more_by_a_thread(rig: Rig) -> None:
    """That is one question: its place is kept, and the budget not spent twice."""
    rig.ask("a")
    rig.almanac.answer(None)
    assert (rig.next(), rig.almanac.by_thread.get(timeout=HANG_SECONDS)) == (("a", "a: by a thread"), "a")
    for asked in "bc":
        rig.ask(asked)
    assert rig.next()[0] == "c"  # one connection is left
    rig.almanac.answer()
    assert rig.next() == ("b", "sun")


def test_without_a_thread_a_question_waits_for_the_next_answer() -> None:
    """And without any other question it stays unanswered at once; no place is lost by that."""
    rig = Rig(1, threads=0)
    rig.ask("a")
    rig.ask("b")
    assert rig.answers.empty()
    rig.almanac.answer()
    assert rig.next() == ("a", "sun")
    rig.almanac.answer(None)
    assert rig.next() == ("b", Unanswered("no thread can be started"))
    rig.almanac.connections = 2
    for asked in "cd":
        rig.ask(asked)
    rig.almanac.answer()
    rig.almanac.answer()
    assert [rig.next(), rig.next()] == [("c", "sun"), ("d", "sun")]


def test_without_a_thread_a_question_on_a_closed_connection_does_not_wait() -> None:
    """It was asked, not queued: if its time passed in the queue now, the source would seem to be away."""
    rig = Rig(2, threads=0)
    for asked in "ab":
        rig.ask(asked)
    rig.almanac.answer(None)
    assert rig.answers.get_nowait() == ("a", Unanswered("no thread can be started"))
    rig.almanac.answer()
    assert rig.next() == ("b", "sun")


def test_failures_open_the_breaker_as_ever(rig: Rig) -> None:
    """Whether a thread heard them or not."""

    def fail() -> Fact:
        raise SourceError("status", "HTTP status 500")

    for number in range(MAX_FAILURES):
        rig.ask(str(number))
        rig.almanac.answer(fail)
        assert rig.next() == (str(number), Unanswered("HTTP status 500"))
    assert isinstance(rig.lane.find(need("x")), Unanswered)


def test_an_outcome_that_raises_leaves_the_need_unanswered(rig: Rig) -> None:
    """Its place is free again."""

    def fail() -> Fact:
        raise OSError("torn")

    for number in range(4):
        rig.ask(str(number))
        rig.almanac.answer(fail)
        assert rig.next() == (str(number), Unanswered("OSError"))


def test_what_was_asked_before_a_stop_is_answered(rig: Rig) -> None:
    """The queue too; what comes later is not asked. Threads that were needed end."""
    for asked in "abc":
        rig.ask(asked)
    rig.lane.stop()
    rig.ask("d")
    assert rig.next() == ("d", Unanswered("the configuration has changed meanwhile"))
    rig.almanac.answer(None)
    assert rig.next() == ("a", "a: by a thread")
    assert rig.next() == ("c", "c: by a thread")
    rig.almanac.answer()
    assert rig.next() == ("b", "sun")


@given(st.lists(st.sampled_from(["ask", "answer", "close", "fail"]), max_size=60), st.integers(1, 4))
def test_every_question_is_answered_exactly_once(history: list[str], connections: int) -> None:
    """Whatever comes of each, and in whatever order; and afterwards every place is free."""
    bounds = Bounds(max_concurrent=2, max_waiting=5, max_wait=0.5, burst=1000, refill=1.0)
    rig, asked = Rig(connections, bounds), 0

    def fail() -> Fact:
        raise SourceError("status", "HTTP status 500", counts=False)

    outcomes = {"answer": lambda: Fact("sun"), "close": None, "fail": fail}
    for what in history:
        if what == "ask":
            rig.ask(str(asked))
            asked += 1
        elif rig.almanac.started:
            rig.almanac.answer(outcomes[what])
    heard: list[str] = []
    while len(heard) < asked:
        if rig.almanac.started:
            rig.almanac.answer()
        else:
            heard.append(rig.next()[0])
    assert sorted(heard, key=int) == [str(number) for number in range(asked)]
    assert rig.answers.empty()
    assert rig.lane._pending == 0
    rig.lane.stop()
