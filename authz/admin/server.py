"""The HTTP server of the admin port.

A connection is one request. The number of connections and the lifetime of each are bounded, and a new connection evicts
the oldest: a peer that opens many connections, or sends one byte at a time, cannot block a probe.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, IPPROTO_IPV6, IPV6_V6ONLY, SHUT_RDWR, socket
from socketserver import TCPServer
from threading import Thread
from typing import Any, Final

from authz.admin.routes import AdminRequest, Route, dispatch
from authz.config.address import Address, TcpAddress, UnixAddress
from authz.telemetry.redaction import printable

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64  # at one time; a further one evicts the oldest
MAX_THREADS: Final = 128  # including ended connections whose answer is still computed; further ones are closed unread
MAX_SECONDS: Final = 10.0  # from the start of a connection to its end
MAX_BODY_BYTES: Final = 256 * 1024  # of what is posted


class AdminServer:
    """Answers requests for the paths of a table."""

    def __init__(
        self,
        address: Address,
        routes: Mapping[str, Route],
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind *address*. Raises OSError, whose text names the address.

        A Unix socket is replaced: its folder must be private to us, because any peer that reaches it may read the keys.
        """
        where = address.path if isinstance(address, UnixAddress) else f"{address.host}:{address.port}"
        try:
            self._server: Final = _Server(address, routes, max_body_bytes, monotonic)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {where}: {error.strerror or error}") from error
        self._thread: Final = Thread(target=self._server.serve_forever, name="admin", daemon=True)
        self._socket_file: Final = Path(address.path) if isinstance(address, UnixAddress) else None

    @property
    def address(self) -> str:
        """What was bound: host:port, or the path of the socket."""
        bound = self._server.server_address
        return str(self._socket_file) if self._socket_file is not None else f"{bound[0]!s}:{bound[1]}"

    @property
    def port(self) -> int:
        """The TCP port that was bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            with suppress(OSError):  # not every system can shut down a listening socket
                self._server.socket.shutdown(SHUT_RDWR)  # wakes the thread, which otherwise polls every half second
            self._server.shutdown()
        self._server.server_close()
        if self._socket_file is not None:
            self._socket_file.unlink(missing_ok=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "authz"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        if "transfer-encoding" in self.headers:  # without a length there is no bound before the body is read
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return
        length = self.headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            self.send_error(HTTPStatus.BAD_REQUEST)
        elif len(length) > 9 or int(length) > self.server.max_body_bytes:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes = b"") -> None:
        request = AdminRequest(
            self.client_address,
            self.headers.get("accept", ""),
            self.command,
            origin=self.headers.get("origin"),
            fetch_site=self.headers.get("sec-fetch-site"),
            host=self.headers.get("host"),
            authorization=self.headers.get("authorization"),
            content_type=self.headers.get("content-type", ""),
            if_none_match=self.headers.get("if-none-match"),
            body=body,
        )
        response = dispatch(self.server.routes, self.path, request)
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("content-type", response.media_type)
        self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        log.debug("%s", printable(format % args))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(
        self, address: Address, routes: Mapping[str, Route], max_body_bytes: int, monotonic: Callable[[], float]
    ) -> None:
        self.routes: Final = routes
        self.max_body_bytes: Final = max_body_bytes
        self._monotonic = monotonic
        self._since: dict[Any, float] = {}  # open connections, the oldest first
        self._threaded: set[Any] = set()  # connections that have a thread
        match address:
            case UnixAddress(path):
                self.address_family = AF_UNIX
                Path(path).unlink(missing_ok=True)
                super().__init__(path, _Handler)  # type: ignore[arg-type]  # the stubs know TCP only
            case TcpAddress(host, port):
                self.address_family = AF_INET6 if ":" in host else AF_INET
                super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        if self.server_address[0] == "::":  # every address, of both kinds, whatever the system's default is
            self.socket.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)  # HTTPServer's also asks DNS for the name of this host, which may take a long time

    def verify_request(self, *_: object) -> bool:
        return len(self._threaded) < MAX_THREADS

    def process_request(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        # Rejecting the newest instead would let a peer that reconnects as often as it is closed block every probe.
        for oldest in list(self._since)[: 1 - MAX_CONNECTIONS]:
            self._end(oldest)
        self._since[request] = self._monotonic()
        self._threaded.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket | tuple[bytes, socket]) -> None:
        self._since.pop(request, None)
        self._threaded.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End overdue connections: called between two connections, and twice a second."""
        overdue_since = self._monotonic() - MAX_SECONDS
        for request, since in list(self._since.items()):
            if since <= overdue_since:
                self._end(request)

    def _end(self, request: Any) -> None:  # noqa: ANN401 - a socket, which the stubs also take for a datagram
        self._since.pop(request, None)
        with suppress(OSError):
            request.shutdown(SHUT_RDWR)  # wakes up the thread that reads or writes

    def handle_error(self, *_: object) -> None:
        peer_left = isinstance(sys.exception(), OSError)  # the peer has left, or its time is over
        log.log(logging.DEBUG if peer_left else logging.ERROR, "admin request failed", exc_info=True)
