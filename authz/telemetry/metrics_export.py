"""The metrics by OTLP, for those who have no Prometheus. Imported only if it is on: the SDK takes 60 ms to import.

Rules of this file:
1. The numbers are those of `/metrics`, read from the same registry: a check counts once, for any reader.
2. All are cumulative. One export at a time, with the current numbers: nothing accumulates while a collector is absent.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event, Thread
from typing import Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family

from authz import __version__
from authz.telemetry.otlp import ExportError, make_exporter, our_resource, read_number

log = logging.getLogger(__name__)

INTERVAL_MILLIS: Final = 60_000  # unless OTEL_METRIC_EXPORT_INTERVAL is set
STOP_SECONDS: Final = 1.0

_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_SCOPE: Final = InstrumentationScope("authz", __version__)
_Labels = tuple[tuple[str, str], ...]


class MetricsExport:
    """Exports what is in *registry* every *interval* seconds, and at the end."""

    def __init__(
        self,
        exporter: MetricExporter,
        registry: CollectorRegistry,
        *,
        resource: Resource,
        interval: float,
        now_ns: Callable[[], int],
    ) -> None:
        self._exporter: Final = exporter
        self._registry: Final = registry
        self._resource: Final = resource
        self._interval: Final = interval
        self._now_ns: Final = now_ns
        self._started: Final = now_ns()
        self._stopping: Final = Event()
        self._thread: Final = Thread(target=self._run, name="metrics-export", daemon=True)

    def start(self) -> None:
        """Begin to export, on a thread of its own."""
        self._thread.start()

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Export once more, for at most *seconds*."""
        self._stopping.set()
        self._thread.join(seconds)
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self._export()
        self._export()

    def _export(self) -> None:
        try:
            self._exporter.export(self.read())
        except Exception:  # the next export is another chance
            log.exception("metrics were not exported")

    def read(self) -> MetricsData:
        """Return the numbers of this moment."""
        now = self._now_ns()
        metrics = [metric for family in self._registry.collect() for metric in _convert(family, self._started, now)]
        scope = ScopeMetrics(scope=_SCOPE, metrics=metrics, schema_url="")
        return MetricsData([ResourceMetrics(resource=self._resource, scope_metrics=[scope], schema_url="")])


def start_metrics_export(registry: CollectorRegistry, *, environment: Mapping[str, str] = os.environ) -> MetricsExport:
    """Make the exporter that *environment* asks for. Raises ExportError."""
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # the SDK warns at every attempt
    try:
        interval = read_number(environment, "OTEL_METRIC_EXPORT_INTERVAL", "milliseconds", default=INTERVAL_MILLIS)
        return MetricsExport(
            make_exporter("metrics", environment),
            registry,
            resource=our_resource(),
            interval=max(interval, 1) / 1000,
            now_ns=time.time_ns,
        )
    except ValueError as error:  # the value of a variable that the SDK reads
        raise ExportError(f"metrics cannot be exported as the OTEL_* variables ask: {error}") from error


def _convert(family: Family, started: int, now: int) -> Iterator[Metric]:
    unit = "s" if family.name.endswith("_seconds") else "1"
    if family.type == "histogram":
        points = list(_histogram_points(family, started, now))
        yield Metric(family.name, family.documentation, unit, Histogram(points, _CUMULATIVE))
        return
    counted = family.type == "counter"
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    numbers = [
        NumberDataPoint(sample.labels, started if counted else 0, now, sample.value, [])
        for sample in family.samples
        if sample.name == f"{family.name}{suffix}"
    ]
    data = Sum(numbers, _CUMULATIVE, is_monotonic=True) if counted else Gauge(numbers)
    yield Metric(f"{family.name}{'_info' if family.type == 'info' else ''}", family.documentation, unit, data)


def _histogram_points(family: Family, started: int, now: int) -> Iterator[HistogramDataPoint]:
    """Yield a point for each set of labels. A bucket of Prometheus counts those below it too, one of OTLP does not."""
    below: dict[_Labels, list[tuple[float, int]]] = {}
    sums: dict[_Labels, float] = {}
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name == f"{family.name}_bucket":
            below.setdefault(labels, []).append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name == f"{family.name}_sum":
            sums[labels] = sample.value
    for labels, buckets in below.items():
        counts = [count for _, count in buckets]
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=started,
            time_unix_nano=now,
            count=counts[-1],
            sum=sums.get(labels, 0.0),
            bucket_counts=[count - before for before, count in zip([0, *counts], counts, strict=False)],
            explicit_bounds=[bound for bound, _ in buckets[:-1]],
            min=float("nan"),
            max=float("nan"),
            exemplars=[],
        )
