"""Write log lines on a thread of their own: a reader of our logs who stops reading must not stop our judging.

A full pipe blocks whoever writes to it, and every thread that logs waits for the one that writes. Here lines wait in a
bounded queue; beyond it they are dropped, and how many is told once there is room.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from queue import Full, Queue
from threading import Thread
from typing import Final

MAX_LINES: Final = 10_000  # that wait; some 5 MB
_POLL: Final = 0.01  # seconds


class BackgroundStream:
    """A stream for a logging handler, in front of the open file *descriptor*."""

    def __init__(self, descriptor: int, *, max_lines: int = MAX_LINES) -> None:
        self._descriptor: Final = descriptor
        self._lines: Final[Queue[str]] = Queue(max_lines)
        self._dropped = 0
        Thread(target=self._write_all, name="log", daemon=True).start()

    def write(self, text: str) -> int:
        """Take a line, or drop it where too many wait. Never waits."""
        try:
            self._lines.put_nowait(text)
        except Full:
            self._dropped += 1
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
        while True:
            self._write(self._lines.get())
            self._lines.task_done()
            if self._dropped and self._lines.empty():
                dropped, self._dropped = self._dropped, 0
                self._write(f"{dropped} log lines were dropped: what reads them did not keep up\n")

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        with suppress(OSError):  # nobody will ever read it, and there is no place left to say so
            while data:
                data = data[os.write(self._descriptor, data) :]
