"""Proves authz.telemetry.redaction: text that a client chose stays on its line and below its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from authz.telemetry.redaction import MAX_CHARS, printable


@given(st.text(alphabet=st.characters(), max_size=300))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    """Whatever goes in, what comes out is printable ASCII."""
    safe = printable(text)
    assert safe is not None
    assert safe.isascii()
    assert safe.isprintable()


def test_plain_text_stays_as_it_is() -> None:
    """Nothing is done to text that needs nothing."""
    for text in ("", "/orders/7", 'a "b" c', "x" * MAX_CHARS):
        assert printable(text) == text
    assert printable(None) is None


def test_what_is_escaped_can_be_told() -> None:
    """Control characters, line separators, other scripts and lone surrogates are written out."""
    assert printable("a\nb\x1b[31m\x7f") == "a\\x0ab\\x1b[31m\\x7f"
    assert printable("\x85\u2028漢\ud800") == "\\x85\\u2028\\u6f22\\ud800"


def test_long_text_is_cut() -> None:
    """A line does not grow with what a client sends, and says that something is missing."""
    assert printable("x" * 100_000) == "x" * MAX_CHARS + "..."
    assert len(printable("\U0001f600" * 100_000) or "") <= 10 * MAX_CHARS + 3
