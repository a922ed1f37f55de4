"""An event loop: one thread waits for sockets, for timers, and for work from other threads.

Rules of this file:
1. Any thread may call `wake`; everything else is for the thread of the loop.
2. Only `run_once` blocks. Callbacks must not block; their exceptions are logged and do not end the thread.
3. A thread that is awake is not woken. No wake is lost: another thread queues its work before it checks whether this
   one sleeps, and this one sets `_sleeping` before it checks for work.
"""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import Final

log = logging.getLogger(__name__)

READ: Final = select.POLLIN
WRITE: Final = select.POLLOUT


class Loop:
    """Calls the callbacks of ready sockets and due timers. *monotonic* is a clock in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic: Final = monotonic
        self._poll: Final = select.poll()  # its cost grows with the sockets; a lane has only some dozens
        self._ready: Final[dict[int, Callable[[], None]]] = {}
        self._timers: Final[list[tuple[float, int, Timer]]] = []  # a heap
        self._order: Final = count()
        self._self_pipe: _SelfPipe | None = None
        self._sleeping = False

    def open(self) -> None:
        """Open the self-pipe: without it the loop cannot be woken, and must not sleep."""
        if self._self_pipe is None:
            self._self_pipe = _SelfPipe()
            self._poll.register(self._self_pipe.receiver, READ)

    def wake(self) -> None:
        """End the sleep of the waiting thread, if it sleeps."""
        if self._sleeping and self._self_pipe is not None:
            self._sleeping = False
            self._self_pipe.notify()

    def watch(self, descriptor: int, event: int, ready: Callable[[], None]) -> None:
        """Call *ready*, once, when the socket is ready for *event*, READ or WRITE, or has failed."""
        self._poll.register(descriptor, event)
        self._ready[descriptor] = ready

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a socket."""
        if self._ready.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def run_once(self, seconds: float | None, has_work: Callable[[], object]) -> None:
        """Sleep until a socket is ready, a timer is due or *has_work*, for at most *seconds*; call the callbacks."""
        if self._timers:
            left = max(self._timers[0][0] - self.monotonic(), 0.0)
            seconds = left if seconds is None else min(left, seconds)
        if seconds != 0.0 or self._ready:
            for descriptor, _ in self._sleep(seconds, has_work):
                if (ready := self._ready.get(descriptor)) is not None:
                    self.unwatch(descriptor)
                    _call(ready)
                elif self._self_pipe is not None:
                    self._self_pipe.drain()
        if self._timers:
            self._fire_due_timers()

    def _sleep(self, seconds: float | None, has_work: Callable[[], object]) -> list[tuple[int, int]]:
        self._sleeping = seconds != 0.0
        try:
            if has_work():
                seconds = 0.0
            return self._poll.poll(None if seconds is None else 1000.0 * seconds)
        finally:
            self._sleeping = False

    def schedule(self, when: float, timer: Timer) -> None:
        """Call the `fire` of *timer* at the instant *when*."""
        heappush(self._timers, (when, next(self._order), timer))

    def _fire_due_timers(self) -> None:
        now = self.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heappop(self._timers)
            _call(timer.fire)


class Timer:
    """A timer of *loop* whose instant may be moved to a later one, or cleared; it is queued at most once."""

    __slots__ = ("_call", "_due", "_is_queued", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop: Final = loop
        self._call: Callable[[], None] | None = None
        self._due = 0.0
        self._is_queued = False

    def set(self, due: float, call: Callable[[], None]) -> None:
        """Call *call* at the instant *due*, which is not before the previous one, instead of the previous call."""
        self._due, self._call = due, call
        self._queue()

    def clear(self) -> None:
        """Cancel the call."""
        self._call = None

    def fire(self) -> None:
        """Make the call if it is due; if it was moved to a later instant, queue the timer again."""
        self._is_queued = False
        call = self._call
        if call is None:
            return
        if self._loop.monotonic() < self._due:
            self._queue()
        else:
            self._call = None
            call()

    def _queue(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            self._loop.schedule(self._due, self)


class _SelfPipe:
    """A pipe that ends the poll of its reader. It is closed when collected: no thread has its descriptor any more."""

    def __init__(self) -> None:
        self.receiver, self._sender = os.pipe()
        os.set_blocking(self.receiver, False)
        os.set_blocking(self._sender, False)

    def notify(self) -> None:
        with suppress(BlockingIOError):  # it is full: the reader wakes anyway
            os.write(self._sender, b"\0")

    def drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.receiver, 4096)

    def __del__(self) -> None:
        os.close(self.receiver)
        os.close(self._sender)


def _call(call: Callable[[], None]) -> None:
    try:
        call()
    except BaseException:  # one socket, or one timer: the thread serves others too
        with suppress(BaseException):
            log.exception("a call of the loop failed")
