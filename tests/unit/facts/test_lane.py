"""Proves authz.facts: a source that may wait is asked within bounds, and its answers are kept as long as it says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.needs import Need, Unanswered
from authz.facts.bounds import Bounds
from authz.facts.breaker import CLOSED, INITIAL_BACKOFF, MAX_BACKOFF, MAX_FAILURES
from authz.facts.budget import Budget
from authz.facts.by_source import LanesBySource
from authz.facts.cache import FactCache
from authz.facts.lane import RENEWAL_PAUSE, LaneObserver, SourceLane, start_thread
from authz.facts.source import Fact, SourceError

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
        self.asked.put(need.identifier)
        assert self.go_on.wait(HANG)
        if need.identifier == "eclipse":
            raise OSError("the almanac is torn")
        return Fact(f"{need.identifier}: sun", ttl=self.keep)


class Clock:
    """The time of a test."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def lane_of(almanac: Almanac, clock: Clock | None = None, **bounds: float) -> Iterator[SourceLane]:
    """Open a lane to *almanac*, generous where *bounds* say nothing."""
    usual = {"max_concurrent": 2, "max_waiting": 8, "max_wait": 0.5, "burst": 100, "refill": 1.0}
    lane = SourceLane("weather", almanac, bounds=Bounds(**{**usual, **bounds}), monotonic=clock or Clock())  # type: ignore[arg-type]
    try:
        yield lane
    finally:
        almanac.go_on.set()
        lane.stop()


@pytest.mark.parametrize("threads", [0, 1])
def test_a_thread_that_cannot_be_started_takes_no_place(threads: int) -> None:
    """While the system has none to give, questions go to those that run, or stay unanswered; then all is as before."""
    left = [threads]

    def start(run: Callable[[], None], name: str) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start_thread(run, name)

    almanac, answers = Almanac(), SimpleQueue[object | None]()
    almanac.go_on.set()
    bounds = Bounds(max_concurrent=2, max_waiting=2, max_wait=0.5, burst=100, refill=1.0)
    lane = SourceLane("weather", almanac, bounds=bounds, monotonic=Clock(), start=start)
    for number in range(5):
        lane.ask(need(str(number)), answers.put)
        answer = answers.get(timeout=HANG)
        assert answer == (f"{number}: sun" if threads else Unanswered("no thread can be started"))
    left[0] = 2
    lane.ask(need("at last"), answers.put)
    assert answers.get(timeout=HANG) == "at last: sun"
    lane.stop()


def test_a_question_that_waits_for_the_only_thread_is_queued() -> None:
    """Its source is not the cause of a late answer: where the system refuses threads, it was not asked yet."""

    def start(run: Callable[[], None], name: str) -> None:
        if name != "weather-0":
            raise RuntimeError("can't start new thread")
        start_thread(run, name)

    almanac, answers = Almanac(), SimpleQueue[object | None]()
    bounds = Bounds(max_concurrent=2, max_waiting=2, max_wait=0.5, burst=100, refill=1.0)
    lane = SourceLane("weather", almanac, bounds=bounds, monotonic=Clock(), start=start)
    assert [lane.ask(need(number), answers.put) for number in ("1", "2")] == [False, True]
    almanac.go_on.set()
    assert [answers.get(timeout=HANG) for _ in range(2)] == ["1: sun", "2: sun"]
    lane.stop()


def test_questions_go_to_the_source_side_by_side() -> None:
    """As many at one time as may be; the next one follows when one is answered. None is lost."""
    almanac, answers = Almanac(), SimpleQueue[object | None]()
    with lane_of(almanac, max_concurrent=2) as lane:
        for number in range(5):
            lane.ask(need(str(number)), answers.put)
        assert {almanac.asked.get(timeout=HANG) for _ in range(2)} == {"0", "1"}
        assert almanac.asked.empty()
        almanac.go_on.set()
        assert {answers.get(timeout=HANG) for _ in range(5)} == {f"{number}: sun" for number in range(5)}


def test_a_question_without_room_stays_unanswered_at_once() -> None:
    """No one queues without end: what does not fit is refused at once, and a place that is left is free again."""
    almanac, answers, refused = Almanac(), SimpleQueue[object | None](), SimpleQueue[object | None]()
    with lane_of(almanac, max_concurrent=1, max_waiting=2) as lane:
        queued = [lane.ask(need(number), done.put) for number, done in (("1", answers), ("2", answers), ("3", refused))]
        assert queued == [False, True, False]
        assert refused.get(timeout=HANG) == Unanswered("too many requests are in progress")
        almanac.go_on.set()
        assert [answers.get(timeout=HANG) for _ in range(2)] == ["1: sun", "2: sun"]
        lane.ask(need("4"), answers.put)
        assert answers.get(timeout=HANG) == "4: sun"


def test_no_question_is_lost_when_a_lane_stops() -> None:
    """One that waits is answered; one that comes too late, after a reload, gets that answer and is not forgotten."""
    almanac, answers = Almanac(), SimpleQueue[object | None]()
    with lane_of(almanac, max_concurrent=1) as lane:
        lane.ask(need("1"), answers.put)
        lane.ask(need("2"), answers.put)
        almanac.asked.get(timeout=HANG)
        lane.stop()
        lane.ask(need("3"), answers.put)
        assert answers.get(timeout=HANG) == Unanswered("the configuration has changed meanwhile")
        almanac.go_on.set()
        assert [answers.get(timeout=HANG) for _ in range(2)] == ["1: sun", "2: sun"]


def test_attempts_are_counted_and_come_back_with_time() -> None:
    """The source is asked *burst* times at once, and then once every *refill* seconds, whatever comes of it."""
    almanac, clock, answers = Almanac(), Clock(), SimpleQueue[object | None]()
    almanac.go_on.set()
    with lane_of(almanac, clock, burst=2, refill=10.0) as lane:
        for at, expected in [(0.0, True), (0.0, True), (0.0, False), (9.9, False), (10.0, True), (10.0, False)]:
            clock.now = at
            lane.ask(need("eclipse"), answers.put)
            assert isinstance(answers.get(timeout=HANG), Unanswered)
            assert almanac.asked.empty() is not expected
            if expected:
                almanac.asked.get(timeout=HANG)


def test_a_source_that_raises_leaves_the_need_unanswered(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the exception, and the thread goes on."""
    almanac, answers = Almanac(), SimpleQueue[object | None]()
    almanac.go_on.set()
    with lane_of(almanac, max_concurrent=1) as lane, caplog.at_level(logging.ERROR):
        lane.ask(need("eclipse"), answers.put)
        lane.ask(need("today"), answers.put)
        assert [answers.get(timeout=HANG) for _ in range(2)] == [Unanswered("OSError"), "today: sun"]
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


class Seen(LaneObserver):
    """Remembers what a lane reports."""

    def __init__(self) -> None:
        self.found = 0
        self.answered: list[str] = []
        self.refused: list[str] = []

    def on_cache_hit(self) -> None:
        self.found += 1

    def on_answered(self, result: str, seconds: float) -> None:
        self.answered.append(result)

    def on_refused(self, result: str) -> None:
        self.refused.append(result)


class Oracle:
    """A source that answers at once, by what the test has written down."""

    def __init__(self) -> None:
        self.says: Fact | SourceError | OSError = Fact("sun", ttl=60.0)
        self.asked = 0

    def __call__(self, _need: Need) -> Fact:
        self.asked += 1
        if isinstance(self.says, Fact):
            return self.says
        raise self.says


class Rig:
    """A lane to an oracle, whose answers are waited for."""

    def __init__(self, **bounds: float) -> None:
        usual = {"max_concurrent": 1, "max_waiting": 8, "max_wait": 0.5, "burst": 1000, "refill": 1.0, **bounds}
        self.oracle, self.clock, self.seen, self.luck = Oracle(), Clock(), Seen(), 0.0
        self.lane = SourceLane(
            "weather of almanac",
            self.oracle,
            bounds=Bounds(**usual),  # type: ignore[arg-type]
            monotonic=self.clock,
            observer=self.seen,
            random=lambda: self.luck,
        )

    def ask(self, asked: str = "today") -> object | None:
        """Ask, and wait for the answer."""
        answers: SimpleQueue[object | None] = SimpleQueue()
        self.lane.ask(need(asked), answers.put)
        return answers.get(timeout=HANG)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Open a lane, and close it."""
    made = Rig(max_cached=8)
    yield made
    made.lane.stop()


def test_a_source_that_fails_says_why_and_is_never_cached(rig: Rig) -> None:
    """Anyone who waits learns the cause; the next question is asked again."""
    rig.oracle.says = SourceError("status", "HTTP status 500")
    assert rig.ask() == Unanswered("HTTP status 500")
    assert rig.lane.find(need()) is None
    rig.oracle.says = Fact("sun", ttl=60.0, result="shines")
    assert rig.ask() == "sun"
    assert (rig.lane.find(need()), rig.oracle.asked) == ("sun", 2)
    assert (rig.seen.answered, rig.seen.found) == (["status", "shines"], 1)


def test_a_source_that_fails_again_and_again_is_left_alone(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Checks are answered at once then. After each pause one question tries it; an answer ends it."""
    rig.oracle.says = SourceError("timeout", "no answer")
    with caplog.at_level(logging.INFO, logger="authz.facts.lane"):
        for _ in range(MAX_FAILURES):
            assert rig.lane.find(need()) is None
            rig.ask()
        refused = rig.lane.find(need())
        assert isinstance(refused, Unanswered)
        assert "no answer" in refused.why
        assert rig.ask() == refused
        assert (rig.oracle.asked, rig.seen.refused) == (MAX_FAILURES, ["breaker_open", "breaker_open"])
        rig.clock.now = INITIAL_BACKOFF
        assert rig.lane.find(need()) is None
        assert rig.ask() == Unanswered("no answer")
        assert isinstance(rig.lane.find(need()), Unanswered)
        rig.clock.now = 3 * INITIAL_BACKOFF
        rig.oracle.says = Fact("sun")
        assert rig.ask() == "sun"
        assert rig.lane.find(need()) is None
    assert [record.message for record in caplog.records] == [
        "weather of almanac failed: no answer",
        "weather of almanac answers again",
    ]


def test_only_failures_that_count_leave_a_source_alone(rig: Rig) -> None:
    """What any client can cause does not: one stranger would take the source from all."""
    rig.oracle.says = SourceError("bad_request", "HTTP status 400", counts=False)
    for _ in range(5 * MAX_FAILURES):
        assert rig.ask() == Unanswered("HTTP status 400")
    rig.oracle.says = OSError("torn")
    for _ in range(5 * MAX_FAILURES):
        assert rig.ask() == Unanswered("OSError")
    assert rig.seen.answered[-1] == "internal_error"


def test_an_error_response_proves_that_the_source_is_there(rig: Rig) -> None:
    """A client can choose a question that ends in one: it opens no circuit breaker, and closes one that is open."""
    rig.oracle.says = SourceError("unauthorized", "HTTP status 403", responded=True)
    for _ in range(5 * MAX_FAILURES):
        assert rig.ask() == Unanswered("HTTP status 403")
    rig.oracle.says = SourceError("unreachable", "connection refused", absent=True)
    for _ in range(MAX_FAILURES + 3):
        rig.ask()
    rig.clock.now = 1000 * MAX_BACKOFF
    rig.oracle.says = SourceError("unauthorized", "HTTP status 403", responded=True)
    assert [rig.ask() for _ in range(3)] == [Unanswered("HTTP status 403")] * 3
    rig.oracle.says = Fact("sun")
    assert rig.ask() == "sun"


def test_a_question_without_an_answer_while_others_get_theirs_is_the_cause() -> None:
    """A client that finds one which makes the source hang, or hang up, makes it neither absent nor unavailable."""
    clock, answers, others = Clock(), SimpleQueue[object | None](), SimpleQueue[object | None]()
    reached, go_on = SimpleQueue[str | None](), Event()

    def almanac(need: Need) -> Fact:
        if need.identifier == "today":
            return Fact("sun")
        reached.put(need.identifier)
        assert go_on.wait(HANG)
        raise SourceError("timeout", "deadline exceeded", absent=True)

    bounds = Bounds(max_concurrent=9, max_waiting=9, max_wait=0.5, burst=100, refill=1.0)
    lane = SourceLane("weather", almanac, bounds=bounds, monotonic=clock)
    odd = [f"eclipse {number}" for number in range(MAX_FAILURES + 3)]
    for name in odd:
        lane.ask(need(name), answers.put)
    assert {reached.get(timeout=HANG) for _ in odd} == set(odd)
    clock.now = 0.1
    lane.ask(need(), others.put)
    assert others.get(timeout=HANG) == "sun"
    clock.now = 1.0
    go_on.set()
    assert {answers.get(timeout=HANG) for _ in odd} == {Unanswered("deadline exceeded")}
    assert lane.find(need()) is None
    lane.ask(need("eclipse"), answers.put)
    assert answers.get(timeout=HANG) == Unanswered("deadline exceeded", absent=True)
    lane.stop()


def test_one_trial_at_a_time() -> None:
    """While a trial is under way the source is left alone; pauses double up to a bound."""
    state, now, pauses = CLOSED, 0.0, []
    for _ in range(MAX_FAILURES + 12):
        assert not state.is_open(now)
        trial = state.start_trial(now)
        assert trial.is_open(now) is (state.failed >= MAX_FAILURES)
        state = trial.after_failure(now)
        pauses.append(max(0.0, state.until - now))
        now = max(now, state.until)
    assert pauses[: MAX_FAILURES - 1] == [0.0] * (MAX_FAILURES - 1)
    assert pauses[MAX_FAILURES - 1 :][:3] == [INITIAL_BACKOFF, 2 * INITIAL_BACKOFF, 4 * INITIAL_BACKOFF]
    assert pauses[-1] == MAX_BACKOFF


def test_brief_facts_evict_no_others(rig: Rig) -> None:
    """A flood of inactive tokens takes no answer away from the active ones."""
    rig.ask("good")
    rig.oracle.says = Fact("fog", ttl=5.0, negative=True)
    for number in range(100):
        rig.ask(str(number))
    assert (rig.lane.find(need("good")), rig.lane.find(need("99")), rig.lane.find(need("0"))) == ("sun", "fog", None)
    rig.clock.now = 5.0
    assert (rig.lane.find(need("good")), rig.lane.find(need("99"))) == ("sun", None)


def test_facts_that_were_learned_together_do_not_expire_together(rig: Rig) -> None:
    """Each is kept a little shorter than it may be, and never longer."""
    for asked, rig.luck in (("a", 0.0), ("b", 1.0)):
        rig.ask(asked)
    rig.clock.now = 54.0
    assert (rig.lane.find(need("a")), rig.lane.find(need("b"))) == ("sun", None)
    rig.clock.now = 60.0
    assert rig.lane.find(need("a")) is None


def test_the_cache_is_bounded_in_bytes() -> None:
    """Large facts push out more small ones; one that is larger than the cache is not kept, and nothing breaks."""
    cache = FactCache(max_entries=100, max_bytes=10_000, monotonic=Clock())
    for name in "abc":
        cache.put(need(name), name, seconds=10, size=2_000)
    assert [cache.get(need(name)) for name in "abc"] == ["a", "b", "c"]
    cache.put(need("d"), "d", seconds=10, size=2_000)
    assert [cache.get(need(name)) for name in "abcd"] == [None, "b", "c", "d"]
    cache.put(need("e"), "e", seconds=10, size=20_000)
    assert [cache.get(need(name)) for name in "de"] == ["d", None]


def test_what_is_sent_is_not_kept() -> None:
    """A cache of ten thousand tokens is something to steal: their digests are not."""
    cache = FactCache(max_entries=2, monotonic=Clock())
    asked = Need("weather", "almanac", "digest", payload="secret")
    cache.put(asked, "sun", seconds=10)
    assert cache.get(asked) == "sun"
    assert "secret" not in [kept.payload for kept in cache._facts]


def test_each_source_has_its_own_lane() -> None:
    """A need goes to the lane of its source; one that is not configured any more is answered at once."""
    one = Rig()
    lanes = LanesBySource(lambda: {"almanac": one.lane}, max_waiting=3)
    other = Need("weather", "frog", "today")
    answers: SimpleQueue[object | None] = SimpleQueue()
    try:
        lanes.ask(need(), answers.put)
        assert answers.get(timeout=HANG) == "sun"
        assert (lanes.find(need()), lanes.recall(need()), lanes.max_wait(need())) == ("sun", "sun", 0.5)
        assert (lanes.recall(other), lanes.max_wait(other), lanes.max_waiting) == (None, 0.0, 3)
        assert isinstance(lanes.find(other), Unanswered)
        lanes.ask(other, answers.put)
        assert isinstance(answers.get(timeout=HANG), Unanswered)
    finally:
        one.lane.stop()


def test_what_is_not_there_is_told_from_what_answers_with_an_error(rig: Rig) -> None:
    """Also while it is left alone: by the last failure. A limit of ours is no absence of the source."""
    for absent in (True, False):
        rig.oracle.says = SourceError("status", "HTTP status 503", absent=absent)
        for _ in range(MAX_FAILURES):
            rig.ask()
        assert rig.ask() == Unanswered(
            "the circuit breaker is open after several failures; the last: HTTP status 503", absent=absent
        )
        rig.clock.now += 1000 * MAX_BACKOFF
        assert rig.ask() == Unanswered("HTTP status 503", absent=absent)
        rig.clock.now += 1000 * MAX_BACKOFF


def test_a_fact_that_has_just_come_is_not_renewed(rig: Rig) -> None:
    """A decision that saw the one before asks for its renewal a moment too late."""
    rig.oracle.says = Fact("sun", ttl=60.0)
    rig.ask()
    rig.clock.now += 45.0
    assert rig.lane.may_renew(need())
    rig.ask()
    assert not rig.lane.may_renew(need())


def test_a_fact_is_renewed_at_most_once_in_a_while(rig: Rig) -> None:
    """Not if there is none, and not while the source is left alone; a negative answer takes the place of the other."""
    rig.oracle.says = Fact("sun", ttl=60.0)
    assert not rig.lane.may_renew(need())
    rig.ask()
    rig.clock.now += RENEWAL_PAUSE
    assert [rig.lane.may_renew(need()) for _ in range(3)] == [True, False, False]
    rig.clock.now += RENEWAL_PAUSE
    assert rig.lane.may_renew(need())
    rig.oracle.says = SourceError("status", "HTTP status 503")
    for _ in range(MAX_FAILURES):
        rig.ask()
    assert not rig.lane.may_renew(need())
    assert rig.lane.recall(need()) == "sun"
    rig.clock.now += MAX_BACKOFF
    assert rig.lane.may_renew(need())
    rig.oracle.says = Fact("storm", ttl=5.0, negative=True)
    rig.ask()
    assert rig.lane.recall(need()) == "storm"
    rig.clock.now += 5.0
    assert rig.lane.recall(need()) is None
