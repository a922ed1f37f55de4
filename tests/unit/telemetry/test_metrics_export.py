"""Proves authz.telemetry.metrics_export: the numbers of /metrics by OTLP, and that a lost export loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

from authz.core.decision import Deny
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.metrics import Metrics
from authz.telemetry.metrics_export import MetricsExport, start_metrics_export
from authz.telemetry.names import DURATION_BUCKETS
from authz.telemetry.otlp import ExportError
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.unit.telemetry.capturing import logging_to


class Collector(MetricExporter):
    """Keeps what it gets; the first *failures* exports break."""

    def __init__(self, *, failures: int = 0) -> None:
        super().__init__()
        self.got: list[MetricsData] = []
        self.failures = failures
        self.asked = 0

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
        self.asked += 1
        if self.asked <= self.failures:
            raise OSError("no collector")
        self.got.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        """Nothing is held."""


def make(metrics: Metrics, collector: Collector, interval: float = 3600.0) -> MetricsExport:
    """Export to *collector*; the clock stands."""
    return MetricsExport(
        collector, metrics.registry, resource=Resource({}), interval=interval, now_ns=lambda: 7 * 10**9
    )


def points(data: MetricsData) -> Mapping[str, Any]:
    """The data of each metric by its name."""
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    return {metric.name: metric.data for metric in scope.metrics}


def test_the_numbers_are_those_of_a_scrape() -> None:
    """A counter is a sum with its labels, a gauge a gauge, an info a one; buckets do not count those below them."""
    metrics = Metrics(insecure_options=2, label_rules=True)
    for seconds in (0.00001, 0.003, 0.004, 9.0):
        metrics.count(CheckRecord(Deny(Reason.TOKEN_EXPIRED), "id", None, seconds))
    found = points(make(metrics, Collector()).read())
    decisions = {
        point.attributes["reason"]: point.value for point in found["authz_decisions"].data_points if point.value
    }
    assert decisions == {"token_expired": 4}
    assert found["authz_decisions"].is_monotonic
    (insecure,) = found["authz_insecure_options"].data_points
    assert insecure.value == 2
    (build,) = found["authz_build_info"].data_points
    assert (build.value, set(build.attributes)) == (1, {"version", "implementation"})
    (duration,) = found["authz_check_duration_seconds"].data_points
    assert (duration.count, round(duration.sum, 2)) == (4, 9.01)
    assert duration.explicit_bounds == list(DURATION_BUCKETS)
    assert duration.bucket_counts == [1, 0, 0, 0, 0, 0, 2, *([0] * 7), 1]


def test_no_number_is_left_out() -> None:
    """Each sample of a scrape is in a point, whatever becomes of the names."""
    metrics = Metrics(insecure_options=0, label_rules=True)
    metrics.observe_refresh("a", 0.1)
    found = points(make(metrics, Collector()).read())
    families = {f"{each.name}_info" if each.type == "info" else each.name for each in metrics.registry.collect()}
    assert found.keys() == families


def test_the_last_numbers_are_exported_at_the_end() -> None:
    """Also by a process that ended before its first interval."""
    metrics, collector = Metrics(insecure_options=0, label_rules=True), Collector()
    export = make(metrics, collector)
    export.start()
    metrics.count_cancelled()
    export.stop(seconds=HANG_SECONDS)
    (data,) = collector.got
    assert [point.value for point in points(data)["authz_checks_cancelled"].data_points] == [1]


def test_a_collector_that_comes_late_gets_all() -> None:
    """An export that breaks ends nothing: the next has the sums since the start."""
    metrics, collector = Metrics(insecure_options=0, label_rules=True), Collector(failures=2)
    metrics.count_cancelled()
    with logging_to():
        export = make(metrics, collector, interval=0.001)
        export.start()
        wait_until(lambda: bool(collector.got))
        export.stop(seconds=HANG_SECONDS)
    assert [point.value for point in points(collector.got[0])["authz_checks_cancelled"].data_points] == [1]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "x"}, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'x' is not supported"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "1s"}, "OTEL_METRIC_EXPORT_INTERVAL: '1s' is not a number of milliseconds"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str) -> None:
    """Rather than exporting to nowhere in silence."""
    with pytest.raises(ExportError) as error:
        start_metrics_export(Metrics(insecure_options=0, label_rules=True).registry, environment=environment)
    assert str(error.value).startswith(message)
