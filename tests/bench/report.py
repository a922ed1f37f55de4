"""The table that a run prints, and the document that it writes for a later one to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.bench.series import MORE_IS_BETTER, Row, Spread, compare
from tests.bench.setups import TARGETS

_FORMAT: Final = 1
_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "rps": ("req/s", ",.0f"),
    "ratio": ("/bare", ".2f"),
    "to_base": ("/base", ".2f"),
    "cpu_us": ("CPU us", ".0f"),
    "cpu_ratio": ("CPU/base", ".3f"),
    "cpu_more_us": ("CPU+us", "+.1f"),
    "envoy_us": ("Envoy us", ".0f"),
    "switches": ("switches", ".2f"),
    "p50_ms": ("p50 ms", ".2f"),
    "p99_ms": ("p99 ms", ".2f"),
    "added_p50_ms": ("+p50", "+.2f"),
    "added_p99_ms": ("+p99", "+.2f"),
    "page_ms": ("page ms", ".0f"),
    "p99_ratio": ("p99/", ".2f"),
    "rss_mb": ("RSS MB", ".1f"),
    "growth_mb": ("growth MB", "+.1f"),
    "ready_s": ("ready s", ".2f"),
    "pss_mb": ("PSS MB", ".1f"),
    "p99_more_ms": ("p99+", "+.2f"),
    "reload_s": ("reload s", ".2f"),
}
_WITH_SPREAD: Final = ("rps", "ratio", "to_base", "cpu_ratio", "p99_ratio", "ready_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run: the machine, how it was measured, and the rows."""

    machine: Mapping[str, str]
    rows: Sequence[Row] = field(default_factory=tuple)

    def to_json(self) -> str:
        """Write it for a later run."""
        document = {"format": _FORMAT, "machine": dict(self.machine), "rows": [asdict(row) for row in self.rows]}
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what an earlier run wrote. Raises ValueError where it is something else."""
        try:
            document: Any = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise ValueError(f"not the figures of a run, format {_FORMAT}")
        return cls(machine=document["machine"], rows=[Row(**row) for row in document["rows"]])


def render(report: Report) -> str:
    """Write the machine, the table, and the notes."""
    header = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    table = _align([["", *(title for title, _ in _shown(report).values()), "target"], *_lines(report)])
    notes = [f"{row.name}: {note}" for row in report.rows for note in row.notes]
    return "\n".join([header, "", *table, *([""] if notes else []), *notes, ""])


def _shown(report: Report) -> dict[str, tuple[str, str]]:
    """The columns for which there is a value."""
    return {metric: column for metric, column in _COLUMNS.items() if any(row.series.get(metric) for row in report.rows)}


def _lines(report: Report) -> Iterator[list[str]]:
    for row in report.rows:
        cells = [render_cell(row, metric) for metric in _shown(report)]
        if row.missing:
            yield [row.name, *cells, f"not measurable here: {row.missing}"]
        elif row.failed:
            yield [row.name, *cells, f"FAILED: {row.failed}"]
        else:
            yield [row.name, *cells, judge(row)]


def render_cell(row: Row, metric: str) -> str:
    """Write the middle of a metric, and half of its range where that matters; nothing where it was not measured."""
    found = row.spread(metric)
    if found is None:
        return ""
    text = format(found.middle, _COLUMNS[metric][1])
    return f"{text} ±{found.percent:.0f}%" if metric in _WITH_SPREAD and found.count > 1 else text


def judge(row: Row) -> str:
    """Say which targets of a row are met."""
    measured = ((target, row.spread(target.metric)) for target in TARGETS.get(row.name, ()))
    return "; ".join(target.judge(found.middle) for target, found in measured if found is not None)


def render_comparison(before: Report, after: Report) -> str:
    """Write what became of each row that two runs share."""
    lines = [["", "", "before", "after", "change", ""]]
    earlier = {row.name: row for row in before.rows}
    for row in after.rows:
        if row.name in earlier:
            lines += _compare_rows(earlier[row.name], row)
    names = dict.fromkeys([*before.machine, *after.machine])
    heads = {name: (before.machine.get(name, "-"), after.machine.get(name, "-")) for name in names}
    warnings = [f"{name}: {old} before, {new} after" for name, (old, new) in heads.items() if old != new]
    return "\n".join([*warnings, *([""] if warnings else []), *_align(lines), ""])


def _compare_rows(before: Row, after: Row) -> Iterator[list[str]]:
    for name, row in {"before": before, "after": after}.items():
        if row.failed or row.missing:
            yield [row.name, "", "", "", "", f"{name}: {row.failed or row.missing}"]
    for metric in MORE_IS_BETTER:
        old, new = before.spread(metric), after.spread(metric)
        if old is not None and new is not None:
            change = f"{new.middle / old.middle - 1:+.0%}" if old.middle > 0 else f"{new.middle - old.middle:+.3g}"
            cells = [_render_range(metric, old), _render_range(metric, new), change, str(compare(metric, old, new))]
            yield [after.name, metric, *cells]


def _render_range(metric: str, found: Spread) -> str:
    form = _COLUMNS[metric][1]
    text = format(found.middle, form)
    return f"{text} ({found.least:{form}} to {found.greatest:{form}})" if found.count > 1 else text


def _align(lines: Sequence[Sequence[str]]) -> list[str]:
    """Pad columns: the first and the last to the right of their text, the others to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell if place == len(widths) - 1 else cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
