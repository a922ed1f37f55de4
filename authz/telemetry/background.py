"""Write log lines on a separate thread: a log reader that stops reading must not stop the decisions.

A full pipe would block every thread that logs. Here lines wait in a bounded queue, and further lines are dropped. Lost
lines are counted, and a log line reports their number as soon as there is room.

A line that comes after a silence is written at once. Those that follow it are written together, after a pause: to wake
up a thread and to call the kernel costs more than to make a line.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Sequence
from threading import Event, Lock, Thread
from typing import Final

MAX_LINES: Final = 10_000  # in the queue; about 5 MB
_MAX_BATCH: Final = 256  # lines that are written at once
_PAUSE: Final = 0.02  # seconds between two batches
_POLL: Final = 0.01  # seconds


class BackgroundStream:
    """A stream for a logging handler, in front of the open file *descriptor*."""

    def __init__(self, descriptor: int, *, max_lines: int = MAX_LINES) -> None:
        self._descriptor: Final = descriptor
        self._max_lines: Final = max_lines
        self._lines: Final[deque[str]] = deque()
        self._awake: Final = Event()  # the writing thread is, or is about to be
        self._hurry: Final = Event()  # no more pauses
        self._writing = False
        self._lost = 0
        self._lock: Final = Lock()  # guards the counter
        Thread(target=self._write_all, name="log", daemon=True).start()

    @property
    def lost(self) -> int:
        """The number of lines lost since the start: dropped, or not written."""
        return self._lost

    def write(self, text: str) -> int:
        """Queue a line, or drop it if the queue is full. Never blocks."""
        if len(self._lines) < self._max_lines:
            self._lines.append(text)
            if not self._awake.is_set():
                self._awake.set()
        else:
            self._count_lost(1)
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are written as soon as possible."""

    def drain(self, *, seconds: float) -> bool:
        """Wait at most *seconds* until every line is written; return whether it is."""
        self._hurry.set()
        deadline = time.monotonic() + seconds
        while self._is_busy() and time.monotonic() < deadline:
            time.sleep(_POLL)
        return not self._is_busy()

    def _is_busy(self) -> bool:
        return bool(self._lines) or self._writing

    def _write_all(self) -> None:
        reported = 0
        while True:
            self._await_lines()
            self._writing = True
            batch = [self._lines.popleft() for _ in range(min(len(self._lines), _MAX_BATCH))]
            if (unwritten := self._write(batch)) > 0:
                self._count_lost(unwritten)
            is_last = not self._lines
            unreported = self._lost - reported
            if (
                unreported
                and is_last
                and not self._write([f"{unreported} log lines were dropped: their reader did not keep up\n"])
            ):
                reported += unreported
            self._writing = False
            if is_last:
                self._hurry.wait(_PAUSE)

    def _await_lines(self) -> None:
        while not self._lines:
            self._awake.clear()
            if self._lines:  # one was queued before the event was cleared, and nothing will set it
                return
            self._awake.wait()

    def _write(self, lines: Sequence[str]) -> int:
        """Write all *lines*, however long that takes; return how many cannot be (closed pipe, full disk)."""
        encoded = [line.encode("utf-8", "backslashreplace") for line in lines]
        data = b"".join(encoded)
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # a reader, or the shell, may have set O_NONBLOCK for all users of the pipe
                    writable = select.poll()
                    writable.register(self._descriptor, select.POLLOUT)
                    writable.poll()
        except OSError:
            return _count_last(encoded, len(data))
        return 0

    def _count_lost(self, number: int) -> None:
        with self._lock:
            self._lost += number


def _count_last(lines: Sequence[bytes], octets: int) -> int:
    """Return how many of *lines* are in the last *octets*, in whole or in part."""
    count = 0
    for line in reversed(lines):
        if octets <= 0:
            break
        octets -= len(line)
        count += 1
    return count
