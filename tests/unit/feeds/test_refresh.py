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

from authz.facts.budget import Budget
from authz.feeds import refresh
from authz.feeds.refresh import MAX_BURST, MAX_RETRY_AFTER, MAX_RETRY_AFTER_EMPTY, NEVER, RefreshState, Schedule, Search
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
    """After a success the next comes at 75 to 95 % of the lifetime, clamped; earlier only if someone asks."""
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


def unknown_keys_cost_a_bucket_of_fetches(year: History) -> None:
    """In no time are there more than the bucket holds and gains meanwhile; attempts count, whatever came of them.

    While refreshes fail, those of the schedule count too, and no two lie within a cool-down.
    """
    cooldown = year.schedule.cooldown
    earned = NEVER  # the least, over all beginnings of such a time, of what was spent before it
    for number, attempt in enumerate(attempt for attempt in year.attempts if attempt.on_demand):
        earned = min(earned, number * cooldown - attempt.began)
        assert number * cooldown - attempt.began - earned <= (MAX_BURST - 1) * cooldown + ROUNDING
    for one, following in year.gaps():
        if following.on_demand and not one.answer.good:
            assert following.began - one.began >= cooldown - ROUNDING


def unknown_keys_are_fetched_at_once_within_the_budget(year: History) -> None:
    """Who asks is turned away only while a refresh is under way, without budget, or if the issuer wants to be left."""
    begins = [attempt.began for attempt in year.attempts]
    cooldown = year.schedule.cooldown
    for at, began in year.asks:
        last = bisect_right(begins, at) - 1
        tried = [attempt for attempt in year.attempts[max(0, last - 300) : last + 1] if attempt.began < at]
        attempt = tried[-1] if tried else None
        spent = sum(one.on_demand and at - one.began <= MAX_BURST * cooldown + ROUNDING for one in tried)
        free = (
            attempt is not None
            and attempt.ended <= at
            and spent < MAX_BURST
            and (attempt.answer.good or at - attempt.began >= cooldown + ROUNDING)
            and (
                attempt.answer.good or at - attempt.ended >= min(attempt.answer.wait or 0.0, MAX_RETRY_AFTER) + ROUNDING
            )
        )
        scheduled = bool(begins) and begins[last] == at and not year.attempts[last].on_demand
        assert began or not free or scheduled, (at, attempt)


def backoff_is_bounded(year: History) -> None:
    """After a failure the next attempt comes within the longest back-off, unless the issuer wants to be left alone.

    The schedule waits half a second at least; an unknown key need not, for its cool-down counts from the beginning.
    """
    for one, following in year.gaps():
        if not one.answer.good:
            longest = max(year.schedule.max_backoff, min(one.answer.wait or 0.0, year.schedule.max_interval))
            assert following.began - one.ended <= longest + ROUNDING
            assert following.on_demand or following.began - one.ended >= 0.5 - ROUNDING


def issuer_is_left_alone(year: History) -> None:
    """Retry-After delays the schedule for the longest interval at most, and never until keys would be withdrawn.

    It delays the search for unknown keys for a minute at most, and everything for half a minute at most where there
    are no keys.
    """
    good_until = -NEVER
    for one, following in year.gaps():
        if one.answer.good:
            good_until = one.began + year.schedule.max_stale
        elif one.answer.wait is not None:
            serving = one.ended < good_until
            kept = min(one.answer.wait, year.schedule.max_interval, good_until - one.ended)
            if not serving:
                kept = min(one.answer.wait, MAX_RETRY_AFTER_EMPTY)
                assert following.began - one.ended <= max(kept, year.schedule.max_backoff) + ROUNDING
            elif following.on_demand:
                kept = min(kept, MAX_RETRY_AFTER)
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
    """Before the first success nothing waits longer than the longest back-off, whatever Retry-After says."""
    assert year.attempts[0].began == 0.0
    first = next((number for number, one in enumerate(year.attempts) if one.answer.good), len(year.attempts))
    for one, following in pairwise(year.attempts[: first + 1]):
        assert following.began - one.ended <= year.schedule.max_backoff + ROUNDING


PROMISES = (
    refreshes_come_before_expiry,
    one_refresh_at_a_time,
    unknown_keys_cost_a_bucket_of_fetches,
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
    """Whatever the issuer does and whatever clients ask."""
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
    """Nothing is due, nothing is withdrawn and no one may ask, also while a refresh goes on to its end."""
    running = refresh.started(refresh.adopt(STATE, SCHEDULE, fetched=0.0), SCHEDULE, 0.0, on_demand=False)
    for state in (STATE, running, refresh.ended(running)):
        closed = refresh.closed(state)
        assert refresh.due(closed) == NEVER
        assert not refresh.must_refresh(closed, 1e9)
        assert not refresh.must_withdraw(closed, 1e9)
        assert not refresh.may_begin_on_demand(closed, SCHEDULE, 1e9)
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


# Searches for something that the document has not: a key id that a token names.


@settings(deadline=None, max_examples=100)
@given(
    flood=st.sampled_from([0.1, 1.0, 5.0]),
    before=st.floats(0.0, 120.0),
    takes=st.sampled_from([0.02, 0.4]),
    asks=st.floats(0.2, 3.0),
)
def test_a_new_key_is_found_within_a_cooldown_under_a_flood(
    flood: float, before: float, takes: float, asks: float
) -> None:
    """Strangers name random key ids all the time; a key that signs as soon as it is published is never "not there"."""
    published = 600.0 + before
    replica = Replica(lambda _: Answer(takes=takes))
    strangers = [(600.0 + number * flood, True) for number in range(int(300 / flood))]
    requests = [(published + number * asks, False) for number in range(int(60 / asks))]
    for at, strange in sorted(strangers + requests):
        replica.run(at)
        if strange:
            replica.look_for(first_asked=at)
        elif any(attempt.began >= published and attempt.ended <= at for attempt in replica.attempts):
            assert at - published <= SCHEDULE.cooldown + takes + asks
            return
        else:
            assert replica.look_for(first_asked=published) is not Search.NOT_THERE
    raise AssertionError("never found")


@settings(deadline=None, max_examples=100)
@given(late=st.floats(0.0, 14.9), asks=st.floats(0.1, 1.0))
def test_an_issuer_that_publishes_late_is_looked_at_again_soon(late: float, asks: float) -> None:
    """A key that signs before it is published is found within a third of a cool-down, and never "not there"."""
    replica = Replica(lambda _: Answer(takes=0.02))
    replica.run(first := 700.0)
    for number in range(300):
        replica.run(at := first + number * asks)
        if any(attempt.began >= first + late and attempt.ended <= at for attempt in replica.attempts):
            assert at - (first + late) <= SCHEDULE.cooldown / 3 + 0.02 + 2 * asks
            return
        assert replica.look_for(first_asked=first) in {Search.NOW, Search.TOO_NEW}
    raise AssertionError("never found")


def test_what_is_not_there_is_said_so_after_a_cooldown() -> None:
    """Four looks in the first cool-down, and then one a cool-down: between them it is known not to be there."""
    replica = Replica(lambda _: Answer())
    replica.run(first := 700.0)
    said = []
    for second in range(40):
        replica.run(first + second)
        said.append(replica.look_for(first_asked=first))
    looked = [round(attempt.began - first) for attempt in replica.attempts if attempt.on_demand]
    assert looked == [0, 5, 10, 15, 30]
    assert set(said[:15]) == {Search.NOW, Search.TOO_NEW}
    assert set(said[16:30]) == set(said[31:]) == {Search.NOT_THERE}


def test_a_failed_refresh_is_no_look() -> None:
    """While the issuer is down no one knows whether the key is there: that is said, also where it was not before."""
    replica = Replica(lambda now: Answer(good=now < 700.0))
    replica.run(700.0)
    said = set()
    for second in range(700, 1400):
        replica.run(float(second))
        said.add(replica.look_for(first_asked=100.0))
    assert said == {Search.NOW, Search.REFRESH_FAILED}


def test_without_budget_an_unknown_key_is_not_said_to_be_missing() -> None:
    """A spent bucket says nothing about a key that no one has looked for."""
    replica = Replica(lambda _: Answer())
    replica.run(700.0)
    said = []
    for number in range(6):
        replica.run(at := 700.0 + number)
        said.append(replica.look_for(first_asked=at))
    assert said == [Search.NOW] * MAX_BURST + [Search.NO_BUDGET] * 2


def test_doubts_have_the_budget_of_unknown_keys() -> None:
    """Forged signatures: one fetch a cool-down, none soon after a success, and none while the bucket is empty."""
    replica = Replica(lambda _: Answer())
    replica.run(700.0)
    for number in range(60_000):
        replica.run(700.0 + number / 1000)
        if refresh.may_recheck(replica.state, SCHEDULE, replica.now):
            replica.ask()
    assert sum(attempt.on_demand for attempt in replica.attempts) <= 5
    empty = Replica(lambda _: Answer())
    empty.run(0.0)
    fresh = replace(empty.state, confirmed_at=-NEVER)
    assert refresh.may_recheck(fresh, SCHEDULE, 0.0)
    spent = replace(fresh, budget=Budget(MAX_BURST, SCHEDULE.cooldown, 0.0, 0.0))
    assert not refresh.may_recheck(spent, SCHEDULE, 1.0)
