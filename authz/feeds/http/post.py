"""Bounded POSTs to one server over keep-alive connections: an overall deadline, a size limit, no redirects.

Rules of this file:
1. The deadline is for the whole exchange, including name resolution, and is not extended by a slow response. Name
   resolution cannot be cancelled, and may end after the deadline.
2. A connection is reused for at most MAX_AGE seconds, because addresses and certificates change. There are at most as
   many connections as threads that post at one time.
3. If the server has closed a reused connection, and no byte of a response was received, the request is sent once more
   on a new connection. An error of a new connection is a failure.
4. Every status except a redirect is returned to the caller.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from threading import Lock
from typing import Any, Final

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ProtocolError
from urllib3.util import wait_for_read

from authz.feeds.failure import RefreshError
from authz.feeds.http.connect import CancellableSocket, Dialer
from authz.feeds.http.fetch import Answer, as_refresh_errors, refuse_redirect, write_target
from authz.feeds.http.freshness import read_headers
from authz.feeds.http.trust import read_origin
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

MAX_AGE: Final = 60.0  # seconds for which a connection is reused
_CHUNK: Final = 16_384


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
                    return self._exchange(kept, url, sent, deadline)
                except (ConnectionError, HTTPException, ProtocolError):
                    if kept.has_answered:
                        raise
                sent = write()
            return self._exchange(self._connect(url, deadline), url, sent, deadline)

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
            fresh = kept.url == url and self._monotonic() < kept.until
            if fresh and not wait_for_read(kept.timed.socket, timeout=0.0):
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
        connection = HTTPConnection(str(parts.hostname), read_origin(parts)[2], timeout=self._timeout)
        timed = _TimedSocket(dialed.socket)
        connection.sock = timed
        return _Connection(url, connection, timed, write_target(parts, self._dialer), self._monotonic() + MAX_AGE)

    def _exchange(self, used: _Connection, url: str, sent: Post, deadline: float) -> Answer:
        used.timed.deadline = deadline
        used.has_answered = False
        parts = self._dialer.trust.check_url(url)
        headers = {"host": parts.netloc, "accept": "application/json", "user-agent": "authz-sidecar", **sent.headers}
        if parts.scheme == "http" and self._dialer.proxy is not None:
            headers |= self._dialer.proxy.headers()
        reusable = False
        try:
            used.http.request("POST", used.target, body=sent.body, headers=headers, preload_content=False)
            response = used.http.getresponse()
            used.has_answered = True
            answer = self._read(response, url)
            reusable = not used.timed.is_done
            return answer
        finally:
            if reusable:
                self._give_back(used)
            else:
                used.close()

    def _read(self, response: HTTPResponse, url: str) -> Answer:
        headers = read_headers(response.headers.items())
        if 300 <= response.status < 400:
            raise refuse_redirect(url, response.status, headers)
        body = bytearray()
        while chunk := response.read(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > self._max_bytes:
                raise RefreshError(Refresh.TOO_LARGE, f"{printable(url)}: more than {self._max_bytes} bytes")
        return Answer(response.status, headers, bytes(body))


class _TimedSocket:
    """A socket whose operations fail after the monotonic *deadline*, also while bytes are received.

    http.client closes the socket of an answer that ends with its connection before it has read the answer: that is
    noted only, as *is_done*.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket: Final = connection
        self.deadline = 0.0
        self.is_done = False

    def sendall(self, data: bytes) -> None:
        self._set_timeout()
        self.socket.sendall(data)  # its timeout is for all of the data

    def makefile(self, *_args: object, **_more: object) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))

    def receive_into(self, buffer: Any) -> int:  # noqa: ANN401 - anything that can be written to
        self._set_timeout()
        return self.socket.recv_into(buffer)

    def settimeout(self, _seconds: float | None) -> None:
        """Do nothing: the deadline is the timeout."""

    def shutdown(self, how: int) -> None:
        self.socket.shutdown(how)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.is_done = True

    def _set_timeout(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("deadline exceeded")
        self.socket.settimeout(left)


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: _TimedSocket) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as above
        return self._timed.receive_into(buffer)


@dataclass(slots=True)
class _Connection:
    """A connection to the server of *url*, reused until the monotonic instant *until*."""

    url: str
    http: HTTPConnection
    timed: _TimedSocket
    target: str
    until: float
    has_answered: bool = False

    def close(self) -> None:
        self.http.close()
        self.timed.socket.close()
