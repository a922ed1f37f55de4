"""Metrics of key sets: one set of series for each configured issuer."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from threading import get_ident
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from authz.telemetry import names


class Refresh(StrEnum):
    """The result of a refresh. The first two are successes."""

    UPDATED = "updated"
    NOT_MODIFIED = "not_modified"
    DISCOVERY_REJECTED = "discovery_rejected"
    INTERNAL_ERROR = "internal_error"
    JWKS_REJECTED = "jwks_rejected"
    LIST_REJECTED = "list_rejected"
    MISCONFIGURED = "misconfigured"
    REDIRECT_REFUSED = "redirect_refused"
    STATUS = "status"
    TIMEOUT = "timeout"
    TLS = "tls"
    TOO_LARGE = "too_large"
    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"


class WhyUnanswered(StrEnum):
    """Why a token is denied as retryable: its key is not in the set, and could not be searched for."""

    TOO_NEW = "too_new"
    NO_BUDGET = "no_budget"
    REFRESH_FAILED = "refresh_failed"


class Tally:
    """A counter that takes no lock: each thread has its own number, which no other thread writes."""

    def __init__(self) -> None:
        self._by_thread: Final[dict[int, int]] = {}  # bounded: identities of ended threads are reused

    def add(self) -> None:
        """Count one."""
        me = get_ident()
        self._by_thread[me] = self._by_thread.get(me, 0) + 1

    @property
    def total(self) -> int:
        """The count of all threads."""
        return sum(list(self._by_thread.values()))


class _Tallies(Collector):
    """A counter by issuer and *labels*, read at each scrape. prometheus_client's own counters take a lock."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self._name: Final = name
        self._text: Final = text
        self._labels: Final = ("issuer", *labels)
        self._tallies: Final[dict[tuple[str, ...], Tally]] = {}

    def with_labels(self, *values: str) -> Tally:
        """Return the tally for these label *values*; it exists from the start and is kept across reloads."""
        return self._tallies.setdefault(values, Tally())

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, tally in list(self._tallies.items()):
            family.add_metric(values, tally.total)
        yield family


class KeyMetrics:
    """The metrics of every issuer's keys. Label values are configured names and words from fixed sets."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, ("issuer",), registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ("issuer", *labels), registry=registry)

        self.refreshes: Final = counter(names.KEYS_REFRESH_TOTAL, "Refreshes by their result.", "result")
        self.last_success: Final = gauge(
            names.KEYS_LAST_SUCCESS_TIMESTAMP_SECONDS, "When a refresh last succeeded; 0 before the first."
        )
        self.usable: Final = gauge(names.KEYS_COUNT, "Usable keys.")
        self.rejected: Final = gauge(names.KEYS_REJECTED_COUNT, "Published signing keys that are rejected.")
        self.leaked: Final = gauge(
            names.KEYS_SECRETS_PUBLISHED, "Published keys with private or symmetric material: alert above 0."
        )
        self.noted: Final = gauge(names.KEYS_NOTED_COUNT, "Usable keys that deviate from the standard.")
        self.unknown_kids: Final = _Tallies(
            names.KEYS_UNKNOWN_KID_TOTAL, "Tokens with a key id that is not in the set."
        )
        self.unanswered: Final = _Tallies(
            names.KEYS_UNANSWERED_TOTAL,
            "Tokens denied with 503 because their key could not be searched for.",
            "why",
        )
        registry.register(self.unknown_kids)
        registry.register(self.unanswered)
        self.flaps: Final = counter(names.KEYS_FLAP_TOTAL, "Sets that were replaced and came back.")

    def for_issuer(self, issuer: str) -> IssuerKeyMetrics:
        """Return the metrics of the issuer configured as *issuer*; each exists from the start."""
        return IssuerKeyMetrics(self, issuer)


class IssuerKeyMetrics:
    """The metrics of one issuer's keys."""

    def __init__(self, metrics: KeyMetrics, issuer: str) -> None:
        self._refreshes: Final = {result: metrics.refreshes.labels(issuer, result.value) for result in Refresh}
        self._last_success: Final = metrics.last_success.labels(issuer)
        self._usable: Final = metrics.usable.labels(issuer)
        self._rejected: Final = metrics.rejected.labels(issuer)
        self._leaked: Final = metrics.leaked.labels(issuer)
        self._noted: Final = metrics.noted.labels(issuer)
        self._unknown_kids: Final = metrics.unknown_kids.with_labels(issuer)
        self._unanswered: Final = {why: metrics.unanswered.with_labels(issuer, why.value) for why in WhyUnanswered}
        self._flaps: Final = metrics.flaps.labels(issuer)

    def count_refresh(self, result: Refresh) -> None:
        """Count a refresh that has ended."""
        self._refreshes[result].inc()

    def count_unknown_kid(self) -> None:
        """Count a token whose key id is not in the set. Takes no lock."""
        self._unknown_kids.add()

    def count_unanswered(self, why: WhyUnanswered) -> None:
        """Count a token that is denied as retryable because its key could not be searched for. Takes no lock."""
        self._unanswered[why].add()

    def count_flap(self) -> None:
        """Count a key set that was replaced and came back."""
        self._flaps.inc()

    def show_success(self, at: float) -> None:
        """Set the Unix time at which keys were last fetched or confirmed."""
        self._last_success.set(at)

    def show_keys(self, *, usable: int, rejected: int, leaked: int, noted: int = 0) -> None:
        """Set the numbers of *usable* and *rejected* keys, *leaked* secrets, and keys *noted* for deviations."""
        self._usable.set(usable)
        self._rejected.set(rejected)
        self._leaked.set(leaked)
        self._noted.set(noted)
