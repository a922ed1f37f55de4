"""A lane: one kind of fact, asked for on a bounded number of threads that may wait.

Rules of this file:
1. Each lane has its own threads, queue and budget: a slow source slows down no other lane.
2. If there is no room or no budget, a question stays unanswered; it never waits to be asked.
3. Every question is answered exactly once, also if the source raises.
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
    """An answer of a source. It answers equal needs for *keep* seconds; with 0 it is not cached."""

    value: object
    keep: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of a lane.

    At most *max_asked* questions are with the source at one time, each on a thread. At most *max_waiting* checks wait
    for the lane at one time, each for at most *max_wait* seconds. The source is asked at most *burst* times at once,
    and once more every *refill* seconds. At most *max_kept* facts are cached.
    """

    max_asked: int
    max_waiting: int
    max_wait: float
    burst: int
    refill: float
    max_kept: int = 10_000


class SourceLane:
    """Answers needs of the kind *name* from *source*, which may wait; if it raises, the need stays unanswered."""

    def __init__(
        self, name: str, source: Callable[[Need], Fact], *, bounds: Bounds, monotonic: Callable[[], float]
    ) -> None:
        self._name: Final = name
        self._source: Final = source
        self._bounds: Final = bounds
        self._monotonic: Final = monotonic
        self._kept: Final = FactCache(max_entries=bounds.max_kept, monotonic=monotonic)
        self._questions: Final[SimpleQueue[tuple[Need, Done] | None]] = SimpleQueue()
        self._lock: Final = Lock()  # guards the two below; never taken on the deciding thread
        self._budget: Budget = Budget.full(bounds.burst, bounds.refill, monotonic())
        self._open = 0  # questions in the queue or with the source
        self._threads = 0

    @property
    def max_waiting(self) -> int:
        """How many checks may wait for this lane at one time."""
        return self._bounds.max_waiting

    def max_wait(self, _need: Need) -> float:
        """Return how long a check may wait for the fact, in seconds."""
        return self._bounds.max_wait

    def find(self, need: Need) -> object | None:
        """Return the fact if it is cached."""
        return self._kept.get(need)

    def ask(self, need: Need, done: Done) -> None:
        """Ask the source; *done* is called with the fact, or with None if it stays unknown."""
        if self._admit():
            self._questions.put((need, done))
        else:
            done(None)

    def stop(self) -> None:
        """End the threads, each after its current question."""
        with self._lock:
            for _ in range(self._threads):
                self._questions.put(None)

    def _admit(self) -> bool:
        """Reserve a place and an attempt, and start a thread if all are busy."""
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
        while (question := self._questions.get()) is not None:
            need, done = question
            fact = None
            try:
                fact = self._source(need)
                self._kept.put(need, fact.value, seconds=fact.keep)
            except Exception:
                log.exception("the source of facts %s failed", self._name)
            with self._lock:
                self._open -= 1
            done(None if fact is None else fact.value)
