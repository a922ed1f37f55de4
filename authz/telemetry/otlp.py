"""Common to all signals that are sent by OTLP: the resource, the protocol, and the OTEL_* variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from uuid import uuid4

from authz import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

Signal = Literal["traces", "logs", "metrics"]

_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
GRPC: Final = "grpc"
_HTTP: Final = "http/protobuf"
_EXPORTERS: Final[Mapping[Signal, tuple[str, str]]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
}


@cache
def _instance() -> str:
    """Return the id of this process: several workers are several instances, also those that were forked."""
    return str(uuid4())


os.register_at_fork(after_in_child=_instance.cache_clear)


class ExportError(Exception):
    """Raised if a signal cannot be exported as the environment asks; the text says what to fix."""


def is_disabled(environment: Mapping[str, str]) -> bool:
    """Return whether the whole SDK is switched off."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def our_resource() -> Resource:
    """Return our resource: name, version and a random instance id, unless OTEL_* variables set others.

    Raises ValueError.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415 - the SDK is slow to import

    attributes = {"service.name": "authz", "service.version": __version__, "service.instance.id": _instance()}
    return Resource.create({**attributes, **OTELResourceDetector().detect().attributes})


def protocol_of(signal: Signal, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that names the protocol for *signal*, and the protocol."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    name = own if environment.get(own) else _PROTOCOL
    return name, environment.get(name) or GRPC


def make_exporter(signal: Signal, environment: Mapping[str, str]) -> Any:  # noqa: ANN401 - one class for each signal
    """Return the exporter for the protocol that the environment names, of *signal* or in general. Raises ExportError.

    The SDK reads its own variables from the process, and raises ValueError for values that it does not understand.
    """
    name, protocol = protocol_of(signal, environment)
    module, kind = _EXPORTERS[signal]
    if protocol == GRPC:
        return getattr(import_module(f"opentelemetry.exporter.otlp.proto.grpc.{module}"), kind)()
    if protocol != _HTTP:
        raise ExportError(f"{name}: {protocol!r} is not supported; use {GRPC} or {_HTTP}")
    try:
        exporters = import_module(
            f"opentelemetry.exporter.otlp.proto.http.{module}"
        )  # not a dependency of this project
    except ImportError as error:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise ExportError(f"{name}: {_HTTP} needs the Python package {package}, which is not installed") from error
    return getattr(exporters, kind)()


def read_number(environment: Mapping[str, str], variable: str, meaning: str, *, default: int) -> int:
    """Return the number that *variable* gives. Raises ExportError."""
    text = environment.get(variable) or str(default)
    if not text.isascii() or not text.isdigit():
        raise ExportError(f"{variable}: {text!r} is not a number of {meaning}")
    return int(text)


class PendingExports:
    """Counts what waits for an exporter, in the SDK's queue and in the exporter; *dropped* receives what is lost.

    A slow or absent collector costs requests no time, and the process no memory: *max_waiting* is the limit.
    """

    def __init__(self, *, max_waiting: int, dropped: Callable[[int], None]) -> None:
        self._max_waiting: Final = max_waiting
        self._dropped: Final = dropped
        self._waiting = 0
        self._closed = False
        self._lock: Final = Lock()

    def admit(self) -> bool:
        """Admit one more. Above the limit, count it as dropped and return False."""
        with self._lock:
            if self._waiting < self._max_waiting and not self._closed:
                self._waiting += 1
                return True
        self._dropped(1)
        return False

    def finish(self, number: int, *, delivered: bool) -> None:
        """Note that *number* of them were exported: *delivered*, or lost."""
        with self._lock:
            self._waiting -= number
            counted = self._closed
        if not delivered and not counted:
            self._dropped(number)

    def close(self) -> None:
        """Count all that waits as dropped, and admit no more."""
        with self._lock:
            self._closed = True
            left = self._waiting
        self._dropped(left)


class _Stoppable(Protocol):
    def shutdown(self) -> object:
        """Export what waits, or end."""


def stop_export(provider: _Stoppable, exporter: _Stoppable, pending: PendingExports, *, seconds: float) -> None:
    """Export what waits for at most *seconds*; the rest is lost. The SDK's own shutdown has no bound."""
    flush = Thread(target=provider.shutdown, name="export", daemon=True)
    flush.start()
    flush.join(seconds)
    exporter.shutdown()
    pending.close()
