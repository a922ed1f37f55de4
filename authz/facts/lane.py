"""A lane: it gets one kind of fact from a source, which is asked a bounded number of questions at one time.

Rules of this file:
1. Each lane has its own threads, queue and budget: a slow source slows down no other lane.
2. If the queue is full, the budget is spent or the circuit breaker is open, a question stays unanswered at once.
3. Every question is answered exactly once, also if the source raises. An error is never cached.
4. Facts that unauthenticated clients can cause in any number are *negative*: they have a separate cache, so that they
   evict no others. A negative fact that replaces a fact takes its place.
5. A fact that is renewed stays until it ends, whatever becomes of that.
6. What may block, such as to connect, does so on a thread of the lane. A source that can ask without that, over a
   connection that it has, is asked and heard by the thread of the loop: no other one is woken for the question.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final, Protocol, Self, TypeGuard

from authz.core.needs import Need, Unanswered
from authz.facts.breaker import CLOSED
from authz.facts.budget import Budget
from authz.facts.cache import FactCache
from authz.facts.loop import Loop

log = logging.getLogger(__name__)

SPREAD: Final = 0.1  # of the lifetime of a fact, at random: facts that were cached together expire separately
RENEWAL_PAUSE: Final = 1.0  # seconds until a fact that could not be renewed is tried again
_NEGATIVE_SHARE: Final = 4  # the cache of negative facts has a quarter of the entries of the other

_STOPPED: Final = Unanswered("the configuration has changed meanwhile")

Done = Callable[[object | None], None]
_Question = tuple[Need, Done]
_Inbox = SimpleQueue[_Question | None]
Heard = Callable[[Callable[[], "Fact"] | None], None]
"""Takes what came of a question: a function that returns the fact or raises; None if it must be asked by a thread."""


@dataclass(frozen=True, slots=True)
class Fact:
    """An answer of a source. It is cached for *ttl* seconds, and not at all with 0.

    It takes *size* bytes. *result* is a label for metrics. *negative* facts are those that any client can cause, such
    as that a token is not active.
    """

    value: object
    ttl: float = 0.0
    size: int = 0
    result: str = "answered"
    negative: bool = False


class SourceError(Exception):
    """Raised by a source that cannot answer: the text is for the operator, *result* a label for metrics.

    With *counts*, it counts as a failure of the source: several in a row open the circuit breaker. *absent* means
    that it does not answer at all: the question is not the cause.
    """

    def __init__(self, result: str, why: str, *, counts: bool = True, absent: bool = False) -> None:
        super().__init__(why)
        self.result = result
        self.counts = counts
        self.absent = absent


class PromptSource(Protocol):
    """A source that can often be asked without waiting for anything."""

    def __call__(self, need: Need, /) -> Fact:
        """Ask, and wait. Raises SourceError."""

    def begin(self, need: Need, loop: Loop, heard: Heard, /) -> bool:
        """Ask without waiting, and call *heard*, once and later, on the thread of *loop*, this one.

        Return False if it cannot be asked so now. Never raises.
        """


def _is_prompt(source: Callable[[Need], Fact]) -> TypeGuard[PromptSource]:
    return hasattr(type(source), "begin")


class LaneObserver(Protocol):
    """Receives the results of a lane's questions, on any thread; its methods take no lock."""

    def on_found(self) -> None:
        """A fact was cached."""

    def on_answered(self, result: str, seconds: float) -> None:
        """The source was asked, with this *result*."""

    def on_refused(self, result: str) -> None:
        """The source was not asked."""


class _Unobserved:
    def on_found(self) -> None:
        pass

    def on_answered(self, result: str, seconds: float) -> None:
        pass

    def on_refused(self, result: str) -> None:
        pass


class LaneSettings(Protocol):
    """The settings of a source of facts, as every section of the configuration has them."""

    @property
    def max_concurrent(self) -> int:
        """How many questions are with the source at one time."""

    @property
    def max_wait(self) -> timedelta:
        """How long a check may wait."""

    @property
    def max_per_second(self) -> int:
        """How many questions are asked in a second, and at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of a lane.

    At most *max_concurrent* questions are with the source at one time, on as many threads or connections. At most
    *max_waiting* checks wait for the lane at one time, each for at most *max_wait* seconds. The source is asked at most
    *burst* times at once, and once more every *refill* seconds. At most *max_cached* facts of *max_cached_bytes* are
    cached.
    """

    max_concurrent: int
    max_waiting: int
    max_wait: float
    burst: int
    refill: float
    max_cached: int = 10_000
    max_cached_bytes: int = 64 * 1024 * 1024

    @classmethod
    def of(
        cls, settings: LaneSettings, *, max_waiting: int, max_cached: int, max_cached_bytes: int = 64 * 1024 * 1024
    ) -> Self:
        """Return the bounds that *settings* ask for."""
        return cls(
            max_concurrent=settings.max_concurrent,
            max_waiting=max_waiting,
            max_wait=settings.max_wait.total_seconds(),
            burst=settings.max_per_second,
            refill=1.0 / settings.max_per_second,
            max_cached=max_cached,
            max_cached_bytes=max_cached_bytes,
        )


def start_thread(run: Callable[[], None], name: str) -> None:
    """Start a thread that does not keep the process alive. Raises RuntimeError."""
    Thread(target=run, name=name, daemon=True).start()


class SourceLane:
    """Answers needs of the kind *name* from *source*, which may wait; if it raises, the need stays unanswered.

    *random* returns numbers from 0 to 1, by which the expiry of facts is spread. *start* starts a thread. With a
    *loop*, `ask` is called on its thread.
    """

    def __init__(  # noqa: PLR0913 - one for each neighbour
        self,
        name: str,
        source: Callable[[Need], Fact],
        *,
        bounds: Bounds,
        monotonic: Callable[[], float],
        observer: LaneObserver | None = None,
        random: Callable[[], float] = lambda: 0.0,
        start: Callable[[Callable[[], None], str], None] = start_thread,
        loop: Loop | None = None,
    ) -> None:
        self._name: Final = name
        self._source: Final = source
        self._prompt: Final[PromptSource | None] = source if loop is not None and _is_prompt(source) else None
        self._loop: Final = loop
        self._bounds: Final = bounds
        self._monotonic: Final = monotonic
        self._observer: Final[LaneObserver] = observer or _Unobserved()
        self._random: Final = random
        self._start: Final = start
        self._kept: Final = self._make_cache(1)
        self._negative: Final = self._make_cache(_NEGATIVE_SHARE)
        self._queue: Final[deque[_Question]] = deque()  # while as many as may be are with the source
        self._idle: Final[list[_Inbox]] = []  # of threads that wait
        self._lock: Final = Lock()  # of all that follows; the deciding thread does not take it, and reads the breaker
        self._budget: Budget = Budget.full(bounds.burst, bounds.refill, monotonic())
        self._breaker = CLOSED
        self._open = 0  # questions in the queue or with the source
        self._asked = 0  # questions with the source
        self._threads = 0
        self._stopped = False
        self._failing: SourceError | None = None  # the last failure, until the source answers

    @property
    def max_waiting(self) -> int:
        """How many checks may wait for this lane at one time."""
        return self._bounds.max_waiting

    def max_wait(self, _need: Need) -> float:
        """Return how long a check may wait for the fact, in seconds."""
        return self._bounds.max_wait

    def recall(self, need: Need) -> object | None:
        """Return the fact if it is cached. Takes no lock."""
        fact = self._kept.get(need)
        if fact is None:
            fact = self._negative.get(need)
        if fact is not None:
            self._observer.on_found()
        return fact

    def find(self, need: Need) -> object | None:
        """Return the fact if it is cached, or Unanswered while the circuit breaker is open. Takes no lock."""
        fact = self.recall(need)
        if fact is None and self._breaker.is_open(self._monotonic()):
            self._observer.on_refused("breaker_open")
            return self._breaker_open()
        return fact

    def may_renew(self, need: Need) -> bool:
        """Return whether to ask for a known fact again: not too often, nor while the breaker is open. Takes no lock."""
        return not self._breaker.is_open(self._monotonic()) and self._kept.may_renew(need, RENEWAL_PAUSE)

    def ask(self, need: Need, done: Done) -> bool:
        """Ask the source; *done* is called with the fact, or with Unanswered if there is none.

        Return whether the question waits, because the source has as many as it may have at one time.
        """
        question = need, done
        with self._lock:
            refused = self._admit()
            is_next = refused is None and self._take_place(question)
        if refused is not None:
            done(refused)
            return False
        if is_next:
            self._pass_on(question)
        return not is_next

    def stop(self) -> None:
        """End the threads when all questions so far are answered. Later ones stay unanswered at once."""
        with self._lock:
            self._stopped = True
            for inbox in self._idle:
                inbox.put(None)
            self._idle.clear()

    def _make_cache(self, share: int) -> FactCache:
        bounds = self._bounds
        return FactCache(
            max_entries=max(1, bounds.max_cached // share),
            max_bytes=max(1, bounds.max_cached_bytes // share),
            monotonic=self._monotonic,
        )

    def _breaker_open(self) -> Unanswered:
        failing = self._failing
        why = f"the circuit breaker is open after several failures; the last: {failing}"
        return Unanswered(why, absent=failing is not None and failing.absent)

    def _admit(self) -> Unanswered | None:
        """Spend an attempt, or return why not. The caller holds the lock."""
        if self._stopped:
            return _STOPPED
        now = self._monotonic()
        if self._breaker.is_open(now):
            self._observer.on_refused("breaker_open")
            return self._breaker_open()
        if self._open >= self._bounds.max_waiting:
            self._observer.on_refused("queue_full")
            return Unanswered("too many requests are in progress")
        budget = self._budget.spend(now)
        if budget is None:
            self._observer.on_refused("rate_limited")
            return Unanswered("the rate limit for requests is reached")
        self._budget = budget
        self._breaker = self._breaker.tried(now)
        return None

    def _take_place(self, question: _Question) -> bool:
        """Return whether a question may be asked now; otherwise it is queued. The caller holds the lock."""
        self._open += 1
        if self._asked == self._bounds.max_concurrent:
            self._queue.append(question)
            return False
        self._asked += 1
        return True

    def _pass_on(self, question: _Question) -> None:
        """Ask a question here, if the source can be asked so, or give it to a thread."""
        need, _ = question
        if self._prompt is None or self._loop is None:
            self._give_to_thread(question)
            return
        try:
            begun = self._prompt.begin(need, self._loop, partial(self._hear, question, self._monotonic()))
        except Exception:  # a fault of ours must not take the place of the question for ever
            log.exception("the source of facts %s failed", self._name)
            begun = False
        if not begun:
            self._give_to_thread(question)

    def _hear(self, question: _Question, began: float, fact: Callable[[], Fact] | None) -> None:
        """Answer a question that was asked here, on the same thread, and ask the next one."""
        if fact is None:
            self._give_to_thread(question)
            return
        need, done = question
        answer = self._answer(need, fact, began)
        if (following := self._next()) is not None:
            self._pass_on(following)
        done(answer)

    def _give_to_thread(self, question: _Question) -> None:
        """Give a question to a thread; if there is none, it waits for one, or stays unanswered.

        The thread that became idle last is the next: what it needs is still in the caches of its processor.
        """
        with self._lock:
            if self._idle:
                self._idle.pop().put(question)
                return
            if self._start_thread(question):
                return
            self._asked -= 1
            if self._asked:  # the next that is answered goes on with it
                self._queue.appendleft(question)
                return
            self._open -= 1
        self._observer.on_refused("queue_full")
        _, done = question
        done(Unanswered("no thread can be started"))

    def _start_thread(self, question: _Question) -> bool:
        """Start a thread with its first question; return False if the system refuses it."""
        inbox: _Inbox = SimpleQueue()
        inbox.put(question)
        try:
            self._start(partial(self._run, inbox), f"{self._name}-{self._threads}")
        except RuntimeError:
            return False
        self._threads += 1
        return True

    def _run(self, inbox: _Inbox) -> None:
        while (question := inbox.get()) is not None:
            while question is not None:
                need, done = question
                done(self._answer(need, partial(self._source, need), self._monotonic()))
                question = self._next(inbox)

    def _next(self, inbox: _Inbox | None = None) -> _Question | None:
        """Return the oldest question of the queue; if there is none, the thread of *inbox* is idle, or ends.

        That is one step: a question that is put into the queue finds all places taken.
        """
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._asked -= 1
            if inbox is not None:
                if self._stopped:
                    inbox.put(None)
                else:
                    self._idle.append(inbox)
            return None

    def _answer(self, need: Need, ask: Callable[[], Fact], began: float) -> object | None:
        """Return what the source answers, or Unanswered. Never raises."""
        fact, answer = None, None
        try:
            fact = ask()
            answer = fact.value
            if fact.ttl > 0.0:
                cache = self._negative if fact.negative and self._kept.get(need) is None else self._kept
                seconds = fact.ttl * (1.0 - SPREAD * self._random())
                cache.put(need, fact.value, seconds=seconds, size=fact.size)
            self._note(fact.result, began)
        except SourceError as error:
            answer = Unanswered(str(error), error.absent)
            self._note(error.result, began, error)
        except Exception as error:
            log.exception("the source of facts %s failed", self._name)
            answer = Unanswered(type(error).__name__) if fact is None else answer
            self._note("internal_error", began, SourceError("internal_error", type(error).__name__))
        return answer

    def _note(self, result: str, began: float, failure: SourceError | None = None) -> None:
        """Record the end of one question; log the first of several failures, and the first answer after them."""
        now = self._monotonic()
        with self._lock:
            self._open -= 1
            before = self._failing
            if failure is None:
                self._breaker, self._failing = CLOSED, None
            elif failure.counts:
                self._breaker, self._failing = self._breaker.after_failure(now), failure
        if failure is None and before is not None:
            log.info("%s answers again", self._name)
        elif failure is not None and failure.counts and before is None:
            log.warning("%s failed: %s", self._name, failure)
        self._observer.on_answered(result, now - began)
