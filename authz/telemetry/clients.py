"""Metrics of throttled clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from authz.core.decision import Decision, Deny
from authz.core.reasons import Reason
from authz.telemetry import names
from authz.telemetry.keys import Tally


class ClientMetrics(Collector):
    """Counts what the throttle denied, or would have. *throttled* is called at each scrape: how many networks are."""

    def __init__(self, registry: CollectorRegistry, *, throttled: Callable[[], int]) -> None:
        self._throttled: Final = throttled
        self._requests: Final = {enforced: Tally() for enforced in (False, True)}
        registry.register(self)

    def count(self, decision: Decision) -> None:
        """Count one decision. Takes no lock."""
        if decision.trail.throttled:
            self._requests[isinstance(decision, Deny) and decision.reason is Reason.THROTTLED].add()

    def collect(self) -> Iterator[Metric]:
        """Read the counters, at each scrape."""
        text = "Requests from throttled networks, without a token or subject that was accepted before."
        family = CounterMetricFamily(names.THROTTLED_TOTAL, text, labels=("enforced",))
        for enforced, tally in self._requests.items():
            family.add_metric((str(enforced).lower(),), tally.total)
        yield family
        yield GaugeMetricFamily(names.THROTTLED_NETWORKS, "Networks that are throttled now.", value=self._throttled())
