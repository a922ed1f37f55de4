"""Proves that a response is read in one way, however its bytes arrive, within bounds, and without what follows it."""

from __future__ import annotations

import gzip
import zlib
from typing import Final

import pytest

from authz.feeds.failure import RefreshError
from authz.feeds.http.freshness import read_headers
from authz.feeds.http.response import MAX_FRAMING_BYTES, MalformedResponse, ResponseReader

OK: Final = b"HTTP/1.1 200 OK\r\n"
TYPE: Final = b"content-type: application/json\r\n"
BODY: Final = b'{"decision":true}'
MAX_BYTES: Final = 1000


def make_reader() -> ResponseReader:
    """Make a reader of small responses."""
    return ResponseReader("https://pdp.test/", max_bytes=MAX_BYTES)


def read(*pieces: bytes) -> ResponseReader:
    """Read pieces as they arrive."""
    reader = make_reader()
    for piece in pieces:
        reader.feed(piece)
    return reader


def body_of(reader: ResponseReader) -> bytes:
    """Return the body of a response."""
    return reader.read_body(read_headers(reader.lines).get("content-encoding", ""))


def sized(body: bytes = BODY, more: bytes = b"") -> bytes:
    """Write a response with its length."""
    return OK + TYPE + more + f"content-length: {len(body)}\r\n\r\n".encode() + body


def chunked(*chunks: bytes, more: bytes = b"", end: bytes = b"0\r\n\r\n") -> bytes:
    """Write a response in chunks."""
    parts = (f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    return OK + TYPE + more + b"transfer-encoding: chunked\r\n\r\n" + b"".join(parts) + end


# Bytes of a response with the usual body, and whether its connection is used again.
GOOD: Final[dict[str, tuple[bytes, bool]]] = {
    "length": (sized(), True),
    "chunks": (chunked(BODY[:3], BODY[3:]), True),
    "chunks with extensions": (
        OK + TYPE + b"transfer-encoding: chunked\r\n\r\n11;a=b\r\n" + BODY + b"\r\n0\r\n\r\n",
        True,
    ),
    "spaces after a size": (OK + TYPE + b"transfer-encoding: chunked\r\n\r\n11  \r\n" + BODY + b"\r\n0\r\n\r\n", True),
    "trailers": (chunked(BODY, end=b"0\r\ncontent-type: text/html\r\nx: y\r\n\r\n"), True),
    "until the end": (OK + TYPE + b"\r\n" + BODY, False),
    "close": (sized(more=b"connection: close\r\n"), False),
    "old": (sized().replace(b"1.1", b"1.0"), False),
    "old and kept": (sized(more=b"connection: keep-alive\r\n").replace(b"1.1", b"1.0"), True),
    "length and chunks": (chunked(BODY, more=b"content-length: 3\r\n"), False),
    "bare line feeds": (sized().replace(b"\r\n", b"\n"), True),
    "continue first": (b"HTTP/1.1 100 Continue\r\n\r\n" + sized(), True),
    "trailers of hints first": (
        b"HTTP/1.1 103 Early Hints\r\n\r\n"
        b"HTTP/1.1 150 Wait\r\ntransfer-encoding: chunked\r\n\r\n0\r\ncontent-type: text/html\r\n\r\n" + sized(),
        True,
    ),
    "hints first": (b"HTTP/1.1 103 Early Hints\r\ncontent-type: text/html\r\nlink: x\r\n\r\n" + sized(), True),
    "an offer of HTTP/2": (sized(more=b"upgrade: h2,h2c\r\nconnection: upgrade\r\n"), True),
    "gzip": (sized(gzip.compress(BODY), b"content-encoding: gzip\r\n"), True),
    "deflate": (sized(zlib.compress(BODY), b"content-encoding: deflate\r\n"), True),
    "identity": (sized(more=b"content-encoding: identity\r\n"), True),
}


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize(("data", "reusable"), GOOD.values(), ids=GOOD)
def test_a_response_is_read_however_it_arrives(data: bytes, reusable: bool, size: int) -> None:  # noqa: FBT001 - a column
    """Byte by byte or at once: the same status, type and body."""
    reader = read(*(data[at : at + size] for at in range(0, len(data), size)))
    if not reader.is_complete:
        reader.feed(b"")
    assert reader.is_complete
    assert (reader.status, read_headers(reader.lines)["content-type"], body_of(reader)) == (
        200,
        "application/json",
        BODY,
    )
    assert reader.is_reusable is reusable


def test_a_response_without_a_body() -> None:
    """204 has none, whatever it says."""
    reader = read(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (reader.is_complete, reader.status, body_of(reader)) == (True, 204, b"")


BAD: Final[dict[str, bytes]] = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "two lengths": OK + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "a negative length": OK + b"content-length: -1\r\n\r\n",
    "a length with a sign": OK + b"content-length: +17\r\n\r\n" + BODY,
    "a size that is none": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "chunks that are longer than they say": chunked(BODY).replace(b"11\r\n", b"10\r\n"),
    "a header with a NUL": sized(more=b"a: b\x00c\r\n"),
    "a header without a name": sized(more=b": b\r\n"),
    "switching protocols": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "endless headers": OK + b"a: b\r\n" * (MAX_FRAMING_BYTES // 6 + 1),
    "one endless header": OK + b"a: " + b"b" * MAX_FRAMING_BYTES,
    "an interim response with content": b"HTTP/1.1 150 Wait\r\ncontent-length: 2\r\n\r\n[]" + sized(),
    "endless interim responses": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_FRAMING_BYTES // 25 + 1),
    "endless extensions": OK + b"transfer-encoding: chunked\r\n\r\n1;" + b"x" * MAX_FRAMING_BYTES,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    """Also what has more than one meaning, and what would never end."""
    with pytest.raises(MalformedResponse):
        read(*(data[at : at + 16_384] for at in range(0, len(data), 16_384)))


@pytest.mark.parametrize(
    "data",
    [
        sized()[:-1],
        chunked(BODY)[:-1],
        chunked(BODY, end=b""),
        sized()[:20],
        sized(more=b"transfer-encoding: gzip\r\n"),
    ],
)
def test_a_response_that_ends_early_is_none(data: bytes) -> None:
    """The connection ends in the head, in the body, or before the last chunk."""
    reader = read(data.replace(b"content-length: 17\r\n", b"") if b"gzip" in data else data)
    assert not reader.is_complete
    with pytest.raises(MalformedResponse if reader.status else ConnectionError):
        reader.feed(b"")


@pytest.mark.parametrize(
    "data",
    [
        sized(b"x" * (MAX_BYTES + 1)),
        chunked(*[b"x" * 100] * 11),
        OK + b"\r\n" + b"x" * (MAX_BYTES + 1),
    ],
    ids=["length", "chunks", "until the end"],
)
def test_a_body_is_bounded(data: bytes) -> None:
    """Whatever says how long it is."""
    with pytest.raises(RefreshError, match=r"https://pdp[.]test/: more than 1000 bytes"):
        body_of(read(data))


def test_a_compressed_bomb_is_bounded() -> None:
    """Few bytes arrive, and no more than the bound is unpacked."""
    bomb = gzip.compress(bytes(100_000))
    assert len(bomb) < MAX_BYTES
    with pytest.raises(RefreshError, match="more than 1000 bytes"):
        body_of(read(sized(bomb, b"content-encoding: gzip\r\n")))


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", BODY),
        ("gzip", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)[:-1]),
        ("gzip", gzip.compress(BODY, mtime=0) + b"more"),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY, mtime=0), mtime=0)),
    ],
    ids=["unknown", "not at all", "half", "and more", "twice"],
)
def test_what_is_not_compressed_as_it_says_is_refused(encoding: str, body: bytes) -> None:
    """An unknown encoding, none, half of one, or more than one."""
    with pytest.raises(MalformedResponse):
        body_of(read(sized(body, f"content-encoding: {encoding}\r\n".encode())))


@pytest.mark.parametrize("beyond", [b"x", b"\r\nx", sized(b'{"decision":false}'), b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("response", [sized(), chunked(BODY), sized(more=b"connection: close\r\n")])
def test_what_follows_a_response_belongs_to_no_question(response: bytes, beyond: bytes) -> None:
    """A second response is not read, and its connection is used no more: it would answer the next question."""
    reader = read(response + beyond)
    assert (reader.is_complete, reader.is_reusable) == (True, False)
    assert (reader.status, body_of(reader)) == (200, BODY)
    assert read_headers(reader.lines)["content-type"] == "application/json"
