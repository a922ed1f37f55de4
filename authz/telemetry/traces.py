"""Start the span exporter by the configuration and the OTEL_* environment variables.

OpenTelemetry is not imported unless an exporter is on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from authz.config.telemetry import Exporter
from authz.telemetry.otlp import GRPC, ExportError, is_disabled, make_exporter, our_resource, protocol_of, read_number

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

    from authz.telemetry.spans import Spans

MAX_WAITING: Final = 8192  # spans, unless OTEL_BSP_MAX_QUEUE_SIZE is set; about 8 MiB
_CONSOLE_PAUSE: Final = 100  # milliseconds between exports, for interactive use


def start_spans(
    exporter: Exporter,
    *,
    keys_age: Callable[[str], float | None],
    dropped: Callable[[int], None],
    environment: Mapping[str, str] = os.environ,
) -> Spans | None:
    """Start to export spans by *environment*; return None if the exporter is `none`. Raises ExportError.

    The SDK reads its own variables from the process, whatever *environment* is.
    """
    if exporter is Exporter.NONE or is_disabled(environment):
        return None
    from authz.telemetry.spans import Spans  # noqa: PLC0415 - see the head of the file

    console = exporter is Exporter.CONSOLE
    # The SDK warns at every attempt; its error after the last attempt says the same.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    try:
        resource = our_resource()
        return Spans(
            _console() if console else _otlp(environment, resource),
            resource=resource,
            max_waiting=read_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", "spans", default=MAX_WAITING),
            pause_millis=_CONSOLE_PAUSE if console else None,
            now_ns=time.time_ns,
            keys_age=keys_age,
            dropped=dropped,
        )
    except ValueError as error:  # the value of a variable that the SDK reads
        raise ExportError(f"invalid OTEL_* environment variables: {error}") from error


def _console() -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415 - as above

    return ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")


def _otlp(environment: Mapping[str, str], resource: Resource) -> SpanExporter:
    """Return the SDK's exporter; over gRPC, the one that takes spans as they are. Raises ExportError."""
    from authz.telemetry.span_encoding import SDK_IS_SUPPORTED, CheckSpanExporter  # noqa: PLC0415 - as above

    if SDK_IS_SUPPORTED and protocol_of("traces", environment)[1] == GRPC:
        return CheckSpanExporter(resource)
    exporter: SpanExporter = make_exporter("traces", environment)
    return exporter
