"""The gRPC server that Envoy calls: one method, a health service, bounds on everything that a caller chooses.

Rules of this file:
1. Only raw bytes cross the handler, so that no byte of a caller can end a call with a gRPC error.
2. Above `max_concurrent` a call is refused at once, as a decision; that, and health, have threads of their own.
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
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock, local
from typing import Any, Final, ParamSpec, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2

from authz.core.reasons import Reason
from authz.envoy.check import LAST_RESORT, Checker
from authz.envoy.reaper import Reaper

SERVICE: Final = "envoy.service.auth.v3.Authorization"
METHOD: Final = f"/{SERVICE}/Check"
HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"
_ASIDE_THREADS: Final = 2

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
# Envoy passes a client's tracestate on, whose size must never end a call: as much as Envoy can be told to accept
# (max_request_headers_kb is at most 8192). Between grpcio's two limits calls fail by chance: they are one.
MAX_METADATA_BYTES: Final = 8 * 1024 * 1024 + 65_536
MAX_STREAMS: Final = 1024  # a connection

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.so_reuseport", 0),  # a second server on one port must fail, not share it
    ("grpc.http2.max_ping_strikes", 0),  # Envoy's keep-alive pings never close the channel
    ("grpc.keepalive_permit_without_calls", 1),
)

Answer = Callable[[bytes, grpc.ServicerContext], bytes]
P = ParamSpec("P")
T = TypeVar("T")


class _CountingPool(ThreadPoolExecutor):
    """A pool that knows how many calls it holds, those in its queue included.

    *given_up* is told of each that ends without `note_judged`: grpcio drops a call that nobody waits for any more.
    """

    def __init__(self, max_workers: int, given_up: Callable[[], None]) -> None:
        super().__init__(max_workers, thread_name_prefix="check")
        self._given_up = given_up
        self._call = local()
        self._lock = Lock()
        self._held = 0

    @property
    def held(self) -> int:
        return self._held

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with self._lock:
            self._held += 1
        return super().submit(self._run, fn, *args, **kwargs)

    def note_judged(self) -> None:
        """Note that the call on this thread is judged."""
        self._call.judged = True

    def _run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self._call.judged = False
        try:
            return fn(*args, **kwargs)
        finally:
            if not self._call.judged:
                self._given_up()
            with self._lock:
                self._held -= 1


class _CheckHandler(grpc.GenericRpcHandler):
    """Looks calls up: Check, or nothing."""

    def __init__(
        self, checker: Checker, pool: _CountingPool, max_concurrent: int, health_servicer: health.HealthServicer
    ) -> None:
        self._checker = checker
        self._health = health_servicer
        self._pool = pool
        self._max_concurrent = max_concurrent
        self._aside_pool = ThreadPoolExecutor(_ASIDE_THREADS, thread_name_prefix="aside")
        self.reaper: Reaper | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        received = time.monotonic()
        if handler_call_details.method == METHOD:
            if self._pool.held < self._max_concurrent:
                return self._handle(partial(self._check, received), received)
            return self._handle(partial(self._refuse, received), received, aside=True)
        if handler_call_details.method == HEALTH_METHOD:
            return self._handle(self._tell_health, received, aside=True)
        return None

    def _handle(self, answer: Answer, received: float, *, aside: bool = False) -> grpc.RpcMethodHandler[Any, Any]:
        """Have *answer* answer a call; *aside* on threads of their own, which judging never holds up.

        Where there is a reaper the message is read by us: grpcio would wait for it without an end.
        """
        behaviour = (
            partial(answer) if self.reaper is None else partial(self._answer_first, answer, received, self.reaper)
        )
        if aside:
            behaviour.experimental_thread_pool = self._aside_pool  # type: ignore[attr-defined]  # grpcio looks for it
        if self.reaper is None:
            return grpc.unary_unary_rpc_method_handler(behaviour)
        return grpc.stream_unary_rpc_method_handler(behaviour)

    def _answer_first(
        self,
        answer: Answer,
        received: float,
        reaper: Reaper,
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> bytes:
        """Answer the first message of a call."""
        return answer(reaper.await_message(context, received, partial(next, messages, b"")), context)

    def _tell_health(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        request = health_pb2.HealthCheckRequest.FromString(data)
        return bytes(self._health.Check(request, context).SerializeToString())

    def _check(self, received: float, data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            time_left: float | None = context.time_remaining()  # None without a deadline, whatever the stubs say
            if not context.is_active() or (time_left is not None and time_left <= 0):
                return LAST_RESORT
            self._pool.note_judged()
            metadata = context.invocation_metadata()
            return self._checker.check(data, received=received, time_left=time_left, metadata=metadata)
        except BaseException:  # noqa: BLE001 - the last fence: what grpcio gets to see becomes a gRPC error
            return LAST_RESORT

    def _refuse(self, received: float, data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            metadata = context.invocation_metadata()
            return self._checker.refuse(data, Reason.OVERLOADED, received=received, metadata=metadata)
        except BaseException:  # noqa: BLE001 - as above
            return LAST_RESORT


class AuthorizationServer:
    """Serves Check and health on one address; *given_up* is told of each call that is not judged any more."""

    def __init__(
        self, checker: Checker, *, threads: int, max_concurrent: int, given_up: Callable[[], None] = lambda: None
    ) -> None:
        self._pool: Final = _CountingPool(threads, given_up)
        self._health: Final = health.HealthServicer()
        self._handler: Final = _CheckHandler(checker, self._pool, max_concurrent, self._health)
        self._server: Final = grpc.server(self._pool, handlers=[self._handler], options=_OPTIONS)
        self.show_ready(ready=False)

    def in_flight(self) -> int:
        """Return how many calls are judged, or wait for it."""
        return self._pool.held

    def listen_unix(self, path: Path, *, mode: int) -> None:
        """Bind the socket *path* with permissions *mode*; a stale socket is replaced, a live one is not.

        Raises OSError.
        """
        _clear_stale(path)
        umask = os.umask(0o777 & ~mode)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {path}: is its folder there and writable?") from error
        finally:
            os.umask(umask)

    def listen_tcp(self, address: str, *, credentials: grpc.ServerCredentials | None) -> int:
        """Bind `host:port`, with TLS where there are *credentials*; return the port. Raises OSError."""
        self._handler.reaper = Reaper(monotonic=time.monotonic)
        self._handler.reaper.start()
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
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        self._health.set("", status)
        self._health.set(SERVICE, status)

    def stop(self, *, grace: float) -> None:
        """Take no new calls and let those in flight finish, at most *grace* seconds."""
        self._server.stop(grace).wait()


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
