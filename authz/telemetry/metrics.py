"""The metrics of one process. Label values are configured names and fixed words, never text from requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import Info
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from authz import __version__
from authz.core.decision import outcome
from authz.core.implementation import IMPLEMENTATION
from authz.core.reasons import Reason
from authz.telemetry import names
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.decision_counts import DecisionCounts
from authz.telemetry.last_hour import Totals
from authz.telemetry.logs import lost_lines

Part = Literal["span", "metrics", "log", "console", "clients"]
"""The parts of a report."""


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self, *, insecure_options: int, label_rules: bool, lost_lines: Callable[[], int] = lost_lines) -> None:
        """Set all to 0; *lost_lines* is called at each scrape, and returns the log lines lost since the start."""
        self.registry: Final = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=self.registry)

        self._decisions: Final = DecisionCounts(self.registry, always=_ALERTED)
        self._refreshes: Final = Histogram(
            names.KEYS_REFRESH_DURATION_SECONDS,
            "Time that a refresh of an issuer's keys over the network took.",
            ("issuer",),
            buckets=names.REFRESH_BUCKETS,
            registry=self.registry,
        )
        self._in_flight: Final = gauge(names.CHECKS_IN_FLIGHT, "Calls that are evaluated or queued.")
        self._cancelled: Final = counter(
            names.CHECKS_CANCELLED_TOTAL, "Calls that Envoy abandoned before they were evaluated."
        )
        self._client_failures: Final = gauge(
            names.CLIENT_FAILURES_MAX, "Denials of the client address with the most denials in the last minute."
        )
        self._summarised: Final = counter(
            names.LINES_SUMMARISED_TOTAL, "Denials without their own log line, because there were too many."
        )
        self._spans_dropped: Final = counter(names.SPANS_DROPPED_TOTAL, "Spans that were not delivered to a collector.")
        self._records_dropped: Final = counter(
            names.LOG_RECORDS_DROPPED_TOTAL, "Log records of decisions that were not delivered to a collector."
        )
        self._failed_reports: Final = counter(
            names.REPORTS_FAILED_TOTAL, "Reports of decisions that failed, by part.", "part"
        )
        self._failed: Final = {part: self._failed_reports.labels(part) for part in _PARTS}
        self._lost_lines: Final = lost_lines
        self.registry.register(_LostLines(lost_lines))
        build = Info(names.BUILD_INFO, "The running version, and its form.", registry=self.registry)
        build.info({"version": __version__, "implementation": IMPLEMENTATION})
        self._transport: Final = Info(names.TRANSPORT_INFO, "The transport of gRPC calls.", registry=self.registry)
        self._config: Final = Info(names.CONFIG_INFO, "The configuration in use.", registry=self.registry)
        self._insecure: Final = gauge(names.INSECURE_OPTIONS, "Insecure options in use.")
        reloads = counter(names.CONFIG_RELOADS_TOTAL, "Reloads of the configuration.", "result")
        self._reloads: Final = {accepted: reloads.labels(word) for accepted, word in _RELOADS.items()}
        self._reloaded: Final = gauge(
            names.CONFIG_RELOAD_SUCCESSFUL, "Whether the configuration in use is the one in the file."
        )
        self._reloaded.set(1)
        self.apply(insecure_options=insecure_options, label_rules=label_rules)

    def apply(self, *, insecure_options: int, label_rules: bool, digest: str = "") -> None:
        """Apply the settings of the active configuration, and show its *digest*."""
        self._label_rules = label_rules
        self._insecure.set(insecure_options)
        self._config.info({"digest": digest})

    def show_transport(self, name: str) -> None:
        """Show the transport of gRPC calls."""
        self._transport.info({"transport": name})

    def watch_in_flight(self, count: Callable[[], int]) -> None:
        """Call *count* at each scrape for the number of calls in flight."""
        self._in_flight.set_function(count)

    def count_reload(self, *, accepted: bool) -> None:
        """Count a configuration that was accepted or rejected."""
        self._reloads[accepted].inc()
        self._reloaded.set(accepted)

    def observe_refresh(self, issuer: str, seconds: float) -> None:
        """Observe how long a refresh of the keys of an issuer, by its configured name, took over the network."""
        self._refreshes.labels(issuer).observe(seconds)

    def count_cancelled(self) -> None:
        """Count a call whose caller no longer waits."""
        self._cancelled.inc()

    def count_dropped_spans(self, number: int) -> None:
        """Count lost spans."""
        self._spans_dropped.inc(number)

    def count_dropped_records(self, number: int) -> None:
        """Count lost log records of decisions."""
        self._records_dropped.inc(number)

    def count_failed_report(self, part: Part) -> None:
        """Count a decision whose *part* of the report failed."""
        self._failed[part].inc()

    def count_summarised(self, number: int) -> None:
        """Count decisions that have no log line of their own."""
        self._summarised.inc(number)

    def show_client_failures(self, number: int) -> None:
        """Show the number of denials of the client address with the most."""
        self._client_failures.set(number)

    def count(self, record: CheckRecord, trace: TraceContext | None = None) -> None:
        """Count one decision; its *trace* is the exemplar, if a span was written."""
        decision = record.decision
        trail, reason = decision.trail, decision.reason
        rule = (trail.rule or "") if self._label_rules else ""
        cached = trail.signature_cached
        if cached is None and reason is Reason.SIGNATURE_INVALID:
            cached = False  # it was looked up, and is not there
        exemplar = trace if trace is not None and trace.span_id is not None else None
        labels = (outcome(decision), reason, trail.issuer or "", rule)
        self._decisions.count(labels, record.seconds, cached=cached, trace=exemplar)

    @property
    def cancelled(self) -> int:
        """The number of calls whose caller no longer waited, since the start."""
        return sum(int(sample.value) for sample in _samples(self._cancelled, "_total"))

    def totals(self) -> Totals:
        """Return the counts since the start, for the console."""
        decisions: dict[tuple[str, str], int] = {}
        for (decided, reason, _, _), number in self._decisions.decisions().items():
            key = (decided, str(reason))
            decisions[key] = decisions.get(key, 0) + number
        (in_flight,) = _samples(self._in_flight, "")
        return Totals(
            decisions=decisions,
            durations=self._decisions.durations(),
            cancelled=self.cancelled,
            in_flight=int(in_flight.value),
        )

    def losses(self) -> dict[str, int]:
        """Return the counts of omitted and failed reports, by metric name."""
        counts = {
            names.LINES_SUMMARISED_TOTAL: self._summarised,
            names.SPANS_DROPPED_TOTAL: self._spans_dropped,
            names.LOG_RECORDS_DROPPED_TOTAL: self._records_dropped,
            names.REPORTS_FAILED_TOTAL: self._failed_reports,
        }
        return {
            f"{name}_total": sum(int(sample.value) for sample in _samples(counter, "_total"))
            for name, counter in counts.items()
        } | {f"{names.LINES_LOST_TOTAL}_total": self._lost_lines()}


def _samples(metric: Collector, suffix: str) -> Iterator[Sample]:
    """Yield the samples of *metric* whose names have *suffix*."""
    for family in metric.collect():
        yield from (sample for sample in family.samples if sample.name == f"{family.name}{suffix}")


# Series for alerts exist from the start: a series that starts at 1 has no increase, and the alert would not fire.
_ALERTED: Final = [
    ("deny", reason.value, "", "") for reason in (Reason.INTERNAL_ERROR, Reason.OVERLOADED, Reason.REQUEST_MALFORMED)
]


class _LostLines(Collector):
    """A counter whose value is kept elsewhere."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count: Final = count

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(names.LINES_LOST_TOTAL, "Log lines that were lost.", value=self._count())


_PARTS: Final[tuple[Part, ...]] = ("span", "metrics", "log", "console", "clients")
_RELOADS: Final = {True: "accepted", False: "rejected"}
