"""The telemetry of one process: metrics, the decision log, the data of the console, and their export."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from authz.config.model import Config
from authz.config.telemetry import OtlpExporter
from authz.telemetry.decisions import PERIOD, DecisionLog
from authz.telemetry.last_hour import LastHour
from authz.telemetry.metrics import Metrics
from authz.telemetry.otlp import is_disabled
from authz.telemetry.recent import RecentDecisions

if TYPE_CHECKING:
    from authz.telemetry.audit_export import AuditExport
    from authz.telemetry.metrics_export import MetricsExport


class ProcessTelemetry:
    """The telemetry of one process, apart from its spans. *recent* and *last_hour* are None without a console."""

    def __init__(self, config: Config) -> None:
        """Prepare what *config* asks for. Raises ExportError."""
        self.metrics: Final = Metrics(insecure_options=0, label_rules=False)
        self._audit_export: Final = _start_audit_export(config, self.metrics)
        self._metrics_export: Final = _make_metrics_export(config, self.metrics)
        self.decisions: Final = DecisionLog(
            self.metrics,
            monotonic=time.monotonic,
            export=self._audit_export.write if self._audit_export is not None else None,
        )
        with_console = config.admin.console.enabled
        self.recent: Final = RecentDecisions(time.time) if with_console else None
        self.last_hour: Final = LastHour(self.metrics.totals, now=time.time) if with_console else None

    def start(self, names_clients: Callable[[], bool], stopping: Event) -> None:
        """Summarise decisions and export metrics until *stopping* is set; summaries name clients if they may."""
        summarise = Thread(target=self._summarise, args=(names_clients, stopping), name="summarise", daemon=True)
        summarise.start()
        if self._metrics_export is not None:
            self._metrics_export.start()
        if self.last_hour is not None:
            Thread(target=self.last_hour.run, args=(stopping,), name="last-hour", daemon=True).start()

    def stop(self) -> None:
        """Export what is left."""
        for export in (self._audit_export, self._metrics_export):
            if export is not None:
                export.stop()

    def _summarise(self, names_clients: Callable[[], bool], stopping: Event) -> None:
        while not stopping.wait(PERIOD):
            self.decisions.summarise(name_clients=names_clients())


def _start_audit_export(config: Config, metrics: Metrics) -> AuditExport | None:
    """Begin to export decisions, if they are to be exported. Raises ExportError."""
    if config.telemetry.logs.exporter is OtlpExporter.NONE or is_disabled(os.environ):
        return None
    from authz.telemetry.audit_export import start_audit_export  # noqa: PLC0415 - the SDK is slow to import

    return start_audit_export(dropped=metrics.count_dropped_records)


def _make_metrics_export(config: Config, metrics: Metrics) -> MetricsExport | None:
    """Make what exports metrics, if they are to be exported. Raises ExportError."""
    if config.telemetry.metrics.exporter is OtlpExporter.NONE or is_disabled(os.environ):
        return None
    from authz.telemetry.metrics_export import start_metrics_export  # noqa: PLC0415 - as above

    return start_metrics_export(metrics.registry)
