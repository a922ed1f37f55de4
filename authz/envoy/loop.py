"""The one thread that takes calls off gRPC's core, has them judged, and sends their answers.

grpcio's own server hands every call to a pool and back. Under one interpreter lock that gains nothing, and is most of
what a call costs: of 70 us of CPU time 20 are left here. So this stands on the layer below it, `grpc._cython.cygrpc`,
which is not promised to stay: pyproject.toml bounds the versions of grpcio.

Rules of this file:
1. What has come is met before the next call is judged: a queue that nobody sees cannot be refused.
2. Nothing here waits but `poll`. What has to wait is handed to a thread of its own.
3. Every call is answered or ended; no exception ends the loop.
4. Only this thread changes what is counted.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Final, Protocol

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it is compiled

from authz.envoy.check import Later
from authz.telemetry.judged import Metadata

log = logging.getLogger(__name__)

# Events between two judgements. A refusal makes two: a flood of them leaves a good part of the time to judge.
_MOST_EVENTS: Final = 32
_MOST_UNREAD: Final = 1024  # calls whose message has not come
_LOOK: Final = 0.25  # seconds between two looks at them
_PATIENCE: Final = 2  # looks that find a call without its message, and leave it
_NOTHING_MORE: Final = 0.0  # a deadline long past: what has come, or nothing
_ENDING: Final = 1.0  # seconds for cancelled calls to end
_NO_FLAGS: Final = 0


class Call:
    """One call, from where it is met to its end."""

    __slots__ = ("_core", "deadline", "gone", "looks", "message", "metadata", "method", "received")

    def __init__(self, event: Any, received: float) -> None:  # noqa: ANN401 - cygrpc has no types
        self._core: Final = event.call
        self.method: Final[bytes] = event.call_details.method
        self.deadline: Final[float] = event.call_details.deadline  # Unix time; far off where the caller named none
        self.metadata: Final[Metadata] = event.invocation_metadata
        self.received: Final = received  # on the monotonic clock
        self.message = b""
        self.gone = False  # whether its caller waits no more
        self.looks = 0

    def read(self, read: Callable[[Any], None], ended: Callable[[Any], None]) -> None:
        """Have *read* told of the message, and *ended* of the end."""
        self._core.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), ended)
        self._core.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), read)

    def answer(self, answer: bytes, sent: Callable[[Any], None], *, unread: bool = False) -> None:
        """Send *answer* and end well. Whatever this raises, the call is ended."""
        to_the_end = (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),) if unread else ()
        try:
            operations = (
                cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                cygrpc.SendMessageOperation(answer, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", _NO_FLAGS),
                *to_the_end,
            )
            self._core.start_server_batch(operations, sent)
        except BaseException:
            self.cancel()  # or its caller waits to the end of its time
            raise

    def reject(self, sent: Callable[[Any], None]) -> None:
        """End with UNIMPLEMENTED."""
        operations = (
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.unimplemented, b"no such method", _NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
        )
        self._core.start_server_batch(operations, sent)

    def cancel(self) -> None:
        """End it with CANCELLED."""
        self._core.cancel()


class Service(Protocol):
    """What answers calls. It never waits."""

    @property
    def methods(self) -> AbstractSet[bytes]:
        """The methods that it has."""

    @property
    def last_resort(self) -> bytes:
        """The answer where anything here raises."""

    def meet(self, call: Call, held: int) -> bytes | None:
        """Answer *call* without its message, with *held* others before it; or return None to have it judged."""

    def judge(self, call: Call) -> bytes | Later | None:
        """Answer *call*, which is read; or return what waits and then answers; or None where its caller has gone."""


class CallLoop:
    """Serves one Service on the addresses that were bound, from its start to its stop."""

    def __init__(
        self,
        service: Service,
        options: Iterable[tuple[str, int]],
        *,
        waiters: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """*options* are gRPC's channel arguments; *waiters* is how many calls may wait at one time."""
        self._service: Final = service
        self._monotonic: Final = monotonic
        self._waiters: Final = waiters
        self._waiting: Final[SimpleQueue[tuple[Call, Later] | None]] = SimpleQueue()
        self._queue: Final = cygrpc.CompletionQueue()
        self._server: Final = cygrpc.Server(tuple(options), False)  # noqa: FBT003 - no xDS
        self._server.register_completion_queue(self._queue)
        self._unread: Final[dict[Call, None]] = {}
        self._read: Final[deque[Call]] = deque()
        self._held = 0
        self._looked = monotonic()
        self._asked = False
        self._started = self._stopping = self._shut = False
        self._ended: Final = Event()

    @property
    def held(self) -> int:
        """How many calls are read and not answered."""
        return self._held

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on *address*; return its port. Raises RuntimeError."""
        own = () if credentials is None else (credentials._credentials,)  # type: ignore[attr-defined]  # noqa: SLF001 - as grpcio does
        port = self._server.add_http2_port(address.encode(), *own)
        if not port:
            raise RuntimeError(f"cannot listen on {address}")
        return int(port)

    def start(self) -> None:
        """Begin to take calls."""
        self._started = True
        self._server.start()
        Thread(target=self._run, name="calls", daemon=True).start()
        for index in range(self._waiters):
            Thread(target=self._wait, name=f"waiter-{index}", daemon=True).start()

    def stop(self, *, grace: float) -> None:
        """Take no new calls, and let those in flight end, at most *grace* seconds; then cancel them."""
        if not self._started:
            return
        self._stopping = True
        self._server.shutdown(self._queue, self._note_shutdown)
        if not self._ended.wait(grace):
            self._server.cancel_all_calls()
        if self._ended.wait(_ENDING):  # not before: it was still in use
            self._server.destroy()
        for _ in range(self._waiters):
            self._waiting.put(None)

    def _run(self) -> None:
        while not (self._shut and not self._held):
            try:
                self._turn()
            except BaseException:  # one call's trouble must not cost the loop
                with suppress(BaseException):  # nor must telling of it
                    log.exception("a call ended badly")
        self._ended.set()

    def _turn(self) -> None:
        """Meet what has come, and judge one call; where there is none, wait for one."""
        if not self._asked:
            self._ask()
        if not self._read:
            self._take(time.time() + _LOOK if self._unread else None)
            return
        for _ in range(_MOST_EVENTS):
            if not self._take(_NOTHING_MORE):
                break
        self._judge(self._read.popleft())

    def _ask(self) -> None:
        """Have gRPC's core hand over the next call."""
        if not self._stopping:
            with suppress(ValueError):  # it was stopped a moment ago
                self._server.request_call(self._queue, self._queue, self._meet)
                self._asked = True

    def _take(self, until: float | None) -> bool:
        """Handle the next event, and tell whether one came by *until*, in Unix time."""
        event = self._queue.poll(until)
        if event.tag is None:
            self._look_at_unread()
            return False
        event.tag(event)
        return True

    def _meet(self, event: Any) -> None:  # noqa: ANN401 - as above
        self._asked = False
        if not event.success:  # there is no call: the server shuts down
            return
        self._ask()
        call = Call(event, self._monotonic())
        if call.method not in self._service.methods:
            call.reject(_ignore)
        elif (answer := self._met(call)) is not None:
            call.answer(answer, _ignore, unread=True)
        else:
            self._unread[call] = None
            call.read(partial(self._note_message, call), partial(_note_end, call))
            if len(self._unread) > _MOST_UNREAD:
                self._forget(next(iter(self._unread)))

    def _met(self, call: Call) -> bytes | None:
        try:
            return self._service.meet(call, self._held)
        except BaseException:  # noqa: BLE001 - the last fence: what is not answered is an error to Envoy
            return self._service.last_resort

    def _note_message(self, call: Call, event: Any) -> None:  # noqa: ANN401 - as above
        self._unread.pop(call, None)
        call.message = event.batch_operations[0].message() or b""
        if (answer := self._met(call)) is not None:  # many were met at one time, and read later
            call.answer(answer, _ignore)
        else:
            self._held += 1
            self._read.append(call)

    def _judge(self, call: Call) -> None:
        try:
            answer = self._service.judge(call)
            if answer is not None and not isinstance(answer, bytes):
                self._waiting.put((call, answer))
                return
        except BaseException:  # noqa: BLE001 - the last fence, as above
            answer = self._service.last_resort
        self._held -= 1
        if answer is not None:
            call.answer(answer, _ignore)

    def _wait(self) -> None:
        """Wait for what answers later, on a thread that has nothing else to do."""
        while (waiting := self._waiting.get()) is not None:
            call, later = waiting
            try:
                answer = later()
            except BaseException:  # noqa: BLE001 - the last fence, as above
                answer = self._service.last_resort
            try:
                call.answer(answer, self._note_late)
            except BaseException:  # one call's trouble must not cost a thread
                log.exception("a call ended badly")

    def _note_late(self, _event: Any) -> None:  # noqa: ANN401 - as above
        self._held -= 1

    def _note_shutdown(self, _event: Any) -> None:  # noqa: ANN401 - as above
        self._shut = True

    def _look_at_unread(self) -> None:
        """End calls whose message does not come.

        It is called when no event was there, and patience is counted in looks: after a pause of the whole process,
        messages that came meanwhile are read before any call has been looked at twice.
        """
        now = self._monotonic()
        if not self._unread or now - self._looked < _LOOK:
            return
        self._looked = now
        for call in self._unread:
            call.looks += 1
        for call in [call for call in self._unread if call.looks > _PATIENCE]:
            self._forget(call)

    def _forget(self, call: Call) -> None:
        del self._unread[call]
        call.gone = True
        call.cancel()


def _note_end(call: Call, event: Any) -> None:  # noqa: ANN401 - as above
    call.gone = event.batch_operations[0].cancelled()


def _ignore(_event: Any) -> None:  # noqa: ANN401 - as above
    """There is nothing to do after an answer was sent."""
