"""Metrics of the sidecar's own signing keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from authz.telemetry import names


@dataclass(frozen=True, slots=True)
class SigningStatus:
    """How many keys are in each phase, and since when the one that signs does; it is to be replaced at *due*.

    Times are in seconds since the epoch; None if there is no such key, or no such time. *failing* says that keys could
    not be read or written.
    """

    phases: Mapping[str, int]
    started: float | None
    due: float | None
    failing: bool


class SigningMetrics(Collector):
    """Reads the state of the keys at each scrape; there are no series while nothing is signed."""

    def __init__(self, registry: CollectorRegistry, read: Callable[[], SigningStatus | None]) -> None:
        self._read: Final = read
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield a family for each fact."""
        facts = self._read()
        keys = GaugeMetricFamily(names.SIGNING_KEYS, "Own signing keys by phase.", labels=["phase"])
        started = GaugeMetricFamily(names.SIGNING_STARTED, "When the key that signs began to.")
        due = GaugeMetricFamily(names.SIGNING_DUE, "When the key that signs is to be replaced.")
        failing = GaugeMetricFamily(names.SIGNING_FAILING, "1 if signing keys cannot be read or written.")
        if facts is not None:
            for phase, count in facts.phases.items():
                keys.add_metric([phase], count)
            if facts.started is not None:
                started.add_metric([], facts.started)
            if facts.due is not None:
                due.add_metric([], facts.due)
            failing.add_metric([], facts.failing)
        yield from (keys, started, due, failing)
