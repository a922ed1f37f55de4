"""Spans, by the SDK of OpenTelemetry. Imported only where an exporter is on: the SDK takes 60 ms and more to import.

Rules of this file:
1. A span is written when what it tells of has ended, from one function; whether it is wanted was decided before.
2. What waits for the exporter is counted here and bounded: above `max_waiting` a span is dropped before the SDK is
   asked for anything. A slow or absent collector costs no request any time, and the process no memory.
3. A span that is lost is counted, whether for want of room or of a collector.
4. Text of a client is cut and made printable: one bad character would lose a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock, Thread
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from authz import __version__
from authz.core.decision import Deny, outcome
from authz.core.reasons import WIRE_STATUS, Reason
from authz.telemetry import names
from authz.telemetry.judged import Judged, Position
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable
from authz.telemetry.traceparent import TraceParent

STOP_SECONDS: Final = 1.0

_Value = str | int | float
_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_OTHER: Final = "_OTHER"  # what the conventions call a method that is none of these
_GOOD: Final = frozenset({Refresh.UPDATED, Refresh.NOT_MODIFIED})
_FIXED: Final = {
    names.RPC_SYSTEM_NAME: "grpc",
    names.RPC_METHOD: names.CHECK_SPAN,
    names.RPC_RESPONSE_STATUS_CODE: "OK",  # every call is answered, be it by a denial
}


class Spans:
    """Writes spans to an exporter. *dropped* is told how many were lost, *keys_age* the seconds of an issuer's keys."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        resource: Resource,
        max_waiting: int,
        pause_millis: float | None,
        now_ns: Callable[[], int],
        keys_age: Callable[[str], float | None],
        dropped: Callable[[int], None],
    ) -> None:
        """Start to export, every *pause_millis*, by default what OTEL_BSP_SCHEDULE_DELAY says. Raises ValueError."""
        self._now_ns: Final = now_ns
        self._keys_age: Final = keys_age
        self._gate: Final = _Gate(exporter, max_waiting=max_waiting, dropped=dropped)
        self._provider: Final = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(self._gate, max_queue_size=max_waiting, schedule_delay_millis=pause_millis)
        )
        self._tracer: Final = self._provider.get_tracer("authz", __version__)

    def write_check(self, judged: Judged, parent: TraceParent | None) -> Position | None:
        """Write the SERVER span of a call below *parent*, or as a root; None where there is no room for it."""
        end = self._now_ns()
        attributes = self._describe(judged, end / 1e9)
        if not self._gate.enter():
            return None
        span = self._tracer.start_span(
            names.CHECK_SPAN,
            context=_context(parent),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=end - int(judged.seconds * 1e9),
        )
        if judged.decision.reason is Reason.INTERNAL_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        return self._end(span, end)

    def write_refresh(self, issuer: str, result: Refresh, seconds: float) -> None:
        """Write the CLIENT span of a refresh that took so long, as a root of its own."""
        if not self._gate.enter():
            return
        end = self._now_ns()
        attributes = {names.ISSUER: issuer, names.KEYS_REFRESH_RESULT: result.value}
        if result not in _GOOD:
            attributes[names.ERROR_TYPE] = result.value
        span = self._tracer.start_span(
            names.REFRESH_SPAN,
            context=Context(),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=end - int(seconds * 1e9),
        )
        if result not in _GOOD:
            span.set_status(Status(StatusCode.ERROR))
        self._end(span, end)

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Export what waits, for at most so many seconds; what is left then is lost."""
        flush = Thread(target=self._provider.shutdown, name="spans", daemon=True)
        flush.start()
        flush.join(seconds)
        self._gate.give_up()

    def _end(self, span: Span, at: int) -> Position:
        context = span.get_span_context()
        span.end(at)
        return Position(format_trace_id(context.trace_id), format_span_id(context.span_id))

    def _describe(self, judged: Judged, now: float) -> dict[str, _Value]:
        decision, request, trail = judged.decision, judged.request, judged.decision.trail
        reason = decision.reason
        told: dict[str, _Value | None] = {
            **_FIXED,
            names.DECISION: outcome(decision),
            names.REASON: reason.value,
            names.DECISION_ID: judged.decision_id,
            names.RULE: trail.rule,
            names.ISSUER: trail.issuer,
            names.TOKEN_ALG: printable(trail.alg),
            names.TOKEN_KID: printable(trail.kid),
        }
        if request is not None:
            told[names.HTTP_REQUEST_METHOD] = request.method if request.method in _METHODS else _OTHER
        if isinstance(decision, Deny):
            told[names.HTTP_RESPONSE_STATUS_CODE] = WIRE_STATUS[reason].http
        if trail.issuer is not None:
            told[names.KEYS_AGE_S] = self._keys_age(trail.issuer)
        if trail.signature_cached is not None:
            told[names.MEMO] = "hit" if trail.signature_cached else "miss"
        if reason is Reason.TOKEN_EXPIRED and isinstance(trail.expires, int | float):
            told[names.TOKEN_EXPIRED_FOR_S] = round(now - trail.expires)
        if reason is Reason.INTERNAL_ERROR:
            told[names.ERROR_TYPE] = reason.value
        return {name: value for name, value in told.items() if value is not None}


def _context(parent: TraceParent | None) -> Context:
    """Return the context of a remote *parent*, or one for a root: never that of this thread."""
    if parent is None:
        return Context()
    span = SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(span), Context())


class _Gate(SpanExporter):
    """Stands before the exporter and knows how many spans wait for it, in the processor's queue and in its hands."""

    def __init__(self, exporter: SpanExporter, *, max_waiting: int, dropped: Callable[[int], None]) -> None:
        self._exporter: Final = exporter
        self._max_waiting: Final = max_waiting
        self._dropped: Final = dropped
        self._waiting = 0
        self._given_up = False
        self._lock: Final = Lock()

    def enter(self) -> bool:
        """Take a place for one span; False, and the span counted as dropped, where there is none."""
        with self._lock:
            if self._waiting < self._max_waiting and not self._given_up:
                self._waiting += 1
                return True
        self._dropped(1)
        return False

    def give_up(self) -> None:
        """Count as dropped what still waits, and let nothing in any more."""
        with self._lock:
            self._given_up = True
            left = self._waiting
        self._exporter.shutdown()
        self._dropped(left)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            with self._lock:
                self._waiting -= len(spans)
                counted = self._given_up
            if result is not SpanExportResult.SUCCESS and not counted:
                self._dropped(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
