"""Proves authz.telemetry.redaction: text that a client chose stays on its line and below its bound."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from authz.telemetry.redaction import MAX_CHARS, escaped, printable
from tests.fixtures import mint


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


def test_a_token_is_replaced_wherever_it_stands() -> None:
    """In a path, behind a prefix, cut off by the bound, with white space in its header: nothing of it is left."""
    token = mint()
    assert printable(f"/items/{token}/x") == "/items/[token]..."
    assert printable(f"/items/{token[:60]}/x") == "/items/[token]/x"
    assert printable(f"access_token={token}") == "access_token=[token]..."
    assert printable("x/" * 90 + token) == "x/" * 90 + "[token]..."
    for header in (b'{ "alg": "RS256"}', b'{\n"alg":"RS256"}', b'{\r\n"alg":"none"}', b'{\t"alg":"none"}'):
        assert printable(mint(header=header)) == "[token]..."


def test_a_token_is_replaced_wherever_it_begins() -> None:
    """What stands before a token in one run of characters does not hide it, be it the beginning of no token."""
    token = mint()
    for before in ("x", "token_", "FDY-5ZOeyB4-no-token-begins-here", "eyJ" * 5, "ewkewkewkewkewkewk"):
        shown = printable(before + token) or ""
        assert not [part for part in token.split(".") if part[:40] in shown], before
        assert "[token]" in shown
    accented = mint(header='{"é": "x", "alg": "RS256"}'.encode())
    assert printable(f"/{accented}") == "/[token]..."


def test_no_hash_is_taken_for_a_token() -> None:
    """Key ids are often thumbprints (RFC 7638): of 5,000, some with the letters that begin a token, all are shown."""
    thumbprints = [urlsafe_b64encode(sha256(str(n).encode()).digest()).rstrip(b"=").decode() for n in range(5_000)]
    assert [thumbprint for thumbprint in thumbprints if printable(thumbprint) != thumbprint] == []


def test_what_is_public_is_shown_to_the_letter() -> None:
    """An issuer may name its key as it likes, be it like a token; only what would harm a terminal is escaped."""
    token = mint()[:MAX_CHARS]
    assert escaped(token) == token
    assert escaped("a\nb") == "a\\x0ab"
    assert escaped("x" * (MAX_CHARS + 1)) == "x" * MAX_CHARS + "..."
    assert (escaped(None), escaped("")) == (None, "")


def test_words_that_are_no_tokens_stay() -> None:
    """Hosts, ids and file names that look a little like one."""
    for text in (
        "eyeglasses-and-more.shop.example.com",
        "newest-of-all-the-long-names.internal",
        "eyJ",
        "/eyJustShort/x",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "/static/app.3f9d8a7c6b5e4d3c2b1a.min.js",
    ):
        assert printable(text) == text
