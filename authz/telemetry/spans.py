"""Spans, written with the OpenTelemetry SDK. Imported only if needed, because importing the SDK takes 60 ms or more.

Rules of this file:
1. A span is written in one step when its operation has ended; the sampling decision was made before.
2. Spans that wait for the exporter are counted here and bounded: above `max_waiting` a span is dropped before the SDK
   is called. A slow or missing collector does not delay requests or use more memory.
3. A lost span is counted, whether there was no room or no collector.
4. Text from a client is truncated and escaped: one invalid character would make a whole batch fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread
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
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.keys import Refresh
from authz.telemetry.otlp import WaitingRoom
from authz.telemetry.redaction import printable
from authz.telemetry.traceparent import TraceParent

STOP_SECONDS: Final = 1.0

_Value = str | int | float
_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_OTHER: Final = "_OTHER"  # the semantic conventions' value for any other method
_SUCCESSES: Final = frozenset({Refresh.UPDATED, Refresh.NOT_MODIFIED})
_STATIC_ATTRIBUTES: Final = {
    names.RPC_SYSTEM_NAME: "grpc",
    names.RPC_METHOD: names.CHECK_SPAN,
    names.RPC_RESPONSE_STATUS_CODE: "OK",  # every call is answered: a denial is no RPC error
}


class Spans:
    """Writes spans to an exporter. *dropped* receives the number of lost spans; *keys_age* returns seconds."""

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
        """Start to export, every *pause_millis*, by default OTEL_BSP_SCHEDULE_DELAY. Raises ValueError."""
        self._now_ns: Final = now_ns
        self._keys_age: Final = keys_age
        self._room: Final = WaitingRoom(max_waiting=max_waiting, dropped=dropped)
        self._exporter: Final = exporter
        self._provider: Final = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _Gate(exporter, self._room), max_queue_size=max_waiting, schedule_delay_millis=pause_millis
            )
        )
        self._tracer: Final = self._provider.get_tracer("authz", __version__)

    def write_check(self, record: CheckRecord, parent: TraceParent | None) -> TraceContext | None:
        """Write the SERVER span of a call as a child of *parent*, or as a root; return None if there is no room."""
        end = self._now_ns()
        attributes = self._describe(record, end / 1e9)
        if not self._room.enter():
            return None
        span = self._tracer.start_span(
            names.CHECK_SPAN,
            context=_context(parent),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=end - int(record.seconds * 1e9),
        )
        if record.decision.reason is Reason.INTERNAL_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        return self._end(span, end)

    def write_refresh(self, issuer: str, result: Refresh, seconds: float) -> None:
        """Write the CLIENT span of a refresh that took *seconds*, as a root span."""
        if not self._room.enter():
            return
        end = self._now_ns()
        attributes = {names.ISSUER: issuer, names.KEYS_REFRESH_RESULT: result.value}
        if result not in _SUCCESSES:
            attributes[names.ERROR_TYPE] = result.value
        span = self._tracer.start_span(
            names.REFRESH_SPAN,
            context=Context(),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=end - int(seconds * 1e9),
        )
        if result not in _SUCCESSES:
            span.set_status(Status(StatusCode.ERROR))
        self._end(span, end)

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Export the waiting spans for at most *seconds*; the others are lost."""
        flush = Thread(target=self._provider.shutdown, name="spans", daemon=True)
        flush.start()
        flush.join(seconds)
        self._exporter.shutdown()
        self._room.close()

    def _end(self, span: Span, at: int) -> TraceContext:
        context = span.get_span_context()
        span.end(at)
        return TraceContext(format_trace_id(context.trace_id), format_span_id(context.span_id))

    def _describe(self, record: CheckRecord, now: float) -> dict[str, _Value]:
        decision, request, trail = record.decision, record.request, record.decision.trail
        reason = decision.reason
        attributes: dict[str, _Value | None] = {
            **_STATIC_ATTRIBUTES,
            names.DECISION: outcome(decision),
            names.REASON: reason.value,
            names.DECISION_ID: record.decision_id,
            names.RULE: trail.rule,
            names.ISSUER: trail.issuer,
            names.TOKEN_ALG: printable(trail.alg),
            names.TOKEN_KID: printable(trail.kid),
            names.PROOF_THUMBPRINT: trail.thumbprint,  # a hash of our own making
            names.PDP: trail.pdp,
        }
        if request is not None:
            attributes[names.HTTP_REQUEST_METHOD] = request.method if request.method in _METHODS else _OTHER
        if isinstance(decision, Deny):
            attributes[names.HTTP_RESPONSE_STATUS_CODE] = WIRE_STATUS[reason].http
        if trail.issuer is not None:
            attributes[names.KEYS_AGE_S] = self._keys_age(trail.issuer)
        if trail.signature_cached is not None:
            attributes[names.SIGNATURE_CACHE] = "hit" if trail.signature_cached else "miss"
        if reason is Reason.TOKEN_EXPIRED and isinstance(trail.expires, int | float):
            attributes[names.TOKEN_EXPIRED_FOR_S] = round(now - trail.expires)
        if reason is Reason.INTERNAL_ERROR:
            attributes[names.ERROR_TYPE] = reason.value
        return {name: value for name, value in attributes.items() if value is not None}


def _context(parent: TraceParent | None) -> Context:
    """Return the context of a remote *parent*, or one for a root span; never that of this thread."""
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
    """Wraps the exporter, and frees the places of the spans that it exported."""

    def __init__(self, exporter: SpanExporter, room: WaitingRoom) -> None:
        self._exporter: Final = exporter
        self._room: Final = room

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._room.leave(len(spans), delivered=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
