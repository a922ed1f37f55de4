"""Bounded POSTs to one server over keep-alive connections: an overall deadline, a size limit, no redirects.

Rules of this file:
1. The deadline is for the whole exchange, including name resolution, and is not extended by a slow response. Name
   resolution cannot be cancelled, and may end after the deadline. What has arrived by the deadline is read even if this
   process was too busy to read it before: the server is not the cause.
2. A connection is reused for at most MAX_AGE seconds, because addresses and certificates change. There are at most as
   many connections as threads that post at one time.
3. If the server has closed a reused connection, and no byte of a response was received, the request is sent once more
   on a new connection. The same applies to status 408, which a server may send by itself before it closes an idle
   connection (RFC 9110 section 15.5.9). An error of a new connection is a failure.
4. Every status except a redirect is returned to the caller.
5. A request takes three system calls, to send, wait and receive: no other one is made on the nonblocking socket.
6. An exchange is one generator, which yields the event that it waits for. The calling thread waits for it, or the event
   loop does. A request that is sent again after the loop gave up has a new deadline.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final, TypeVar

from authz.facts.loop import READ, WRITE, Loop, Timer, Watch
from authz.feeds.http.connect import CancellableSocket, Dialer
from authz.feeds.http.fetch import Response, as_refresh_errors, refuse_redirect, write_target
from authz.feeds.http.freshness import read_headers
from authz.feeds.http.response import MalformedResponse, ResponseReader

T = TypeVar("T")

MAX_AGE: Final = 60.0  # seconds for which a connection is reused
_MAX_LATE_READS: Final = 32  # after the deadline, of what has arrived
_CHUNK: Final = 16_384
_REQUEST_TIMEOUT: Final = 408
_CLOSED_ERRORS: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_HEADER: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7E\x80-\xFF]*")  # RFC 9110 section 5


@dataclass(frozen=True, slots=True)
class Post:
    """A request: a *body*, and *headers* with names in lower case."""

    body: bytes
    headers: Mapping[str, str]


Exchange = Generator[int, None, T]
"""An operation on a connection: yields READ or WRITE whenever it must wait for that, and returns its result."""

Outcome = Callable[[], Response]
"""Returns the response, or raises RefreshError."""

OutcomeCallback = Callable[[Outcome | None], None]
"""Receives the outcome of a request; None if the server had closed the connection, and it must be sent again."""


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

    def post(self, url: str, write: Callable[[], Post]) -> Response:
        """Send to *url* the request that *write* returns; it is called for each attempt. Raises RefreshError."""
        deadline = self._monotonic() + self._timeout
        with as_refresh_errors(url):
            request = write()  # before a connection is opened, because it may fail
            idle = self._acquire(url)
            if idle is not None:
                try:
                    response = self._run_blocking(idle, request, deadline)
                    if response.status != _REQUEST_TIMEOUT:
                        return response
                except _CLOSED_ERRORS:
                    if idle.has_answered:
                        raise
                request = write()
            connection = self._connect(url, deadline - self._monotonic())
            return self._run_blocking(connection, request, deadline)

    def start(self, url: str, request: Post, loop: Loop, callback: OutcomeCallback) -> bool:
        """Send a request on an idle connection, without blocking; *callback* is called once, later.

        The calling thread is that of *loop*, which calls *callback*. Return False if there is no idle connection, or
        if it fails at once: the caller must call `post` then.
        """
        if self._dialer.proxy is not None and url.startswith("http:"):
            return False  # each request contains the credentials for the proxy, which are in a file
        idle = self._acquire(url)
        if idle is None:
            return False
        return _PendingExchange(self._exchange(idle, request), idle, loop, callback).start(
            loop.monotonic() + self._timeout
        )

    def close(self) -> None:
        """Close the idle connections now, and those in use after their exchange."""
        with self._lock:
            self._closed, idle = True, self._idle[:]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _acquire(self, url: str) -> _Connection | None:
        """Return the idle connection that was used last, or None if none can be reused."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.url == url and self._monotonic() < connection.until and not connection.is_readable():
                return connection
            connection.close()

    def _release(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, url: str, seconds: float) -> _Connection:
        """Connect within *seconds*. Raises OSError, Untrusted, RefreshError."""
        parts = self._dialer.trust.check_url(url)
        cancellable = CancellableSocket()
        dialed = self._dialer.dial(parts, cancellable, deadline=time.monotonic() + seconds)
        cancellable.release()
        head = (
            f"POST {write_target(parts, self._dialer)} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            "user-agent: authz-sidecar\r\naccept-encoding: identity\r\n"
        )
        through = self._dialer.proxy if parts.scheme == "http" else None
        proxy_headers = through.headers if through is not None else None
        return _Connection(dialed.socket, url, head, proxy_headers, self._monotonic() + MAX_AGE)

    def _run_blocking(self, connection: _Connection, request: Post, deadline: float) -> Response:
        """Run an exchange on this thread, which waits for it. Raises OSError, RefreshError, ValueError."""
        exchange, late_reads = self._exchange(connection, request), 0
        try:
            while True:
                event = next(exchange)
                left = deadline - self._monotonic()
                late_reads += left <= 0.0
                if late_reads > _MAX_LATE_READS or not connection.wait(event, max(left, 0.0)):
                    raise TimeoutError("deadline exceeded")
        except StopIteration as ended:
            response: Response = ended.value
            return response
        finally:
            exchange.close()

    def _exchange(self, connection: _Connection, request: Post) -> Exchange[Response]:
        """Send a request and read its response; then keep the connection, or close it."""
        reusable = False
        try:
            connection.has_answered = False
            yield from connection.send(connection.write(request))
            reader = ResponseReader(connection.url, max_bytes=self._max_bytes)
            while not reader.is_complete:
                try:
                    data = yield from connection.receive()
                except OSError as error:
                    if reader.status:
                        raise MalformedResponse(f"the response was cut: {error}") from error
                    raise
                reader.feed(data)
                if 300 <= reader.status < 400:
                    raise refuse_redirect(connection.url, reader.status, read_headers(reader.lines))
            headers = read_headers(reader.lines)
            response = Response(reader.status, headers, reader.read_body(headers.get("content-encoding", "")))
            reusable = reader.is_reusable
            return response
        finally:
            if reusable:
                self._release(connection)
            else:
                connection.close()


class _PendingExchange:
    """An exchange that the thread of a *loop* resumes whenever its socket is ready, until the *deadline*."""

    __slots__ = ("_callback", "_connection", "_event", "_exchange", "_loop")

    def __init__(
        self, exchange: Exchange[Response], connection: _Connection, loop: Loop, callback: OutcomeCallback
    ) -> None:
        self._exchange: Final = exchange
        self._connection: Final = connection
        self._loop: Final = loop
        self._callback: Final = callback
        self._event = READ  # what it waits for

    def start(self, deadline: float) -> bool:
        """Send the request; return False if that cannot be done at once, and nothing will come of it."""
        try:
            self._continue()
        except Exception:  # noqa: BLE001 - the repeated request reports it
            self._exchange.close()
            return False
        self._connection.set_timer(self._loop, deadline, self._expire)
        return True

    def _continue(self) -> None:
        self._event = next(self._exchange)
        self._connection.watch(self._loop, self._event, self._resume)

    def _resume(self) -> None:
        self._advance()

    def _advance(self) -> bool:
        """Continue the exchange; return whether it has ended."""
        try:
            self._continue()
        except StopIteration as ended:
            response: Response = ended.value
            self._end(None if response.status == _REQUEST_TIMEOUT else lambda: response)
        except Exception as error:  # noqa: BLE001 - it is the outcome
            self._exchange.close()
            self._fail(error)
        else:
            return False
        return True

    def _expire(self) -> None:
        self._connection.unwatch()
        for _ in range(_MAX_LATE_READS):
            if not self._connection.wait(self._event, 0.0):
                break
            if self._advance():
                return
            self._connection.unwatch()
        self._exchange.close()
        self._fail(TimeoutError("deadline exceeded"))

    def _fail(self, error: Exception) -> None:
        if isinstance(error, _CLOSED_ERRORS) and not self._connection.has_answered:
            self._end(None)
            return
        url = self._connection.url

        def fail() -> Response:
            with as_refresh_errors(url):
                raise error

        self._end(fail)

    def _end(self, outcome: Outcome | None) -> None:
        self._connection.clear_timer()
        self._callback(outcome)


class _Connection:
    """A connection to the server of *url*, reused until the monotonic instant *until*.

    *head* is the request line and the headers that all requests have in common. The socket is nonblocking.
    """

    __slots__ = (
        "_headers",
        "_lines",
        "_poll",
        "_registered",
        "_socket",
        "_timer",
        "_watch",
        "has_answered",
        "head",
        "proxy_headers",
        "until",
        "url",
    )

    def __init__(
        self,
        connection: socket.socket,
        url: str,
        head: str,
        proxy_headers: Callable[[], dict[str, str]] | None,
        until: float,
    ) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the name of the method is clear
        self._socket: Final = connection
        self._poll: Final = select.poll()
        self._poll.register(connection, READ)
        self._registered: int = READ
        self._timer: Timer | None = None
        self._watch: Watch | None = None
        self._headers: Mapping[str, str] | None = None
        self._lines = ""
        self.url: Final = url
        self.head: Final = head
        self.proxy_headers: Final = proxy_headers
        self.until: Final = until
        self.has_answered = False

    def watch(self, loop: Loop, event: int, ready: Callable[[], None]) -> None:
        """Call *ready*, once, when the socket is ready, or has failed. Raises OSError. All exchanges have one loop."""
        if self._watch is None:
            self._watch = Watch(loop, self._socket.fileno())
        self._watch.set(event, ready)

    def unwatch(self) -> None:
        """Cancel the call."""
        if self._watch is not None:
            self._watch.clear()

    def set_timer(self, loop: Loop, deadline: float, expire: Callable[[], None]) -> None:
        """Call *expire* at the *deadline* of an exchange."""
        if self._timer is None:
            self._timer = Timer(loop)
        self._timer.set(deadline, expire)

    def clear_timer(self) -> None:
        """Cancel the deadline: the exchange has ended."""
        if self._timer is not None:
            self._timer.clear()

    def is_readable(self) -> bool:
        """Return whether the server has closed an idle connection, or sent something without a request."""
        self._register(READ)
        return bool(self._poll.poll(0))

    def write(self, request: Post) -> bytes:
        """Return *request* as octets. Raises ValueError, without the text of a header, which may be secret."""
        headers = request.headers
        if self.proxy_headers is not None:
            headers = {**headers, **self.proxy_headers()}
        if headers is not self._headers and headers != self._headers:  # most requests have those of the last one
            self._lines, self._headers = _write_headers(headers), headers
        return f"{self.head}{self._lines}content-length: {len(request.body)}\r\n\r\n".encode("latin-1") + request.body

    def send(self, data: bytes) -> Exchange[None]:
        """Send all of *data*. Raises OSError."""
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                yield WRITE
            except ssl.SSLWantReadError:
                yield READ

    def receive(self) -> Exchange[bytes]:
        """Return the next bytes, none at the end of the connection. Raises OSError."""
        wanted = READ
        while True:
            if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                yield wanted
            wanted = READ
            try:
                data = self._socket.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except ssl.SSLWantWriteError:
                wanted = WRITE
                continue
            if data:
                self.has_answered = True
            elif not self.has_answered:
                raise ConnectionResetError("the server closed the connection without a response")
            return data

    def close(self) -> None:
        self._socket.close()

    def wait(self, event: int, seconds: float) -> bool:
        """Wait on this thread, for at most *seconds*, until the socket is ready or has failed; return whether it is."""
        self._register(event)
        return bool(self._poll.poll(1000.0 * seconds))

    def _register(self, event: int) -> None:
        if self._registered != event:
            self._poll.modify(self._socket, event)
            self._registered = event


def _write_headers(headers: Mapping[str, str]) -> str:
    """Return the lines of *headers*. Raises ValueError, without the text of a header, which may be secret."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if "accept" not in headers:
        lines.append("accept: application/json")
    if not all(map(_HEADER.fullmatch, lines)):
        raise ValueError("a header of the request has characters that no header can have")
    return "".join(f"{line}\r\n" for line in lines)
