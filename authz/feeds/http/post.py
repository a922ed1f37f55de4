"""Bounded POSTs to one server over keep-alive connections: an overall deadline, a size limit, no redirects.

Rules of this file:
1. The deadline is for the whole exchange, including name resolution, and is not extended by a slow response. Name
   resolution cannot be cancelled, and may end after the deadline.
2. A connection is reused for at most MAX_AGE seconds, because addresses and certificates change. There are at most as
   many connections as threads that post at one time.
3. If the server has closed a reused connection, and no byte of a response was received, the request is sent once more
   on a new connection; and so if it answers 408, which may be what it says of its own accord before it closes an idle
   connection (RFC 9110 section 15.5.9). An error of a new connection is a failure.
4. Every status except a redirect is returned to the caller.
5. A question takes three system calls: the sockets do not block, so nothing is asked of the kernel before it is needed.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final

from authz.feeds.http.connect import CancellableSocket, Dialer
from authz.feeds.http.fetch import Answer, as_refresh_errors, refuse_redirect, write_target
from authz.feeds.http.freshness import read_headers
from authz.feeds.http.response import ResponseReader

MAX_AGE: Final = 60.0  # seconds for which a connection is reused
_CHUNK: Final = 16_384
_IDLE_TIMEOUT: Final = 408
_CLOSED: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_HEADER: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7E\x80-\xFF]*")  # RFC 9110 section 5


@dataclass(frozen=True, slots=True)
class Post:
    """A request: a *body*, and *headers* with names in lower case."""

    body: bytes
    headers: Mapping[str, str]


class Poster:
    """Posts to one server. *timeout* is in seconds, *max_bytes* limits the body of a response."""

    def __init__(
        self, dialer: Dialer, *, timeout: float, max_bytes: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._dialer: Final = dialer
        self._timeout: Final = timeout
        self._max_bytes: Final = max_bytes
        self._monotonic: Final = monotonic
        self._lock: Final = Lock()  # guards the next two
        self._idle: Final[list[_Connection]] = []
        self._closed = False

    def post(self, url: str, write: Callable[[], Post]) -> Answer:
        """Send to *url* the request that *write* returns; it is called for each attempt. Raises RefreshError."""
        deadline = time.monotonic() + self._timeout
        with as_refresh_errors(url):
            sent = write()  # before a connection is opened, because it may fail
            kept = self._take(url)
            if kept is not None:
                try:
                    answer = self._exchange(kept, sent, deadline)
                    if answer.status != _IDLE_TIMEOUT:
                        return answer
                except _CLOSED:
                    if kept.has_answered:
                        raise
                sent = write()
            return self._exchange(self._connect(url, deadline), sent, deadline)

    def close(self) -> None:
        """Close the idle connections now, and those in use after their exchange."""
        with self._lock:
            self._closed, idle = True, self._idle[:]
            self._idle.clear()
        for kept in idle:
            kept.close()

    def _take(self, url: str) -> _Connection | None:
        """Return the idle connection that was used last, or None if none can be reused."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                kept = self._idle.pop()
            if kept.url == url and self._monotonic() < kept.until and not kept.has_news():
                return kept
            kept.close()

    def _give_back(self, used: _Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(used)
                return
        used.close()

    def _connect(self, url: str, deadline: float) -> _Connection:
        """Raises OSError, Untrusted, RefreshError."""
        parts = self._dialer.trust.check_url(url)
        cancellable = CancellableSocket()
        dialed = self._dialer.dial(parts, cancellable, deadline=deadline)
        cancellable.release()
        head = (
            f"POST {write_target(parts, self._dialer)} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            "user-agent: authz-sidecar\r\naccept-encoding: identity\r\n"
        )
        through = self._dialer.proxy if parts.scheme == "http" else None
        proxy_headers = through.headers if through is not None else dict[str, str]
        return _Connection(dialed.socket, url, head, proxy_headers, self._monotonic() + MAX_AGE)

    def _exchange(self, used: _Connection, sent: Post, deadline: float) -> Answer:
        reusable = False
        try:
            used.has_answered = False
            used.send(_write(used.head, {**sent.headers, **used.proxy_headers()}, sent.body), deadline)
            reader = ResponseReader(used.url, max_bytes=self._max_bytes)
            while not reader.is_complete:
                reader.feed(used.receive(deadline))
                if 300 <= reader.status < 400:
                    raise refuse_redirect(used.url, reader.status, read_headers(reader.lines))
            headers = read_headers(reader.lines)
            answer = Answer(reader.status, headers, reader.read_body(headers.get("content-encoding", "")))
            reusable = reader.is_reusable
            return answer
        finally:
            if reusable:
                self._give_back(used)
            else:
                used.close()


class _Connection:
    """A connection to the server of *url*, reused until the monotonic instant *until*.

    *head* is how each request begins. Its socket does not block: what waits is the poll, until the deadline.
    """

    __slots__ = ("_poll", "_registered", "_socket", "has_answered", "head", "proxy_headers", "until", "url")

    def __init__(
        self, connection: socket.socket, url: str, head: str, proxy_headers: Callable[[], dict[str, str]], until: float
    ) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the name of the method is clear
        self._socket: Final = connection
        self._poll: Final = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._registered: int = select.POLLIN
        self.url: Final = url
        self.head: Final = head
        self.proxy_headers: Final = proxy_headers
        self.until: Final = until
        self.has_answered = False

    def has_news(self) -> bool:
        """Return whether the server has closed the connection, or sent what it was not asked for."""
        self._watch(select.POLLIN)
        return bool(self._poll.poll(0))

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of *data* before the monotonic *deadline*. Raises OSError."""
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT, deadline)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, deadline)

    def receive(self, deadline: float) -> bytes:
        """Return the next bytes, none at the end of the connection. Raises OSError."""
        wanted = select.POLLIN
        while True:
            if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                self._wait(wanted, deadline)
            wanted = select.POLLIN
            try:
                data = self._socket.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
                continue
            if data:
                self.has_answered = True
            elif not self.has_answered:
                raise ConnectionResetError("the server closed the connection without a response")
            return data

    def close(self) -> None:
        self._socket.close()

    def _wait(self, event: int, deadline: float) -> None:
        self._watch(event)
        left = deadline - time.monotonic()
        if left <= 0.0 or not self._poll.poll(1000.0 * left):
            raise TimeoutError("deadline exceeded")

    def _watch(self, event: int) -> None:
        if self._registered != event:
            self._poll.modify(self._socket, event)
            self._registered = event


def _write(head: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a request as it is sent. Raises ValueError, without the text of a header, which may be secret."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if "accept" not in headers:
        lines.append("accept: application/json")
    lines.append(f"content-length: {len(body)}")
    if not all(map(_HEADER.fullmatch, lines)):
        raise ValueError("a header of the request has characters that no header can have")
    lines.append("\r\n")
    return (head + "\r\n".join(lines)).encode("latin-1") + body
