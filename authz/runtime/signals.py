"""Signal handling from the first line of the program on.

Rules of this file:
1. All handled signals are blocked before any thread starts, so that every thread blocks them, and received by waiting
   for them. A Python handler would run only when the main thread executes Python code.
2. While the process starts, a thread waits for termination signals, and the first one ends the process at once.
   Without it, a signal to PID 1 of a container during the start would be discarded, or delayed until the start is over.
3. This module imports only what is fast to import. Signals during the interpreter's own start cannot be handled.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Final, NoReturn

END: Final = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD: Final = signal.SIGHUP
SIGNALS: Final = END | {RELOAD, signal.SIGCHLD}
_RELEASE: Final = signal.SIGURG  # wakes up the waiting thread
_EXIT_BY_SIGNAL: Final = 128  # added to the number of the signal, as shells do


class StartGuard:
    """Ends the process at the first termination signal, from now until `release` is called."""

    def __init__(self) -> None:
        """Block the signals. Only the main thread may call this."""
        self._mask: Final = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS | {_RELEASE})
        self._on_interrupt: Final = signal.signal(signal.SIGINT, signal.SIG_DFL)  # as for SIGTERM: no exception
        self._start()

    def release(self) -> None:
        """End the thread: from now on the caller must wait for the signals, which stay blocked."""
        if self._thread.is_alive() and self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, _RELEASE)
            self._thread.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the thread meanwhile, so that this process may be forked. A signal is received afterwards."""
        self.release()
        try:
            yield
        finally:
            self._start()

    def close(self) -> None:
        """Restore signal mask and handler."""
        self.release()
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _start(self) -> None:
        self._thread = Thread(target=self._wait, name="start-guard", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        number = signal.sigwait(END | {_RELEASE})
        if number in END:
            end_by(number)


def end_by(number: int) -> NoReturn:
    """End the process at once by the signal *number*.

    PID 1 of a container ignores signals without a handler: it exits with the status that a shell would report.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(_EXIT_BY_SIGNAL + number)
