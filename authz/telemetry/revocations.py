"""Metrics of revocations: entries of each source, results of events, and refreshes of lists."""

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
UNSHARED: Final = "unshared"
LOST: Final = "lost"
_ALERTED: Final = (FULL, UNSAVED)
_ALERTED_SHARED: Final = (*_ALERTED, INVALID, LOST)


class RevocationMetrics(Collector):
    """The metrics of all sources; labels are configured names and words of the code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count: Callable[[], Mapping[str, int]] = dict
        self._unshared: Callable[[], int] | None = None
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
        """Create the series of a source that alerts need: a series that begins with 1 has no increase."""
        for result in _ALERTED:
            self._events.labels(source, result)

    def expect_shared(self, source: str, unshared: Callable[[], int]) -> None:
        """Create the series of what replicas share; *unshared* returns the number of pending events at each scrape."""
        self._unshared = unshared
        self.last_success.labels(source)
        for result in _ALERTED_SHARED:
            self._events.labels(source, result)

    def count_event(self, source: str, result: str, count: int = 1) -> None:
        """Count events of *source*: accepted, known already, full (no room), invalid, unsaved, unshared, or lost."""
        self._events.labels(source, result).inc(count)

    def expect_list(self, source: str) -> None:
        """Create the series of a list, so that they exist from the start."""
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
        if self._unshared is not None:
            yield GaugeMetricFamily(
                names.REVOCATIONS_UNSHARED, "Events that wait for the shared state.", value=self._unshared()
            )
