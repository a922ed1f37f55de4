"""Read one HTTP/1.1 response from the bytes of a connection, with llhttp, the parser of Node.js.

Rules of this file:
1. Everything is bounded while it arrives: the body, also after decompression, and all other bytes.
2. A new parser reads each response: what a response leaves behind, such as a trailer, reaches no other one.
3. Data after the end of the response belongs to no response: the connection is not used again.
4. Interim responses (status 1xx) are skipped, trailers ignored (RFC 9110 sections 15.2 and 6.5.1).
"""

from __future__ import annotations

import zlib
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from authz.feeds.failure import RefreshError
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

MAX_FRAMING_BYTES: Final = 262_144  # status lines, headers, sizes of chunks, trailers
_ANY_FORMAT: Final = zlib.MAX_WBITS | 32  # gzip or zlib, as the data says


class MalformedResponse(ValueError):
    """Raised for a response that cannot be read."""


class NotHttp(MalformedResponse):
    """Raised for bytes that do not begin like a response: they are from no HTTP server."""


class ResponseReader:
    """Reads one response from *url*, whose body may have *max_bytes*.

    *status* is 0 until all headers are there. A connection *is_reusable* if the response has a defined end
    (length or chunks), and the server keeps the connection open.
    """

    def __init__(self, url: str, *, max_bytes: int) -> None:
        self._url: Final = url
        self._max_bytes: Final = max_bytes
        self._parser: Final = HttpResponseParser(self)
        # RFC 9112 leaves the meaning of these certain (sections 2.2, 6.3, 7.1), and servers do send them.
        self._parser.set_dangerous_leniencies(
            lenient_chunked_length=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._lines: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._received = 0
        self._interim = False
        self.status = 0
        self.is_complete = False
        self.is_reusable = False

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The headers in their order."""
        return self._lines

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the connection; none are its end. Raises ConnectionError, MalformedResponse."""
        if not data:
            self._end()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self.is_complete:
                self.is_reusable = False
            elif self._body_bytes > self._max_bytes:
                raise self._too_large() from None
            else:
                kind = MalformedResponse if self._parser.get_status_code() else NotHttp
                raise kind(f"not an HTTP response: {error}") from None
        if self._received - self._body_bytes > MAX_FRAMING_BYTES:
            raise MalformedResponse(f"more than {MAX_FRAMING_BYTES} bytes beside the body")

    def read_body(self, encoding: str) -> bytes:
        """Return the body, decompressed if it has an *encoding*. Raises RefreshError, MalformedResponse."""
        body = b"".join(self._body)
        encoding = encoding.strip().lower()
        if encoding in {"", "identity"}:
            return body
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise MalformedResponse("the response has a content-encoding that was not asked for")
        decoder = zlib.decompressobj(_ANY_FORMAT)
        try:
            decoded = decoder.decompress(body, self._max_bytes + 1)
        except zlib.error:
            raise MalformedResponse("the response is not compressed as it says") from None
        if len(decoded) > self._max_bytes:
            raise self._too_large()
        if not decoder.eof or decoder.unused_data:
            raise MalformedResponse("the response is not compressed as it says")
        return decoded

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header of the response; those that come later are trailers."""
        if not self.status:
            self._lines.append((name.decode("latin-1"), value.decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        """Note the status, unless it is an interim one."""
        if self.is_complete:
            return
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if not self._interim:
            self.status = status
            self.is_reusable = self._parser.should_keep_alive() and not self._is_ambiguous()

    def on_body(self, data: bytes) -> None:
        """Take a part of the body. Raises ValueError, which ends the parser, if it is too large or none should be."""
        if self.is_complete:
            return
        if self._interim:  # of which the parser reads one: it would be put before that of the response
            raise ValueError("an interim response has no content (RFC 9110 section 15.2)")
        self._body_bytes += len(data)
        if self._body_bytes > self._max_bytes:
            raise ValueError("too large")
        self._body.append(data)

    def on_message_begin(self) -> None:
        """Discard the headers of an interim response; after the response itself, the connection is not reusable."""
        self._interim = False
        if self.is_complete:
            self.is_reusable = False
        else:
            self._lines.clear()

    def on_message_complete(self) -> None:
        """Note the end of the response, if it is not an interim one."""
        if not self._interim:
            self.is_complete = True

    def _end(self) -> None:
        """End a response that has no length by the end of the connection (RFC 9112 section 6.3)."""
        self.is_reusable = False
        if self.is_complete:
            return
        if not self.status:
            raise ConnectionError("the server closed the connection before its response")
        if any(name.lower() in _LENGTHS for name, _ in self._lines):
            raise MalformedResponse("the server closed the connection before the end of its response")
        self.is_complete = True

    def _is_ambiguous(self) -> bool:
        """Return whether two headers define the length (RFC 9112 section 6.3): the connection is closed then."""
        return len({name.lower() for name, _ in self._lines} & _LENGTHS) > 1

    def _too_large(self) -> RefreshError:
        return RefreshError(Refresh.TOO_LARGE, f"{printable(self._url)}: more than {self._max_bytes} bytes")


_LENGTHS: Final = frozenset({"content-length", "transfer-encoding"})
