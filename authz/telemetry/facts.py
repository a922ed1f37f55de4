"""Metrics of facts from other systems: the results of questions, by kind and source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from authz.core.minting import MINTED
from authz.telemetry import names
from authz.telemetry.keys import Tally


class FactMetrics(Collector):
    """A counter of results that takes no lock, and a histogram of the time that sources take.

    The labels are the kind of fact, the configured name of the source, and words of the code.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tallies: Final[dict[tuple[str, str, str], Tally]] = {}
        self.duration: Final = Histogram(
            names.FACTS_DURATION_SECONDS,
            "Time that a source of facts took to answer or to fail.",
            ("kind", "source"),
            buckets=names.DURATION_BUCKETS,
            registry=registry,
        )
        registry.register(self)

    def for_source(self, kind: str, source: str) -> SourceMetrics:
        """Return the metrics of one source, which stay over a reload."""
        return SourceMetrics(self, kind, source)

    def tally(self, kind: str, source: str, result: str) -> Tally:
        """Return the counter of one result, which begins with 0."""
        labels = (kind, source, result)
        tally = self._tallies.get(labels)
        return self._tallies.setdefault(labels, Tally()) if tally is None else tally

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read the counters, at each scrape."""
        text = "Facts from other systems that decisions needed, by result; cached: none was asked for."
        family = CounterMetricFamily(names.FACTS_TOTAL, text, labels=("kind", "source", "result"))
        for labels, tally in sorted(self._tallies.items()):
            family.add_metric(labels, tally.total)
        yield family


FAILURES: Final = ("breaker_open", "rejected", "status", "timeout", "tls", "unauthorized", "unreachable", "unreadable")
SIGNING_FAILURES: Final = ("failed", "key_unusable", "misconfigured", "throttled", "wrong_answer")


class SourceMetrics:
    """Observes the lane of one source."""

    def __init__(self, metrics: FactMetrics, kind: str, source: str) -> None:
        self._metrics: Final = metrics
        self._labels: Final = (kind, source)
        self._cached: Final = metrics.tally(kind, source, "cached")
        self._tallies: Final[dict[str, Tally]] = {}  # by result
        self._duration: Final = metrics.duration.labels(kind, source)
        own = SIGNING_FAILURES if kind == MINTED else ()
        for result in (*FAILURES, *own):  # an alert would not see the increase of a series that begins with 1
            metrics.tally(kind, source, result)

    def on_cache_hit(self) -> None:
        """Count a fact that was cached. Takes no lock."""
        self._cached.add()

    def on_answered(self, result: str, seconds: float) -> None:
        """Count a question with its *result*."""
        self._tally(result).add()
        self._duration.observe(seconds)

    def on_signing_ended(self, result: str) -> None:
        """Count a fact that this process made itself, or could not make. Takes no lock."""
        self._tally(result).add()

    def on_refused(self, result: str) -> None:
        """Count a question that was not asked."""
        self._tally(result).add()

    def _tally(self, result: str) -> Tally:
        counter = self._tallies.get(result)
        if counter is None:
            counter = self._tallies[result] = self._metrics.tally(*self._labels, result)
        return counter
