"""Ends calls that began and never sent their message: each holds a thread until it does.

Envoy sends a call whole. On TCP others may call too, and a few half calls would stop the sidecar from answering.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Final, Protocol

MAX_WAIT: Final = 0.250  # seconds from the look-up of a call to its whole message
MIN_WAIT: Final = 0.030  # seconds that a call gets where it stood in the queue for longer than that
CROWDED_WAIT: Final = 0.010  # seconds that it gets while others stand in the queue
_EVERY: Final = 0.005  # seconds between two looks


class Cancellable(Protocol):
    """A call, as far as the reaper knows it."""

    def cancel(self) -> object:
        """End it."""


class Reaper:
    """Cancels calls whose message does not come in time."""

    def __init__(self, *, monotonic: Callable[[], float], crowded: Callable[[], bool] = lambda: False) -> None:
        """*crowded* tells whether whole calls wait for those that are awaited here."""
        self._monotonic: Final = monotonic
        self._crowded: Final = crowded
        self._waiting: Final[dict[int, tuple[float, float, Cancellable]]] = {}
        self._lock: Final = Lock()
        self._stopped: Final = Event()

    def start(self) -> None:
        """Begin to look."""
        Thread(target=self._run, name="reaper", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def await_message(self, context: Cancellable, received: float, read: Callable[[], bytes]) -> bytes:
        """Return what *read* reads of a call received at *received*, which is cancelled where that takes too long.

        Raises what *read* raises for a cancelled call.
        """
        call, now = id(context), self._monotonic()
        with self._lock:
            self._waiting[call] = (now + CROWDED_WAIT, max(received + MAX_WAIT, now + MIN_WAIT), context)
        try:
            return read()
        finally:
            with self._lock:
                del self._waiting[call]

    def reap(self) -> int:
        """Cancel the calls that are overdue, and return how many."""
        now, crowded = self._monotonic(), self._crowded()
        with self._lock:
            overdue = [
                context for soon, late, context in self._waiting.values() if late <= now or (crowded and soon <= now)
            ]
        for context in overdue:
            context.cancel()
        return len(overdue)

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY):
            self.reap()
