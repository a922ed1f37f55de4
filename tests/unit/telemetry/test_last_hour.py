"""Proves authz.telemetry.last_hour: what happened in each ten seconds, read from the metrics, for an hour."""

from __future__ import annotations

import sys
from threading import Event, Thread
from typing import Any

from authz.core.decision import Allow, AuditTrail, Deny
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.last_hour import MAX_STEPS, STEP_SECONDS, LastHour, resident_bytes
from authz.telemetry.metrics import Metrics
from tests.fakes.waiting import wait_until


class Rig:
    """Metrics, and the hour that is read from them."""

    def __init__(self) -> None:
        self.time = 1_800_000_003.0
        self.metrics = Metrics(insecure_options=0, label_rules=True, lost_lines=lambda: 2)
        self.metrics.watch_in_flight(lambda: 7)
        self.hour = LastHour(self.metrics.totals, now=lambda: self.time, rss=lambda: 1000)

    def deny(self, reason: Reason, seconds: float = 0.003, times: int = 1) -> None:
        for _ in range(times):
            self.metrics.count(CheckRecord(Deny(reason), "id", None, seconds))

    def step(self, seconds: float = STEP_SECONDS) -> dict[str, Any]:
        """Let time pass and return the last step."""
        self.time += seconds
        self.hour.take()
        return self.steps()[-1]

    def steps(self) -> list[dict[str, Any]]:
        steps = self.hour.describe()["steps"]
        assert isinstance(steps, list)
        return steps


def test_a_step_has_what_happened_in_it() -> None:
    """Decisions by reason, durations by bucket, and the state at its end; the step before takes none of it."""
    rig = Rig()
    rig.deny(Reason.TOKEN_EXPIRED, 0.003, times=3)
    rig.metrics.count(CheckRecord(Allow(reason=Reason.PUBLIC, trail=AuditTrail(rule="r")), "id", None, 2.0))
    shadowed = Allow(reason=Reason.TOKEN_MISSING, trail=AuditTrail(), would_deny=True)
    rig.metrics.count(CheckRecord(shadowed, "id", None, 0.00001))
    rig.metrics.count_cancelled()
    first = rig.step(7)
    assert first["reasons"] == {"token_expired": 3, "public": 1}
    assert (first["would_deny"], first["cancelled"], first["in_flight"], first["rss_bytes"]) == (1, 1, 7, 1000)
    assert (first["ends"], first["seconds"]) == (1_800_000_010, 7.0)
    assert (first["durations"][0], first["durations"][6], first["durations"][-1]) == (1, 3, 1)
    assert sum(first["durations"]) == 5
    second = rig.step()
    assert (second["reasons"], sum(second["durations"]), second["cancelled"]) == ({}, 0, 0)


def test_an_hour_is_kept_and_no_more() -> None:
    """In memory of fixed size: less than a tenth of what the console may use."""
    rig = Rig()
    for _ in range(MAX_STEPS + 5):
        rig.deny(Reason.POLICY_DENIED)
        rig.step()
    assert len(rig.steps()) == MAX_STEPS
    kept = list(rig.hour._steps)
    assert sum(sys.getsizeof(step) + sys.getsizeof(step.counts) + 120 for step in kept) < 200_000


def test_a_clock_that_is_set_back_divides_by_nothing() -> None:
    """The seconds of a step are never 0 nor less: rates are counts by seconds."""
    rig = Rig()
    assert rig.step(-3600)["seconds"] > 0


def test_steps_end_together() -> None:
    """At multiples of ten seconds, as those of every other worker: a step that ends a bit early or late too."""
    rig = Rig()
    assert [rig.step(seconds)["ends"] % STEP_SECONDS for seconds in (7.2, 9.7, 10.3)] == [0, 0, 0]
    assert [step["ends"] for step in rig.steps()] == [1_800_000_010, 1_800_000_020, 1_800_000_030]


def test_it_runs_until_it_is_stopped() -> None:
    """It waits for the end of a step, and not for another after the stop."""
    rig, stopping = Rig(), Event()
    rig.time = STEP_SECONDS - 0.001  # the step is about to end
    thread = Thread(target=rig.hour.run, args=(stopping,))
    thread.start()
    wait_until(lambda: len(rig.steps()) >= 2)
    stopping.set()
    thread.join()


def test_memory_is_what_the_system_says() -> None:
    """Some megabytes at least."""
    assert resident_bytes() > 10_000_000


def test_what_was_not_reported_is_told() -> None:
    """By the names of the metrics."""
    rig = Rig()
    rig.metrics.count_summarised(5)
    rig.metrics.count_failed_report("span")
    rig.metrics.count_dropped_spans(3)
    rig.metrics.count_dropped_records(4)
    assert rig.metrics.losses() == {
        "authz_log_lines_summarised_total": 5,
        "authz_spans_dropped_total": 3,
        "authz_log_records_dropped_total": 4,
        "authz_reports_failed_total": 1,
        "authz_log_lines_lost_total": 2,
    }
