"""The transport on grpcio's public API: `grpc.server`, a generic handler of raw bytes, and a pool of threads.

It is the fallback if `cygrpc` does not work with the installed grpcio. Its contract is the same, with these
differences:

| promise of `cygrpc`                       | here                                    | missing in the public API      |
|-------------------------------------------|-----------------------------------------|--------------------------------|
| `max_concurrent` calls may be in flight   | and at most 256: then rejected unread   | answers without a thread       |
| a deferred answer takes no thread         | it keeps the thread of its call         | the same                       |
| half a call is not counted as in flight   | it is counted until it is ended         | a check for arrived messages   |
| half a call is answered when it is ended  | it is cancelled                         | a read with a timeout          |
| admission precedes the next evaluation    | they take turns                         | a queue of events              |
| later calls do not delay the stop         | it waits for 500 ms without a call      | the same                       |

A client of Envoy cannot cause half calls: Envoy sends headers and message together. Both transports answer health, and
calls above the bound, unread. In both, a message above `grpc.max_receive_message_length` ends with RESOURCE_EXHAUSTED:
gRPC's core does that.

Rules of this file:
1. The service is called under one lock, as if there were one deciding thread.
2. A call is counted from its admission to its answer, or until its caller leaves.
3. `_handle_rpc` never raises: grpcio would end the call with an RPC error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import inf
from threading import Event, Lock, Thread
from typing import Any, Final, TypeVar

import grpc

from authz.envoy.transport.arrivals import Arrivals
from authz.envoy.transport.other_threads import OtherThreads
from authz.envoy.transport.port import Deferred, Service
from authz.telemetry.check_record import Metadata

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_THREADS: Final = 256  # each with one call, from its message to its answer
_MAX_UNSENT: Final = 2048  # answers that their callers do not read
_SWEEP_INTERVAL: Final = 0.25  # seconds between two sweeps of calls whose message has not come
_MAX_SWEEPS: Final = 2  # that may find a call without its message before it is cancelled
_MAX_BUSY_SWEEPS: Final = 120  # the same under load, that is 30 s: Envoy does not wait as long
_DRAIN_QUIET: Final = 0.025  # seconds between two checks whether everything that arrived was accepted
# Consecutive checks that find no call; after a pause of the whole process the first of them proves nothing.
_DRAIN_CHECKS: Final = 20
_ANSWER_RESERVE: Final = 1.0  # seconds at the end of the grace, at most a quarter of it, for calls already accepted
_CANCEL_GRACE: Final = 1.0  # seconds for cancelled calls to end


class _Call:
    """One call, from its admission to its end."""

    __slots__ = (
        "busy_sweeps",
        "deadline",
        "done",
        "ended",
        "message",
        "metadata",
        "method",
        "received",
        "responses",
        "sweeps",
    )

    def __init__(self, method: bytes, metadata: Metadata, received: float) -> None:
        self.method: Final = method
        self.metadata = metadata
        self.received: Final = received
        self.deadline = received
        self.message = b""
        self.ended = False  # the RPC is over
        self.responses: Final[list[bytes]] = []  # of a deferred answer; the first one counts
        self.done: Final = Event()  # there is a response, or the RPC is over
        self.sweeps = 0  # that found it without its message
        self.busy_sweeps = 0  # the same, while a thread may have had it

    def respond(self, answer: bytes) -> None:
        """Pass on a deferred answer, from any thread."""
        self.responses.append(answer)
        self.done.set()

    def release_request(self) -> None:
        """Free the memory of the request: the caller may never read the answer."""
        self.message, self.metadata = b"", ()


class _Threads(Executor):
    """Threads that handle calls, and one for calls that are answered unread; *unread* selects it for the next call."""

    def __init__(self) -> None:
        self.unread = False
        self._workers: Final = ThreadPoolExecutor(MAX_THREADS, "pool")
        self._unread: Final = ThreadPoolExecutor(1, "unread")

    def start(self) -> None:
        """Start one thread of each kind, in case the system refuses more later. Raises RuntimeError."""
        for pool in (self._workers, self._unread):
            pool.submit(int).result()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401 - as Executor has it
        try:
            return (self._unread if self.unread else self._workers).submit(fn, *args, **kwargs)
        except RuntimeError:  # no further thread can be started; the call waits for an existing one
            return Future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as above
        for pool in (self._workers, self._unread):
            pool.shutdown(wait, cancel_futures=cancel_futures)


class PoolTransport(grpc.GenericRpcHandler):
    """Serves one Service on the addresses that were bound, from its start to its stop."""

    name: Final = "pool"

    def __init__(
        self,
        service: Service,
        options: Iterable[tuple[str, int]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        arrivals: Arrivals | None = None,
        others: OtherThreads | None = None,
        sweep_interval: float = _SWEEP_INTERVAL,
    ) -> None:
        """*options* are gRPC's channel arguments; *arrivals* and *others* observe calls that gRPC has not passed on.

        *sweep_interval* is in seconds.
        """
        self._service: Final = service
        self._monotonic: Final = monotonic
        self._arrivals: Final = Arrivals() if arrivals is None else arrivals
        self._others: Final = OtherThreads() if others is None else others
        self._sweep_interval: Final = sweep_interval
        self._threads: Final = _Threads()
        self._server: Final = grpc.server(self._threads, handlers=(self,), options=tuple(options))  # type: ignore[arg-type]
        self._service_lock: Final = Lock()
        self._tracking: Final = Lock()
        self._in_flight: Final[dict[_Call, None]] = {}
        self._occupied: Final[dict[_Call, None]] = {}  # each has a thread, or waits for one
        self._unread: Final[dict[_Call, grpc.ServicerContext]] = {}  # their threads wait for their messages
        self._unsent: Final[dict[_Call, grpc.ServicerContext]] = {}  # answered, and not read by their callers
        self._accepted = 0
        self._is_accepting = False  # on grpcio's own thread
        self._started = False
        self._drain_until = inf  # on the monotonic clock
        self._stopping: Final = Event()

    @property
    def in_flight(self) -> int:
        """The number of admitted calls that are not answered, and whose callers wait."""
        return len(self._in_flight)

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on *address*; return its port. Raises RuntimeError."""
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        if not port:
            raise RuntimeError(f"cannot listen on {address}")
        self._arrivals.add(address, port)
        return port

    def start(self) -> None:
        """Begin to accept calls."""
        self._started = True
        self._threads.start()
        self._server.start()
        Thread(target=self._sweep, name="sweeper", daemon=True).start()

    def stop(self, *, grace: float) -> None:
        """Answer the calls that have arrived, accept no more, and cancel calls in flight after *grace* seconds."""
        if self._started:
            end = self._monotonic() + grace
            self._drain_until = end - min(_ANSWER_RESERVE, grace / 4)
            self._drain()
            self._server.stop(max(0.0, end - self._monotonic())).wait(grace + _CANCEL_GRACE)
        self._stopping.set()
        self._threads.shutdown(wait=False)

    def _drain(self) -> None:
        """Wait until all calls that arrived are answered. As in `cygrpc`, the core cancels what it has not passed on.

        Calls that the core has read but not passed on cannot be observed. They are passed on as soon as grpcio's thread
        runs. So no call may be in progress, which could keep that thread from running, and several checks in a row must
        find no new call. Between two checks each thread must have slept, which proves that it has run.
        """
        checks, accepted = 0, -1
        while checks < _DRAIN_CHECKS and self._monotonic() < self._drain_until:
            is_idle = not self._occupied and not self._is_accepting and accepted == self._accepted
            if not (self._arrivals.were_read() and is_idle):
                checks = 0
            elif self._others.have_slept():
                checks += 1
            accepted = self._accepted
            self._stopping.wait(_DRAIN_QUIET)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Admit a call, on grpcio's own thread; return what runs on the thread that `_Threads` gives it."""
        self._accepted += 1
        method = handler_call_details.method.encode()
        if method not in self._service.methods:
            return None
        call = _Call(method, tuple(handler_call_details.invocation_metadata), self._monotonic())
        answer = self._admit(call)
        self._threads.unread = answer is not None
        self._occupied[call] = None
        if answer is None:
            self._in_flight[call] = None
        # A handler of streams reads no message before it is asked to.
        return grpc.stream_unary_rpc_method_handler(partial(self._handle_rpc, call, answer))

    def _admit(self, call: _Call) -> bytes | None:
        self._is_accepting = True
        with self._service_lock:
            answer = self._guarded(self._service.admit, call, self.in_flight)
            if answer is None and len(self._occupied) >= MAX_THREADS:
                answer = self._guarded(self._service.reject, call)
        self._is_accepting = False
        return None if answer is None else self._bytes(answer)

    def _handle_rpc(
        self, call: _Call, answer: bytes | None, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> bytes:
        """Return the answer of *call*: *answer* if it was given at admission."""
        try:
            if not context.add_callback(partial(self._on_end, call)):
                call.ended = True
            if answer is None:
                answer = self._read_and_answer(call, messages, context)
            call.release_request()
            self._track_unsent(call, context)
        except BaseException:  # rule 3
            with suppress(BaseException):
                log.exception("a call failed")
        finally:
            self._in_flight.pop(call, None)
            self._occupied.pop(call, None)
        return self._service.fallback_response if answer is None else answer

    def _read_and_answer(self, call: _Call, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._unread[call] = context
        with suppress(Exception):  # there is no message, or the caller has left
            call.message = next(messages)
        self._unread.pop(call, None)
        call.deadline = self._monotonic() + context.time_remaining()
        with self._service_lock:
            if call.ended or not context.is_active():
                self._service.on_abandoned(call)
                return self._service.fallback_response
            answer = self._guarded(self._service.handle, call)
            if not isinstance(answer, bytes):
                self._defer(call, answer)
        if isinstance(answer, bytes):
            return answer
        call.done.wait()
        return self._bytes(call.responses[0] if call.responses else None)

    def _defer(self, call: _Call, deferred: Deferred) -> None:
        try:
            deferred(call.respond)
        except BaseException:  # noqa: BLE001 - as in _guarded
            call.respond(self._service.fallback_response)

    def _on_end(self, call: _Call) -> None:
        call.ended = True
        call.done.set()
        self._in_flight.pop(call, None)
        with self._tracking:
            self._unsent.pop(call, None)

    def _track_unsent(self, call: _Call, context: grpc.ServicerContext) -> None:
        """Keep an answered *call* until its caller has read the answer, but not too many of them."""
        with self._tracking:
            if not call.ended:
                self._unsent[call] = context
            oldest = next(iter(self._unsent)) if len(self._unsent) > _MAX_UNSENT else None
            evicted = None if oldest is None else self._unsent.pop(oldest)
        if evicted is not None:
            evicted.cancel()

    def _guarded(self, answer: Callable[..., T], *args: object) -> T | bytes:
        """Return what *answer* returns, or the fallback response: a call without an answer is an error to Envoy."""
        try:
            return answer(*args)
        except BaseException:  # noqa: BLE001 - nothing may escape
            return self._service.fallback_response

    def _bytes(self, answer: object) -> bytes:
        return answer if isinstance(answer, bytes) else self._service.fallback_response

    def _sweep(self) -> None:
        """Cancel calls whose message does not come, until the stop.

        While a thread may hold a message that has arrived, or grpcio's own thread waits for the service, a call is
        cancelled only after many more sweeps. Without that limit, half calls would keep all threads under steady load.
        """
        while not self._stopping.wait(self._sweep_interval):
            unread = self._unread.copy()
            is_busy = bool(unread) and (self._is_accepting or not self._others.all_sleep())
            for call, context in unread.items():
                call.sweeps += not is_busy
                call.busy_sweeps += is_busy
                if call.sweeps > _MAX_SWEEPS or call.busy_sweeps > _MAX_BUSY_SWEEPS:
                    call.ended = True  # otherwise its thread would take the end for an empty message
                    context.cancel()
