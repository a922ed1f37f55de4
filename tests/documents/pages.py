"""The pages of the project, and what is in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.tools import ROOT

_FOLDERS: Final = (".github", "authz", "deploy", "findings", "protos", "tests")
_FENCE: Final = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its page, the line where it begins, and its text without the page's indent."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{relative(self.page)}:{self.line}"


def relative(page: Path) -> str:
    """The page's path as the project knows it."""
    return page.relative_to(ROOT).as_posix()


def find_pages() -> list[Path]:
    """Find every page, the README first."""
    below = [page for folder in _FOLDERS for page in sorted((ROOT / folder).rglob("*.md"))]
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *below]


PAGES: Final = find_pages()


def blocks(*languages: str, page: Path | None = None) -> list[Block]:
    """Collect the fenced blocks in *languages*, of all pages or of one."""
    return [block for one in ([page] if page else PAGES) for block in _blocks(one) if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        indent, language, inner = fence.groups()
        lines = (line.removeprefix(indent) for line in inner.splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, fence.start()) + 1, language, "".join(lines))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands in the page as code within a sentence."""
    return _SPAN.findall(prose(page))


def links(page: Path) -> list[str]:
    """Where the page's links lead."""
    return [inline or reference for inline, reference in _LINK.findall(_SPAN.sub("", prose(page)))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the page's headings."""
    found: Counter[str] = Counter()
    made = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        made.add(f"{text}-{found[text]}" if found[text] else text)
        found[text] += 1
    return made
