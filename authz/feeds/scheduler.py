"""One thread that steps each feed when it is due."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import Condition, Thread
from typing import Final, Protocol

log = logging.getLogger(__name__)

_MAX_PAUSE: Final = 60.0  # seconds
_MIN_PAUSE: Final = 0.01  # seconds; a feed that is always due must not use a whole CPU
_STOP_SECONDS: Final = 1.0


class Steppable(Protocol):
    """Something that the scheduler calls when it is due: a feed."""

    @property
    def name(self) -> str:
        """The name for the log."""

    def due(self) -> float:
        """Return the monotonic time at which `step` must be called."""

    def step(self) -> None:
        """Do what is due. Must not block."""


class Scheduler:
    """Steps feeds when they are due. Each refresh runs on its own thread, so that it does not delay others."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        self._changed: Final = Condition()
        self._stopped = False
        self._thread: Thread | None = None

    def start(self, feeds: Callable[[], Iterable[Steppable]]) -> None:
        """Start the thread; *feeds* is called in each round for the current feeds."""
        self._thread = Thread(target=self._run, args=(feeds,), name="feeds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Refreshes in progress end by their own deadlines."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def spawn(self, work: Callable[[], None]) -> None:
        """Run *work* on a new thread. Raises RuntimeError if no thread can be started."""
        Thread(target=work, name="refresh", daemon=True).start()

    def wake(self) -> None:
        """Check again what is due: the feeds have changed, or one is due earlier."""
        with self._changed:
            self._changed.notify()

    def _run(self, feeds: Callable[[], Iterable[Steppable]]) -> None:
        while not self._stopped:
            for feed in feeds():
                try:
                    feed.step()
                except Exception:  # an error of one feed must not affect the others
                    log.exception("feed %s failed", feed.name)
            with self._changed:
                # `wake` is called after each change of a due time, and takes this lock: no wake-up is lost.
                due = min((feed.due() for feed in feeds()), default=float("inf"))
                if not self._stopped:
                    self._changed.wait(min(max(due - self._monotonic(), _MIN_PAUSE), _MAX_PAUSE))
