"""Signals to end, from the first line of the program on.

Rules of this file:
1. All signals that we handle are blocked before any thread starts, so that every thread blocks them, and are waited
   for. A Python handler would run only between two steps of the main thread.
2. While the process starts, a thread waits for them: the first one ends the process at once. Without it, a signal that
   comes to PID 1 of a container during the start is discarded by the kernel, or waits until the start is over.
3. This module imports nothing that takes long. A signal before it runs, during the interpreter's own start, cannot be
   handled.
"""

from __future__ import annotations

import os
import signal
from threading import Thread
from typing import Final, NoReturn

END: Final = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD: Final = signal.SIGHUP
SIGNALS: Final = END | {RELOAD, signal.SIGCHLD}
_RELEASE: Final = signal.SIGURG  # wakes up our own thread
_EXIT_BY_SIGNAL: Final = 128  # added to the number of the signal, as shells do


class StartGuard:
    """Ends the process at the first termination signal, from now until `release` is called."""

    def __init__(self) -> None:
        """Block the signals. Only the main thread may call this."""
        self._mask: Final = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS | {_RELEASE})
        self._on_interrupt: Final = signal.signal(signal.SIGINT, signal.SIG_DFL)  # as for SIGTERM: no exception
        self._thread: Final = Thread(target=self._wait, name="start-guard", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Leave the signals to the caller, which waits for them from now on. They stay blocked."""
        if self._thread.is_alive() and self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, _RELEASE)
            self._thread.join()

    def close(self) -> None:
        """Restore everything as it was before."""
        self.release()
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _wait(self) -> None:
        number = signal.sigwait(END | {_RELEASE})
        if number in END:
            end_by(number)


def end_by(number: int) -> NoReturn:
    """End at once by the signal *number*, as if it had never been blocked.

    By default no signal ends PID 1 of a container: there the exit status is the one that a shell would report.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(_EXIT_BY_SIGNAL + number)
