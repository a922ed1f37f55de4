"""The metrics of the last hour in steps of ten seconds, in memory of fixed size: for the console.

A background thread reads the metrics at the end of each step and stores the differences, at no cost for checks.
"""

from __future__ import annotations

import resource
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

from authz.core.reasons import Reason
from authz.telemetry import names

STEP_SECONDS: Final = 10
MAX_STEPS: Final = 360

_REASONS: Final = tuple(Reason)
_STATM: Final = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts since the start.

    *decisions* are by outcome and reason. *durations* are by the buckets of `names.DURATION_BUCKETS` and one above,
    not cumulative. *in_flight* is the current number.
    """

    decisions: Mapping[tuple[str, str], int]
    durations: tuple[int, ...]
    cancelled: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class _Step:
    """One step, with its end in Unix time; *counts* are by reason, then shadow denials, then by duration bucket."""

    ends: int
    seconds: float
    counts: array[int]
    cancelled: int
    in_flight: int
    rss: int


class LastHour:
    """Keeps MAX_STEPS steps. *totals* reads the metrics, *now* is the wall clock, *rss* returns octets of memory."""

    def __init__(
        self, totals: Callable[[], Totals], *, now: Callable[[], float], rss: Callable[[], int] | None = None
    ) -> None:
        self._totals: Final = totals
        self._now: Final = now
        self._rss: Final = rss or resident_bytes
        self._steps: Final[deque[_Step]] = deque(maxlen=MAX_STEPS)
        self._before = totals()
        self._since = now()

    def run(self, stopping: Event) -> None:
        """Take each step as it ends, until *stopping* is set."""
        while not stopping.wait(STEP_SECONDS - self._now() % STEP_SECONDS):
            self.take()

    def take(self) -> None:
        """End a step."""
        now, totals, before = self._now(), self._totals(), self._before
        shown = [_sum_of(totals, reason) - _sum_of(before, reason) for reason in _REASONS]
        durations = [new - old for new, old in zip(totals.durations, before.durations, strict=True)]
        counts = array("I", [*shown, _shadowed(totals) - _shadowed(before), *durations])
        # The steps of several workers are summed: their ends must be equal.
        ends = round(now / STEP_SECONDS) * STEP_SECONDS
        cancelled = totals.cancelled - before.cancelled
        seconds = max(now - self._since, 0.001)  # the wall clock may have been set back
        self._steps.append(_Step(ends, seconds, counts, cancelled, totals.in_flight, self._rss()))
        self._before, self._since = totals, now

    def describe(self) -> dict[str, object]:
        """Return the steps as JSON data, the oldest first."""
        return {
            "buckets": list(names.DURATION_BUCKETS),
            "steps": [
                {
                    "ends": step.ends,
                    "seconds": round(step.seconds, 3),
                    "reasons": {
                        reason.value: count for reason, count in zip(_REASONS, step.counts, strict=False) if count
                    },
                    "would_deny": step.counts[len(_REASONS)],
                    "durations": list(step.counts[len(_REASONS) + 1 :]),
                    "cancelled": step.cancelled,
                    "in_flight": step.in_flight,
                    "rss_bytes": step.rss,
                }
                for step in self._steps.copy()
            ],
        }


def resident_bytes() -> int:
    """Return the resident memory of this process in octets; 0 if it is not known."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def _sum_of(totals: Totals, reason: Reason) -> int:
    """Return the number of decisions with *reason*, without denials that a shadow rule only reported."""
    return totals.decisions.get(("allow", reason.value), 0) + totals.decisions.get(("deny", reason.value), 0)


def _shadowed(totals: Totals) -> int:
    return sum(count for (outcome, _), count in totals.decisions.items() if outcome == "would_deny")
