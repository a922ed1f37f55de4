"""Metrics of revocations: how many entries each source has, what came of events, and refreshes of lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from authz.telemetry import names
from authz.telemetry.keys import Refresh

ACCEPTED: Final = "accepted"
KNOWN: Final = "known"
FULL: Final = "full"
INVALID: Final = "invalid"
UNSAVED: Final = "unsaved"
_ALERTED: Final = (FULL, UNSAVED)


class RevocationMetrics(Collector):
    """The metrics of all sources; labels are configured names and words of the code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count: Callable[[], Mapping[str, int]] = dict
        self.refreshes: Final = Counter(
            names.REVOCATION_REFRESH_TOTAL,
            "Refreshes of lists by their result.",
            ("source", "result"),
            registry=registry,
        )
        self.last_success: Final = Gauge(
            names.REVOCATION_LAST_SUCCESS_TIMESTAMP_SECONDS,
            "When a refresh of a list last succeeded; 0 before the first.",
            ("source",),
            registry=registry,
        )
        self.rejected: Final = Gauge(
            names.REVOCATION_REJECTED_ENTRIES, "Entries of a list that cannot be read.", ("source",), registry=registry
        )
        self._events: Final = Counter(
            names.REVOCATION_EVENTS_TOTAL, "Events by what came of them.", ("source", "result"), registry=registry
        )
        registry.register(self)

    def watch(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Call *count* at each scrape for the number of entries of each source."""
        self._count = count

    def expect_events(self, source: str) -> None:
        """Have the series of a source that alerts need: one that begins with 1 has no increase."""
        for result in _ALERTED:
            self._events.labels(source, result)

    def count_event(self, source: str, result: str) -> None:
        """Count an event of *source*: accepted, known already, full (no room), invalid, or unsaved."""
        self._events.labels(source, result).inc()

    def expect_list(self, source: str) -> None:
        """Have the series of a list from the start."""
        for result in Refresh:
            self.refreshes.labels(source, result.value)
        self.last_success.labels(source)
        self.rejected.labels(source)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the numbers of entries, at each scrape."""
        family = GaugeMetricFamily(names.REVOCATIONS, "Entries that revoke tokens.", labels=("source",))
        for source, count in sorted(self._count().items()):
            family.add_metric((source,), count)
        yield family
