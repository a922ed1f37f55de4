"""The gRPC server that Envoy calls: one method, a health service, bounds on everything that a caller chooses.

Rules of this file:
1. Only raw bytes cross the handler, so that no byte of a caller can end a call with a gRPC error.
2. Above `max_concurrent` a call is refused at once, unread, as a decision; that, and health, have threads of their own.
3. A call that nobody waits for any more is not judged.
4. An address in use is never shared or stolen.
5. On TCP, where others than Envoy may call, a call that sends no message is ended.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from authz.core.reasons import Reason
from authz.envoy.check import LAST_RESORT, Checker
from authz.envoy.reaper import Reaper
from authz.envoy.threads import CallThreads, Lane

SERVICE: Final = "envoy.service.auth.v3.Authorization"
METHOD: Final = f"/{SERVICE}/Check"
HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"
_BESIDE: Final = {Lane.REFUSED: 1, Lane.HEALTH: 1}  # neither waits for anything

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

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class _CheckHandler(grpc.GenericRpcHandler):
    """Looks calls up: Check, health, or nothing."""

    def __init__(self, checker: Checker, threads: CallThreads, max_concurrent: int) -> None:
        self.serving = False
        self._checker = checker
        self._threads = threads
        self._max_concurrent = max_concurrent
        self._check: _Handler = grpc.unary_unary_rpc_method_handler(self._judge)
        # The message of a stream is not waited for: that is half of what a bare call costs, and half a call holds
        # nobody up.
        self._overloaded: _Handler = grpc.stream_unary_rpc_method_handler(self._refuse)
        self._health: _Handler = grpc.stream_unary_rpc_method_handler(self._tell_health)

    def reap_half_calls(self, reaper: Reaper) -> None:
        """Read the message of each Check ourselves: grpcio would wait for it without an end."""

        def judge_first(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            first = partial(next, messages, b"")
            return self._judge(reaper.await_message(context, self._threads.received, first), context)

        self._check = grpc.stream_unary_rpc_method_handler(judge_first)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        if handler_call_details.method == METHOD:
            if self._threads.held < self._max_concurrent:
                return self._check
            self._threads.choose(Lane.REFUSED)
            return self._overloaded
        if handler_call_details.method == HEALTH_METHOD:
            self._threads.choose(Lane.HEALTH)
            return self._health
        return None

    def _judge(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            time_left: float | None = context.time_remaining()  # None without a deadline, whatever the stubs say
            if not context.is_active() or (time_left is not None and time_left <= 0):
                return LAST_RESORT
            self._threads.begin()
            return self._checker.check(
                data, received=self._threads.received, time_left=time_left, metadata=context.invocation_metadata()
            )
        except BaseException:  # noqa: BLE001 - the last fence: what grpcio gets to see becomes a gRPC error
            return LAST_RESORT

    def _refuse(self, _messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        try:
            metadata = context.invocation_metadata()
            return self._checker.refuse(Reason.OVERLOADED, received=self._threads.received, metadata=metadata)
        except BaseException:  # noqa: BLE001 - as above
            return LAST_RESORT

    def _tell_health(self, _messages: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
        """Say the same of every service by name: there is one."""
        return _SERVING if self.serving else _NOT_SERVING


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
        """*max_idle* is how long a connection may have no calls, in seconds; without it, as long as it likes."""
        parked = () if max_idle is None else (("grpc.max_connection_idle_ms", round(max_idle * 1000)),)
        self._threads: Final = CallThreads({Lane.JUDGED: threads, **_BESIDE}, given_up)
        self._handler: Final = _CheckHandler(checker, self._threads, max_concurrent)
        self._server: Final = grpc.server(
            self._threads,  # type: ignore[arg-type]  # any Executor will do
            handlers=[self._handler],
            options=_OPTIONS + parked,
        )

    def in_flight(self) -> int:
        """Return how many calls are judged, or wait for it."""
        return self._threads.held

    def listen_unix(self, path: Path, *, mode: int) -> None:
        """Bind the socket *path* with permissions *mode*; a stale socket is replaced, a live one is not.

        Raises OSError.
        """
        _clear_stale(path)
        if not path.parent.is_dir():
            what = f"there is no folder {path.parent}: make it, or set server.listen"
            raise OSError(errno.ENOENT, f"cannot listen on {path}: {what}")
        umask = os.umask(0o777 & ~mode)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(errno.EACCES, f"cannot listen on {path}: is its folder writable?") from error
        finally:
            os.umask(umask)

    def listen_tcp(self, address: str, *, credentials: grpc.ServerCredentials | None) -> int:
        """Bind `host:port`, with TLS where there are *credentials*; return the port. Raises OSError."""
        reaper = Reaper(monotonic=time.monotonic, crowded=self._threads.are_crowded)
        reaper.start()
        self._handler.reap_half_calls(reaper)
        _try_to_bind(address)
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}: is the port taken?") from error

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def show_ready(self, *, ready: bool) -> None:
        """Tell health clients whether to send Checks."""
        self._handler.serving = ready

    def stop(self, *, grace: float) -> None:
        """Take no new calls and let those in flight finish, at most *grace* seconds."""
        self._server.stop(grace).wait()
        self._threads.shutdown()


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


def _clear_stale(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises OSError where somebody does, or where it is no socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise OSError(errno.EEXIST, f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, f"another process serves {path}")
