"""Spans, exported with the OpenTelemetry SDK. Imported only if needed, because importing the SDK takes 60 ms or more.

Rules of this file:
1. A span is written in one step when its operation has ended; the sampling decision was made before. The deciding
   thread only remembers a tuple: the exporting thread makes spans of many at once.
2. Spans that wait for the exporter are counted here and bounded: above `max_waiting` a span is dropped before the SDK
   is called. A slow or missing collector does not delay requests or use more memory.
3. A lost span is counted, whether there was no room or no collector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode, format_span_id, format_trace_id

from authz import __version__
from authz.telemetry import names
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.check_span import CheckSpan, as_sdk_span, expired_for, shape_of
from authz.telemetry.keys import Refresh
from authz.telemetry.otlp import PendingExports, stop_export
from authz.telemetry.span_encoding import CheckSpanExporter
from authz.telemetry.traceparent import TraceParent

STOP_SECONDS: Final = 1.0

_SUCCESSES: Final = frozenset({Refresh.UPDATED, Refresh.NOT_MODIFIED})


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
        self._pending: Final = PendingExports(max_waiting=max_waiting, dropped=dropped)
        self._exporter: Final = exporter
        self._provider: Final = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._ids: Final = RandomIdGenerator()
        self._batches: Final = BatchSpanProcessor(
            _CountingExporter(exporter, self._pending, resource),
            max_queue_size=max_waiting,
            schedule_delay_millis=pause_millis,
        )
        self._provider.add_span_processor(self._batches)
        self._tracer: Final = self._provider.get_tracer("authz", __version__)

    def write_check(self, record: CheckRecord, parent: TraceParent | None) -> TraceContext | None:
        """Write the SERVER span of a call as a child of *parent*, or as a root; return None if there is no room."""
        end, issuer = self._now_ns(), record.decision.trail.issuer
        span_id = format_span_id(self._ids.generate_span_id())
        if parent is None:
            trace_id, parent_id = format_trace_id(self._ids.generate_trace_id()), None
        else:
            trace_id, parent_id = parent.trace_id, parent.span_id
        span = CheckSpan(
            end,
            int(record.seconds * 1e9),
            trace_id,
            span_id,
            parent_id,
            record.decision_id,
            None if issuer is None else self._keys_age(issuer),
            expired_for(record, end / 1e9),
            shape_of(record),
        )
        if not self._pending.admit():
            return None
        self._batches.on_end(cast("ReadableSpan", span))  # it only asks for the context, and passes the span on
        return TraceContext(trace_id, span_id)

    def write_refresh(self, issuer: str, result: Refresh, seconds: float) -> None:
        """Write the CLIENT span of a refresh that took *seconds*, as a root span."""
        if not self._pending.admit():
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
        span.end(end)

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Export the waiting spans for at most *seconds*; the others are lost."""
        stop_export(self._provider, self._exporter, self._pending, seconds=seconds)


class _CountingExporter(SpanExporter):
    """Wraps the exporter, and frees the places of the spans that it exported."""

    def __init__(self, exporter: SpanExporter, pending: PendingExports, resource: Resource) -> None:
        self._exporter: Final = exporter
        self._pending: Final = pending
        self._resource: Final = resource
        self._takes_checks: Final = isinstance(exporter, CheckSpanExporter)

    def export(self, spans: Sequence[ReadableSpan | CheckSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            taken = spans if self._takes_checks else self._as_sdk_spans(spans)
            result = self._exporter.export(cast("Sequence[ReadableSpan]", taken))
        finally:
            self._pending.finish(len(spans), delivered=result is SpanExportResult.SUCCESS)
        return result

    def _as_sdk_spans(self, spans: Sequence[ReadableSpan | CheckSpan]) -> list[ReadableSpan]:
        return [as_sdk_span(span, self._resource) if isinstance(span, CheckSpan) else span for span in spans]

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
