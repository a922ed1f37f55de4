"""The admin port: plain HTTP for probes and scrapers, apart from the port that Envoy calls.

A connection is one request. How many there are at a time, and how long each lives, is bounded, and the oldest makes
room for the newest: a peer that opens many, again and again, or sends a byte now and then, holds up no probe.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, SHUT_RDWR, socket
from socketserver import TCPServer
from threading import Thread
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from authz.config.address import Address, TcpAddress, UnixAddress
from authz.telemetry.redaction import printable

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64  # at a time; for a further one the oldest is ended
MAX_THREADS: Final = 128  # with those that were ended and compute an answer yet; further connections are closed unread
MAX_SECONDS: Final = 10.0  # from the start of a connection to its end


class AdminServer:
    """Answers `/livez`, `/readyz`, `/metrics`, and `/keys` to this host. Liveness never depends on an issuer."""

    def __init__(
        self,
        address: Address,
        *,
        waiting_for: Callable[[], list[str]],
        registry: CollectorRegistry,
        keys: Callable[[], Mapping[str, object]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind *address*; *waiting_for* names what readiness still waits for. Raises OSError.

        A Unix socket is replaced: its folder must be ours alone, for whoever reaches it may ask for keys.
        """

        class Handler(BaseHTTPRequestHandler):
            server_version = "authz"
            sys_version = ""

            def do_GET(self) -> None:
                match self.path.partition("?")[0]:
                    case "/livez":
                        self._answer(HTTPStatus.OK, b"alive\n")
                    case "/readyz":
                        if missing := waiting_for():
                            text = f"waiting for {', '.join(missing)}\n"
                            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, text.encode())
                        else:
                            self._answer(HTTPStatus.OK, b"ready\n")
                    case "/metrics":
                        # OpenMetrics for those who ask for it: it alone carries exemplars.
                        encode, kind = choose_encoder(self.headers.get("accept", ""))
                        self._answer(HTTPStatus.OK, encode(registry), kind)
                    case "/keys" if is_here(self.client_address):
                        self._answer(HTTPStatus.OK, json.dumps(keys(), indent=2).encode() + b"\n", "application/json")
                    case "/keys":
                        self._answer(HTTPStatus.FORBIDDEN, b"/keys answers this host only\n")
                    case _:
                        self._answer(HTTPStatus.NOT_FOUND, b"/livez /readyz /metrics /keys\n")

            def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                log.debug("%s", printable(format % args))

        where = address.path if isinstance(address, UnixAddress) else f"{address.host}:{address.port}"
        try:
            self._server: Final = _Server(address, Handler, monotonic)
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
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            with suppress(OSError):  # not everywhere can a socket that listens be shut down
                self._server.socket.shutdown(SHUT_RDWR)  # wakes up the thread, which would look up in half a second
            self._server.shutdown()
        self._server.server_close()
        if self._socket_file is not None:
            self._socket_file.unlink(missing_ok=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: Address, handler: type[BaseHTTPRequestHandler], monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since: dict[Any, float] = {}  # the connections that were not ended, the oldest first
        self._threaded: set[Any] = set()  # the connections that have a thread
        match address:
            case UnixAddress(path):
                self.address_family = AF_UNIX
                Path(path).unlink(missing_ok=True)
                super().__init__(path, handler)  # type: ignore[arg-type]  # the stubs know TCP only
            case TcpAddress(host, port):
                self.address_family = AF_INET6 if ":" in host else AF_INET
                super().__init__((host, port), handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's also asks DNS for the name of this host, which may take long

    def verify_request(self, *_: object) -> bool:
        return len(self._threaded) < MAX_THREADS

    def process_request(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        # Turning the newcomer away instead would let whoever opens anew as often as he is closed keep every probe out.
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
        """End what is overdue: called between two connections, and twice a second."""
        overdue_since = self._monotonic() - MAX_SECONDS
        for request, since in list(self._since.items()):
            if since <= overdue_since:
                self._end(request)

    def _end(self, request: Any) -> None:  # noqa: ANN401 - a socket, which the stubs also take for a datagram
        self._since.pop(request, None)
        with suppress(OSError):
            request.shutdown(SHUT_RDWR)  # wakes up the thread that reads or writes

    def handle_error(self, *_: object) -> None:
        gone = isinstance(sys.exception(), OSError)  # the peer's business, or the end of its time
        log.log(logging.DEBUG if gone else logging.ERROR, "admin request failed", exc_info=True)


def is_here(peer: object) -> bool:
    """Tell whether a *peer*, as a socket names it, is on this host: on loopback, or on a Unix socket (no name)."""
    return not peer or (isinstance(peer, tuple) and is_loopback(str(peer[0])))


def is_loopback(address: str) -> bool:
    """Tell whether a peer's *address* is this host's own, also where IPv6 writes an IPv4 one."""
    ip = ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
