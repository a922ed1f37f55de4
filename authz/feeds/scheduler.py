"""One thread that gives every feed its turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from threading import Condition, Thread
from typing import Final

from authz.feeds.jwks import Flight, KeyFeed

log = logging.getLogger(__name__)

_MAX_PAUSE: Final = 60.0  # seconds
_MIN_PAUSE: Final = 0.01  # seconds; a feed that is due for ever must not eat a core
_STOP_SECONDS: Final = 1.0


class Scheduler:
    """Steps all feeds when they are due; refreshes run on threads of their own, so that none holds up another."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        self._feeds: Mapping[str, KeyFeed] = {}  # replaced, never changed: readers take no lock
        self._wake: Final = Condition()
        self._stopped = False
        self._thread: Thread | None = None

    @property
    def feeds(self) -> Mapping[str, KeyFeed]:
        """The feeds of this moment, by name."""
        return self._feeds

    def replace(self, feeds: Iterable[KeyFeed]) -> None:
        """Step *feeds* from now on; those that are not among them publish nothing any more."""
        with self._wake:
            old, self._feeds = self._feeds, {feed.name: feed for feed in feeds}
            for feed in old.values():
                if self._feeds.get(feed.name) is not feed:
                    feed.retire()
            self._wake.notify()

    def start(self) -> None:
        """Begin to step."""
        self._thread = Thread(target=self._run, name="feeds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Step no more. Refreshes under way end by their own deadlines."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def fly(self, refresh: Callable[[], None]) -> None:
        """Run *refresh* on a thread of its own, and look at the schedule again when it has ended."""
        Thread(target=self._run_flight, args=(refresh,), name="refresh", daemon=True).start()

    def find_unknown_key(self, issuer: str) -> Flight | None:
        """Ask the feed of *issuer* for a refresh; None where it has no feed or no budget."""
        feed = self._feeds.get(issuer)
        return feed.find_unknown_key() if feed is not None else None

    def max_wait(self, issuer: str) -> float:
        """Return the seconds that a request may wait for a refresh of *issuer*."""
        feed = self._feeds.get(issuer)
        return feed.schedule.max_wait if feed is not None else 0.0

    def _run_flight(self, refresh: Callable[[], None]) -> None:
        refresh()
        with self._wake:
            self._wake.notify()

    def _run(self) -> None:
        while not self._stopped:
            for feed in self._feeds.values():
                try:
                    feed.step()
                except Exception:  # one feed's trouble never touches another's
                    log.exception("feed %s broke", feed.name)
            with self._wake:
                # Whatever changes a feed's due time notifies under this lock: no wake-up is lost.
                due = min((feed.due() for feed in self._feeds.values()), default=float("inf"))
                if not self._stopped:
                    self._wake.wait(min(max(due - self._monotonic(), _MIN_PAUSE), _MAX_PAUSE))
