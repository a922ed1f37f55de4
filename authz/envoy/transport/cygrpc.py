"""The transport on `grpc._cython.cygrpc`: one thread accepts calls, handles them, and sends the responses.

grpcio's own server passes each call to a thread pool. With the interpreter lock that gains nothing and is most of the
cost: here a call takes 20 us of CPU time instead of 70. The layer below is private: `choice` tests it at start.

Rules of this file:
1. All calls that have arrived are admitted before the next one is handled, because waiting calls inside gRPC cannot be
   rejected.
2. Only `poll` blocks. A deferred answer is sent by the thread that created it.
3. Every call is answered, unless its caller has left or the answer cannot be sent; no exception ends the loop.
4. Everything that callers can accumulate is bounded: unread calls, calls in flight, unsent answers.
5. Each attribute is written by the loop's thread only, except three that any thread may change in one atomic step:
   `_awaited`, `_deferred` and `_answered_elsewhere`.
6. A stop answers the calls that arrived before it. When the server is shut down, gRPC's core cancels every call that it
   has not passed on, and every later one, and it cannot send GOAWAY without shutting down. So the loop accepts calls
   until the core has read and passed on everything that was in the kernel's buffers at the stop, at most until shortly
   before the end of the grace period.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf
from threading import Event, Thread
from typing import Any, Final, TypeVar

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it is compiled

from authz.envoy.transport.arrivals import Arrivals
from authz.envoy.transport.cygrpc_call import CoreCall
from authz.envoy.transport.other_threads import OtherThreads
from authz.envoy.transport.port import Deferred, Service

log = logging.getLogger(__name__)

T = TypeVar("T")

# Calls that gRPC's core may pass on before the next request for calls. At shutdown it cancels all others.
_MAX_PENDING_ACCEPTS: Final = 16
# Events between two handled calls. A rejected call is two events: this many leave time to handle calls in a flood.
_MAX_EVENTS: Final = 32
_MAX_UNREAD: Final = 1024  # calls whose message has not come
_MAX_UNSENT: Final = 2048  # answers that their callers do not read
_SWEEP_INTERVAL: Final = 0.25  # seconds between two sweeps of calls whose message has not come
_MAX_SWEEPS: Final = 2  # that may find a call without its message before it is rejected
_POLL_NOW: Final = 0.0  # a deadline in the past: return what is there, or nothing
# The core may parse on its own threads. When everything is read, it has this many polls of this many seconds to pass on
# calls; each thread must have slept between two of them. After a pause of the whole process, the first proves nothing.
_DRAIN_POLLS: Final = 4
_DRAIN_QUIET: Final = 0.025
_ANSWER_RESERVE: Final = 1.0  # seconds at the end of the grace, at most a quarter of it, for calls already accepted
_CANCEL_GRACE: Final = 1.0  # seconds for cancelled calls to end


class CygrpcTransport:
    """Serves one Service on the addresses that were bound, from its start to its stop."""

    name: Final = "cygrpc"

    def __init__(
        self,
        service: Service,
        options: Iterable[tuple[str, int]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        arrivals: Arrivals | None = None,
        others: OtherThreads | None = None,
    ) -> None:
        """*options* are gRPC's channel arguments; *arrivals* and *others* observe calls that gRPC has not passed on."""
        self._service: Final = service
        self._monotonic: Final = monotonic
        self._arrivals: Final = Arrivals() if arrivals is None else arrivals
        self._others: Final = OtherThreads() if others is None else others
        self._queue: Final = cygrpc.CompletionQueue()
        self._server: Final = cygrpc.Server(tuple(options), False)  # noqa: FBT003 - no xDS
        self._server.register_completion_queue(self._queue)
        self._unread: Final[dict[CoreCall, None]] = {}  # admitted, and their message has not come
        self._read: Final[deque[CoreCall]] = deque()  # to be handled
        self._queued = 0  # the number of those whose callers wait
        self._awaited: Final[dict[CoreCall, None]] = {}  # deferred, without an answer yet
        self._deferred: Final[dict[CoreCall, None]] = {}  # deferred, and the answer is not sent yet
        self._answered_elsewhere: Final[deque[CoreCall]] = deque()  # to be tracked until they are sent
        self._unsent: Final[dict[CoreCall, None]] = {}  # answered, and not read by their callers
        self._pending_accepts = 0  # calls that gRPC's core may pass on
        self._swept = monotonic()
        self._started = self._closed = self._shut_down = False
        self._drain_polls = 0  # since all was read
        self._poll_until = 0.0  # in Unix time
        self._drain_until = inf  # on the monotonic clock
        self._ended: Final = Event()

    @property
    def in_flight(self) -> int:
        """The number of calls that were read and are not answered, and whose callers wait."""
        return self._queued + len(self._deferred)

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on *address*; return its port. Raises RuntimeError."""
        own = () if credentials is None else (credentials._credentials,)  # type: ignore[attr-defined]  # noqa: SLF001 - as grpcio does
        port = self._server.add_http2_port(address.encode(), *own)
        if not port:
            raise RuntimeError(f"cannot listen on {address}")
        self._arrivals.add(address, int(port))
        return int(port)

    def start(self) -> None:
        """Begin to accept calls."""
        self._started = True
        self._server.start()
        Thread(target=self._run, name="calls", daemon=True).start()

    def stop(self, *, grace: float) -> None:
        """Answer the calls that have arrived, accept no more, and cancel calls in flight after *grace* seconds."""
        if not self._started:
            return
        self._drain_until = self._monotonic() + grace - min(_ANSWER_RESERVE, grace / 4)
        if not self._ended.wait(grace):
            self._close()
            self._server.cancel_all_calls()
        if self._ended.wait(_CANCEL_GRACE):  # otherwise it is still in use
            self._server.destroy()

    def _run(self) -> None:
        while not (self._shut_down and not self.in_flight):
            try:
                self._run_once()
            except BaseException:  # the failure of one call must not end the loop
                with suppress(BaseException):  # nor must logging it
                    log.exception("a call failed")
        self._ended.set()

    def _run_once(self) -> None:
        """Admit the calls that have arrived and handle one; if there is none, wait for one."""
        self._request_calls()
        while self._answered_elsewhere:
            self._track_unsent(self._answered_elsewhere.popleft())
        if self._is_draining and self._monotonic() >= self._drain_until:
            self._close()
        if self._read:
            self._take_many()
            self._handle_next()
        elif self._is_draining:
            self._drain()
        else:
            self._take(time.time() + _SWEEP_INTERVAL)

    @property
    def _is_draining(self) -> bool:
        return self._drain_until < inf and not self._closed

    def _drain(self) -> None:
        """Close when everything that had arrived at the stop was passed on; later calls do not delay it."""
        if self._take(self._poll_until):
            return
        self._poll_until = time.time() + _DRAIN_QUIET
        if self._arrivals.were_read() and self._others.have_slept():
            self._drain_polls += 1
        if self._drain_polls > _DRAIN_POLLS:
            self._close()

    def _take_many(self) -> None:
        for _ in range(_MAX_EVENTS):
            if not self._take(_POLL_NOW):
                return

    def _handle_next(self) -> None:
        """Handle the oldest of the calls whose callers still wait."""
        while self._read:
            call = self._read.popleft()
            if not call.cancelled:
                self._handle(call)
                return
            self._service.on_abandoned(call)

    def _close(self) -> None:
        """Accept no more calls."""
        self._closed = True
        self._server.shutdown(self._queue, self._on_shutdown)

    def _request_calls(self) -> None:
        """Ask gRPC's core for the next calls."""
        if self._pending_accepts >= _MAX_PENDING_ACCEPTS or self._closed:  # in most iterations
            return
        with suppress(ValueError):  # it was closed a moment ago
            while self._pending_accepts < _MAX_PENDING_ACCEPTS and not self._closed:
                self._server.request_call(self._queue, self._queue, self._accept)
                self._pending_accepts += 1

    def _take(self, until: float) -> bool:
        """Process the next event; return whether one came by *until*, in Unix time."""
        try:
            event = self._poll(until)
        except BaseException:
            self._pending_accepts -= 1  # it may have been a call
            raise
        if event.tag is None:
            self._sweep_stalled()
            return False
        event.tag(event)
        return True

    def _poll(self, until: float) -> Any:  # noqa: ANN401 - cygrpc has no types
        return self._queue.poll(until)

    def _accept(self, event: Any) -> None:  # noqa: ANN401 - as above
        self._pending_accepts -= 1
        if not event.success:  # there is no call: the server shuts down
            return
        self._request_calls()
        call = CoreCall(event, self._monotonic(), time.time())
        if call.method not in self._service.methods:
            call.reject(partial(self._on_sent, call))
            self._track_unsent(call)
        elif (answer := self._guarded(self._service.admit, call, self.in_flight)) is not None:
            self._send(call, answer, unread=True)
        else:
            self._unread[call] = None
            call.read(partial(self._on_message, call), partial(self._on_end, call))
            if len(self._unread) > _MAX_UNREAD:
                self._reject_stalled(next(iter(self._unread)))

    def _on_message(self, call: CoreCall, event: Any) -> None:  # noqa: ANN401 - as above
        if call not in self._unread:  # it was rejected
            return
        del self._unread[call]
        if call.cancelled:
            self._service.on_abandoned(call)
            return
        call.message = event.batch_operations[0].message() or b""
        # Admit again, because unread calls do not count as in flight. If they did, incomplete calls could block others.
        # If the first admission were final, many incomplete calls that complete at the same time would exceed the
        # limit.
        if (answer := self._guarded(self._service.admit, call, self.in_flight)) is not None:
            self._send(call, answer)
        else:
            call.queued = True
            self._queued += 1
            self._read.append(call)

    def _on_end(self, call: CoreCall, event: Any) -> None:  # noqa: ANN401 - as above
        call.cancelled = event.batch_operations[0].cancelled()
        if call.cancelled and call.queued:
            self._dequeue(call)

    def _dequeue(self, call: CoreCall) -> None:
        call.queued = False
        self._queued -= 1

    def _handle(self, call: CoreCall) -> None:
        answer = self._guarded(self._service.handle, call)
        if isinstance(answer, bytes):
            self._dequeue(call)
            self._send(call, answer)
        else:
            self._defer(call, answer)

    def _defer(self, call: CoreCall, deferred: Deferred) -> None:
        self._deferred[call] = self._awaited[call] = None
        self._dequeue(call)
        respond = partial(self._respond, call)
        try:
            deferred(respond)
        except BaseException:  # noqa: BLE001 - as in _guarded
            respond(self._service.fallback_response)

    def _respond(self, call: CoreCall, answer: bytes) -> None:
        """Send the *answer* of a deferred call, on any thread; only the first one is sent."""
        if self._awaited.pop(call, call) is call:
            return
        try:
            call.answer(self._bytes(answer), partial(self._on_sent, call))
            self._answered_elsewhere.append(call)
        except BaseException:  # not an error of the calling thread
            with suppress(BaseException):
                log.exception("a call failed")
        finally:
            del self._deferred[call]

    def _guarded(self, answer: Callable[..., T], *args: object) -> T | bytes:
        """Return what *answer* returns, or the fallback response: a call without an answer is an error to Envoy."""
        try:
            return answer(*args)
        except BaseException:  # noqa: BLE001 - nothing may escape
            return self._service.fallback_response

    def _bytes(self, answer: object) -> bytes:
        return answer if isinstance(answer, bytes) else self._service.fallback_response

    def _send(self, call: CoreCall, answer: bytes, *, unread: bool = False) -> None:
        call.answer(self._bytes(answer), partial(self._on_sent, call), unread=unread)
        self._track_unsent(call)

    def _track_unsent(self, call: CoreCall) -> None:
        """Keep an answered *call* until its caller has read the answer, but not too many of them."""
        call.release_request()
        if not call.sent:
            self._unsent[call] = None
        if len(self._unsent) > _MAX_UNSENT:
            oldest = next(iter(self._unsent))
            del self._unsent[oldest]
            oldest.cancel()

    def _on_sent(self, call: CoreCall, _event: Any) -> None:  # noqa: ANN401 - as above
        call.sent = True
        self._unsent.pop(call, None)

    def _on_shutdown(self, _event: Any) -> None:  # noqa: ANN401 - as above
        self._shut_down = True

    def _sweep_stalled(self) -> None:
        """Reject calls whose message does not come.

        It is called if there was no event, and it counts sweeps, not seconds: after a pause of the whole process,
        messages that arrived meanwhile are read before any call has been swept twice. A sweep is not counted while a
        thread of the core may hold a message.
        """
        now = self._monotonic()
        if not self._unread or now - self._swept < _SWEEP_INTERVAL:
            return
        self._swept = now
        if not self._others.all_sleep():
            return
        for call in self._unread:
            call.sweeps += 1
        for call in [call for call in self._unread if call.sweeps > _MAX_SWEEPS]:
            self._reject_stalled(call)

    def _reject_stalled(self, call: CoreCall) -> None:
        """Answer *call* before its message is read: to cancel it would be an RPC error, and the message may arrive."""
        del self._unread[call]
        self._send(call, self._guarded(self._service.reject, call))
