"""Canonical paths against RFC 3986, by a normaliser that follows its text and shares nothing with ours."""

from __future__ import annotations

import re
import string
from typing import Final

from hypothesis import event, given
from hypothesis import strategies as st

from authz.core.reasons import Rejected
from authz.core.request import canonical_path
from tests.attacks.generated import bounded

UNRESERVED: Final = string.ascii_letters + string.digits + "-._~"  # section 2.3
SUB_DELIMS: Final = "!$&'()*+,;="  # section 2.2


def remove_dot_segments(path: str) -> str:
    """Section 5.2.4, step by step."""
    given_, output = path, ""
    while given_:
        if given_.startswith("../"):
            given_ = given_[3:]  # A
        elif given_.startswith("./"):
            given_ = given_[2:]
        elif given_.startswith("/./"):
            given_ = given_[2:]  # B
        elif given_ == "/.":
            given_ = "/"
        elif given_.startswith("/../"):
            given_, output = given_[3:], output.rpartition("/")[0]  # C
        elif given_ == "/..":
            given_, output = "/", output.rpartition("/")[0]
        elif given_ in {".", ".."}:
            given_ = ""  # D
        else:
            at = given_.find("/", 1)  # E
            at = len(given_) if at < 0 else at
            output, given_ = output + given_[:at], given_[at:]
    return output


def normalize(path: str) -> str:
    """Section 6.2.2: case, then percent-encoding, then path segments."""

    def escape(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return char if char in UNRESERVED else match[0].upper()

    return remove_dot_segments(re.sub("%([0-9A-Fa-f]{2})", escape, path))


def escapes(char: str) -> list[str]:
    """List the ways to write one character that are equivalent, and some that are not."""
    hexadecimal = f"{ord(char):02x}"
    return [char, f"%{hexadecimal}", f"%{hexadecimal.upper()}", f"%{hexadecimal[0].upper()}{hexadecimal[1]}"]


# pchar of section 3.3, each in any of its spellings, characters beyond ASCII, and dots more often than by chance.
pchars: Final = st.one_of(
    st.sampled_from(UNRESERVED + SUB_DELIMS + ":@").flatmap(lambda char: st.sampled_from(escapes(char))),
    st.sampled_from(["%20", "%3f", "%23", "%c3%a9", "%C3%A9", "%E6%BC%A2", "%22", "%7c", "%25", "%2F", "%5C", "%00"]),
    st.sampled_from([".", "%2e", "a", "A", "%61", "%41"]),
)
rfc_segments: Final = st.lists(pchars, max_size=4).map("".join)
rfc_paths: Final = st.lists(rfc_segments, max_size=4).map(lambda parts: "/" + "/".join(parts))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """Draw two paths that are written alike: the second is the first with some characters spelt in another way."""
    path = draw(rfc_paths)
    tokens = re.findall("%[0-9A-Fa-f]{2}|.", path)
    changes = draw(st.lists(st.integers(0, len(tokens) - 1), max_size=3))
    for at in changes:
        char = chr(int(tokens[at][1:], 16)) if tokens[at].startswith("%") else tokens[at]
        if char.isascii() and char != "/":
            tokens[at] = draw(st.sampled_from([*escapes(char), char.swapcase()]))
    return path, "".join(tokens)


def canonical(path: str) -> str | None:
    """Return the canonical form, or None where there is none."""
    try:
        return canonical_path(path)
    except Rejected:
        return None


@bounded
@given(rfc_paths)
def test_canonical_form_is_its_own(path: str) -> None:
    """A canonical path is canonical."""
    once = canonical(path)
    event("has a form" if once else "has none")
    assert once is None or canonical_path(once) == once


@bounded
@given(rfc_paths)
def test_canonical_form_is_the_rfcs(path: str) -> None:
    """The canonical form is the one that section 6.2.2 comes to."""
    once = canonical(path)
    assert once is None or once == normalize(path)


@bounded
@given(st.one_of(pairs(), st.tuples(rfc_paths, rfc_paths)))
def test_same_form_if_and_only_if_equivalent(pair: tuple[str, str]) -> None:
    """Two paths have the same canonical form if and only if section 6.2.2 calls them equivalent."""
    one, other = map(canonical, pair)
    if one is not None and other is not None:
        event("equivalent" if one == other else "different")
        assert (one == other) is (normalize(pair[0]) == normalize(pair[1]))


@bounded
@given(rfc_paths)
def test_nothing_with_dots_has_a_form(path: str) -> None:
    """A path that section 5.2.4 would shorten is refused: who shortens it first decides what it means."""
    decoded = re.sub("%2[eE]", ".", path)
    if remove_dot_segments(decoded) != decoded:
        assert canonical(path) is None


def test_normaliser_is_the_rfcs() -> None:
    """The normaliser above does what the RFC's own examples say (sections 5.2.4 and 6.2.2)."""
    assert remove_dot_segments("/a/b/c/./../../g") == "/a/g"
    assert remove_dot_segments("mid/content=5/../6") == "mid/6"
    assert normalize("/%7Esmith/home.html") == normalize("/~smith/home.html") == "/~smith/home.html"
    assert normalize("/a%c2%b1b") == "/a%C2%B1b"
    assert normalize("/./b/../b/%63/%7bfoo%7d") == "/b/c/%7Bfoo%7D"
