"""Proves that each page says for whom it is, and that pages, code and deploy/ use the words of the field."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path
from typing import Final

import pytest

from tests.documents.pages import PAGES, prose, relative
from tests.tools import ROOT

# Words that readers stumbled over, and what the field says.
PLAIN: Final = {
    "anew": "again",
    "begun": "started",
    "judge": "evaluate, check",
    "judged": "evaluated, checked",
    "judgement": "decision",
    "lest": "so that ... not",
    "mend": "fix",
    "nobody": "no client, no one",
    "somebody": "someone, a client",
    "told": "informed, shown",
    "whoever": "a client that, anyone who",
}
_FOR: Final = re.compile(r"# .+\n\n(?:For (?:those|anyone|operators|maintainers|developers|security|authors))\b")
CODE: Final = sorted((ROOT / "authz").rglob("*.py"))
DEPLOYED: Final = [  # operators read their comments, descriptions and messages
    file
    for file in sorted((ROOT / "deploy").rglob("*"))
    if file.suffix in {".json", ".tpl", ".txt", ".yaml"} or file.name == "Dockerfile"
]
OURS: Final = [page for page in PAGES if page != ROOT / "CHANGELOG.md"]


@pytest.mark.parametrize("page", OURS, ids=relative)
def test_first_line_says_for_whom(page: Path) -> None:
    """The sentence below the title names the readers."""
    assert _FOR.match(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", OURS, ids=relative)
def test_words_are_plain(page: Path) -> None:
    """No sentence has a word of the list; code within sentences may."""
    assert find_odd_words(prose(page)) == {}


@pytest.mark.parametrize("module", CODE, ids=relative)
def test_words_of_the_code_are_plain(module: Path) -> None:
    """No comment, docstring or message has a word of the list."""
    tokens = tokenize.generate_tokens(io.StringIO(module.read_text(encoding="utf-8")).readline)
    kinds = {"COMMENT", "STRING", "FSTRING_MIDDLE"}  # the last from Python 3.12 on
    assert find_odd_words("\n".join(token.string for token in tokens if tokenize.tok_name[token.type] in kinds)) == {}


@pytest.mark.parametrize("file", DEPLOYED, ids=relative)
def test_words_of_deployment_are_plain(file: Path) -> None:
    """No chart, manifest, dashboard or note has a word of the list."""
    assert find_odd_words(file.read_text(encoding="utf-8")) == {}


def find_odd_words(text: str) -> dict[str, str]:
    """Return the words of the list in *text* outside of backticks, each with what to write."""
    words = re.findall(r"[a-z]+", re.sub(r"`[^`]*`", "", text).lower())
    return {word: PLAIN[word] for word in words if word in PLAIN}
