"""Gather the facts that decisions lack, on one thread of its own, and resume each check with them.

Rules of this file:
1. The judging thread only puts a check into a queue: it takes no lock and does not wait.
2. Equal needs are asked once: a check that comes while the answer is on its way shares it.
3. Every check is resumed exactly once: with all of its facts, or with those that came within its time.
4. No lane delays another: asking never waits, and each lane has a bound of its own on the checks that wait for it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Protocol

from authz.core.needs import Facts, Need

log = logging.getLogger(__name__)

Resume = Callable[[Facts], None]
"""Goes on with a check. It never raises and does not wait."""


class Lane(Protocol):
    """Answers the needs of one kind."""

    @property
    def max_waiting(self) -> int:
        """How many checks may wait for this lane at one time; others go on without its facts."""

    def find(self, need: Need) -> object | None:
        """Return the fact where it is at hand, or None where it must be asked for. Takes no lock.

        An `Unanswered` says that asking is in vain for now: the check is answered "try again" at once.
        """

    def ask(self, need: Need, done: Callable[[object | None], None]) -> None:
        """Find the fact out, and call *done* with it exactly once, from any thread.

        Where it stays unknown, *done* gets None, or an `Unanswered` that says why. It does not wait itself.
        """

    def max_wait(self, need: Need) -> float:
        """Return for how many seconds a check may wait for the fact."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A check that waits for what is *missing*, until the monotonic instant *until*."""

    missing: dict[Need, None]  # in the order in which they were named
    until: float
    resume: Resume | None  # None once it was resumed
    kinds: frozenset[str] = frozenset()
    facts: dict[Need, object] = field(default_factory=dict)


class Gatherer:
    """Asks the *lanes*, by the kinds of need that they answer. *monotonic* is a clock in seconds."""

    def __init__(self, lanes: Mapping[str, Lane], *, monotonic: Callable[[], float]) -> None:
        self.lanes: Final = lanes
        self._monotonic: Final = monotonic
        self._inbox: Final[SimpleQueue[_Waiting | tuple[Need, object | None] | None]] = SimpleQueue()
        # All of these are the gathering thread's alone.
        self._asked: Final[dict[Need, dict[_Waiting, None]]] = {}
        self._deadlines: Final[list[tuple[float, int, _Waiting]]] = []  # a heap
        self._order: Final = count()
        self._waiting_for: Final[Counter[str]] = Counter()  # checks, by kind

    def start(self) -> None:
        """Begin to gather."""
        Thread(target=self._run, name="gatherer", daemon=True).start()

    def stop(self) -> None:
        """Resume every check with the facts that it has, and end."""
        self._inbox.put(None)

    def gather(self, needs: Iterable[Need], seconds: float, resume: Resume) -> None:
        """Call *resume* on the gathering thread with the facts for *needs*, or after so many *seconds* with some."""
        self._inbox.put(_Waiting(dict.fromkeys(needs), self._monotonic() + seconds, resume))

    def _run(self) -> None:
        while self.step(self._time_to_deadline()):
            pass

    def step(self, timeout: float | None) -> bool:
        """Handle what comes within *timeout* seconds, and resume whose time is up; False once it was stopped."""
        with suppress(Empty):
            message = self._inbox.get(timeout=timeout)
            if message is None:
                self._expire(before=inf)
                return False
            if isinstance(message, _Waiting):
                self._begin(message)
            else:
                self._note(*message)
        self._expire(before=self._monotonic())
        return True

    def _time_to_deadline(self) -> float | None:
        return max(self._deadlines[0][0] - self._monotonic(), 0.0) if self._deadlines else None

    def _begin(self, waiting: _Waiting) -> None:
        kinds = frozenset(need.kind for need in waiting.missing)
        if any(self._waiting_for[kind] >= self.lanes[kind].max_waiting for kind in kinds):
            self._resume(waiting)
            return
        waiting.kinds = kinds
        self._waiting_for.update(kinds)
        heappush(self._deadlines, (waiting.until, next(self._order), waiting))
        for need in tuple(waiting.missing):
            if need in self._asked:
                self._asked[need][waiting] = None
            else:
                self._asked[need] = {waiting: None}
                self._ask(need)

    def _ask(self, need: Need) -> None:
        tell = partial(self._tell, need)
        try:
            self.lanes[need.kind].ask(need, tell)
        except Exception:
            log.exception("the lane for needs of kind %s broke", need.kind)
            tell(None)

    def _tell(self, need: Need, fact: object | None) -> None:
        """Hand a fact over, from any thread."""
        self._inbox.put((need, fact))

    def _note(self, need: Need, fact: object | None) -> None:
        for waiting in self._asked.pop(need, ()):
            waiting.missing.pop(need, None)
            if fact is not None:
                waiting.facts[need] = fact
            if not waiting.missing:
                self._resume(waiting)

    def _expire(self, *, before: float) -> None:
        """Resume the checks whose time ends by the monotonic instant *before*."""
        while self._deadlines and self._deadlines[0][0] <= before:
            _, _, waiting = heappop(self._deadlines)
            for need in waiting.missing:
                self._asked.get(need, {}).pop(waiting, None)  # the question stays: its answer may be on its way
            self._resume(waiting)

    def _resume(self, waiting: _Waiting) -> None:
        resume, waiting.resume = waiting.resume, None
        if resume is not None:
            self._waiting_for.subtract(waiting.kinds)
            try:
                resume(waiting.facts)
            except BaseException:  # one check's trouble must not cost the others their answers
                log.exception("a check could not be resumed")
