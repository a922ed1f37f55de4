"""A lane: requests facts of one kind on a bounded number of threads that may block.

Rules of this file:
1. Each lane has its own threads, queue and budget: a slow source does not slow down other lanes.
2. Without a free place or budget, a request is answered at once, with None; it does not wait for them.
3. Every request is answered exactly once, even if the source raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final

from authz.core.needs import Need
from authz.facts.budget import Budget
from authz.facts.cache import FactCache

log = logging.getLogger(__name__)

Done = Callable[[object | None], None]


@dataclass(frozen=True, slots=True)
class Fact:
    """An answer of a source. It is cached for *keep* seconds; with 0 it is not cached."""

    value: object
    keep: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of a lane.

    *max_asked* limits concurrent requests to the source, each on its own thread. *max_waiting* limits the checks that
    wait for the lane at one time, each for at most *max_wait* seconds. *burst* and *refill* (seconds for one more
    request) limit the rate of requests to the source. *max_kept* limits the cached facts.
    """

    max_asked: int
    max_waiting: int
    max_wait: float
    burst: int
    refill: float
    max_kept: int = 10_000


class SourceLane:
    """Answers needs of the kind *name* by calling *source*, which may block; if it raises, the answer is None."""

    def __init__(
        self, name: str, source: Callable[[Need], Fact], *, bounds: Bounds, monotonic: Callable[[], float]
    ) -> None:
        self._name: Final = name
        self._source: Final = source
        self._bounds: Final = bounds
        self._monotonic: Final = monotonic
        self._cache: Final = FactCache(max_entries=bounds.max_kept, monotonic=monotonic)
        self._requests: Final[SimpleQueue[tuple[Need, Done] | None]] = SimpleQueue()
        self._lock: Final = Lock()  # guards the next three fields; the deciding thread never takes it
        self._budget: Budget = Budget.full(bounds.burst, bounds.refill, monotonic())
        self._open = 0  # requests in the queue or at the source
        self._threads = 0

    @property
    def max_waiting(self) -> int:
        """The number of checks that may wait for this lane at one time."""
        return self._bounds.max_waiting

    def max_wait(self, _need: Need) -> float:
        """Return how long a check may wait for the fact, in seconds."""
        return self._bounds.max_wait

    def find(self, need: Need) -> object | None:
        """Return the fact if it is cached."""
        return self._cache.get(need)

    def ask(self, need: Need, done: Done) -> None:
        """Request the fact; *done* is called with it, or with None if it could not be had."""
        if self._admit():
            self._requests.put((need, done))
        else:
            done(None)

    def stop(self) -> None:
        """End the threads, each after its current request."""
        with self._lock:
            for _ in range(self._threads):
                self._requests.put(None)

    def _admit(self) -> bool:
        """Reserve a place and an attempt, and start a thread if all are busy; return False if there is no room."""
        with self._lock:
            budget = self._budget.spend(self._monotonic())
            if budget is None or self._open >= self._bounds.max_waiting:
                return False
            self._budget = budget
            self._open += 1
            if self._threads < min(self._open, self._bounds.max_asked):
                Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
                self._threads += 1
            return True

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            need, done = request
            fact = None
            try:
                fact = self._source(need)
                self._cache.put(need, fact.value, seconds=fact.keep)
            except Exception:
                log.exception("the source of facts %s failed", self._name)
            with self._lock:
                self._open -= 1
            done(None if fact is None else fact.value)
