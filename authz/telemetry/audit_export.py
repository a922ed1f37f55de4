"""The decision log as OpenTelemetry log records, by OTLP. Imported only if it is on: the SDK takes 60 ms to import.

Rules of this file:
1. A record says what the log line says, under the names of the semantic conventions if they have one.
2. Records that wait for the exporter are counted and bounded, as spans are; a lost one is counted.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from authz import __version__
from authz.telemetry import names
from authz.telemetry.check_record import TraceContext
from authz.telemetry.otlp import ExportError, PendingExports, make_exporter, our_resource, read_number, stop_export

MAX_WAITING: Final = 8192  # records, unless OTEL_BLRP_MAX_QUEUE_SIZE is set
STOP_SECONDS: Final = 1.0
_DEFAULT_BATCH: Final = 512  # records, of the SDK

# The fields of a log line and what the semantic conventions call them; the others are below `authz.`.
_ATTRIBUTES: Final[Mapping[str, str]] = {
    "alg": names.TOKEN_ALG,
    "kid": names.TOKEN_KID,
    "thumbprint": names.PROOF_THUMBPRINT,
    "audience": "authz.token.audience",
    "claimed_issuer": "authz.token.issuer",
    "method": names.HTTP_REQUEST_METHOD,
    "host": "server.address",
    "path": "url.path",
    "client": "client.address",
    "subject": "user.id",
}


class AuditExport:
    """Exports decisions. *dropped* receives the number of lost records."""

    def __init__(
        self,
        exporter: LogRecordExporter,
        *,
        resource: Resource,
        max_waiting: int,
        now_ns: Callable[[], int],
        dropped: Callable[[int], None],
    ) -> None:
        """Start to export, every OTEL_BLRP_SCHEDULE_DELAY. Raises ValueError."""
        self._now_ns: Final = now_ns
        self._exporter: Final = exporter
        self._pending: Final = PendingExports(max_waiting=max_waiting, dropped=dropped)
        self._provider: Final = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(
            BatchLogRecordProcessor(
                _CountingExporter(exporter, self._pending),
                max_queue_size=max_waiting,
                # The SDK refuses a queue that is shorter than its default batch.
                max_export_batch_size=max_waiting if 0 < max_waiting < _DEFAULT_BATCH else None,
            )
        )
        self._logger: Final = self._provider.get_logger("authz", __version__)

    def write(self, fields: Mapping[str, object], trace: TraceContext | None) -> None:
        """Export a decision with the *fields* of its log line, unless there is no room."""
        if not self._pending.admit():
            return
        now = self._now_ns()
        refused = fields["decision"] != "allow"
        self._logger.emit(
            LogRecord(
                timestamp=now,
                observed_timestamp=now,
                context=_context(trace),
                severity_number=SeverityNumber.WARN if refused else SeverityNumber.INFO,
                severity_text="WARN" if refused else "INFO",
                body=f"{fields['decision']} {fields['reason']}",
                attributes=_attributes(fields),
                event_name="authz.decision",
            )
        )

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Export the waiting records for at most *seconds*; the others are lost."""
        stop_export(self._provider, self._exporter, self._pending, seconds=seconds)


def start_audit_export(*, dropped: Callable[[int], None], environment: Mapping[str, str] = os.environ) -> AuditExport:
    """Begin to export, as *environment* says. Raises ExportError."""
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # the SDK warns at every attempt
    try:
        return AuditExport(
            make_exporter("logs", environment),
            resource=our_resource(),
            max_waiting=read_number(environment, "OTEL_BLRP_MAX_QUEUE_SIZE", "log records", default=MAX_WAITING),
            now_ns=time.time_ns,
            dropped=dropped,
        )
    except ValueError as error:  # the value of a variable that the SDK reads
        raise ExportError(f"logs cannot be exported as the OTEL_* variables ask: {error}") from error


class _CountingExporter(LogRecordExporter):
    """Wraps the exporter, and frees the places of the records that it exported."""

    def __init__(self, exporter: LogRecordExporter, pending: PendingExports) -> None:
        self._exporter: Final = exporter
        self._pending: Final = pending

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        result = LogRecordExportResult.FAILURE
        try:
            result = self._exporter.export(batch)
        finally:
            self._pending.finish(len(batch), delivered=result is LogRecordExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it has none

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _attributes(fields: Mapping[str, object]) -> dict[str, str | int | list[str]]:
    attributes: dict[str, str | int | list[str]] = {}
    for name, value in fields.items():
        if name == "request_id" and isinstance(value, str):
            attributes["http.request.header.x-request-id"] = [value]
        elif name not in {"trace_id", "span_id"} and isinstance(value, str | int | list):
            attributes[_ATTRIBUTES.get(name, f"authz.{name}")] = value
    return attributes


def _context(trace: TraceContext | None) -> Context:
    """Return a context with the span of the decision; never that of this thread."""
    if trace is None:
        return Context()
    span = SpanContext(
        trace_id=int(trace.trace_id, 16),
        span_id=int(trace.span_id or "0", 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if trace.span_id else TraceFlags.DEFAULT),
    )
    return set_span_in_context(NonRecordingSpan(span), Context())
