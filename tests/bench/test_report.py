"""Proves the table, the verdicts in it, and the comparison of two runs."""

from __future__ import annotations

import pytest

from tests.bench.report import Report, judge, render, render_comparison
from tests.bench.series import Row

MACHINE = {"processor": "abacus", "cores": "2 of 2"}
RUN = Report(
    machine=MACHINE,
    rows=[
        Row(name="bare", series={"rps": [13_000.0, 14_000.0, 15_000.0], "ratio": [1.0]}, notes=["not saturated"]),
        Row(name="base", series={"rps": [8_000.0], "ratio": [0.571], "added_p50_ms": [0.2], "rss_mb": [74.6]}),
        Row(name="workers-2", missing="needs 3 cores, here are 2"),
        Row(name="tcp", failed="9 of 10 answers were 2xx"),
    ],
)
TABLE = """\
processor abacus, cores 2 of 2

                req/s  /bare   +p50  RSS MB  target
bare       14,000 ±7%   1.00
base            8,000   0.57  +0.20    74.6  ratio >= 0.5 met, aim 0.65 missed; added_p50_ms < 0.15 MISSED
workers-2                                    not measurable here: needs 3 cores, here are 2
tcp                                          FAILED: 9 of 10 answers were 2xx

bare: not saturated
"""


def test_table() -> None:
    """Columns are aligned, those without any value left out, targets evaluated, and no failed row shows a speed."""
    assert render(RUN) == TABLE


def test_nothing_to_judge() -> None:
    """A row without targets, and one without the figure that its target asks for, has no verdict."""
    assert judge(Row(name="tcp", series={"rps": [1.0]})) == ""
    assert judge(Row(name="base", series={"rps": [1.0]})) == ""


def test_document_is_read_as_it_was_written() -> None:
    """Nothing of a run is lost on its way through a file."""
    again = Report.from_json(RUN.to_json())
    assert render(again) == TABLE
    assert again.to_json() == RUN.to_json()


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 0}', "{"])
def test_other_documents_are_refused(text: str) -> None:
    """What no run of this form wrote is refused."""
    with pytest.raises(ValueError, match="not the figures of a run"):
        Report.from_json(text)


def test_comparison() -> None:
    """Rows of both runs are compared metric by metric, with their ranges; what could not be measured says so."""
    values = {"ratio": [0.5, 0.51, 0.52, 0.53], "cpu_us": [100.0, 101.0, 102.0, 103.0], "busy": [1.0]}
    better = {"ratio": [0.6, 0.61, 0.62, 0.63], "cpu_us": [99.0, 100.0, 101.0, 102.0], "busy": [1.0]}
    before = Report(machine=MACHINE, rows=[Row(name="base", series=values), Row(name="tcp", failed="no answer")])
    after = Report(machine=MACHINE, rows=[Row(name="base", series=better), Row(name="tcp"), Row(name="new")])
    assert render_comparison(before, after) == (
        "                           before                after  change\n"
        "base   ratio  0.52 (0.50 to 0.53)  0.61 (0.60 to 0.63)    +19%  better\n"
        "base  cpu_us     102 (100 to 103)      100 (99 to 102)     -1%  within noise\n"
        "tcp                                                             before: no answer\n"
    )


def test_comparison_of_machines() -> None:
    """What differs between two machines, or between two ways to measure, is said before any figure."""
    other = Report(machine={"processor": "slide rule", "cores": "2 of 2", "rounds": "5"})
    told = render_comparison(RUN, other).splitlines()
    assert told[:3] == ["processor: abacus before, slide rule after", "rounds: - before, 5 after", ""]
