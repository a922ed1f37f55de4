"""Proves the promises of authz/feeds/README.md about when keys are fetched and how long they serve, by pure functions.

Each history is a year of one issuer, drawn at random: how fast it answers, how it fails, what it says of freshness and
of being left alone, and who asks for unknown keys meanwhile.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from authz.feeds import refresh
from authz.feeds.refresh import NEVER, RefreshState, Schedule
from tests.simulation.replica import Answer, Attempt, Replica

HOUR = 3600.0
DAY = 24 * HOUR
MONTH = 365 * DAY / 12
ROUNDING = 1e-3  # seconds: a year in seconds leaves floats that much and more


@dataclass(frozen=True, slots=True)
class Spell:
    """A time in which an issuer answers one way, at the beginning of a month, and *asks* at so many seconds apart."""

    lasts: float
    answer: Answer
    asks: int
    apart: float


SPELLS = st.builds(
    Spell,
    lasts=st.floats(60.0, 2 * DAY),
    answer=st.builds(
        Answer,
        good=st.booleans(),
        takes=st.sampled_from([0.0, 0.02, 5.0, 10.0]),
        fresh_for=st.none() | st.floats(0.0, 2 * DAY),
        wait=st.none() | st.floats(0.0, 2 * DAY),
    ),
    asks=st.integers(0, 400),
    apart=st.sampled_from([0.1, 7.0, 31.0, 600.0]),
)
SCHEDULES = st.builds(
    Schedule,
    interval=st.sampled_from([60.0, 600.0]),
    max_interval=st.sampled_from([600.0, HOUR]),
    cooldown=st.sampled_from([5.0, 30.0, 300.0]),
    max_stale=st.sampled_from([900.0, HOUR, DAY]),
)


@dataclass(frozen=True, slots=True)
class History:
    """A year: what was tried, when nothing served any more, and who asked when, and whether a refresh began for it."""

    schedule: Schedule
    attempts: list[Attempt]
    withdrawals: list[float]
    asks: list[tuple[float, bool]]

    def gaps(self) -> Iterator[tuple[Attempt, Attempt]]:
        """Each attempt that has ended, and the one after it."""
        return pairwise(self.attempts)


def play(schedule: Schedule, spells: list[Spell], seed: int) -> History:
    """Let a year pass."""
    draw = random.Random(seed)  # noqa: S311 - to be repeated
    usual = Answer(takes=0.05, fresh_for=HOUR)

    def answer(now: float) -> Answer:
        spell = spells[int(now // MONTH) % len(spells)]
        return spell.answer if now % MONTH < spell.lasts else usual

    replica = Replica(answer, schedule=schedule, jitter=draw.random)
    asks: list[tuple[float, bool]] = []
    for month in range(12):
        spell = spells[month % len(spells)]
        for number in range(spell.asks):
            replica.run(month * MONTH + number * spell.apart)
            asks.append((replica.now, replica.ask()))
        replica.run((month + 1) * MONTH)
    return History(schedule, replica.attempts, replica.withdrawals, asks)


def refreshes_come_before_expiry(year: History) -> None:
    """After a success the next comes at 75 to 95 % of the lifetime, clamped; earlier only if somebody asks."""
    schedule = year.schedule
    for one, following in year.gaps():
        if one.answer.good:
            said = schedule.interval if one.answer.fresh_for is None else one.answer.fresh_for
            lifetime = min(max(said, schedule.min_interval), schedule.max_interval)
            after = following.began - one.ended
            assert after <= max(0.95 * lifetime, 1.25 * schedule.min_interval) + ROUNDING
            assert after <= schedule.max_interval + ROUNDING
            assert following.on_demand or after >= max(0.75 * lifetime, schedule.min_interval) - ROUNDING


def one_refresh_at_a_time(year: History) -> None:
    """No attempt begins before the last one has ended."""
    assert all(following.began >= one.ended for one, following in year.gaps())


def unknown_keys_cost_one_fetch_a_cooldown(year: History) -> None:
    """It counts attempts; while refreshes fail it counts those of the schedule too."""
    on_demand = [attempt.began for attempt in year.attempts if attempt.on_demand]
    assert all(later - earlier >= year.schedule.cooldown - ROUNDING for earlier, later in pairwise(on_demand))
    for one, following in year.gaps():
        if following.on_demand and not one.answer.good:
            assert following.began - one.began >= year.schedule.cooldown - ROUNDING


def unknown_keys_are_fetched_at_once_within_the_budget(year: History) -> None:
    """Who asks is turned away only while a refresh is under way, in a cool-down, or if the issuer wants to be left."""
    begins = [attempt.began for attempt in year.attempts]
    for at, began in year.asks:
        last = bisect_right(begins, at) - 1
        tried = [attempt for attempt in year.attempts[max(0, last - 300) : last + 1] if attempt.began < at]
        attempt = tried[-1] if tried else None
        free = (
            attempt is not None
            and attempt.ended <= at
            and at - max((one.began for one in tried if one.on_demand), default=-NEVER)
            >= year.schedule.cooldown + ROUNDING
            and (attempt.answer.good or at - attempt.began >= year.schedule.cooldown + ROUNDING)
            and (attempt.answer.good or at - attempt.ended >= (attempt.answer.wait or 0.0) + ROUNDING)
        )
        scheduled = bool(begins) and begins[last] == at and not year.attempts[last].on_demand
        assert began or not free or scheduled, (at, attempt)


def backoff_is_bounded(year: History) -> None:
    """After a failure the next attempt comes within the longest back-off, unless the issuer wants to be left alone.

    The schedule waits half a second at least; an unknown key need not, for its cool-down counts from the beginning.
    """
    for one, following in year.gaps():
        if not one.answer.good:
            longest = max(year.schedule.last_retry, min(one.answer.wait or 0.0, year.schedule.max_interval))
            assert following.began - one.ended <= longest + ROUNDING
            assert following.on_demand or following.began - one.ended >= 0.5 - ROUNDING


def issuer_is_left_alone(year: History) -> None:
    """Retry-After counts for everybody, for the longest interval at most, and never until keys would be withdrawn."""
    good_until = NEVER
    for one, following in year.gaps():
        if one.answer.good:
            good_until = one.began + year.schedule.max_stale
        elif one.answer.wait is not None:
            left = good_until - one.ended if one.ended < good_until else 0.0 if good_until < NEVER else NEVER
            kept = min(one.answer.wait, year.schedule.max_interval, left)
            assert following.began - one.ended >= kept - ROUNDING


def keys_serve_for_max_stale_after_the_last_success(year: History) -> None:
    """They go at that very moment, not before and not later, and come back with the next success."""
    good = [attempt for attempt in year.attempts if attempt.answer.good and attempt.ended <= 12 * MONTH]
    expected = [
        one.began + year.schedule.max_stale
        for one, following in pairwise([*good, None])
        if one is not None
        and one.began + year.schedule.max_stale < (following.ended if following is not None else 12 * MONTH)
    ]
    assert len(year.withdrawals) == len(expected)
    assert all(abs(at - due) <= ROUNDING for at, due in zip(year.withdrawals, expected, strict=True))


def a_start_without_issuer_is_asked_again_within_a_minute(year: History) -> None:
    """Before the first success nothing waits longer than the longest back-off, Retry-After apart."""
    assert year.attempts[0].began == 0.0
    first = next((number for number, one in enumerate(year.attempts) if one.answer.good), len(year.attempts))
    for one, following in pairwise(year.attempts[: first + 1]):
        if one.answer.wait is None:
            assert following.began - one.ended <= year.schedule.last_retry + ROUNDING


PROMISES = (
    refreshes_come_before_expiry,
    one_refresh_at_a_time,
    unknown_keys_cost_one_fetch_a_cooldown,
    unknown_keys_are_fetched_at_once_within_the_budget,
    backoff_is_bounded,
    issuer_is_left_alone,
    keys_serve_for_max_stale_after_the_last_success,
    a_start_without_issuer_is_asked_again_within_a_minute,
)


# A year that breaks a promise is not made smaller: that would take hours.
@settings(
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(schedule=SCHEDULES, spells=st.lists(SPELLS, min_size=1, max_size=12), seed=st.integers(0, 2**32))
def test_a_year_keeps_every_promise(schedule: Schedule, spells: list[Spell], seed: int) -> None:
    """Whatever the issuer does and whoever asks."""
    year = play(schedule, spells, seed)
    for promise in PROMISES:
        promise(year)


# Single steps.

STATE = RefreshState(refresh_at=0.0)
SCHEDULE = Schedule()


def test_a_new_feed_is_due_at_once_and_serves_nothing() -> None:
    """The first refresh does not wait for anything, and there is nothing to withdraw."""
    assert (refresh.due(STATE), refresh.must_refresh(STATE, 0.0), STATE.serving) == (0.0, True, False)
    assert not refresh.must_withdraw(STATE, 1e9)


def test_a_closed_feed_does_nothing_any_more() -> None:
    """Nothing is due, nothing is withdrawn and nobody may ask, also while a refresh goes on to its end."""
    running = refresh.begun(refresh.adopt(STATE, SCHEDULE, fetched=0.0), 0.0, on_demand=False)
    for state in (STATE, running, refresh.ended(running)):
        closed = refresh.closed(state)
        assert refresh.due(closed) == NEVER
        assert not refresh.must_refresh(closed, 1e9)
        assert not refresh.must_withdraw(closed, 1e9)
        assert not refresh.may_ask(closed, SCHEDULE, 1e9)
        assert refresh.ended(closed).running is False


def test_what_is_adopted_serves_for_the_rest_of_its_time() -> None:
    """Keys from a cache or of the feed before are as old as they are; the refresh that was due stays due."""
    state = refresh.adopt(STATE, SCHEDULE, fetched=-HOUR)
    assert (state.good_since, state.good_until, refresh.due(state)) == (-HOUR, DAY - HOUR, 0.0)
    assert refresh.must_withdraw(state, DAY - HOUR)
    assert refresh.withdrawn(state) == replace(state, good_until=None)


@given(failures=st.integers(0, 10_000), jitter=st.floats(0.0, 1.0))
def test_backoff_grows_and_is_bounded(failures: int, jitter: float) -> None:
    """1, 2, 4 ... 60 seconds, halved at most by jitter, after however many failures."""
    pause = SCHEDULE.pause_after_failure(failures, jitter)
    longest = min(2.0 ** min(failures, 10), 60.0)
    assert longest / 2 <= pause <= longest
