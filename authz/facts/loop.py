"""What one thread waits for: sockets, the time, and what other threads have for it.

Rules of this file:
1. Any thread may call `wake`; everything else is for the thread that waits.
2. Only `turn` blocks. What it calls must not block, and cannot end the thread.
3. A thread that is awake is not woken. Another thread first puts down what it has, and then looks whether this one
   sleeps; this one first says that it sleeps, and then looks whether there is something. So one of them sees the other.
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
    """Calls what is ready, or due. *monotonic* is a clock in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic: Final = monotonic
        self._poll: Final = select.poll()  # its cost grows with the sockets; a lane has only some dozens
        self._ready: Final[dict[int, Callable[[], None]]] = {}
        self._timers: Final[list[tuple[float, int, Timer]]] = []  # a heap
        self._order: Final = count()
        self._bell: _Bell | None = None
        self._sleeps = False

    def open(self) -> None:
        """Prepare for `wake`: without it the loop cannot be woken, and must not sleep."""
        if self._bell is None:
            self._bell = _Bell()
            self._poll.register(self._bell.receiver, READ)

    def wake(self) -> None:
        """End the sleep of the waiting thread, if it sleeps."""
        if self._sleeps and self._bell is not None:
            self._sleeps = False
            self._bell.ring()

    def watch(self, descriptor: int, event: int, ready: Callable[[], None]) -> None:
        """Call *ready*, once, when the socket is ready for *event*, READ or WRITE, or has failed."""
        self._poll.register(descriptor, event)
        self._ready[descriptor] = ready

    def forget(self, descriptor: int) -> None:
        """Watch a socket no longer."""
        if self._ready.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def turn(self, seconds: float | None, has_work: Callable[[], object]) -> None:
        """Sleep, for *seconds* at most, until something is ready, or due, or there *has_work*; call what is ready."""
        if self._timers:
            left = max(self._timers[0][0] - self.monotonic(), 0.0)
            seconds = left if seconds is None else min(left, seconds)
        if seconds != 0.0 or self._ready:
            for descriptor, _ in self._sleep(seconds, has_work):
                if (ready := self._ready.get(descriptor)) is not None:
                    self.forget(descriptor)
                    _call(ready)
                elif self._bell is not None:
                    self._bell.silence()
        if self._timers:
            self._call_due()

    def _sleep(self, seconds: float | None, has_work: Callable[[], object]) -> list[tuple[int, int]]:
        self._sleeps = seconds != 0.0
        try:
            if has_work():
                seconds = 0.0
            return self._poll.poll(None if seconds is None else 1000.0 * seconds)
        finally:
            self._sleeps = False

    def add(self, when: float, timer: Timer) -> None:
        """Look at *timer* at the instant *when*."""
        heappush(self._timers, (when, next(self._order), timer))

    def _call_due(self) -> None:
        now = self.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heappop(self._timers)
            _call(timer.come)


class Timer:
    """Calls something at an instant that may be moved to a later one, or cleared. In its *loop* it takes one place."""

    __slots__ = ("_call", "_due", "_is_queued", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop: Final = loop
        self._call: Callable[[], None] | None = None
        self._due = 0.0
        self._is_queued = False

    def set(self, due: float, call: Callable[[], None]) -> None:
        """Call *call* at the instant *due*, which is not before the last one, and nothing else."""
        self._due, self._call = due, call
        self._queue()

    def clear(self) -> None:
        """Call nothing."""
        self._call = None

    def come(self) -> None:
        """Call what is due now, or wait for it."""
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
            self._loop.add(self._due, self)


class _Bell:
    """A pipe whose reader sleeps. It is closed when no one has it any more: nothing rings a descriptor of others."""

    def __init__(self) -> None:
        self.receiver, self._sender = os.pipe()
        os.set_blocking(self.receiver, False)
        os.set_blocking(self._sender, False)

    def ring(self) -> None:
        with suppress(BlockingIOError):  # it is full: it rings
            os.write(self._sender, b"\0")

    def silence(self) -> None:
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
