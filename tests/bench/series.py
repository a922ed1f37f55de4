"""Values that were measured several times: their middle, their spread, and whether two of them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Final

# Metrics, and whether more of it is better.
MORE_IS_BETTER: Final[Mapping[str, bool]] = {
    "rps": True,  # requests per second
    "ratio": True,  # of rps, to the bare server's in the same round
    "to_base": True,  # of rps, to the base's in the same round, or that of what the row is measured beside
    "cpu_us": False,  # CPU time of the deciding processes per check; of Envoy where it decides itself
    "cpu_ratio": False,  # of cpu_us, to the same
    "cpu_more_us": False,  # cpu_us less the same
    "envoy_us": False,  # CPU time of Envoy per check
    "switches": False,  # context switches of the deciding processes per check
    "p50_ms": False,
    "p99_ms": False,
    "added_p50_ms": False,  # p50 less the bare server's in the same round
    "added_p99_ms": False,
    "page_ms": False,  # from the question for a page of the console to its last byte, the longest of a round
    "p99_ratio": False,  # of p99_ms while pages are shown, to that of the same round without
    "rss_mb": False,
    "growth_mb": False,
    "ready_s": False,
    "pss_mb": False,  # of all processes: memory that several share counts once
    "p99_more_ms": False,  # p99_ms during a reload less that of the same round without
    "reload_s": False,  # from the signal until the new configuration is in use
}

_FEWEST: Final = 4


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some values, the least and the greatest of them, and how many they are."""

    middle: float
    least: float
    greatest: float
    count: int

    @property
    def percent(self) -> float:
        """Half of the range, in percent of the middle."""
        return 50 * (self.greatest - self.least) / self.middle if self.middle else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Summarise values, of which there is at least one."""
    return Spread(median(values), min(values), max(values), len(values))


class Change(StrEnum):
    """What became of a metric between two runs."""

    BETTER = "better"
    WORSE = "worse"
    NOISE = "within noise"
    UNSURE = "too few values to tell"


def compare(metric: str, before: Spread, after: Spread) -> Change:
    """Tell change from noise: it is noise where the ranges overlap.

    Of two series of four that mean the same, the ranges lie apart in 1 case of 35; of fewer values, too often.
    """
    if min(before.count, after.count) < _FEWEST:
        return Change.UNSURE
    if before.least <= after.greatest and after.least <= before.greatest:
        return Change.NOISE
    return Change.BETTER if (after.middle > before.middle) is MORE_IS_BETTER[metric] else Change.WORSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured of one setup: a series of values for each metric.

    *missing* says why it cannot be measured here, *failed* why its figures would mean nothing, *notes* what a reader
    must know of them.
    """

    name: str
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    missing: str = ""
    failed: str = ""

    def spread(self, metric: str) -> Spread | None:
        """Summarise a metric, where it was measured."""
        values = self.series.get(metric)
        return spread(values) if values else None
