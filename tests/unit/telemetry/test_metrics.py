"""Proves authz.telemetry.metrics: the numbers beside the decisions, and exemplars that lead to traces."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.exposition import generate_latest

from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.metrics import Metrics


def metrics() -> Metrics:
    """Make fresh numbers."""
    return Metrics(insecure_options=0, label_rules=True)


def value(numbers: Metrics, name: str, **labels: str) -> float | None:
    """Return a number."""
    return numbers.registry.get_sample_value(name, labels)


def text(numbers: Metrics) -> list[str]:
    """Return the lines of OpenMetrics."""
    return bytes(generate_latest(numbers.registry)).decode().splitlines()  # type: ignore[no-untyped-call]  # it has none


@pytest.mark.parametrize(
    ("decision", "hits", "misses"),
    [
        (Allow(reason=Reason.AUTHENTICATED, trail=AuditTrail(signature_cached=True)), 1, 0),
        (Allow(reason=Reason.AUTHENTICATED, trail=AuditTrail(signature_cached=False)), 0, 1),
        (Deny(Reason.TOKEN_EXPIRED, AuditTrail(signature_cached=True)), 1, 0),
        (Deny(Reason.SIGNATURE_INVALID), 0, 1),
        (Deny(Reason.KEY_NOT_FOUND), 0, 0),
        (Allow(reason=Reason.PUBLIC, trail=AuditTrail()), 0, 0),
    ],
)
def test_the_memory_is_counted_where_it_was_asked(decision: Decision, hits: int, misses: int) -> None:
    """A signature that does not verify was not remembered either; without a signature nothing is counted."""
    numbers = metrics()
    numbers.count(CheckRecord(decision, "id", None, 0.0))
    assert value(numbers, "authz_signature_cache_requests_total", result="hit") == hits
    assert value(numbers, "authz_signature_cache_requests_total", result="miss") == misses


def test_exemplars_are_for_calls_with_a_span() -> None:
    """A trace that no one keeps leads nowhere; a kept one stands beside its duration and its denial."""
    numbers = metrics()
    denial = CheckRecord(Deny(Reason.TOKEN_MISSING), "id", None, 0.0004)
    for trace in (None, TraceContext("a" * 32)):
        numbers.count(denial, trace)
        assert not [line for line in text(numbers) if "trace_id" in line]
    numbers.count(denial, TraceContext("a" * 32, "b" * 16))
    ids = (f'trace_id="{"a" * 32}"', f'span_id="{"b" * 16}"')
    marked = [line for line in text(numbers) if all(part in line.partition(" # ")[2] for part in ids)]
    assert {line.partition("{")[0] for line in marked} == {
        "authz_decisions_total",
        "authz_check_duration_seconds_bucket",
    }


def test_what_alarms_is_there_from_the_start() -> None:
    """The first internal error is an increase, for the series stood at 0 before."""
    numbers = metrics()
    for reason in ("internal_error", "overloaded", "request_malformed"):
        labels = {"decision": "deny", "reason": reason, "issuer": "", "rule": ""}
        assert value(numbers, "authz_decisions_total", **labels) == 0
        numbers.count(CheckRecord(Deny(Reason(reason)), "id", None, 0.0))
        assert value(numbers, "authz_decisions_total", **labels) == 1


def test_the_state_of_the_configuration_shows() -> None:
    """One series says what is in use, however often it changes, and one whether the file was taken."""
    numbers = metrics()
    assert value(numbers, "authz_config_last_reload_successful") == 1
    for digest in ("one", "two"):
        numbers.apply(insecure_options=0, label_rules=True, digest=digest)
    assert [line for line in text(numbers) if line.startswith("authz_config_info")] == [
        'authz_config_info{digest="two"} 1.0'
    ]
    numbers.count_reload(accepted=False)
    assert value(numbers, "authz_config_last_reload_successful") == 0
    numbers.count_reload(accepted=True)
    assert value(numbers, "authz_config_last_reload_successful") == 1
    assert value(numbers, "authz_config_reloads_total", result="rejected") == 1


def test_the_transport_shows() -> None:
    """An operator sees that the fallback carries the calls."""
    numbers = metrics()
    numbers.show_transport("pool")
    assert value(numbers, "authz_transport_info", transport="pool") == 1


def test_what_happens_to_calls_is_counted() -> None:
    """In flight as the server says at the moment of the scrape; given up; spans and lines that are missing."""
    numbers = metrics()
    calls = [1, 2]
    numbers.watch_in_flight(lambda: len(calls))
    assert value(numbers, "authz_checks_in_flight") == 2
    calls.clear()
    assert value(numbers, "authz_checks_in_flight") == 0
    numbers.count_cancelled()
    numbers.count_dropped_spans(3)
    numbers.count_summarised(4)
    assert value(numbers, "authz_checks_cancelled_total") == 1
    assert value(numbers, "authz_spans_dropped_total") == 3
    assert value(numbers, "authz_log_lines_summarised_total") == 4


def test_lost_log_lines_are_a_counter() -> None:
    """Each scrape asks how many there are by now; it begins with 0, so that the first one rings."""
    lost = [0]
    numbers = Metrics(insecure_options=0, label_rules=True, lost_lines=lambda: lost[0])
    assert value(numbers, "authz_log_lines_lost_total") == 0
    lost[0] = 7
    assert value(numbers, "authz_log_lines_lost_total") == 7
    for part in ("span", "metrics", "log"):
        assert value(numbers, "authz_reports_failed_total", part=part) == 0


def test_the_time_of_a_refresh_is_counted_by_issuer() -> None:
    """In buckets around the time-out of a fetch."""
    numbers = metrics()
    for seconds in (0.02, 0.3, 4.9):
        numbers.observe_refresh("a", seconds)
    name = "authz_keys_refresh_duration_seconds"
    assert value(numbers, f"{name}_count", issuer="a") == 3
    assert [value(numbers, f"{name}_bucket", issuer="a", le=le) for le in ("0.025", "0.5", "5.0")] == [1, 2, 3]
