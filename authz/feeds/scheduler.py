"""One thread that runs what is due."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import Condition, Thread
from typing import Final, Protocol

log = logging.getLogger(__name__)

_MAX_PAUSE: Final = 60.0  # seconds
_MIN_PAUSE: Final = 0.01  # seconds; a feed that is due for ever must not eat a core
_STOP_SECONDS: Final = 1.0


class Steppable(Protocol):
    """What has something to do from time to time."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    def due(self) -> float:
        """Return the monotonic instant at which `step` has something to do."""

    def step(self) -> None:
        """Do what is due. Must not wait."""


class Scheduler:
    """Steps feeds when they are due; refreshes run on threads of their own, so that none holds up another."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        self._changed: Final = Condition()
        self._stopped = False
        self._thread: Thread | None = None

    def start(self, feeds: Callable[[], Iterable[Steppable]]) -> None:
        """Begin to step what *feeds* returns, which is asked before each look at what is due."""
        self._thread = Thread(target=self._run, args=(feeds,), name="feeds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Step no more. Refreshes under way end by their own deadlines."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def spawn(self, work: Callable[[], None]) -> None:
        """Run *work* on a thread of its own. Raises RuntimeError if there is none to be had."""
        Thread(target=work, name="refresh", daemon=True).start()

    def wake(self) -> None:
        """Look again at what is due: there are other feeds, or one is due earlier than it was."""
        with self._changed:
            self._changed.notify()

    def _run(self, feeds: Callable[[], Iterable[Steppable]]) -> None:
        while not self._stopped:
            for feed in feeds():
                try:
                    feed.step()
                except Exception:  # one feed's trouble never touches another's
                    log.exception("feed %s broke", feed.name)
            with self._changed:
                # Whatever changes a due time wakes under this lock, after the change: no wake-up is lost.
                due = min((feed.due() for feed in feeds()), default=float("inf"))
                if not self._stopped:
                    self._changed.wait(min(max(due - self._monotonic(), _MIN_PAUSE), _MAX_PAUSE))
