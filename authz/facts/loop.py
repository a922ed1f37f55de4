"""An event loop: one thread waits for sockets, for timers, and for work from other threads.

Rules of this file:
1. Any thread may call `wake`; everything else is for the thread of the loop.
2. Only `run_once` blocks. Callbacks must not block; their exceptions are logged and do not end the thread.
3. A thread that is awake is not woken. No wake is lost: another thread queues its work before it checks whether this
   one sleeps, and this one sets `_sleeping` before it checks for work.
4. A socket stays registered while it is open, so that to watch it again takes no system call. If it becomes ready and
   is not watched, it is unregistered.
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

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
_NONE: Final = 0
_MAX_EVENTS: Final = 64  # of one sleep; the others are found by the next


class Loop:
    """Calls the callbacks of ready sockets and due timers. *monotonic* is a clock in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic: Final = monotonic
        self._epoll: Final = select.epoll()
        self._watches: Final[dict[int, Watch]] = {}  # registered, by descriptor
        self._timers: Final[list[tuple[float, int, Timer]]] = []  # a heap
        self._order: Final = count()
        self._waker: _Waker | None = None
        self._sleeping = False

    def open(self) -> None:
        """Open the waker: without it the loop cannot be woken, and must not sleep."""
        if self._waker is None:
            self._waker = _Waker()
            self._epoll.register(self._waker.descriptor, READ | select.EPOLLET)

    def wake(self) -> None:
        """End the sleep of the waiting thread, if it sleeps."""
        if self._sleeping and self._waker is not None:
            self._sleeping = False
            self._waker.notify()

    def run_once(self, seconds: float | None, has_work: Callable[[], object]) -> None:
        """Sleep until a socket is ready, a timer is due or *has_work*, for at most *seconds*; call the callbacks."""
        if self._timers:
            left = max(self._timers[0][0] - self.monotonic(), 0.0)
            seconds = left if seconds is None else min(left, seconds)
        if seconds != 0.0 or self._watches:
            for descriptor, _ in self._sleep(seconds, has_work):
                if (watch := self._watches.get(descriptor)) is not None:
                    _call(watch.fire)
        if self._timers:
            self._fire_due_timers()

    def _sleep(self, seconds: float | None, has_work: Callable[[], object]) -> list[tuple[int, int]]:
        self._sleeping = seconds != 0.0
        try:
            if has_work():
                seconds = 0.0
            return self._epoll.poll(seconds, _MAX_EVENTS)
        finally:
            self._sleeping = False

    def register(self, watch: Watch, descriptor: int, event: int) -> None:
        """Register an open socket for *event*, READ or WRITE. Raises OSError."""
        if self._watches.get(descriptor) is watch:
            self._epoll.modify(descriptor, event)
        else:  # the descriptor may have been that of a closed socket
            self._epoll.register(descriptor, event)
            self._watches[descriptor] = watch

    def unregister(self, descriptor: int) -> None:
        """Unregister a socket, which may be closed."""
        del self._watches[descriptor]
        with suppress(OSError):
            self._epoll.unregister(descriptor)

    def schedule(self, at: float, timer: Timer) -> None:
        """Call the `fire` of *timer* at the instant *at*."""
        heappush(self._timers, (at, next(self._order), timer))

    def _fire_due_timers(self) -> None:
        now = self.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heappop(self._timers)
            _call(timer.fire)


class Watch:
    """Watches one socket for a *loop*, by its *descriptor*. The socket may be closed at any time, and the watch stays.

    The system forgets a registered socket when it is closed, and another socket may get its descriptor.
    """

    __slots__ = ("_call", "_descriptor", "_event", "_loop")

    def __init__(self, loop: Loop, descriptor: int) -> None:
        self._loop: Final = loop
        self._descriptor: Final = descriptor
        self._event = _NONE  # for which it is registered
        self._call: Callable[[], None] | None = None

    def set(self, event: int, call: Callable[[], None]) -> None:
        """Call *call*, once, when the socket is ready for *event*, READ or WRITE, or has failed. Raises OSError."""
        if self._event != event:
            self._loop.register(self, self._descriptor, event)
            self._event = event
        self._call = call

    def clear(self) -> None:
        """Cancel the call."""
        self._call = None

    def fire(self) -> None:
        """Make the call; without one, unregister the socket."""
        call, self._call = self._call, None
        if call is not None:
            call()
        else:
            self._event = _NONE
            self._loop.unregister(self._descriptor)


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


class _Waker:
    """An event that ends the sleep of its reader, which need not read it: each notification is an edge.

    It is closed when collected: no thread has its descriptor any more.
    """

    def __init__(self) -> None:
        self.descriptor: Final = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def notify(self) -> None:
        os.eventfd_write(self.descriptor, 1)

    def __del__(self) -> None:
        os.close(self.descriptor)


def _call(call: Callable[[], None]) -> None:
    try:
        call()
    except BaseException:  # one socket, or one timer: the thread serves others too
        with suppress(BaseException):
            log.exception("a call of the loop failed")
