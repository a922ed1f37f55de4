"""The one thread that takes calls off gRPC's core, has them judged, and sends their answers.

grpcio's own server hands every call to a pool and back. Under one interpreter lock that gains nothing, and is most of
what a call costs: of 70 us of CPU time 20 are left here. So this stands on the layer below it, `grpc._cython.cygrpc`,
which is not promised to stay: pyproject.toml bounds the versions of grpcio.

Rules of this file:
1. What has come is met before the next call is judged: a queue that nobody sees cannot be refused.
2. Nothing here waits but `poll`. What has to wait is handed to a thread of its own.
3. Every call is answered, but where its caller has gone or the answer cannot be written; no exception ends the loop.
4. Whatever callers can pile up has a bound: calls unread, calls held, answers unsent.
5. Each number has one writer: this thread, or one that waits.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from math import inf
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Final, Protocol, TypeVar

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it is compiled

from authz.envoy.call import Call
from authz.envoy.check import Later

log = logging.getLogger(__name__)

T = TypeVar("T")

# Calls that gRPC's core may hand over before it is asked again. One that comes while it has not been asked is never
# answered where the server is stopped just then.
_AHEAD: Final = 16
# Events between two judgements. A refusal makes two: a flood of them leaves a good part of the time to judge.
_MOST_EVENTS: Final = 32
_MOST_UNREAD: Final = 1024  # calls whose message has not come
_MOST_UNSENT: Final = 2048  # answers that their callers do not read
_LOOK: Final = 0.25  # seconds between two looks at calls whose message has not come
_PATIENCE: Final = 2  # looks that find a call without its message, and leave it
_NOTHING_MORE: Final = 0.0  # a deadline long past: what has come, or nothing
# At the stop what has come is answered first: until nothing came for so many seconds, or for so long in all.
_SILENCE: Final = 0.05
_LAST_CALLS: Final = 0.25
_ENDING: Final = 1.0  # seconds for cancelled calls to end


class Service(Protocol):
    """What answers calls. None of it waits."""

    @property
    def methods(self) -> AbstractSet[bytes]:
        """The methods that it has."""

    @property
    def last_resort(self) -> bytes:
        """The answer where anything here raises."""

    def meet(self, call: Call, held: int) -> bytes | None:
        """Answer *call* without its message, with *held* others before it; or return None to have it judged."""

    def judge(self, call: Call) -> bytes | Later:
        """Answer *call*, which is read; or return what waits and then answers."""

    def refuse(self, call: Call) -> bytes:
        """Answer *call*, for which there is no room."""

    def give_up(self, call: Call) -> None:
        """Note that nobody waits for *call* any more, which was not judged."""


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
        self._waited: Final = [0] * waiters  # calls that each of them has answered
        self._waiting: Final[SimpleQueue[tuple[Call, Later] | None]] = SimpleQueue()
        self._queue: Final = cygrpc.CompletionQueue()
        self._server: Final = cygrpc.Server(tuple(options), False)  # noqa: FBT003 - no xDS
        self._server.register_completion_queue(self._queue)
        self._unread: Final[dict[Call, None]] = {}  # met, and their message has not come
        self._read: Final[deque[Call]] = deque()  # to be judged
        self._unsent: Final[dict[Call, None]] = {}  # answered, and not read by their callers
        self._late: Final[deque[Call]] = deque()  # answered by one who waited
        self._queued = self._handed = 0  # calls to be judged, of callers who wait; calls that were handed to who waits
        self._asked = 0  # calls that gRPC's core may hand over
        self._looked = monotonic()
        self._started = self._closed = self._shut = False
        self._stop_by = inf  # on the monotonic clock
        self._ended: Final = Event()

    @property
    def held(self) -> int:
        """How many calls are read and not answered, of callers who wait."""
        return self._queued + self._handed - sum(self._waited)

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
        for index in range(len(self._waited)):
            Thread(target=self._wait, args=(index,), name=f"waiter-{index}", daemon=True).start()

    def stop(self, *, grace: float) -> None:
        """Take no new calls, and let those in flight end, at most *grace* seconds; then cancel them."""
        if not self._started:
            return
        self._stop_by = self._monotonic() + min(grace, _LAST_CALLS)
        if not self._ended.wait(grace):
            self._close()
            self._server.cancel_all_calls()
        if self._ended.wait(_ENDING):  # not before: it was still in use
            self._server.destroy()
        for _ in self._waited:
            self._waiting.put(None)

    def _run(self) -> None:
        while not (self._shut and not self.held):
            try:
                self._turn()
            except BaseException:  # one call's trouble must not cost the loop
                with suppress(BaseException):  # nor must telling of it
                    log.exception("a call ended badly")
        self._ended.set()

    def _turn(self) -> None:
        """Meet what has come, and judge one call; where there is none, wait for one."""
        self._ask()
        while self._late:
            self._await_reader(self._late.popleft())
        if self._is_stopping and self._monotonic() >= self._stop_by:
            self._close()
        if self._read:
            self._meet_many()
            self._judge_next()
        elif not self._is_stopping:
            self._take(time.time() + _LOOK)
        elif not self._take(time.time() + _SILENCE):
            self._close()

    @property
    def _is_stopping(self) -> bool:
        return self._stop_by < inf and not self._closed

    def _meet_many(self) -> None:
        for _ in range(_MOST_EVENTS):
            if not self._take(_NOTHING_MORE):
                return

    def _judge_next(self) -> None:
        """Judge the call that came first, of those whose callers still wait."""
        while self._read:
            call = self._read.popleft()
            if not call.gone:
                self._judge(call)
                return
            self._service.give_up(call)

    def _close(self) -> None:
        """Let no new calls in."""
        self._closed = True
        self._server.shutdown(self._queue, self._note_shutdown)

    def _ask(self) -> None:
        """Have gRPC's core hand over the next calls."""
        with suppress(ValueError):  # it was closed a moment ago
            while self._asked < _AHEAD and not self._closed:
                self._server.request_call(self._queue, self._queue, self._meet)
                self._asked += 1

    def _take(self, until: float) -> bool:
        """Handle the next event, and tell whether one came by *until*, in Unix time."""
        try:
            event = self._poll(until)
        except BaseException:
            self._asked -= 1  # it may have been a call
            raise
        if event.tag is None:
            self._look_at_unread()
            return False
        event.tag(event)
        return True

    def _poll(self, until: float) -> Any:  # noqa: ANN401 - cygrpc has no types
        return self._queue.poll(until)

    def _meet(self, event: Any) -> None:  # noqa: ANN401 - as above
        self._asked -= 1
        if not event.success:  # there is no call: the server shuts down
            return
        self._ask()
        call = Call(event, self._monotonic(), time.time())
        if call.method not in self._service.methods:
            call.reject(partial(self._note_sent, call))
            self._await_reader(call)
        elif (answer := self._fence(self._service.meet, call, self.held)) is not None:
            self._send(call, answer, unread=True)
        else:
            self._unread[call] = None
            call.read(partial(self._note_message, call), partial(self._note_end, call))
            if len(self._unread) > _MOST_UNREAD:
                self._turn_away(next(iter(self._unread)))

    def _note_message(self, call: Call, event: Any) -> None:  # noqa: ANN401 - as above
        if call not in self._unread:  # it was turned away
            return
        del self._unread[call]
        if call.gone:
            self._service.give_up(call)
            return
        call.message = event.batch_operations[0].message() or b""
        if (answer := self._fence(self._service.meet, call, self.held)) is not None:
            self._send(call, answer)  # many were met at one time, and read later
        else:
            call.counted = True
            self._queued += 1
            self._read.append(call)

    def _note_end(self, call: Call, event: Any) -> None:  # noqa: ANN401 - as above
        call.gone = event.batch_operations[0].cancelled()
        if call.gone and call.counted:
            self._release(call)

    def _release(self, call: Call) -> None:
        call.counted = False
        self._queued -= 1

    def _judge(self, call: Call) -> None:
        answer = self._fence(self._service.judge, call)
        self._release(call)
        if isinstance(answer, bytes):
            self._send(call, answer)
        else:
            self._handed += 1
            self._waiting.put((call, answer))

    def _wait(self, index: int) -> None:
        """Wait for what answers later, on a thread that has nothing else to do."""
        while (waiting := self._waiting.get()) is not None:
            call, later = waiting
            try:
                call.answer(self._fence(later), partial(self._note_sent, call))
                self._late.append(call)
            except BaseException:  # one call's trouble must not cost a thread
                with suppress(BaseException):
                    log.exception("a call ended badly")
            finally:
                self._waited[index] += 1

    def _fence(self, answer: Callable[..., T], *args: object) -> T | bytes:
        """Return what *answer* returns, or the last resort: a call without an answer is an error to Envoy."""
        try:
            return answer(*args)
        except BaseException:  # noqa: BLE001 - it is the last fence
            return self._service.last_resort

    def _send(self, call: Call, answer: bytes, *, unread: bool = False) -> None:
        call.answer(answer, partial(self._note_sent, call), unread=unread)
        self._await_reader(call)

    def _await_reader(self, call: Call) -> None:
        """Wait for the caller of an answered *call* to read, but not for too many of them."""
        call.forget_question()
        if not call.sent:
            self._unsent[call] = None
        if len(self._unsent) > _MOST_UNSENT:
            oldest = next(iter(self._unsent))
            del self._unsent[oldest]
            oldest.cancel()

    def _note_sent(self, call: Call, _event: Any) -> None:  # noqa: ANN401 - as above
        call.sent = True
        self._unsent.pop(call, None)

    def _note_shutdown(self, _event: Any) -> None:  # noqa: ANN401 - as above
        self._shut = True

    def _look_at_unread(self) -> None:
        """Turn calls away whose message does not come.

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
            self._turn_away(call)

    def _turn_away(self, call: Call) -> None:
        """Answer *call* unread, and not by cancelling it: that would be an error, and its message may be on its way."""
        del self._unread[call]
        self._send(call, self._fence(self._service.refuse, call))
