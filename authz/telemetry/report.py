"""Report each decision: a span, where its trace is kept; a count and a duration; a log line, where one is wanted.

A report never raises, because it comes after the decision: a decided allow must not become a 500 because a metric, a
span or a log line cannot be written. Each part that fails is counted by its name, the others are still written, and the
first failure of each part is logged with its traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, ParamSpec, Protocol, TypeVar

from authz.core.decision import Deny
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.judged import Judged, Position
from authz.telemetry.metrics import Metrics, Part
from authz.telemetry.traceparent import TraceParent, find_parent

__all__ = ["Judged", "Metrics", "Position", "Reporting", "SpanWriter", "reporter"]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

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
    """Return what reports a decision, and never raises.

    *random* gives numbers from 0 up to 1, to sample by; no *spans*, no tracing.
    """
    log_all = reporting.decisions == "all"
    log_denied = log_all or reporting.decisions == "denied"

    logged_failures: set[Part] = set()

    def attempt(part: Part, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        try:
            return work(*args, **kwargs)
        except BaseException:
            with suppress(BaseException):
                metrics.count_failed_report(part)
            if part not in logged_failures:
                logged_failures.add(part)
                with suppress(BaseException):
                    log.exception("a decision was not reported (%s); further failures are only counted", part)
            return None

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
        position = attempt("span", write_span, judged) if spans is not None or logged else None
        attempt("metrics", metrics.count, judged, position)
        if refused:
            attempt("metrics", decision_log.count_failure, judged)
        if logged:
            attempt("log", decision_log.write, judged, log_client=reporting.log_client, position=position)

    return report
