"""Proves how the words of an answer are read (RFC 9111, RFC 9110)."""

from __future__ import annotations

import pytest

from authz.feeds.http.freshness import fresh_for, read_headers, retry_after

NOON = "Sat, 01 Jan 2028 12:00:00 GMT"
LATER = "Sat, 01 Jan 2028 12:10:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"cache-control": "public"}, None),
        ({"cache-control": "max-age=300"}, 300),
        ({"cache-control": 'Public, MAX-AGE = "300"'}, 300),
        ({"cache-control": "max-age=300", "age": "100"}, 200),
        ({"cache-control": "max-age=300", "age": "400"}, 0),
        ({"cache-control": "max-age=300", "age": "soon"}, 300),
        ({"cache-control": "s-maxage=300"}, 300),
        ({"cache-control": "s-maxage=10, max-age=300"}, 300),
        ({"cache-control": "max-age=300, no-cache"}, None),
        ({"cache-control": "no-store"}, None),
        ({"cache-control": "max-age=0, must-revalidate"}, None),
        ({"cache-control": "max-age=0", "age": "10"}, None),
        ({"cache-control": "max-age=-1"}, None),
        ({"cache-control": "max-age=x"}, None),
        ({"cache-control": "max-age=99999999999999"}, 99_999_999_999_999),
        ({"cache-control": "max-age=60, max-age=3600"}, 60),
        ({"cache-control": 'private="max-age=1, x", max-age=60'}, 60),
        ({"cache-control": "max-age=300", "age": "100, 200"}, 200),
        ({"cache-control": "max-age=1", "expires": LATER, "date": NOON}, 1),
        ({"expires": LATER, "date": NOON}, 600),
        ({"expires": LATER, "date": NOON, "age": "60"}, 540),
        ({"expires": NOON, "date": LATER}, None),
        ({"expires": "0", "date": NOON}, None),
        ({"expires": LATER}, None),
        ({"expires": "Sat, 01 Jan 99999 12:00:00 GMT", "date": NOON}, None),
    ],
)
def test_fresh_for(headers: dict[str, str], seconds: float | None) -> None:
    """Each word, and what it counts against the others."""
    assert fresh_for(headers) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120),
        ({"retry-after": LATER, "date": NOON}, 600),
        ({"retry-after": LATER}, 1_830_341_400 - 1_830_341_000),
        ({"retry-after": NOON, "date": LATER}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, or an instant by the server's own clock, by ours only where it does not tell."""
    assert retry_after(headers, now=1_830_341_000) == seconds


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([("Cache-Control", "max-age=300"), ("cache-control", "public")], 300),
        ([("Cache-Control", "no-store"), ("Cache-Control", "max-age=300")], None),
        ([("Cache-Control", "max-age=300"), ("Cache-Control", "must-revalidate"), ("Age", "100")], 200),
        ([("Cache-Control", "max-age=60"), ("Cache-Control", "max-age=3600")], 60),
        ([("Cache-Control", "max-age=300"), ("Age", "100"), ("Age", "0")], 200),
        ([("Expires", LATER), ("Expires", "0"), ("Date", NOON), ("Date", LATER)], 600),
    ],
)
def test_lines_of_a_list_are_one_list(lines: list[tuple[str, str]], seconds: float) -> None:
    """Two Cache-Control lines are one list (RFC 9110 section 5.3); of other headers the first line counts."""
    assert fresh_for(read_headers(lines)) == seconds


def test_first_wish_to_be_left_alone_counts() -> None:
    """Retry-After is no list: of two lines the first counts, and its date keeps its comma."""
    lines = [("Retry-After", LATER), ("Retry-After", "5"), ("Date", NOON)]
    assert retry_after(read_headers(lines), now=0.0) == 600
