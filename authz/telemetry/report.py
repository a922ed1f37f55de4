"""Report each decision: a span, if it is sampled; a count and a duration; a log line; an entry for the console.

A report never raises, because it follows the decision: an allow must not become a 500 because a metric, a span or a log
line cannot be written. A failure of one part is counted and does not affect the others; the first failure of each part
is logged with its traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, ParamSpec, Protocol, TypeVar

from authz.core.decision import Decision
from authz.telemetry.audit import is_refused
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.metrics import Metrics, Part
from authz.telemetry.recent import RecentDecisions
from authz.telemetry.traceparent import TraceParent, find_parent

__all__ = ["CheckRecord", "Metrics", "Reporting", "SpanWriter", "TraceContext", "reporter"]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_NO_HEADERS: Final[Mapping[str, str]] = {}


class SpanWriter(Protocol):
    """Exports spans."""

    def write_check(self, record: CheckRecord, parent: TraceParent | None) -> TraceContext | None:
        """Write the span of a call as a child of *parent*, or as a root; return None if there is no room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """The configured reporting: *decisions* is all, denied or none. With *clients*, their failures are counted.

    *sample_ratio* is the share of calls without a parent span that are traced. With *trust_client*, the client's own
    traceparent is used if Envoy sends none.
    """

    decisions: str
    log_client: bool
    sample_ratio: float = 1.0
    trust_client: bool = False
    clients: bool = False


class _Failures:
    """Counts the parts of reports that failed, and logs the first failure of each."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics: Final = metrics
        self._logged: Final[set[Part]] = set()

    def note(self, part: Part, error: BaseException) -> None:
        """Count a failure, and log the first."""
        with suppress(BaseException):
            self._metrics.count_failed_report(part)
        if part not in self._logged:
            self._logged.add(part)
            text = "a decision was not reported (%s); further failures are only counted"
            with suppress(BaseException):
                log.error(text, part, exc_info=error)

    def attempt(self, part: Part, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """Return what *work* returns, or None if it fails."""
        try:
            return work(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the decision stands
            self.note(part, error)
            return None


def reporter(
    metrics: Metrics,
    decision_log: DecisionLog,
    reporting: Reporting,
    *,
    spans: SpanWriter | None = None,
    random: Callable[[], float] = lambda: 0.0,
    recent: RecentDecisions | None = None,
    note_client: Callable[[Decision], None] | None = None,
) -> Callable[[CheckRecord], None]:
    """Return the function that reports a decision. It never raises.

    *random* returns numbers from 0 up to 1, for sampling. Without *spans* there is no tracing. *recent* keeps the last
    decisions. *note_client* remembers what a decision says of its client.
    """
    keep = recent.recorder(name_client=reporting.log_client) if recent is not None else None
    note = note_client if reporting.clients else None
    log_all = reporting.decisions == "all"
    log_denied = log_all or reporting.decisions == "denied"

    failures = _Failures(metrics)
    attempt, note_failure = failures.attempt, failures.note
    write_span = _make_span_writer(reporting, spans, random)

    def report(record: CheckRecord) -> None:
        decision = record.decision
        refused = is_refused(decision)
        logged = log_all or (log_denied and refused)
        # Without spans and without a log line the trace is not needed.
        trace = attempt("span", write_span, record) if spans is not None or logged else None
        # These two are for each decision: `attempt` would take a tenth of their time.
        try:
            metrics.count(record, trace)
        except BaseException as error:  # noqa: BLE001 - as above
            note_failure("metrics", error)
        if note is not None:
            attempt("clients", note, decision)
        if keep is not None:
            try:
                keep(record)
            except BaseException as error:  # noqa: BLE001 - as above
                note_failure("console", error)
        if refused:
            attempt("metrics", decision_log.count_failure, record)
        if logged:
            attempt("log", decision_log.write, record, log_client=reporting.log_client, trace=trace)

    return report


def _make_span_writer(
    reporting: Reporting, spans: SpanWriter | None, random: Callable[[], float]
) -> Callable[[CheckRecord], TraceContext | None]:
    """Return the function that writes the span of a sampled call, and returns the trace of any call that has one."""

    def find(record: CheckRecord) -> TraceParent | None:
        request = record.request
        client = request.headers if reporting.trust_client and request is not None else _NO_HEADERS
        return find_parent(record.metadata, client)

    def write_span(record: CheckRecord) -> TraceContext | None:
        parent = find(record)
        sampled = parent.sampled if parent is not None else random() < reporting.sample_ratio
        trace = spans.write_check(record, parent) if spans is not None and sampled else None
        if trace is None and parent is not None:
            return TraceContext(parent.trace_id)
        return trace

    return write_span
