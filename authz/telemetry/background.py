"""Write log lines on a separate thread: a log reader that stops reading must not stop the decisions.

A full pipe would block every thread that logs. Here lines wait in a bounded queue, and further lines are dropped. Lost
lines are counted, and a log line reports their number as soon as there is room.
"""

from __future__ import annotations

import os
import select
import time
from queue import Full, Queue
from threading import Lock, Thread
from typing import Final

MAX_LINES: Final = 10_000  # in the queue; about 5 MB
_POLL: Final = 0.01  # seconds


class BackgroundStream:
    """A stream for a logging handler, in front of the open file *descriptor*."""

    def __init__(self, descriptor: int, *, max_lines: int = MAX_LINES) -> None:
        self._descriptor: Final = descriptor
        self._lines: Final[Queue[str]] = Queue(max_lines)
        self._lost = 0
        self._lock: Final = Lock()  # guards the counter
        Thread(target=self._write_all, name="log", daemon=True).start()

    @property
    def lost(self) -> int:
        """The number of lines lost since the start: dropped, or not written."""
        return self._lost

    def write(self, text: str) -> int:
        """Queue a line, or drop it if the queue is full. Never blocks."""
        try:
            self._lines.put_nowait(text)
        except Full:
            self._count_lost()
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are written as soon as possible."""

    def drain(self, *, seconds: float) -> bool:
        """Wait at most *seconds* until every line is written; return whether it is."""
        deadline = time.monotonic() + seconds
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(_POLL)
        return not self._lines.unfinished_tasks

    def _write_all(self) -> None:
        reported = 0
        while True:
            if not self._write(self._lines.get()):
                self._count_lost()
            self._lines.task_done()
            unreported = self._lost - reported
            if (
                unreported
                and self._lines.empty()
                and self._write(f"{unreported} log lines were dropped: their reader did not keep up\n")
            ):
                reported += unreported

    def _write(self, text: str) -> bool:
        """Write all of *text*, however long that takes; False if it cannot be written (closed pipe, full disk)."""
        data = text.encode("utf-8", "backslashreplace")
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # a reader, or the shell, may have set O_NONBLOCK for all users of the pipe
                    writable = select.poll()
                    writable.register(self._descriptor, select.POLLOUT)
                    writable.poll()
        except OSError:
            return False
        return True

    def _count_lost(self) -> None:
        with self._lock:
            self._lost += 1
