"""Write log lines on a thread of their own: a reader of our logs who stops reading must not stop our judging.

A full pipe blocks whoever writes to it, and every thread that logs waits for the one that writes. Here lines wait in a
bounded queue; beyond it they are dropped. Every line that is lost is counted, and a line says how many were, once there
is room for it.
"""

from __future__ import annotations

import os
import select
import time
from queue import Full, Queue
from threading import Lock, Thread
from typing import Final

MAX_LINES: Final = 10_000  # that wait; some 5 MB
_POLL: Final = 0.01  # seconds


class BackgroundStream:
    """A stream for a logging handler, in front of the open file *descriptor*."""

    def __init__(self, descriptor: int, *, max_lines: int = MAX_LINES) -> None:
        self._descriptor: Final = descriptor
        self._lines: Final[Queue[str]] = Queue(max_lines)
        self._lost = 0
        self._lock: Final = Lock()  # only while a line that is lost is counted
        Thread(target=self._write_all, name="log", daemon=True).start()

    @property
    def lost(self) -> int:
        """The lines that were lost since the start: dropped, or not written."""
        return self._lost

    def write(self, text: str) -> int:
        """Take a line, or drop it where too many wait. Never waits."""
        try:
            self._lines.put_nowait(text)
        except Full:
            self._count_lost()
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are written as soon as they can be."""

    def drain(self, *, seconds: float) -> bool:
        """Wait at most *seconds* until every line is written; tell whether that is so."""
        deadline = time.monotonic() + seconds
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(_POLL)
        return not self._lines.unfinished_tasks

    def _write_all(self) -> None:
        said = 0
        while True:
            if not self._write(self._lines.get()):
                self._count_lost()
            self._lines.task_done()
            unsaid = self._lost - said
            if (
                unsaid
                and self._lines.empty()
                and self._write(f"{unsaid} log lines were dropped: what reads them did not keep up\n")
            ):
                said += unsaid

    def _write(self, text: str) -> bool:
        """Write all of *text*, however long that takes; False if it cannot be written (closed pipe, full disk)."""
        data = text.encode("utf-8", "backslashreplace")
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # a reader, or the shell, may have set O_NONBLOCK for all that share the pipe
                    room = select.poll()
                    room.register(self._descriptor, select.POLLOUT)
                    room.poll()
        except OSError:
            return False
        return True

    def _count_lost(self) -> None:
        with self._lock:
            self._lost += 1
