"""Proves that no link of a page is dead, and that every page can be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents.pages import PAGES, anchors, links, prose, relative
from tests.tools import ROOT


def targets(page: Path) -> list[tuple[Path, str]]:
    """Where the page's own links lead, as file or folder and anchor."""
    found = []
    for link in links(page):
        if "://" not in link and not link.startswith("mailto:"):
            path, _, anchor = link.partition("#")
            found.append(((page.parent / path).resolve() if path else page, anchor))
    return found


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file or folder of the project, and every anchor to a heading."""
    for target, anchor in targets(page):
        assert target.exists(), target
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_named_links_are_defined(page: Path) -> None:
    """Every [text][name] has its line with the address, and every such line is used."""
    text = prose(page)
    defined = set(re.findall(r"^\[([^\]]+)\]: \S+$", text, re.MULTILINE))
    assert set(re.findall(r"\]\[([^\]]+)\]", text)) == defined


def test_every_page_is_reached_from_the_readme() -> None:
    """Anyone who follows the links from the README comes by every page."""
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page.is_dir():
            page /= "README.md"
        if page.suffix == ".md" and page.exists() and page not in reached:
            reached.add(page)
            ahead += [target for target, _ in targets(page)]
    assert {relative(page) for page in PAGES} == {relative(page) for page in reached}
