"""A real HTTP/1.1 server on a loopback port, whose responses come from one function."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler, ThreadingTCPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

IDLE_SECONDS = 75.0  # a connection that is silent for this long is closed
MAX_BODY_BYTES = 1 << 20

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names as the client spelled them, one entry for each header line."""

    method: str
    target: str
    headers: tuple[Header, ...]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def parameters(self) -> dict[str, str]:
        """The members of the query and of a form body; of a repeated name the last."""
        text = f"{urlsplit(self.target).query}&{self.body.decode('utf-8', 'replace')}"
        return dict(parse_qsl(text, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Response:
    """A response. A body that is not bytes is sent piece by piece, and ends when the connection is closed."""

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes | Iterable[bytes] = b""


@dataclass(frozen=True, slots=True)
class RawResponse:
    """Bytes to send unchanged, including the status line; then the connection is closed."""

    pieces: Iterable[bytes]


Responder = Callable[[Request], Response | RawResponse]
"""Returns the response to a request."""


def json_response(document: object, *, status: int = 200, headers: tuple[Header, ...] = ()) -> Response:
    """Return a response with a JSON document as its body."""
    body = json.dumps(document, indent=2).encode() + b"\n"
    return Response(status, (("Content-Type", "application/json"), *headers), body)


class LoopbackServer:
    """Serves `answer` on 127.0.0.1, one thread for each connection, from `start()` until `stop()`.

    The port is bound at construction, so that the address is known before anything is served. Stopping closes the
    open connections too: a peer that keeps one alive must see that the server is gone.
    """

    def __init__(self, answer: Responder, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._server = _Server(("127.0.0.1", port), _handler(answer), tls=tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.port: int = self._server.server_address[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start serving."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop accepting, and close every connection."""
        if self._thread.is_alive():
            _hang_up(self._server.socket)  # wakes up the thread
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], handler: type[BaseRequestHandler], *, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(address, handler)
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._closed = False
        self._lock = threading.Lock()

    def finish_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        # In the connection's own thread: a peer that stalls in the handshake stalls no other.
        request.settimeout(IDLE_SECONDS)
        connection = request if self._tls is None else self._tls.wrap_socket(request, server_side=True)
        with self._lock:
            self._open.add(connection)
            closed = self._closed
        try:
            if not closed:
                super().finish_request(connection, client_address)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore peers that hang up or reject our certificate; report an exception of `answer`."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            self._closed = True
            for connection in self._open:
                _hang_up(connection)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer closed it first
        connection.shutdown(socket.SHUT_RDWR)


def _handler(answer: Responder) -> type[BaseRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_BODY_BYTES or "Transfer-Encoding" in self.headers:
                self.close_connection = True  # unread data must not be taken for the next request
                length = 0
            request = Request(self.command, self.path, tuple(self.headers.items()), self.rfile.read(length))
            response = answer(request)
            if isinstance(response, RawResponse):
                self.close_connection = True
                self._write(response.pieces)
            else:
                self._send(response, head_only=self.command == "HEAD")

        def _send(self, response: Response, *, head_only: bool) -> None:
            self.send_response(response.status)
            for name, value in response.headers:
                self.send_header(name, value)
            if isinstance(response.body, bytes):
                self.send_header("Content-Length", str(len(response.body)))
                pieces: Iterable[bytes] = (response.body,)
            else:
                self.send_header("Connection", "close")
                pieces = response.body
            self.end_headers()
            if not head_only:
                self._write(pieces)

        def _write(self, pieces: Iterable[bytes]) -> None:
            for piece in pieces:
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Log nothing: the demo prints its own table."""

    return Handler
