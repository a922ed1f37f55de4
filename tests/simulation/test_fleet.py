"""Proves what an issuer sees of a fleet: jitter dissolves a common start, and no stampede follows an outage."""

from __future__ import annotations

from authz.feeds.refresh import MAX_BURST, Schedule
from tests.simulation.fleet import REPLICAS, after_outage, steady_state, stray_key, table, unannounced_rotation

SCHEDULE = Schedule()


def test_jitter_dissolves_a_common_start() -> None:
    """All start in one second; in the fourth hour no second sees a hundredth of them; without jitter it sees all."""
    first, later = steady_state(SCHEDULE)
    assert first.peak == REPLICAS
    assert later.peak < REPLICAS / 100
    assert later.mean < REPLICAS / (0.75 * SCHEDULE.interval)
    assert steady_state(SCHEDULE, jitter=False)[1].peak == REPLICAS


def test_an_issuer_that_comes_back_is_not_trampled() -> None:
    """During and after an outage attempts are spread over the back-off."""
    during, after = after_outage(SCHEDULE)
    assert max(during.peak, after.peak) < REPLICAS / SCHEDULE.max_backoff * 3


def test_a_new_key_costs_one_fetch_a_replica() -> None:
    """An unannounced rotation: every replica asks once, no more."""
    assert unannounced_rotation(SCHEDULE).mean * SCHEDULE.cooldown <= REPLICAS + 1
    assert "requests/s" in table()


def test_a_stray_key_costs_one_fetch_a_cooldown_of_each_replica() -> None:
    """However often its tokens come."""
    replicas = 200
    strayed = stray_key(SCHEDULE, replicas=replicas)
    assert strayed.mean <= replicas * (MAX_BURST / 60 + 1 / SCHEDULE.cooldown)
