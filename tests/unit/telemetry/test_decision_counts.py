"""Proves authz.telemetry.decision_counts: what is counted without a lock is what prometheus_client would show."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.openmetrics.exposition import generate_latest

from authz.core.reasons import Reason
from authz.telemetry import names
from authz.telemetry.check_record import TraceContext
from authz.telemetry.decision_counts import DecisionCounts, Labels

GOOD: Labels = ("allow", Reason.AUTHENTICATED, "a", "items")
BAD: Labels = ("deny", Reason.TOKEN_EXPIRED, "a", "items")
DURATIONS = (0.0, 0.00005, 0.00006, 0.0004, 0.03, 1.0, 1.5, 7.0)


def shown(registry: CollectorRegistry) -> list[str]:
    """Return the lines of OpenMetrics, without the times of series and exemplars."""
    lines = bytes(generate_latest(registry)).decode().splitlines()  # type: ignore[no-untyped-call]  # it has none
    return sorted(line.rpartition(" ")[0] if "_created" in line or "trace_id" in line else line for line in lines)


def test_it_shows_what_prometheus_client_shows() -> None:
    """Families, series, buckets and exemplars are those of its own counters and histograms, to the letter."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = DecisionCounts(ours, always=[BAD])
    decisions = Counter(names.DECISIONS_TOTAL, "Decisions.", ("decision", "reason", "issuer", "rule"), registry=theirs)
    durations = Histogram(
        names.CHECK_DURATION_SECONDS,
        "Time from the acceptance of a call to its answer.",
        buckets=names.DURATION_BUCKETS,
        registry=theirs,
    )
    lookups = Counter(
        names.SIGNATURE_CACHE_REQUESTS_TOTAL, "Lookups in the signature cache.", ("result",), registry=theirs
    )
    decisions.labels(*BAD)
    found = {True: lookups.labels("hit"), False: lookups.labels("miss")}
    for number, seconds in enumerate(DURATIONS):
        labels, cached = (GOOD, True) if number % 2 else (BAD, False)
        trace = TraceContext(f"{number:032x}", f"{number:016x}") if number < 4 else None
        exemplar = None if trace is None else {"trace_id": trace.trace_id, "span_id": trace.span_id or ""}
        counts.count(labels, seconds, cached=cached, trace=trace)
        decisions.labels(*labels).inc(1, exemplar)
        durations.observe(seconds, exemplar)
        found[cached].inc()
    assert shown(ours) == shown(theirs)
    assert sum(counts.durations()) == len(DURATIONS)


def test_no_count_is_lost_between_threads() -> None:
    """Eight threads count at once; each count is there."""
    counts = DecisionCounts(CollectorRegistry())

    def work(_: int) -> None:
        for number in range(5_000):
            counts.count(GOOD, 0.001, cached=None, trace=None)
            counts.count(("deny", Reason.POLICY_DENIED, "", f"rule-{number % 7}"), 0.001, cached=None, trace=None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert counts.decisions()[GOOD] == 40_000
    assert sum(counts.decisions().values()) == sum(counts.durations()) == 80_000


def test_the_newest_exemplar_of_all_threads_is_shown() -> None:
    """Whichever thread decided last."""
    registry = CollectorRegistry()
    counts = DecisionCounts(registry, now=count(1000.0).__next__)
    with ThreadPoolExecutor(1) as other:
        other.submit(counts.count, GOOD, 0.001, cached=None, trace=TraceContext("t" * 32, "1" * 16)).result()
        counts.count(GOOD, 0.001, cached=None, trace=TraceContext("t" * 32, "2" * 16))
        other.submit(counts.count, GOOD, 0.001, cached=None, trace=TraceContext("t" * 32, "3" * 16)).result()
    exemplars = {
        sample.exemplar.labels["span_id"]
        for family in registry.collect()
        for sample in family.samples
        if sample.exemplar
    }
    assert exemplars == {"3" * 16}


@pytest.mark.parametrize(("cached", "hits", "misses"), [(True, 1, 0), (False, 0, 1), (None, 0, 0)])
def test_a_lookup_is_a_hit_or_a_miss(cached: bool | None, hits: int, misses: int) -> None:  # noqa: FBT001 - a table
    """Or there was none."""
    registry = CollectorRegistry()
    DecisionCounts(registry).count(GOOD, 0.001, cached=cached, trace=None)
    found = {
        result: registry.get_sample_value("authz_signature_cache_requests_total", {"result": result})
        for result in ("hit", "miss")
    }
    assert found == {"hit": hits, "miss": misses}
