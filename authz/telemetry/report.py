"""Report each decision: a span, where its trace is kept; a count and a duration; a log line, where one is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from authz.core.decision import Deny
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.judged import Judged, Position
from authz.telemetry.metrics import Metrics
from authz.telemetry.traceparent import TraceParent, find_parent

__all__ = ["Judged", "Metrics", "Position", "Reporting", "SpanWriter", "reporter"]

_NOBODY: Final[Mapping[str, str]] = {}


class SpanWriter(Protocol):
    """Whoever exports spans."""

    def write_check(self, judged: Judged, parent: TraceParent | None) -> Position | None:
        """Write the span of a call below *parent*, or as a root; None where there is no room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """What the operator wants to know: *decisions* are logged, all, denied or none.

    Of the calls without a parent, a share of *sample_ratio* is traced. *trust_client* takes the parent from the
    client's own traceparent where Envoy sends none.
    """

    decisions: str
    log_client: bool
    sample_ratio: float = 1.0
    trust_client: bool = False


def reporter(
    metrics: Metrics,
    decision_log: DecisionLog,
    reporting: Reporting,
    *,
    spans: SpanWriter | None = None,
    random: Callable[[], float] = lambda: 0.0,
) -> Callable[[Judged], None]:
    """Return what reports a decision. *random* gives numbers from 0 up to 1, to sample by; no *spans*, no tracing."""
    log_all = reporting.decisions == "all"
    log_denied = log_all or reporting.decisions == "denied"

    def find(judged: Judged) -> TraceParent | None:
        request = judged.request
        client = request.headers if reporting.trust_client and request is not None else _NOBODY
        return find_parent(judged.metadata, client)

    def write_span(judged: Judged) -> Position | None:
        """Write the span of a sampled call; return the place of any call in its trace."""
        parent = find(judged)
        sampled = parent.sampled if parent is not None else random() < reporting.sample_ratio
        position = spans.write_check(judged, parent) if spans is not None and sampled else None
        if position is None and parent is not None:
            return Position(parent.trace_id)
        return position

    def report(judged: Judged) -> None:
        decision = judged.decision
        refused = isinstance(decision, Deny) or decision.would_deny
        logged = log_all or (log_denied and refused)
        # Without spans and without a line nobody asks for the trace, and it is not looked for.
        position = write_span(judged) if spans is not None or logged else None
        metrics.count(judged, position)
        if refused:
            decision_log.count_failure(judged)
        if logged:
            decision_log.write(judged, log_client=reporting.log_client, position=position)

    return report
