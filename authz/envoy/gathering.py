"""Gather the facts that decisions lack, on a separate thread, and resume each check with them.

Rules of this file:
1. The deciding thread only puts a check into a queue: it takes no lock and does not block. If too many checks wait
   already, `find` says so at once.
2. Equal needs are requested once: a check that arrives while the answer is pending shares it. If an answer is for one
   check only, such as that a proof was not used before or the token of a transaction, each check requests its own.
3. Every check is resumed exactly once: with all of its facts, or at its deadline with those that arrived.
4. No lane delays another: a request never blocks, and each lane limits the checks that wait for it.
5. The gathering thread runs an event loop: lanes may ask their sources on it, and read the answers, without blocking.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from threading import Thread
from typing import Final, Protocol, TypeGuard

from authz.core.needs import NO_FACTS, Facts, Need, Unanswered
from authz.facts.loop import Loop

log = logging.getLogger(__name__)

_TOO_MANY_WAITING: Final = Unanswered("too many requests wait for facts of this kind")
_QUEUED: Final = Unanswered("too many requests were before it")
_ASKED_LATE: Final = Unanswered("this process was too busy to ask in time")
_READ_LATE: Final = Unanswered("this process was too busy to read an answer in time")
_STOPPED: Final = Unanswered("the process stops")

# Of a check's time: if it is over before its questions are sent, or passes once more before the check is resumed, no
# source is to blame.
_LATE_SHARE: Final = 0.5

Resume = Callable[[Facts], None]
"""Continues a check. It never raises and does not block."""


class Lane(Protocol):
    """Answers the needs of one kind."""

    @property
    def max_waiting(self) -> int:
        """The number of checks that may wait for this lane at one time; others continue without its facts."""

    def find(self, need: Need) -> object | None:
        """Return the fact if it is available, or None if it must be requested. Takes no lock.

        `Unanswered` means that the fact is not available now: the check is denied as retryable at once.
        """

    def ask(self, need: Need, done: Callable[[object | None], None]) -> bool | None:
        """Request the fact without blocking; call *done* with it exactly once, from any thread.

        If the fact is not available, *done* gets None, or an `Unanswered` with the reason. Return True if the question
        is queued behind others: if it times out, the source is not the cause.
        """

    def max_wait(self, need: Need) -> float:
        """Return how long a check may wait for the fact, in seconds."""


class RecallingLane(Lane, Protocol):
    """A lane with a cache of answers."""

    def recall(self, need: Need) -> object | None:
        """Return the fact if it is cached. Takes no lock."""


def _recalls(lane: Lane) -> TypeGuard[RecallingLane]:
    return hasattr(type(lane), "recall")


class RenewingLane(Lane, Protocol):
    """A lane whose facts expire, and can be renewed before."""

    def may_renew(self, need: Need) -> bool:
        """Return whether to request a known fact again now. Takes no lock."""


def _renews(lane: Lane) -> TypeGuard[RenewingLane]:
    return hasattr(type(lane), "may_renew")


def is_wanted(lane: Lane, need: Need) -> bool:
    """Return whether to request a fact that no check waits for from *lane*."""
    return lane.find(need) is None or (need.renews and _renews(lane) and lane.may_renew(need))


class KnownFacts(Mapping[Need, object]):
    """Facts that were *gathered*, and those in the caches of lanes, which are looked up on demand."""

    def __init__(self, lanes: Mapping[str, RecallingLane], gathered: Facts = NO_FACTS) -> None:
        self._lanes: Final = lanes
        self._gathered: Final = gathered

    def __getitem__(self, need: Need) -> object:
        """Return the fact that answers *need*. Raises KeyError."""
        if (gathered := self._gathered.get(need)) is not None:
            return gathered
        lane = self._lanes.get(need.kind)
        fact = None if lane is None else lane.recall(need)
        if fact is None:
            raise KeyError(need)
        return fact

    def get(self, need: Need, default: object = None, /) -> object:
        """Return the fact that answers *need*, or *default*, without raising: for most needs there is no fact."""
        if self._gathered and (gathered := self._gathered.get(need)) is not None:
            return gathered
        lane = self._lanes.get(need.kind)
        fact = None if lane is None else lane.recall(need)
        return default if fact is None else fact

    def __iter__(self) -> Iterator[Need]:
        """Return the needs whose facts were gathered; those in caches cannot be listed."""
        return iter(self._gathered)

    def __len__(self) -> int:
        """Return the number of facts that were gathered."""
        return len(self._gathered)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A check that waits for *missing* facts until the monotonic time *until*; after *late*, its questions are late."""

    missing: dict[Need, _Question | None]  # in the order of the decision; None until it is asked
    until: float
    late: float
    resume: Resume | None  # None once it was resumed
    kinds: AbstractSet[str] = frozenset()
    asked_late: bool = False
    facts: dict[Need, object] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Question:
    """A *need* that was requested, and the checks that wait for the answer; *queued* as `Lane.ask` returned."""

    need: Need
    queued: bool = False
    waiting: dict[_Waiting, None] = field(default_factory=dict)


class Gatherer:
    """Requests facts from *lanes*, which are by kind of need. *monotonic* is a clock in seconds.

    *loop* is the one that lanes use, if they use one.
    """

    def __init__(self, lanes: Mapping[str, Lane], *, monotonic: Callable[[], float], loop: Loop | None = None) -> None:
        self.lanes: Final = lanes
        self._recalling: Final = {kind: lane for kind, lane in lanes.items() if _recalls(lane)}
        self.known_facts: Final[Facts] = KnownFacts(self._recalling) if self._recalling else NO_FACTS
        self._monotonic: Final = monotonic
        self._loop: Final = loop or Loop(monotonic)
        self._inbox: Final[deque[_Waiting | tuple[_Question, object | None] | None]] = deque()
        # Only the gathering thread uses these.
        self._shared: Final[dict[Need, _Question]] = {}  # those whose answer may be shared
        self._deadlines: Final[list[tuple[float, int, _Waiting]]] = []  # a heap
        self._order: Final = count()
        self._waiting_for: Final[Counter[str]] = Counter()  # checks, by kind

    def known_with(self, gathered: Facts) -> Facts:
        """Return the facts that were *gathered*, and those in the caches of lanes."""
        return KnownFacts(self._recalling, gathered) if self._recalling else gathered

    def start(self) -> None:
        """Start the gathering thread."""
        self._loop.open()
        Thread(target=self._run, name="gatherer", daemon=True).start()

    def stop(self) -> None:
        """Resume every check with the facts that it has, and stop the thread."""
        self._post(None)

    def find(self, need: Need) -> object | None:
        """Return what the lane of *need* finds; if that is nothing and too many checks wait, Unanswered."""
        lane = self.lanes[need.kind]
        fact = lane.find(need)
        return _TOO_MANY_WAITING if fact is None and self._waiting_for[need.kind] >= lane.max_waiting else fact

    def gather(self, needs: Iterable[Need], seconds: float, resume: Resume) -> None:
        """Call *resume* on the gathering thread with the facts for *needs*, after *seconds* at the latest."""
        now = self._monotonic()
        self._post(_Waiting(dict.fromkeys(needs), now + seconds, now + _LATE_SHARE * seconds, resume))

    def _post(self, message: _Waiting | tuple[_Question, object | None] | None) -> None:
        self._inbox.append(message)
        self._loop.wake()

    def _run(self) -> None:
        running = True
        while running:
            try:
                running = self.step(self._time_to_deadline())
            except BaseException:  # without this thread no check would ever be resumed
                with suppress(BaseException):
                    log.exception("a step of gathering failed")

    def step(self, timeout: float | None) -> bool:
        """Handle the events of at most *timeout* seconds, and resume overdue checks; return False after a stop."""
        self._loop.run_once(0.0 if self._inbox else timeout, self._inbox.__len__)
        for _ in range(len(self._inbox)):
            message = self._inbox.popleft()
            if message is None:
                self._expire(before=inf, why=_STOPPED)
                return False
            if isinstance(message, _Waiting):
                try:
                    self._begin(message)
                except BaseException:
                    self._resume(message)
                    raise
            else:
                self._record_answer(*message)
        self._expire(before=self._monotonic())
        return True

    def _time_to_deadline(self) -> float | None:
        return max(self._deadlines[0][0] - self._monotonic(), 0.0) if self._deadlines else None

    def _begin(self, waiting: _Waiting) -> None:
        kinds = {need.kind for need in waiting.missing}
        for kind in kinds:
            if self._waiting_for[kind] >= self.lanes[kind].max_waiting:
                waiting.facts = dict.fromkeys(waiting.missing, _TOO_MANY_WAITING)
                self._resume(waiting)
                return
        waiting.kinds = kinds
        waiting.asked_late = self._monotonic() > waiting.late
        for kind in kinds:
            self._waiting_for[kind] += 1
        heappush(self._deadlines, (waiting.until, next(self._order), waiting))
        for need in tuple(waiting.missing):
            shared = self._shared.get(need)
            question = shared or _Question(need)
            question.waiting[waiting] = None
            waiting.missing[need] = question
            if shared is None:
                self._ask(question)

    def _ask(self, question: _Question) -> None:
        need = question.need
        if not need.single_use:
            self._shared[need] = question
        done = partial(self._deliver, question)
        try:
            question.queued = self.lanes[need.kind].ask(need, done) is True
        except Exception:
            log.exception("the lane for needs of kind %s failed", need.kind)
            done(None)

    def _deliver(self, question: _Question, fact: object | None) -> None:
        """Pass a fact to the gathering thread, from any thread."""
        self._post((question, fact))

    def _record_answer(self, question: _Question, fact: object | None) -> None:
        self._shared.pop(question.need, None)
        for waiting in question.waiting:
            waiting.missing.pop(question.need, None)
            if fact is not None:
                waiting.facts[question.need] = fact
            if not waiting.missing:
                self._resume(waiting)

    def _expire(self, *, before: float, why: Unanswered | None = None) -> None:
        """Resume the checks whose deadline is at most *before*, on the monotonic clock; *why* they lack facts."""
        while self._deadlines and self._deadlines[0][0] <= before:
            _, _, waiting = heappop(self._deadlines)
            for need, question in waiting.missing.items():
                if question is not None:
                    question.waiting.pop(waiting, None)  # the question stays: its answer may be pending
                    if (cause := why or _find_cause(waiting, question, self._monotonic())) is not None:
                        waiting.facts[need] = cause
            self._resume(waiting)

    def _resume(self, waiting: _Waiting) -> None:
        resume, waiting.resume = waiting.resume, None
        if resume is not None:
            for kind in waiting.kinds:
                self._waiting_for[kind] -= 1
            try:
                resume(waiting.facts)
            except BaseException:  # the failure of one check must not affect the others
                log.exception("a check could not be resumed")


def _find_cause(waiting: _Waiting, question: _Question, now: float) -> Unanswered | None:
    """Return why a question has no answer at *now*, if its source is not the cause."""
    if question.queued:
        return _QUEUED
    if waiting.asked_late:
        return _ASKED_LATE
    return _READ_LATE if now - waiting.until > waiting.until - waiting.late else None
