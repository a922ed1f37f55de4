"""The view of this moment: checks a second, denials by reason, latency, memory, each over the last hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from authz.admin.console.markup import Markup, element
from authz.admin.console.page import ConsoleState, address, facts, page, table
from authz.core.reasons import WIRE_STATUS, Reason

PATH: Final = "/"
_HEIGHT: Final = 40  # of a chart, in its own units; a step is one unit wide
_RECENT_STEPS: Final = 6
_ALLOWS: Final = frozenset(reason.value for reason in Reason if WIRE_STATUS[reason].code == 0)


@dataclass(frozen=True, slots=True)
class _Series:
    """A value for each step, None if there is none, and its *unit*."""

    name: str
    values: Sequence[float | None]
    unit: str

    def chart(self) -> Markup:
        numbers = [value for value in self.values if value is not None]
        last, highest = (numbers[-1], max(numbers)) if numbers else (0.0, 0.0)
        caption = f"{self.name}: {last:,.4g} {self.unit}, highest {highest:,.4g} {self.unit}"
        lines = (element("polyline", points=" ".join(points)) for points in self._lines(highest or 1.0))
        width = max(len(self.values) - 1, 1)
        drawing = element(
            "svg",
            lines,
            viewBox=f"0 0 {width} {_HEIGHT}",
            preserveAspectRatio="none",
            role="img",
            aria_label=f"{caption}, over the last hour",
        )
        return element("figure", element("figcaption", caption), drawing)

    def _lines(self, highest: float) -> Iterator[list[str]]:
        """Yield the points of each part of the line without a gap."""
        points: list[str] = []
        for index, value in enumerate([*self.values, None]):
            if value is not None:
                points.append(f"{index},{_HEIGHT - 1 - value / highest * (_HEIGHT - 2):.1f}")
            elif points:
                yield points
                points = []


def view(state: ConsoleState) -> bytes:
    """Return the page."""
    steps: Sequence[dict[str, Any]] = state.document["steps"]
    bounds: Sequence[float] = state.document["buckets"]
    denied = [sum(count for reason, count in step["reasons"].items() if reason not in _ALLOWS) for step in steps]
    total = [sum(step["reasons"].values()) + step["would_deny"] for step in steps]
    series = (
        _Series("Checks", [_rate(count, step) for count, step in zip(total, steps, strict=True)], "a second"),
        _Series("Denials", [_rate(count, step) for count, step in zip(denied, steps, strict=True)], "a second"),
        _Series("Half are answered within", [_quantile(step["durations"], bounds, 0.5) for step in steps], "ms"),
        _Series("99 of 100 within", [_quantile(step["durations"], bounds, 0.99) for step in steps], "ms"),
        _Series("In flight", [step["in_flight"] for step in steps], "checks"),
        _Series("Memory", [step["rss_bytes"] / 1e6 for step in steps], "MB"),
    )
    checks, refused = sum(total), sum(denied)
    return page(
        PATH,
        state,
        facts(
            (
                ("Waiting for", ", ".join(state.document.get("waiting_for", ())) or "nothing: ready"),
                ("Checks in the last hour", f"{checks:,}"),
                ("Of these denied", f"{refused:,} ({refused / checks:.1%})" if checks else "0"),
                ("Would be denied, in shadow", f"{sum(step['would_deny'] for step in steps):,}"),
                ("Cancelled by Envoy", f"{sum(step['cancelled'] for step in steps):,}"),
            )
        ),
        element("h2", "The last hour"),
        element("div", map(_Series.chart, series), class_="charts"),
        _reasons(steps),
    )


def _reasons(steps: Sequence[dict[str, Any]]) -> Markup:
    hour: dict[str, int] = {}
    minute: dict[str, int] = {}
    for index, step in enumerate(steps):
        for reason, count in step["reasons"].items():
            hour[reason] = hour.get(reason, 0) + count
            if index >= len(steps) - _RECENT_STEPS:
                minute[reason] = minute.get(reason, 0) + count
    denied = sum(count for reason, count in hour.items() if reason not in _ALLOWS)
    rows = (
        (
            element("a", reason, href=address("/console/decisions", {"reason": reason})),
            element("span", word := "allow" if reason in _ALLOWS else "deny", class_=word),
            f"{minute.get(reason, 0):,}",
            f"{count:,}",
            "" if reason in _ALLOWS else f"{count / denied:.1%}",
        )
        for reason, count in sorted(hour.items(), key=lambda item: -item[1])
    )
    columns = ("reason", "decision", "last minute", "last hour", "share of denials")
    return table("Decisions by reason", columns, rows, empty="No decision in the last hour.")


def _rate(count: int, step: dict[str, Any]) -> float:
    return count / float(step["seconds"])


def _quantile(durations: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Return the milliseconds within which this *share* was answered: the bound of its bucket."""
    total = sum(durations)
    if not total:
        return None
    below = 0
    for count, bound in zip(durations, bounds, strict=False):
        below += count
        if below >= share * total:
            return bound * 1000
    return bounds[-1] * 1000
