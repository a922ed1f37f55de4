"""Stop signals as an exception at a safe moment."""

from __future__ import annotations

import queue
import signal
from types import FrameType, TracebackType
from typing import Self

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Raised after a stop signal with this number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """Turns SIGINT, SIGTERM and SIGHUP into Stopped, raised at the next pause and never during the start of a part.

    A context manager for the main thread. A signal that comes while the parts are being stopped changes nothing.
    """

    def __init__(self) -> None:
        self._seen: queue.SimpleQueue[int] = queue.SimpleQueue()  # the only queue that a signal handler may put into

    def pause(self, seconds: float) -> None:
        """Wait for *seconds*. Raises Stopped as soon as a signal came."""
        try:
            number = self._seen.get(timeout=seconds)
        except queue.Empty:
            return
        raise Stopped(number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._seen.put(number)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in _STOP}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
