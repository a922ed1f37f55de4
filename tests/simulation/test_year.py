"""Proves from the record of a year that the promises about keys are kept: who is denied, what passes, the cost."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

import pytest

from authz.feeds.refresh import MAX_BURST
from tests.simulation import year
from tests.simulation.year import DAY, HOUR, Record, Year

SEEDS = (1,)

PICK_UP = year.SCHEDULE.cooldown  # a new key that was not announced may be unknown for so long
RETRY = year.SCHEDULE.max_backoff  # after an outage the next attempt comes within this
REMOVAL = year.SCHEDULE.max_interval  # a removed key is accepted for so long at most, while its issuer answers


@cache
def record_of(seed: int) -> Record:
    """The record of one year."""
    return Year(seed).play()


@pytest.fixture(params=SEEDS, ids=[f"seed-{seed}" for seed in SEEDS])
def record(request: pytest.FixtureRequest) -> Record:
    """A year."""
    return record_of(request.param)


def test_it_happened(record: Record) -> None:
    """The year had what it should have: rotations, outages of both kinds, clock steps, a flapping network, floods."""
    assert len(record.used_at) >= 12
    assert len(record.outages) >= 20
    assert sum(end - start > DAY for start, end in record.outages) == year.LONG_OUTAGES
    assert len(record.steps) >= 10
    assert len(record.flapping) >= 5
    assert record.flaps_seen >= 5
    assert len(record.floods) >= 20
    assert len(record.decisions) > 100_000
    assert {decision.outcome for decision in record.decisions} == {"allow", "not_found", "unavailable"}


def test_year_is_the_same_again() -> None:
    """One seed, one year: a failure can be looked at."""
    short = [Year(7, length=10 * DAY).play() for _ in range(2)]
    assert short[0] == short[1]


def test_no_good_token_is_denied_outside_the_promised_windows(record: Record) -> None:
    """A token by the current key is refused in two windows only.

    1. Within a cool-down after its key was first published, if the issuer was down or not of one mind meanwhile;
    2. When the issuer has been down for `max_stale`, until one retry after it is back.
    """
    for decision in record.decisions:
        if decision.outcome == "allow" or decision.at > record.removed_at.get(decision.kid, float("inf")):
            continue
        if decision.outcome == "unavailable":
            assert any(
                start + DAY - REMOVAL <= decision.at <= end + RETRY
                for start, end in record.outages
                if end - start > DAY
            ), decision
        else:
            published = record.published_at[decision.kid]
            assert record.down(published, decision.at), decision  # never where the issuer was up and of one mind
            assert decision.at <= _heard_by(record, published) + PICK_UP + RETRY, decision


def _heard_by(record: Record, published: float) -> float:
    """When the issuer, having published something, was first up and of one mind for longer than a removal takes."""
    at = published
    for start, end in sorted((*record.outages, *record.flapping)):
        if start - REMOVAL <= at < end:
            at = end
    return at


def test_no_removed_key_is_accepted_after_its_window(record: Record) -> None:
    """A removed key verifies nothing after the longest interval, or one retry after the outage that hid its removal."""
    for decision in record.decisions:
        removed = record.removed_at.get(decision.kid)
        if removed is None or decision.at <= removed or decision.outcome != "allow":
            continue
        assert decision.at <= _heard_by(record, removed) + REMOVAL + RETRY, decision
        assert decision.at <= removed + DAY + REMOVAL or record.down(removed, decision.at), decision


def test_fetches_stay_within_budget(record: Record) -> None:
    """In a quiet hour 2 fetches at most; in any hour one a cool-down for unknown keys, and the schedule's own."""
    times = record.fetches
    for start in range(0, int(year.YEAR), int(HOUR)):
        fetched = bisect_left(times, start + HOUR) - bisect_left(times, start)
        quiet = not record.down(start - HOUR, start + HOUR)
        asked = any(begin <= start + HOUR and start <= end for begin, end in record.floods)
        tried = any(removed - HOUR <= start <= removed + year.TRIED_FOR for removed in record.removed_at.values())
        if quiet and not asked and not tried:
            assert fetched <= 2
        assert fetched <= 2 + HOUR / PICK_UP + 10


def test_floods_cost_one_fetch_a_cooldown(record: Record) -> None:
    """Ten minutes of random key ids cost the bucket and 40 fetches more, beside the scheduled one."""
    for start, end in record.floods:
        if not record.down(start - HOUR, end):
            fetched = bisect_left(record.fetches, end) - bisect_left(record.fetches, start)
            assert fetched <= MAX_BURST + (end - start) / PICK_UP + 2
