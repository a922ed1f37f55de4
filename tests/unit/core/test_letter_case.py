"""Proves authz.core.letter_case: which letters are one to a rule that ignores case."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

import pytest

from authz.core.letter_case import fold_ascii, fold_unicode

WAYS: Final = (str.lower, str.upper, str.title, str.casefold, str.swapcase)


def every_letter() -> Iterator[str]:
    """All of Unicode but the halves of surrogate pairs."""
    return (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)


def test_every_way_to_change_the_case_of_a_letter_is_joined() -> None:
    """Whatever a server compares letters by, one text stands for both; and folding twice changes nothing."""
    apart = [
        letter
        for letter in every_letter()
        if {fold_unicode(way(letter)) for way in WAYS} | {fold_unicode(fold_unicode(letter))} != {fold_unicode(letter)}
    ]
    assert apart == []


def test_nothing_but_letters_is_joined() -> None:
    """No letter becomes a mark that has a meaning in a path, and none vanishes."""
    plain = {fold_unicode(letter): letter for letter in every_letter() if not letter.isascii()}
    assert [text for text in plain if not text or set(text) & set("/.;%?#\\")] == []


@pytest.mark.parametrize("text", ["i", "\u0130", "\u0131", "i\u0307", "I\u0307"])
def test_the_letters_i_of_turkish(text: str) -> None:
    """Caddy, Java, Python and JavaScript each join another two of them."""
    assert fold_unicode(text) == "i"


@pytest.mark.parametrize(
    ("text", "folded"), [("/API", "/api"), ("AP\u0130", "ap\u0130"), ("\u00c9T", "\u00c9t"), ("\u212a", "\u212a")]
)
def test_ascii_alone(text: str, folded: str) -> None:
    """Other letters stay what they are."""
    assert fold_ascii(text) == folded
