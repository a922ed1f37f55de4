"""Start the span exporter by the configuration and the OTEL_* environment variables.

OpenTelemetry is not imported unless an exporter is on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

from authz import __version__
from authz.config.model import Exporter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from authz.telemetry.spans import Spans

MAX_WAITING: Final = 8192  # spans, unless OTEL_BSP_MAX_QUEUE_SIZE is set; about 8 MiB
_CONSOLE_PAUSE: Final = 100  # milliseconds between exports, for interactive use
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
_TRACES_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
_GRPC: Final = "grpc"
_HTTP: Final = "http/protobuf"


class TracingError(Exception):
    """Raised if the environment variables for the exporter are invalid; the message says what to fix."""


def start_spans(
    exporter: Exporter,
    *,
    keys_age: Callable[[str], float | None],
    dropped: Callable[[int], None],
    environment: Mapping[str, str] = os.environ,
) -> Spans | None:
    """Start to export spans by *environment*; return None if the exporter is `none`. Raises TracingError.

    The SDK reads its own variables from the process, whatever *environment* is.
    """
    if exporter is Exporter.NONE or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415 - see the head of the file

    from authz.telemetry.spans import Spans  # noqa: PLC0415 - as above

    console = exporter is Exporter.CONSOLE
    ours = {"service.name": "authz", "service.version": __version__}
    # The SDK warns at every attempt; its error after the last attempt says the same.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    try:
        return Spans(
            _console() if console else _otlp(environment),
            resource=Resource.create({**ours, **OTELResourceDetector().detect().attributes}),
            max_waiting=_max_waiting(environment),
            pause_millis=_CONSOLE_PAUSE if console else None,
            now_ns=time.time_ns,
            keys_age=keys_age,
            dropped=dropped,
        )
    except ValueError as error:  # the value of a variable that the SDK reads
        raise TracingError(f"invalid OTEL_* environment variables: {error}") from error


def _console() -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415 - as above

    return ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")


def _otlp(environment: Mapping[str, str]) -> SpanExporter:
    """Return the exporter for the protocol in the environment variables. Raises TracingError."""
    name = _TRACES_PROTOCOL if environment.get(_TRACES_PROTOCOL) else _PROTOCOL
    protocol = environment.get(name) or _GRPC
    if protocol == _GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as above

        return OTLPSpanExporter()
    if protocol != _HTTP:
        raise TracingError(f"{name}: {protocol!r} is not supported; use {_GRPC} or {_HTTP}")
    try:
        exporters = import_module(
            "opentelemetry.exporter.otlp.proto.http.trace_exporter"
        )  # not a dependency of this project
    except ImportError as error:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise TracingError(f"{name}: {_HTTP} needs the Python package {package}, which is not installed") from error
    exporter: SpanExporter = exporters.OTLPSpanExporter()
    return exporter


def _max_waiting(environment: Mapping[str, str]) -> int:
    text = environment.get("OTEL_BSP_MAX_QUEUE_SIZE") or str(MAX_WAITING)
    if not text.isascii() or not text.isdigit():
        raise TracingError(f"OTEL_BSP_MAX_QUEUE_SIZE: {text!r} is not a number of spans")
    return int(text)
