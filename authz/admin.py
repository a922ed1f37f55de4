"""The admin port: plain HTTP for probes and scrapers, apart from the port that Envoy calls."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from socketserver import TCPServer
from threading import Thread
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from authz.telemetry.redaction import printable

log = logging.getLogger(__name__)

_IDLE_SECONDS: Final = 10


class AdminServer:
    """Answers `/livez`, `/readyz`, `/metrics`, and `/keys` to loopback peers. Liveness never depends on an issuer."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        waiting_for: Callable[[], list[str]],
        registry: CollectorRegistry,
        keys: Callable[[], Mapping[str, object]],
    ) -> None:
        """Bind *host* and *port*; *waiting_for* names what readiness still waits for. Raises OSError."""

        class Handler(BaseHTTPRequestHandler):
            timeout = _IDLE_SECONDS
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
                    case "/keys" if is_loopback(self.client_address[0]):
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

        try:
            self._server: Final = _Server(host, port, Handler)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        Thread(target=self._server.serve_forever, name="admin", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's also asks DNS for the name of this host, which may take long


def is_loopback(address: str) -> bool:
    """Tell whether a peer's *address* is this host's own, also where IPv6 writes an IPv4 one."""
    ip = ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
