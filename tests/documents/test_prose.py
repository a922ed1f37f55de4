"""Proves that each page says for whom it is, and uses the words of the field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.documents.pages import PAGES, prose, relative
from tests.tools import ROOT

# Words that readers stumbled over, and what the field says.
PLAIN: Final = {
    "anew": "again",
    "judge": "evaluate, check",
    "judged": "evaluated, checked",
    "judgement": "decision",
    "mend": "fix",
    "nobody": "no client, no one",
    "somebody": "someone, a client",
    "told": "informed, shown",
    "whoever": "a client that, anyone who",
}
_FOR: Final = re.compile(r"# .+\n\n(?:For (?:those|anyone|operators|maintainers|developers|security|authors))\b")
OURS: Final = [page for page in PAGES if page != ROOT / "CHANGELOG.md"]


@pytest.mark.parametrize("page", OURS, ids=relative)
def test_first_line_says_for_whom(page: Path) -> None:
    """The sentence below the title names the readers."""
    assert _FOR.match(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", OURS, ids=relative)
def test_words_are_plain(page: Path) -> None:
    """No sentence has a word of the list; code within sentences may."""
    words = re.findall(r"[a-z]+", re.sub(r"`[^`]*`", "", prose(page)).lower())
    assert {word: PLAIN[word] for word in words if word in PLAIN} == {}
