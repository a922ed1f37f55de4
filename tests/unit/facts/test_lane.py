"""Proves authz.facts: a source that may wait is asked within bounds, and its answers are kept as long as it says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.needs import Need
from authz.facts.budget import Budget
from authz.facts.cache import FactCache
from authz.facts.lane import Bounds, Fact, SourceLane

HANG = 300.0  # seconds after which a test that hangs is stopped


def need(asked: str = "today") -> Need:
    """Make a need of a kind that the product does not have."""
    return Need("weather", "almanac", asked)


class Almanac:
    """A source that answers when the test lets it; *asked* has each question once it is there."""

    def __init__(self, *, keep: float = 0.0) -> None:
        self.asked: SimpleQueue[str | None] = SimpleQueue()
        self.go_on = Event()
        self.keep = keep

    def __call__(self, need: Need) -> Fact:
        self.asked.put(need.asked)
        assert self.go_on.wait(HANG)
        if need.asked == "eclipse":
            raise OSError("the almanac is torn")
        return Fact(f"{need.asked}: sun", keep=self.keep)


class Clock:
    """The time of a test."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def lane_of(almanac: Almanac, clock: Clock | None = None, **bounds: float) -> Iterator[SourceLane]:
    """Open a lane to *almanac*, generous where *bounds* say nothing."""
    usual = {"max_asked": 2, "max_waiting": 8, "max_wait": 0.5, "burst": 100, "refill": 1.0}
    lane = SourceLane("weather", almanac, bounds=Bounds(**{**usual, **bounds}), monotonic=clock or Clock())  # type: ignore[arg-type]
    try:
        yield lane
    finally:
        almanac.go_on.set()
        lane.stop()


def test_questions_go_to_the_source_side_by_side() -> None:
    """As many at one time as may be; the next one follows when one is answered. None is lost."""
    almanac, answers = Almanac(), SimpleQueue[object | None]()
    with lane_of(almanac, max_asked=2) as lane:
        for number in range(5):
            lane.ask(need(str(number)), answers.put)
        assert {almanac.asked.get(timeout=HANG) for _ in range(2)} == {"0", "1"}
        assert almanac.asked.empty()
        almanac.go_on.set()
        assert {answers.get(timeout=HANG) for _ in range(5)} == {f"{number}: sun" for number in range(5)}


def test_a_question_without_room_stays_unanswered_at_once() -> None:
    """Nobody queues without end: what does not fit is told so, and a place that is left is free again."""
    almanac, answers, refused = Almanac(), SimpleQueue[object | None](), SimpleQueue[object | None]()
    with lane_of(almanac, max_asked=1, max_waiting=2) as lane:
        lane.ask(need("1"), answers.put)
        lane.ask(need("2"), answers.put)
        lane.ask(need("3"), refused.put)
        assert refused.get(timeout=HANG) is None
        almanac.go_on.set()
        assert [answers.get(timeout=HANG) for _ in range(2)] == ["1: sun", "2: sun"]
        lane.ask(need("4"), answers.put)
        assert answers.get(timeout=HANG) == "4: sun"


def test_attempts_are_counted_and_come_back_with_time() -> None:
    """The source is asked *burst* times at once, and then once every *refill* seconds, whatever comes of it."""
    almanac, clock, answers = Almanac(), Clock(), SimpleQueue[object | None]()
    almanac.go_on.set()
    with lane_of(almanac, clock, burst=2, refill=10.0) as lane:
        for at, expected in [(0.0, True), (0.0, True), (0.0, False), (9.9, False), (10.0, True), (10.0, False)]:
            clock.now = at
            lane.ask(need("eclipse"), answers.put)
            assert answers.get(timeout=HANG) is None
            assert almanac.asked.empty() is not expected
            if expected:
                almanac.asked.get(timeout=HANG)


def test_a_source_that_raises_leaves_the_need_unanswered(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the exception, and the thread goes on."""
    almanac, answers = Almanac(), SimpleQueue[object | None]()
    almanac.go_on.set()
    with lane_of(almanac, max_asked=1) as lane, caplog.at_level(logging.ERROR):
        lane.ask(need("eclipse"), answers.put)
        lane.ask(need("today"), answers.put)
        assert [answers.get(timeout=HANG) for _ in range(2)] == [None, "today: sun"]
    assert "the source of facts weather failed" in caplog.text


def test_a_fact_is_at_hand_until_it_expires() -> None:
    """What the source said is found without asking, for as long as it said; another question is another fact."""
    almanac, clock, answers = Almanac(keep=60.0), Clock(), SimpleQueue[object | None]()
    almanac.go_on.set()
    with lane_of(almanac, clock) as lane:
        assert lane.find(need()) is None
        lane.ask(need(), answers.put)
        assert answers.get(timeout=HANG) == "today: sun"
        clock.now = 59.9
        assert (lane.find(need()), lane.find(need("tomorrow"))) == ("today: sun", None)
        clock.now = 60.0
        assert lane.find(need()) is None


def test_a_fact_that_is_not_to_be_kept_is_not_kept() -> None:
    """By default the next check asks again."""
    almanac, answers = Almanac(), SimpleQueue[object | None]()
    almanac.go_on.set()
    with lane_of(almanac) as lane:
        lane.ask(need(), answers.put)
        answers.get(timeout=HANG)
        assert lane.find(need()) is None


def test_a_lane_says_how_long_and_how_many() -> None:
    """The gatherer asks both of it."""
    with lane_of(Almanac(), max_wait=0.25, max_waiting=3) as lane:
        assert (lane.max_wait(need()), lane.max_waiting) == (0.25, 3)


def test_the_oldest_fact_goes_first() -> None:
    """The cache is bounded; a fact that is learned again is young again, and an expired one never answers."""
    clock = Clock()
    cache = FactCache(max_entries=2, monotonic=clock)
    cache.put(need("1"), "a", seconds=10)
    cache.put(need("2"), "b", seconds=10)
    cache.put(need("1"), "c", seconds=10)
    cache.put(need("3"), "d", seconds=10)
    assert [cache.get(need(name)) for name in "123"] == ["c", None, "d"]
    cache.put(need("3"), "e", seconds=0)
    assert cache.get(need("3")) is None


@given(
    burst=st.integers(1, 5),
    refill=st.floats(0.1, 60.0),
    pauses=st.lists(st.floats(0.0, 120.0), min_size=1, max_size=200),
)
def test_a_budget_is_never_overdrawn(burst: int, refill: float, pauses: list[float]) -> None:
    """In any stretch of time at most the burst, and one attempt more for each refill; and never fewer than due."""
    budget, now, spent = Budget.full(burst, refill, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        if (left := budget.spend(now)) is not None:
            budget, spent = left, spent + 1
        else:
            assert budget.available(now) < 1.0
    assert spent <= burst + now / refill + 1e-6
