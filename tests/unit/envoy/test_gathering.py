"""Proves authz.envoy.gathering: equal needs are asked once, every check is resumed once, and no lane delays another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from queue import SimpleQueue
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.needs import Facts, Need, Unanswered
from authz.envoy.gathering import Gatherer
from tests.unit.envoy.asking import FakeLane, StillGatherer

SUN, RAIN = Need("weather", "almanac", "sun"), Need("weather", "almanac", "rain")
TIDE = Need("tide", "harbour", None)
HANG = 300.0  # seconds after which a test that hangs is stopped


class HeldLane(FakeLane):
    """A lane that answers when the test says so."""

    def __init__(self, *, max_waiting: int = 8) -> None:
        super().__init__(max_waiting=max_waiting)
        self.open: list[tuple[Need, Callable[[object | None], None]]] = []

    def ask(self, need: Need, done: Callable[[object | None], None]) -> bool | None:
        self.asked.append(need)
        self.open.append((need, done))
        return self.queues

    def answer(self, fact: object | None) -> None:
        _, done = self.open.pop(0)
        done(fact)


def gather(gatherer: Gatherer, needs: Iterable[Need], seconds: float = 1.0) -> list[Facts]:
    """Begin to gather; return where the facts will be, once they come."""
    resumed: list[Facts] = []
    gatherer.gather(needs, seconds, resumed.append)
    return resumed


def work(gatherer: StillGatherer, *, steps: int = 8) -> None:
    """Handle all that is there."""
    for _ in range(steps):
        gatherer.step(0)


def test_equal_needs_are_asked_once() -> None:
    """Anyone who comes while an answer is on its way shares it; who comes later asks again."""
    lane = HeldLane()
    gatherer = StillGatherer(weather=lane)
    first, second = gather(gatherer, [SUN]), gather(gatherer, [SUN])
    work(gatherer)
    assert (lane.asked, first, second) == ([SUN], [], [])
    lane.answer("warm")
    work(gatherer)
    assert first == second == [{SUN: "warm"}]
    gather(gatherer, [SUN])
    work(gatherer)
    assert lane.asked == [SUN, SUN]


def test_an_answer_for_one_check_is_not_shared() -> None:
    """Of two checks with the same proof one gets "first"; an answer that comes too late is for no one else either."""
    lane, once = HeldLane(), replace(SUN, single_use=True)
    gatherer = StillGatherer(weather=lane)
    first, second = gather(gatherer, [once]), gather(gatherer, [once])
    work(gatherer)
    assert (lane.asked, first, second) == ([SUN, SUN], [], [])
    lane.answer("first")
    work(gatherer)
    assert (first, second) == ([{SUN: "first"}], [])
    lane.answer("replayed")
    work(gatherer)
    assert second == [{SUN: "replayed"}]

    late = gather(gatherer, [once], 1.0)
    work(gatherer)
    gatherer.instant = 1.0
    other = gather(gatherer, [once], 9.0)
    work(gatherer)
    lane.answer("first")
    work(gatherer)
    assert (late, other) == ([{}], [])


def test_a_check_is_resumed_with_all_of_its_facts() -> None:
    """It waits for the last of them; what stays unknown is left out."""
    weather, tide = HeldLane(), HeldLane()
    gatherer = StillGatherer(weather=weather, tide=tide)
    resumed = gather(gatherer, [SUN, TIDE, RAIN])
    work(gatherer)
    weather.answer("warm")
    weather.answer(None)
    work(gatherer)
    assert resumed == []
    tide.answer("low")
    work(gatherer)
    assert resumed == [{SUN: "warm", TIDE: "low"}]


def test_whose_time_is_up_goes_on_with_what_came() -> None:
    """Once, at its own deadline; an answer that comes afterwards is for those who came later."""
    lane = HeldLane()
    gatherer = StillGatherer(weather=lane)
    patient, hasty = gather(gatherer, [SUN, RAIN], 2.0), gather(gatherer, [RAIN], 1.0)
    work(gatherer)
    gatherer.instant = 1.0
    work(gatherer)
    assert (patient, hasty) == ([], [{}])
    lane.answer("warm")
    work(gatherer)
    gatherer.instant = 2.0
    work(gatherer)
    assert (patient, hasty) == ([{SUN: "warm"}], [{}])
    late = gather(gatherer, [RAIN])
    work(gatherer)
    assert len(lane.asked) == 2  # it shares the question that is still open
    lane.answer("wet")
    work(gatherer)
    assert (late, hasty) == ([{RAIN: "wet"}], [{}])


def test_a_question_behind_others_says_nothing_of_the_source() -> None:
    """Whoever waits for it learns that others were before it: a flood must not look like a source that is away."""
    lane = HeldLane()
    gatherer = StillGatherer(weather=lane)
    with_the_source = gather(gatherer, [SUN])
    work(gatherer)
    lane.queues = True
    behind, shares_it, shares_the_first = (gather(gatherer, [need]) for need in (RAIN, RAIN, SUN))
    work(gatherer)
    gatherer.instant = 1.0
    work(gatherer)
    assert (with_the_source, shares_the_first) == ([{}], [{}])
    assert behind == shares_it == [{RAIN: Unanswered("too many requests were before it")}]


def test_a_full_lane_turns_away_and_delays_no_other() -> None:
    """Checks above a lane's bound go on without its facts; those for another lane are asked as ever."""
    weather, tide = HeldLane(max_waiting=2), HeldLane()
    gatherer = StillGatherer(weather=weather, tide=tide)
    waiting = [gather(gatherer, [Need("weather", "almanac", str(number))]) for number in range(3)]
    other = gather(gatherer, [TIDE])
    work(gatherer)
    (told,) = waiting.pop()
    (why,) = told.values()
    assert isinstance(why, Unanswered)
    assert not why.absent  # the source may well answer others
    assert waiting == [[], []]
    tide.answer("low")
    work(gatherer)
    assert other == [{TIDE: "low"}]
    weather.answer("warm")  # one place is free again
    work(gatherer)
    again = gather(gatherer, [Need("weather", "almanac", "3")])
    work(gatherer)
    assert (len(weather.asked), again) == (3, [])


def test_a_lane_that_breaks_leaves_the_need_unanswered(caplog: pytest.LogCaptureFixture) -> None:
    """The check goes on without the fact, the log says why, and the gatherer goes on too."""

    class Broken(FakeLane):
        def ask(self, need: Need, done: Callable[[object | None], None]) -> None:
            raise OSError("no almanac")

    gatherer = StillGatherer(weather=Broken(), tide=FakeLane(fact="low"))
    with caplog.at_level(logging.ERROR):
        broken, other = gather(gatherer, [SUN]), gather(gatherer, [TIDE])
        work(gatherer)
    assert (broken, other) == ([{}], [{TIDE: "low"}])
    assert [record.message for record in caplog.records] == ["the lane for needs of kind weather failed"]


def test_at_the_stop_everybody_is_resumed() -> None:
    """No one is left without an answer: what came is handed over, and the rest is unanswered."""
    gatherer = StillGatherer(weather=HeldLane(), tide=FakeLane(fact="low"))
    resumed = gather(gatherer, [SUN, TIDE], 1e9)
    work(gatherer)
    gatherer.stop()
    assert gatherer.step(0) is False
    (facts,) = resumed
    assert facts[TIDE] == "low"
    assert facts[SUN] == Unanswered("the process stops")  # and not that its source is absent


def test_a_check_that_cannot_be_resumed_costs_nobody_else_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """On its thread: an exception is logged, and the next check is resumed."""
    lane = FakeLane(fact="warm")
    gatherer = Gatherer({"weather": lane}, monotonic=lambda: 0.0)
    resumed: SimpleQueue[Facts] = SimpleQueue()

    def fail(_facts: Facts) -> None:
        raise MemoryError

    gatherer.start()
    gatherer.gather([SUN], 1.0, fail)
    gatherer.gather([SUN], 1.0, resumed.put)
    assert resumed.get(timeout=HANG) == {SUN: "warm"}
    gatherer.stop()
    assert "a check could not be resumed" in caplog.text


class LimitlessLane(FakeLane):
    """A lane that cannot say how many may wait for it."""

    @property
    def max_waiting(self) -> int:
        raise MemoryError

    @max_waiting.setter
    def max_waiting(self, value: int) -> None:
        """Take no notice."""


def test_a_check_that_cannot_begin_to_wait_is_resumed_and_costs_nobody_else_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The only thread that resumes goes on: otherwise each later check would end in Envoy's time-out."""
    gatherer = Gatherer({"weather": LimitlessLane(), "tide": FakeLane(fact="high")}, monotonic=lambda: 0.0)
    resumed: SimpleQueue[Facts] = SimpleQueue()
    with caplog.at_level(logging.ERROR):
        gatherer.start()
        gatherer.gather([SUN], 1.0, resumed.put)
        assert resumed.get(timeout=HANG) == {}
        gatherer.gather([TIDE], 1.0, resumed.put)
        assert resumed.get(timeout=HANG) == {TIDE: "high"}
    gatherer.stop()
    assert "a step of gathering failed" in caplog.text


def test_a_deadline_wakes_the_thread() -> None:
    """On its thread and on the real clock: no one answers, and the check goes on all the same."""
    import time  # noqa: PLC0415 - of this test alone

    gatherer = Gatherer({"weather": HeldLane()}, monotonic=time.monotonic)
    ended = Event()
    gatherer.start()
    gatherer.gather([SUN], 0.01, lambda _facts: ended.set())
    assert ended.wait(HANG)
    gatherer.stop()


@given(st.lists(st.tuples(st.sampled_from(["gather", "answer", "silence", "pass"]), st.integers(0, 3)), max_size=60))
def test_every_check_is_resumed_exactly_once(history: list[tuple[str, int]]) -> None:
    """Whatever the order of questions, answers and time: once each, never with a fact that it did not ask for."""
    lane = HeldLane(max_waiting=4)
    gatherer = StillGatherer(weather=lane)
    checks: list[tuple[Need, list[Facts]]] = []
    for what, number in history:
        if what == "gather":
            need = Need("weather", "almanac", str(number))
            checks.append((need, gather(gatherer, [need], seconds=1.0 + number)))
        elif what == "pass":
            gatherer.instant += number
        elif lane.open:
            lane.answer("warm" if what == "answer" else None)
        work(gatherer, steps=2)
    gatherer.stop()
    while gatherer.step(0):
        pass
    assert all(len(resumed) == 1 and set(resumed[0]) <= {need} for need, resumed in checks)
    assert not any(gatherer._waiting_for.values())


class KeepingLane(HeldLane):
    """A lane that keeps one fact."""

    def recall(self, need: Need) -> object | None:
        """Return the fact about the tide."""
        return "high" if need == TIDE else None


def test_facts_that_lanes_keep_are_there_beside_those_that_were_gathered() -> None:
    """A decision that is made again finds both, and what was gathered comes first."""
    gatherer = StillGatherer(tide=KeepingLane(), weather=HeldLane())
    sun = Need("weather", "almanac", "sun")
    facts = gatherer.known_with({sun: "shines"})
    assert (facts.get(sun), facts.get(TIDE), facts.get(Need("tide", "almanac", "other"))) == ("shines", "high", None)
    assert (list(facts), len(facts)) == ([sun], 1)
    assert gatherer.known_with({TIDE: "low"}).get(TIDE) == "low"
    assert StillGatherer(weather=HeldLane()).known_with({sun: "shines"}) == {sun: "shines"}
