"""The gRPC server that Envoy calls: its addresses, its start and its stop.

An address in use is never shared or stolen.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc

from authz.envoy.admission import OPTIONS, AuthorizationService
from authz.envoy.checker import Checker
from authz.envoy.transport.choice import Transport, TransportFactory
from authz.files.sockets import remove_stale_socket


class AuthorizationServer:
    """Serves Check and health on one address."""

    def __init__(
        self,
        checker: Checker,
        *,
        transport: TransportFactory,
        max_concurrent: int,
        max_idle: float | None = None,
        on_abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        """At most *max_concurrent* calls are in flight.

        *max_idle* is how long a connection may have no calls, in seconds; None means no limit. *on_abandoned* is called
        for each call whose caller left before it was evaluated.
        """
        idle = () if max_idle is None else (("grpc.max_connection_idle_ms", round(max_idle * 1000)),)
        self._service: Final = AuthorizationService(checker, max_concurrent=max_concurrent, on_abandoned=on_abandoned)
        self._transport: Final[Transport] = transport(self._service, OPTIONS + idle)

    def in_flight(self) -> int:
        """Return how many calls are evaluated or queued."""
        return self._transport.in_flight

    def listen_unix(self, path: Path, *, mode: int) -> None:
        """Bind the socket *path* with permissions *mode*; only a stale socket is replaced.

        Raises OSError.
        """
        remove_stale_socket(path)
        if not path.parent.is_dir():
            reason = f"there is no directory {path.parent}: create it, or set server.listen"
            raise OSError(errno.ENOENT, f"cannot listen on {path}: {reason}")
        umask = os.umask(0o777 & ~mode)
        try:
            self._transport.bind(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(errno.EACCES, f"cannot listen on {path}: is its directory writable?") from error
        finally:
            os.umask(umask)

    def listen_tcp(self, address: str, *, credentials: grpc.ServerCredentials | None) -> int:
        """Bind `host:port`, with TLS if there are *credentials*; return the port. Raises OSError."""
        _try_to_bind(address)
        try:
            return self._transport.bind(address, credentials)
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}: is the port taken?") from error

    def start(self) -> None:
        """Begin to answer."""
        self._transport.start()

    def show_ready(self, *, ready: bool) -> None:
        """Set what the health service reports."""
        self._service.serving = ready

    def stop(self, *, grace: float) -> None:
        """Answer the calls that have arrived, accept no more, and let calls in flight end within *grace* seconds."""
        self._transport.stop(grace=grace)


def _try_to_bind(address: str) -> None:
    """Bind `host:port` briefly to get the system's error message, which gRPC does not report. Raises OSError."""
    host, _, port = address.rpartition(":")
    failures: list[OSError] = []
    try:
        addresses = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, socket_address in addresses:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    trial.bind(socket_address)
                except OSError as error:
                    failures.append(error)
                else:
                    return
    except OSError as error:  # unknown name or address family
        failures.append(error)
    raise OSError(failures[0].errno, f"cannot listen on {address}: {failures[0].strerror}") from failures[0]
