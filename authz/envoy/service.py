"""The gRPC server that Envoy calls: one method, a health service, bounds on everything that a caller chooses.

Rules of this file:
1. Only raw bytes come in, so that no byte of a caller can end a call with a gRPC error.
2. Above `max_concurrent` a call is refused at once, unread, as a decision. Health is answered unread too.
3. A call that nobody waits for any more is not judged.
4. An address in use is never shared or stolen.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from authz.core.reasons import Reason
from authz.envoy.call import Call
from authz.envoy.check import LAST_RESORT, Checker, Later
from authz.envoy.loop import CallLoop
from authz.files.sockets import remove_stale_socket

SERVICE: Final = "envoy.service.auth.v3.Authorization"
METHOD: Final = f"/{SERVICE}/Check"
HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"
_CHECK: Final = METHOD.encode()
_HEALTH: Final = HEALTH_METHOD.encode()

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
# Envoy passes a client's tracestate on, whose size must never end a call: as much as Envoy can be told to accept
# (max_request_headers_kb is at most 8192). Between grpcio's two limits calls fail by chance: they are one.
MAX_METADATA_BYTES: Final = 8 * 1024 * 1024 + 65_536
MAX_STREAMS: Final = 1024  # a connection
MAX_CONNECTIONS: Final = 1024
# Calls that came faster than they are looked up. grpcio cancels them at random from 1,000 on, and all from 3,000 on: an
# error for each, which `failure_mode_allow` would turn into an allow. What else is bounded bounds these.
MAX_PENDING: Final = MAX_STREAMS * MAX_CONNECTIONS

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
    ("grpc.server_handshake_timeout_ms", 3_000),
    ("grpc.so_reuseport", 0),  # a second server on one port must fail, not share it
    ("grpc.http2.max_ping_strikes", 0),  # Envoy's keep-alive pings never close the channel
    ("grpc.keepalive_permit_without_calls", 1),
)


class _Authorization:
    """Answers Check and health."""

    methods: Final = frozenset((_CHECK, _HEALTH))
    last_resort: Final = LAST_RESORT

    def __init__(self, checker: Checker, *, max_concurrent: int, given_up: Callable[[], None]) -> None:
        self.serving = False
        self._checker: Final = checker
        self._max_concurrent: Final = max_concurrent
        self._given_up: Final = given_up

    def meet(self, call: Call, held: int) -> bytes | None:
        if call.method == _HEALTH:  # of every service by name the same: there is one
            return _SERVING if self.serving else _NOT_SERVING
        return self.refuse(call) if held >= self._max_concurrent else None

    def judge(self, call: Call) -> bytes | Later:
        time_left = call.deadline - time.monotonic()
        if time_left <= 0:
            self.give_up(call)
            return LAST_RESORT
        return self._checker.check(call.message, received=call.received, time_left=time_left, metadata=call.metadata)

    def refuse(self, call: Call) -> bytes:
        return self._checker.refuse(Reason.OVERLOADED, received=call.received, metadata=call.metadata)

    def give_up(self, call: Call) -> None:  # noqa: ARG002 - they are counted, not told apart
        self._given_up()


_SERVING: Final = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
_NOT_SERVING: Final = health_pb2.HealthCheckResponse(
    status=health_pb2.HealthCheckResponse.NOT_SERVING
).SerializeToString()


class AuthorizationServer:
    """Serves Check and health on one address; *given_up* is told of each call that is not judged any more."""

    def __init__(
        self,
        checker: Checker,
        *,
        threads: int,
        max_concurrent: int,
        max_idle: float | None = None,
        given_up: Callable[[], None] = lambda: None,
    ) -> None:
        """One of the *threads* judges, the others wait for keys.

        *max_idle* is how long a connection may have no calls, in seconds; without it, as long as it likes.
        """
        parked = () if max_idle is None else (("grpc.max_connection_idle_ms", round(max_idle * 1000)),)
        self._service: Final = _Authorization(checker, max_concurrent=max_concurrent, given_up=given_up)
        self._loop: Final = CallLoop(self._service, _OPTIONS + parked, waiters=threads - 1)

    def in_flight(self) -> int:
        """Return how many calls are judged, or wait for it."""
        return self._loop.held

    def listen_unix(self, path: Path, *, mode: int) -> None:
        """Bind the socket *path* with permissions *mode*; a stale socket is replaced, a live one is not.

        Raises OSError.
        """
        remove_stale_socket(path)
        if not path.parent.is_dir():
            what = f"there is no folder {path.parent}: make it, or set server.listen"
            raise OSError(errno.ENOENT, f"cannot listen on {path}: {what}")
        umask = os.umask(0o777 & ~mode)
        try:
            self._loop.bind(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(errno.EACCES, f"cannot listen on {path}: is its folder writable?") from error
        finally:
            os.umask(umask)

    def listen_tcp(self, address: str, *, credentials: grpc.ServerCredentials | None) -> int:
        """Bind `host:port`, with TLS where there are *credentials*; return the port. Raises OSError."""
        _try_to_bind(address)
        try:
            return self._loop.bind(address, credentials)
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}: is the port taken?") from error

    def start(self) -> None:
        """Begin to answer."""
        self._loop.start()

    def show_ready(self, *, ready: bool) -> None:
        """Tell health clients whether to send Checks."""
        self._service.serving = ready

    def stop(self, *, grace: float) -> None:
        """Take no new calls and let those in flight finish, at most *grace* seconds."""
        self._loop.stop(grace=grace)


def _try_to_bind(address: str) -> None:
    """Bind `host:port` for a moment, to learn what the system has against it: gRPC does not tell. Raises OSError."""
    host, _, port = address.rpartition(":")
    failures: list[OSError] = []
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, where in found:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    trial.bind(where)
                except OSError as error:
                    failures.append(error)
                else:
                    return
    except OSError as error:  # the name, or the family
        failures.append(error)
    raise OSError(failures[0].errno, f"cannot listen on {address}: {failures[0].strerror}") from failures[0]
