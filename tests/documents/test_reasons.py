"""Proves authz/core/REASONS.md: complete both ways, by the words of the decision tables."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from typing import Final

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Allow
from authz.core.reasons import WIRE_STATUS, Reason
from tests.cases.causes import BY_CAUSE
from tests.cases.tables import read_tables
from tests.cases.test_decisions import CASES
from tests.documents.self_explained import SELF_EXPLAINED
from tests.tools import ROOT

PAGE: Final = (ROOT / "authz/core/REASONS.md").read_text(encoding="utf-8")
SECTIONS: Final = dict(re.findall(r"^### (\w+)\n((?:(?!^##).*\n)*)", PAGE, re.MULTILINE))
NOT_JUDGED: Final = {Reason.OVERLOADED, Reason.INTERNAL_ERROR}
BY_THE_SERVICE: Final = {"not a CheckRequest"}


@cache
def seen() -> dict[Reason, set[str]]:
    """Evaluate every case of the decision tables: the details of each refusal."""
    found: defaultdict[Reason, set[str]] = defaultdict(set)
    decisions = [authorize(case.request, case.snapshot, case.now, case.facts) for case in CASES]
    for decision in [*decisions, *(row.values[0].decide() for row in read_tables("policy-*.yaml"))]:
        if not isinstance(decision, Allow):
            found[decision.reason].add(decision.detail)
    return found


def rows(reason: str) -> list[tuple[list[str], str]]:
    """The lines of the section of a reason: the details that have one cause, as they are written, and the cause."""
    found = re.findall(r"^- (`.*?`)(?:: (.+?))?(?: → .+)?$", SECTIONS[reason], re.MULTILINE)
    assert len(found) == SECTIONS[reason].count("\n- ")
    return [(re.findall(r"`([^`]+)`", written), cause) for written, cause in found]


def details(reason: str) -> dict[str, str]:
    """The details of a reason, as they are written, each with the cause that the page gives; "" without one."""
    on_page = [(detail, cause) for written, cause in rows(reason) for detail in written]
    left_out = [(detail, "") for detail in SELF_EXPLAINED.get(Reason(reason), ())]
    assert len(dict(on_page + left_out)) == len(on_page + left_out), "a detail is explained once"
    return dict(on_page + left_out)


def explains(written: str, detail: str) -> bool:
    """Whether a detail is what the page writes: N is a number, … any words."""
    pattern = re.escape(written).replace("…", ".*")
    return re.fullmatch(re.sub(r"\bN\b|(?<=UTF-)N|(?<=base)N", r"\\d+", pattern), detail) is not None


def explanation(reason: str, detail: str) -> str | None:
    """Return which written detail a reader takes for this one: of those that fit, the one with the most words fixed."""
    fitting = [written for written in details(reason) if explains(written, detail)]
    return max(fitting, key=lambda written: len(written.replace("…", "")), default=None)


def test_every_reason_has_its_section() -> None:
    """The sections are the reasons, and no others."""
    assert sorted(SECTIONS) == sorted(reason.value for reason in Reason)


@pytest.mark.parametrize("reason", sorted(set(Reason) - NOT_JUDGED), ids=str)
def test_every_refusal_is_explained(reason: Reason) -> None:
    """Each detail that any case of the decision tables has is in its section, or says its cause itself."""
    if WIRE_STATUS[reason].code == 0:
        assert reason not in seen()
        return
    assert seen()[reason], "no case of the decision tables ends so"
    for detail in seen()[reason]:
        assert explanation(reason, detail), detail


@pytest.mark.parametrize("reason", sorted({reason for reason, _ in BY_CAUSE}), ids=str)
def test_every_cause_is_tried(reason: Reason) -> None:
    """Each cause that the page gives for a refusal by claims or rule has cases, with the detail that the page says.

    So has each detail that says its cause itself.
    """
    written_by_cause: defaultdict[str, set[str]] = defaultdict(set)
    for written, cause in details(reason).items():
        written_by_cause[cause].add(written)
    found = {
        cause: {
            explanation(reason, authorize(case.request, case.snapshot, case.now, case.facts).detail) for case in cases
        }
        for (of, cause), cases in BY_CAUSE.items()
        if of is reason
    }
    assert found == written_by_cause


@pytest.mark.parametrize("reason", sorted(SECTIONS))
def test_no_line_fits_all(reason: str) -> None:
    """Each written detail has words of its own beside its gaps: one of gaps alone would explain any other."""
    for written in details(reason):
        assert re.search(r"[A-Za-z]{3}", written.replace("…", " ")), written


@pytest.mark.parametrize("reason", sorted(SECTIONS))
def test_a_line_says_more_than_its_detail(reason: str) -> None:
    """A line of the page has a cause or a remedy; a detail without either belongs to those that are left out."""
    for line in re.findall(r"^- .+$", SECTIONS[reason], re.MULTILINE):
        assert "`: " in line or "` → " in line, line


@pytest.mark.parametrize("reason", sorted(SECTIONS))
def test_no_detail_is_made_up(reason: str) -> None:
    """Each written detail is one of a case, or its fixed words stand in the code, a name in front left out."""
    for written in details(reason):
        if any(explains(written, detail) for detail in seen().get(Reason(reason), ())):
            continue
        fixed = [part.strip() for part in re.split(r"\bN\b|…", written) if part.strip(" .,:")]
        assert all(part in CODE or part.partition(" ")[2] in CODE for part in fixed), written


def test_status_codes_are_those_of_the_sentence() -> None:
    """The code of the CheckResponse is 0 for what is allowed, 16 with 401, and 7 with all others."""
    assert "`status.code` 0 (allowed), 16 (401) or 7." in PAGE
    for wire in WIRE_STATUS.values():
        assert wire.code in {0, 16 if wire.http == 401 else 7}


CODE: Final = "\n".join(
    re.sub(r"\{[^}\n]*\}", "", file.read_text(encoding="utf-8"))
    for folder in ("core", "envoy", "feeds")
    for file in sorted((ROOT / "authz" / folder).glob("*.py"))
)


@pytest.mark.parametrize("words", sorted(BY_THE_SERVICE))
def test_words_of_the_service(words: str) -> None:
    """What no pure decision says is said by the code that answers calls."""
    assert f'"{words}"' in CODE
