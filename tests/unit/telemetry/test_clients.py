"""Proves authz.telemetry.clients, and that clients are noted only if the configuration counts them."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.clients import ClientMetrics
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.metrics import Metrics
from authz.telemetry.report import Reporting, reporter


def test_what_the_throttle_did_is_counted_from_zero() -> None:
    """Denials, and what would be one: in shadow, by the throttle or by its rule; other decisions are neither."""
    registry, throttled = CollectorRegistry(), [0]
    metrics = ClientMetrics(registry, throttled=lambda: throttled[0])

    def shown() -> tuple[Any, ...]:
        values = [registry.get_sample_value("authz_throttled_total", {"enforced": word}) for word in ("true", "false")]
        return (*values, registry.get_sample_value("authz_throttled_networks"))

    assert shown() == (0, 0, 0)
    slow = AuditTrail(throttled=True)
    metrics.count(Deny(Reason.THROTTLED, slow))
    metrics.count(Allow(reason=Reason.AUTHENTICATED, trail=slow))
    metrics.count(Deny(Reason.SIGNATURE_INVALID, slow))
    metrics.count(Allow(reason=Reason.THROTTLED, trail=slow, would_deny=True))
    metrics.count(Deny(Reason.SIGNATURE_INVALID))
    throttled[0] = 7
    assert shown() == (1, 3, 7)


def test_clients_are_noted_only_if_that_is_configured() -> None:
    """Each decision is noted once, and none at all for a configuration that counts nothing."""
    metrics = Metrics(insecure_options=0, label_rules=True, lost_lines=lambda: 0)
    log = DecisionLog(metrics, monotonic=lambda: 0.0)
    for clients in (True, False):
        noted: list[Decision] = []
        settings = Reporting(decisions="none", log_client=True, clients=clients)
        report = reporter(metrics, log, settings, note_client=noted.append)
        denied = Deny(Reason.SIGNATURE_INVALID)
        report(CheckRecord(denied, "id", None, 0.001))
        assert noted == ([denied] if clients else [])


def test_a_memory_that_fails_takes_no_decision_with_it() -> None:
    """It is counted as a failed report, and everything else is reported."""
    metrics = Metrics(insecure_options=0, label_rules=True, lost_lines=lambda: 0)

    def fail(_: Decision) -> None:
        raise RuntimeError("full")

    settings = Reporting(decisions="none", log_client=True, clients=True)
    report = reporter(metrics, DecisionLog(metrics, monotonic=lambda: 0.0), settings, note_client=fail)
    report(CheckRecord(Deny(Reason.SIGNATURE_INVALID), "id", None, 0.001))
    assert metrics.losses()["authz_reports_failed_total"] == 1
    assert metrics.totals().decisions[("deny", "signature_invalid")] == 1
