"""Proves authz/core/REASONS.md: complete both ways, by the words and the steps of the decision tables."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Allow, Decision
from authz.core.reasons import WIRE_STATUS, Reason
from tests.cases.causes import BY_CAUSE
from tests.cases.tables import read_tables
from tests.cases.test_decisions import CASES
from tests.tools import ROOT

PAGE: Final = (ROOT / "authz/core/REASONS.md").read_text(encoding="utf-8")
SECTIONS: Final = dict(re.findall(r"^### (\w+)\n((?:(?!^##).*\n)*)", PAGE, re.MULTILINE))
NOT_JUDGED: Final = {Reason.OVERLOADED, Reason.INTERNAL_ERROR}
BY_THE_SERVICE: Final = {"not a CheckRequest"}


def judge() -> dict[Reason, set[tuple[int, str]]]:
    """Judge every case of the decision tables: for each refusal the step where it ended, and the detail."""
    found: defaultdict[Reason, set[tuple[int, str]]] = defaultdict(set)

    def note(decision: Decision, passed: dict[int, object]) -> None:
        if not isinstance(decision, Allow):
            found[decision.reason].add((max(passed, default=0) + 1, decision.detail))

    for case in CASES:
        passed: dict[int, object] = {}
        note(authorize(case.request, case.snapshot, case.now, case.facts, observe=passed.__setitem__), passed)
    for parameters in read_tables("policy-*.yaml"):
        decision = parameters.values[0].decide()
        if not isinstance(decision, Allow):
            found[decision.reason].add((0, decision.detail))  # the tables do not watch
    return found


SEEN: Final = judge()


def rows(reason: str) -> list[tuple[list[str], str]]:
    """The lines of the section of a reason: the details that have one cause, as they are written, and the cause."""
    found = re.findall(r"^- (`.*?`)(?:: (.+?))?(?: → .+)?$", SECTIONS[reason], re.MULTILINE)
    assert len(found) == SECTIONS[reason].count("\n- ")
    return [(re.findall(r"`([^`]+)`", written), cause) for written, cause in found]


def details(reason: str) -> list[str]:
    """The details that the section of a reason explains, as they stand there."""
    return [detail for written, _ in rows(reason) for detail in written]


def explains(written: str, detail: str) -> bool:
    """Whether a detail is what the page writes: N is a number, … any words."""
    pattern = re.escape(written).replace("…", ".*")
    return re.fullmatch(re.sub(r"\bN\b|(?<=UTF-)N|(?<=base)N", r"\\d+", pattern), detail) is not None


def test_every_reason_has_its_section() -> None:
    """The sections are the reasons, and no others."""
    assert sorted(SECTIONS) == sorted(reason.value for reason in Reason)


@pytest.mark.parametrize("reason", sorted(set(Reason) - NOT_JUDGED), ids=str)
def test_every_refusal_is_explained(reason: Reason) -> None:
    """Each detail that any case of the decision tables has is in the section of its reason."""
    if WIRE_STATUS[reason].code == 0:
        assert reason not in SEEN
        return
    assert SEEN[reason], "no case of the decision tables ends so"
    for _, detail in SEEN[reason]:
        assert any(explains(written, detail) for written in details(reason)), detail


@pytest.mark.parametrize("reason", sorted({reason for reason, _ in BY_CAUSE}), ids=str)
def test_every_cause_is_tried(reason: Reason) -> None:
    """Each cause that the page gives for a refusal by claims or rule has cases, with the detail that the page says.

    Details that say their cause themselves stand together in one line, without one.
    """
    causes = dict(zip((cause for _, cause in rows(reason)), (written for written, _ in rows(reason)), strict=True))
    tried = {cause: cases for (of, cause), cases in BY_CAUSE.items() if of is reason}
    causes.pop("the same", None)  # as the row above it

    assert sorted(causes) == sorted(tried)
    for cause, cases in tried.items():
        for case in cases:
            detail = authorize(case.request, case.snapshot, case.now, case.facts).detail
            assert any(explains(written, detail) for written in causes[cause]), (cause, detail)
        for written in causes[cause]:
            told = [authorize(case.request, case.snapshot, case.now, case.facts).detail for case in cases]
            assert any(explains(written, detail) for detail in told), f"no case is told {written}"


@pytest.mark.parametrize("reason", sorted(SEEN), ids=str)
def test_steps_are_those_of_the_pipeline(reason: Reason) -> None:
    """The step that the section names is the one where the decision ends."""
    said = re.match(r"\nSteps? ([\d, and]+)\.", SECTIONS[reason])
    assert said, "a section of a refusal begins with its step"
    assert set(map(int, re.findall(r"\d+", said[1]))) >= {step for step, _ in SEEN[reason] if step}


@pytest.mark.parametrize("reason", sorted(SECTIONS))
def test_no_detail_is_made_up(reason: str) -> None:
    """Each detail of the page is one of a case, or its fixed words stand in the code, a name in front left out."""
    for written in details(reason):
        if any(explains(written, detail) for _, detail in SEEN.get(Reason(reason), ())):
            continue
        fixed = [part.strip() for part in re.split(r"\bN\b|…", written) if part.strip(" .,:")]
        assert all(part in CODE or part.partition(" ")[2] in CODE for part in fixed), written


CODE: Final = "\n".join(
    re.sub(r"\{[^}\n]*\}", "", file.read_text(encoding="utf-8"))
    for folder in ("core", "envoy", "feeds")
    for file in sorted((ROOT / "authz" / folder).glob("*.py"))
)


@pytest.mark.parametrize("words", sorted(BY_THE_SERVICE))
def test_words_of_the_service(words: str) -> None:
    """What no pure decision says is said by the code that answers calls."""
    assert f'"{words}"' in CODE
