"""Report each decision: a counter, a duration, and where wanted a log line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import Info

from authz import __version__
from authz.core.decision import Decision, Deny, outcome
from authz.core.request import Request
from authz.telemetry import names
from authz.telemetry.redaction import printable

log = logging.getLogger("authz.decisions")


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision, the request (None where unreadable), and the *seconds* from the call's look-up to its answer."""

    decision: Decision
    decision_id: str
    request: Request | None
    seconds: float


class Metrics:
    """The numbers of one process, in a registry of their own."""

    def __init__(self, *, insecure_options: int, label_rules: bool) -> None:
        self.registry: Final = CollectorRegistry()
        self._decisions: Final = Counter(
            names.DECISIONS_TOTAL, "Decisions.", ("decision", "reason", "issuer", "rule"), registry=self.registry
        )
        self._children: Final[dict[tuple[str, str, str, str], Counter]] = {}
        self._duration: Final = Histogram(
            names.CHECK_DURATION_SECONDS,
            "Time from the look-up of a call to its answer.",
            buckets=names.DURATION_BUCKETS,
            registry=self.registry,
        )
        Info(names.BUILD_INFO, "The running version.", registry=self.registry).info({"version": __version__})
        self._insecure: Final = Gauge(names.INSECURE_OPTIONS, "Insecure options in use.", registry=self.registry)
        reloads = Counter(
            names.CONFIG_RELOADS_TOTAL, "Reloads of the configuration.", ("result",), registry=self.registry
        )
        self._reloads: Final = {result: reloads.labels(result) for result in ("accepted", "rejected")}
        self.follow(insecure_options=insecure_options, label_rules=label_rules)

    def follow(self, *, insecure_options: int, label_rules: bool) -> None:
        """Show what the configuration of this moment says."""
        self._label_rules = label_rules
        self._insecure.set(insecure_options)

    def count_reload(self, *, accepted: bool) -> None:
        """Count a configuration that was taken up, or refused."""
        self._reloads["accepted" if accepted else "rejected"].inc()

    def count(self, judged: Judged) -> None:
        """Count one decision. Labels are configured names and closed words: no request makes a new series."""
        decision = judged.decision
        findings = decision.findings
        rule = (findings.rule or "") if self._label_rules else ""
        labels = (outcome(decision), decision.reason.value, findings.issuer or "", rule)
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._decisions.labels(*labels)
        child.inc()
        self._duration.observe(judged.seconds)


def log_decision(judged: Judged, *, log_client: bool) -> None:
    """Write one line about a decision. What a client chose is cut and made printable."""
    decision, request, findings = judged.decision, judged.request, judged.decision.findings
    fields: dict[str, object] = {
        "decision": outcome(decision),
        "reason": decision.reason.value,
        "detail": decision.detail,
        "decision_id": judged.decision_id,
        "rule": findings.rule,
        "issuer": findings.issuer,
        "alg": printable(findings.alg),
        "kid": printable(findings.kid),
        "duration_us": round(judged.seconds * 1e6),
    }
    if request is not None:
        fields |= {
            "request_id": printable(request.headers.get("x-request-id")),
            "method": printable(request.method),
            "host": printable(request.host),
            "path": printable(request.path.partition("?")[0]),
        }
        if log_client:
            fields |= {"client": printable(request.source_address), "subject": printable(findings.subject)}
    log.info("%s %s", outcome(decision), decision.reason.value, extra=fields)


def reporter(metrics: Metrics, *, decisions: str, log_client: bool) -> Callable[[Judged], None]:
    """Return what reports a decision: *decisions* says which are logged, all, denied or none."""

    def report(judged: Judged) -> None:
        metrics.count(judged)
        refused = isinstance(judged.decision, Deny) or judged.decision.would_deny
        if decisions == "all" or (decisions == "denied" and refused):
            log_decision(judged, log_client=log_client)

    return report
