"""Count decisions without a lock: numbers on the deciding thread, metric families only at a scrape.

Rules of this file:
1. Each thread has its own numbers, which no other thread writes; a scrape adds up copies of them.
2. An exemplar is remembered by reference and made at a scrape: of all that a minute of checks would make, a scrape
   reads the last one of each series.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import get_ident
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from authz.telemetry import names
from authz.telemetry.check_record import TraceContext

K = TypeVar("K")

Labels = tuple[str, str, str, str]
"""Decision, reason, issuer and rule."""

_BUCKETS: Final = names.DURATION_BUCKETS
_BOUNDS: Final = tuple(map(floatToGoString, (*_BUCKETS, float("inf"))))
_LABEL_NAMES: Final = ("decision", "reason", "issuer", "rule")
# As prometheus_client reads it for its own metrics.
_WITH_CREATED: Final = os.environ.get("PROMETHEUS_DISABLE_CREATED_SERIES", "").lower() not in {"true", "1", "t"}

_Seen = tuple[TraceContext, float, float]
"""The trace of a check, its duration in seconds, and when it ended, in Unix time."""


class _Numbers:
    """The numbers of one thread; *durations* are by bucket and not cumulative."""

    __slots__ = ("by_bucket", "by_labels", "decisions", "durations", "hits", "misses", "seconds")

    def __init__(self) -> None:
        self.decisions: Final[dict[Labels, int]] = {}
        self.durations: Final = [0] * len(_BOUNDS)
        self.seconds = 0.0
        self.hits = 0
        self.misses = 0
        self.by_labels: Final[dict[Labels, _Seen]] = {}
        self.by_bucket: Final[dict[int, _Seen]] = {}


class DecisionCounts(Collector):
    """Counts decisions, their durations and the lookups in the signature cache. *now* returns Unix time."""

    def __init__(
        self, registry: CollectorRegistry, *, always: Iterable[Labels] = (), now: Callable[[], float] = time.time
    ) -> None:
        """The series of *always* exist from the start."""
        self._now: Final = now
        self._started: Final = now()
        self._always: Final = tuple(always)
        self._created: Final[dict[Labels, float]] = dict.fromkeys(self._always, self._started)
        self._threads: Final[dict[int, _Numbers]] = {}  # bounded: identities of ended threads are reused
        registry.register(self)

    def count(self, labels: Labels, seconds: float, *, cached: bool | None, trace: TraceContext | None) -> None:
        """Count one decision, which took *seconds*; *trace* leads to its span, if one was written.

        *cached* says whether the signature was found in the cache; None means that it was not looked up.
        """
        me = get_ident()
        numbers = self._threads.get(me)
        if numbers is None:
            numbers = self._threads[me] = _Numbers()
        counted = numbers.decisions.get(labels)
        if counted is None:
            self._created.setdefault(labels, self._now())
            counted = 0
        numbers.decisions[labels] = counted + 1
        bucket = bisect_left(_BUCKETS, seconds)
        numbers.durations[bucket] += 1
        numbers.seconds += seconds
        if cached:
            numbers.hits += 1
        elif cached is not None:
            numbers.misses += 1
        if trace is not None:
            numbers.by_labels[labels] = numbers.by_bucket[bucket] = (trace, seconds, self._now())

    def decisions(self) -> dict[Labels, int]:
        """Return the number of decisions by their labels."""
        total = dict.fromkeys(self._always, 0)
        for numbers in list(self._threads.values()):
            for labels, counted in numbers.decisions.copy().items():
                total[labels] = total.get(labels, 0) + counted
        return total

    def durations(self) -> tuple[int, ...]:
        """Return the number of decisions in each bucket, not cumulative."""
        return tuple(map(sum, zip(*([0] * len(_BOUNDS), *self._all_durations()), strict=True)))

    def _all_durations(self) -> list[list[int]]:
        return [numbers.durations[:] for numbers in list(self._threads.values())]

    def collect(self) -> Iterator[Metric]:
        """Make the families, at each scrape."""
        yield self._decisions_family()
        yield self._durations_family()
        lookups = CounterMetricFamily(
            names.SIGNATURE_CACHE_REQUESTS_TOTAL, "Lookups in the signature cache.", labels=("result",)
        )
        threads = list(self._threads.values())
        lookups.add_metric(("hit",), sum(numbers.hits for numbers in threads), self._shown(self._started))
        lookups.add_metric(("miss",), sum(numbers.misses for numbers in threads), self._shown(self._started))
        yield lookups

    def _decisions_family(self) -> Metric:
        family = CounterMetricFamily(names.DECISIONS_TOTAL, "Decisions.", labels=_LABEL_NAMES)
        latest = _latest(numbers.by_labels.copy() for numbers in list(self._threads.values()))
        for labels, counted in self.decisions().items():
            slot = latest.get(labels)
            family.add_metric(
                [str(label) for label in labels],
                counted,
                self._shown(self._created[labels]),
                exemplar=None if slot is None else _exemplar(slot, 1),
            )
        return family

    def _durations_family(self) -> Metric:
        family = HistogramMetricFamily(
            names.CHECK_DURATION_SECONDS, "Time from the acceptance of a call to its answer."
        )
        latest = _latest(numbers.by_bucket.copy() for numbers in list(self._threads.values()))
        below, cumulative = 0, []
        for bucket, counted in enumerate(self.durations()):
            below += counted
            slot = latest.get(bucket)
            of_bucket = (_BOUNDS[bucket], float(below))
            cumulative.append(of_bucket if slot is None else (*of_bucket, _exemplar(slot, slot[1])))
        family.add_metric((), cumulative, sum(numbers.seconds for numbers in list(self._threads.values())))
        if _WITH_CREATED:
            family.add_sample(f"{names.CHECK_DURATION_SECONDS}_created", {}, self._started)
        return family

    def _shown(self, created: float) -> float | None:
        return created if _WITH_CREATED else None


def _latest(threads: Iterable[Mapping[K, _Seen]]) -> dict[K, _Seen]:
    """Return the newest of what the threads saw last."""
    latest: dict[K, _Seen] = {}
    for slots in threads:
        for key, slot in slots.items():
            if key not in latest or latest[key][2] < slot[2]:
                latest[key] = slot
    return latest


def _exemplar(slot: _Seen, value: float) -> Exemplar:
    trace, _, at = slot
    return Exemplar({"trace_id": trace.trace_id, "span_id": trace.span_id or ""}, value, at)
