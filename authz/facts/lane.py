"""A lane: a bounded queue of questions to one source of facts, with its threads, cache, budget and circuit breaker.

Rules of this file:
1. Each lane has its own threads, queue and budget: a slow source slows down no other lane.
2. If the queue is full, the budget is spent or the circuit breaker is open, a question is answered with Unanswered at
   once.
3. Every question is answered exactly once, also if the source raises. An error is never cached.
4. Facts that unauthenticated clients can cause in any number are *negative*: they have a separate cache, so that they
   evict no others. A negative fact that replaces a fact takes its place.
5. A fact that is renewed stays until it expires, even if the renewal fails.
6. An error is no absence of the source, and opens no circuit breaker, if the source has responded to another question
   since this one was asked: then this question is the cause, which a client can choose.
7. What may block, such as connecting, runs on a thread of the lane. A source that can be asked without blocking, over
   an idle connection, is asked on the thread of the loop, which also reads the answer: no other thread is woken.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final, Protocol

from authz.core.needs import Need, Unanswered
from authz.facts.bounds import Bounds
from authz.facts.breaker import CLOSED
from authz.facts.budget import Budget
from authz.facts.cache import FactCache
from authz.facts.loop import Loop
from authz.facts.source import FactOutcome, NonBlockingSource, Source, SourceError, is_nonblocking

log = logging.getLogger(__name__)

EXPIRY_JITTER: Final = 0.1  # of the lifetime of a fact: facts that were cached together expire separately
RENEWAL_PAUSE: Final = 1.0  # seconds until a fact that could not be renewed is tried again
_NEGATIVE_SHARE: Final = 4  # the cache of negative facts has a quarter of the entries of the other

_STOPPED: Final = Unanswered("the configuration has changed meanwhile")

DoneCallback = Callable[[object | None], None]
_Question = tuple[Need, DoneCallback]
_Inbox = SimpleQueue[_Question | None]


class LaneObserver(Protocol):
    """Receives the results of a lane's questions, on any thread; its methods take no lock."""

    def on_cache_hit(self) -> None:
        """A fact was cached."""

    def on_answered(self, result: str, seconds: float) -> None:
        """The source was asked, with this *result*."""

    def on_refused(self, result: str) -> None:
        """The source was not asked."""


class _NullObserver:
    def on_cache_hit(self) -> None:
        pass

    def on_answered(self, result: str, seconds: float) -> None:
        pass

    def on_refused(self, result: str) -> None:
        pass


def start_thread(run: Callable[[], None], name: str) -> None:
    """Start a thread that does not keep the process alive. Raises RuntimeError."""
    Thread(target=run, name=name, daemon=True).start()


class SourceLane:
    """Answers needs of the kind *name* from *source*, which may wait; if it raises, the need stays unanswered.

    *random* returns numbers from 0 to 1, for the jitter of expiry. *start* starts a thread. With a *loop*, `ask` is
    called on its thread.
    """

    def __init__(  # noqa: PLR0913 - one for each neighbour
        self,
        name: str,
        source: Source,
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
        self._nonblocking: Final[NonBlockingSource | None] = (
            source if loop is not None and is_nonblocking(source) else None
        )
        self._loop: Final = loop
        self._bounds: Final = bounds
        self._monotonic: Final = monotonic
        self._observer: Final[LaneObserver] = observer or _NullObserver()
        self._random: Final = random
        self._start: Final = start
        self._cache: Final = self._make_cache(1)
        self._negative_cache: Final = self._make_cache(_NEGATIVE_SHARE)
        self._has_cached = False  # whether anything was put into a cache
        self._queue: Final[deque[_Question]] = deque()  # while all slots are taken
        self._idle: Final[list[_Inbox]] = []  # of threads that wait
        self._lock: Final = Lock()  # of all that follows; the deciding thread does not take it, and reads the breaker
        self._budget: Budget = Budget.full(bounds.burst, bounds.refill, monotonic())
        self._breaker = CLOSED
        self._pending = 0  # questions in the queue or in flight
        self._in_flight = 0  # questions that the source is asked now
        self._threads = 0
        self._stopped = False
        self._last_failure: SourceError | None = None  # the last failure, until the source answers
        self._responded_at = -inf  # the monotonic instant of the last response; any thread may read it

    @property
    def max_waiting(self) -> int:
        """How many checks may wait for this lane at one time."""
        return self._bounds.max_waiting

    def max_wait(self, _need: Need) -> float:
        """Return how long a check may wait for the fact, in seconds."""
        return self._bounds.max_wait

    def recall(self, need: Need) -> object | None:
        """Return the fact if it is cached. Takes no lock."""
        if not self._has_cached:
            return None
        fact = self._cache.get(need)
        if fact is None:
            fact = self._negative_cache.get(need)
        if fact is not None:
            self._observer.on_cache_hit()
        return fact

    def find(self, need: Need) -> object | None:
        """Return the fact if it is cached, or Unanswered while the circuit breaker is open. Takes no lock."""
        fact = self.recall(need)
        if fact is None and self._breaker.is_open(self._monotonic()):
            self._observer.on_refused("breaker_open")
            return self._describe_breaker()
        return fact

    def may_renew(self, need: Need) -> bool:
        """Return whether to ask for a known fact again: not too often, nor while the breaker is open. Takes no lock."""
        return not self._breaker.is_open(self._monotonic()) and self._cache.may_renew(need, RENEWAL_PAUSE)

    def ask(self, need: Need, done: DoneCallback) -> bool:
        """Ask the source; *done* is called with the fact, or with Unanswered if there is none.

        Return whether the question is queued, because all slots of the source are taken, or no thread can be started.
        """
        question = need, done
        with self._lock:
            refusal = self._admit()
            has_slot = refusal is None and self._acquire_slot(question)
        if refusal is not None:
            done(refusal)
            return False
        return not has_slot or self._dispatch(question)

    def stop(self) -> None:
        """End the threads when all questions so far are answered. Later ones are answered with Unanswered at once."""
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

    def _describe_breaker(self) -> Unanswered:
        failing = self._last_failure
        why = f"the circuit breaker is open after several failures; the last: {failing}"
        return Unanswered(why, absent=failing is not None and failing.absent)

    def _admit(self) -> Unanswered | None:
        """Spend an attempt of the budget, or return why a question is refused. The caller holds the lock."""
        if self._stopped:
            return _STOPPED
        now = self._monotonic()
        if self._breaker.is_open(now):
            self._observer.on_refused("breaker_open")
            return self._describe_breaker()
        if self._pending >= self._bounds.max_waiting:
            self._observer.on_refused("queue_full")
            return Unanswered("too many requests are in progress")
        budget = self._budget.spend(now)
        if budget is None:
            self._observer.on_refused("rate_limited")
            return Unanswered("the rate limit for requests is reached")
        self._budget = budget
        self._breaker = self._breaker.start_trial(now)
        return None

    def _acquire_slot(self, question: _Question) -> bool:
        """Return whether a question may be asked now; otherwise it is queued. The caller holds the lock."""
        self._pending += 1
        if self._in_flight == self._bounds.max_concurrent:
            self._queue.append(question)
            return False
        self._in_flight += 1
        return True

    def _dispatch(self, question: _Question) -> bool:
        """Ask the source without blocking, if it can be, or on a thread; return whether the question is queued."""
        need, _ = question
        if self._nonblocking is None or self._loop is None:
            return self._dispatch_to_thread(question)
        try:
            started = self._nonblocking.start(need, self._loop, partial(self._on_outcome, question, self._monotonic()))
        except Exception:  # a bug must not occupy the slot for ever
            log.exception("the source of facts %s failed", self._name)
            started = False
        return not started and self._dispatch_to_thread(question)

    def _on_outcome(self, question: _Question, began: float, outcome: FactOutcome | None) -> None:
        """Answer a question that was asked without blocking, and ask the next one, on the thread of the loop."""
        if outcome is None:
            # It was not queued when it was asked: if it was now, its timeout would be taken for an absent source.
            self._dispatch_to_thread(question, may_queue=False)
            return
        need, done = question
        answer = self._read_outcome(need, outcome, began)
        if (following := self._next_question()) is not None:
            self._dispatch(following)
        done(answer)

    def _dispatch_to_thread(self, question: _Question, *, may_queue: bool = True) -> bool:
        """Give a question to a thread. If none can be started, queue it (True), or answer it with Unanswered.

        The thread that became idle last is used first, because its data is still in the processor's caches.
        """
        with self._lock:
            if self._idle:
                self._idle.pop().put(question)
                return False
            if self._start_thread(question):
                return False
            self._in_flight -= 1
            if self._in_flight and may_queue:  # a thread that becomes free asks it next
                self._queue.appendleft(question)
                return True
            self._pending -= 1
        self._observer.on_refused("queue_full")
        _, done = question
        done(Unanswered("no thread can be started"))
        return False

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
                done(self._read_outcome(need, partial(self._source, need), self._monotonic()))
                question = self._next_question(inbox)

    def _next_question(self, inbox: _Inbox | None = None) -> _Question | None:
        """Return the oldest question of the queue; if there is none, mark the thread of *inbox* as idle, or end it.

        Both happen under one lock, so that a question is queued only while all slots are taken.
        """
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._in_flight -= 1
            if inbox is not None:
                if self._stopped:
                    inbox.put(None)
                else:
                    self._idle.append(inbox)
            return None

    def _read_outcome(self, need: Need, outcome: FactOutcome, began: float) -> object | None:
        """Return what the source answers, or Unanswered. Never raises."""
        fact, answer = None, None
        try:
            fact = outcome()
            answer = fact.value
            if fact.ttl > 0.0:
                cache = self._negative_cache if fact.negative and self._cache.get(need) is None else self._cache
                seconds = fact.ttl * (1.0 - EXPIRY_JITTER * self._random())
                cache.put(need, fact.value, seconds=seconds, size=fact.size)
                self._has_cached = True
            self._record_end(fact.result, began)
        except SourceError as error:
            absent = error.absent and self._responded_at <= began
            answer = Unanswered(str(error), absent)
            self._record_end(error.result, began, error)
        except Exception as error:
            log.exception("the source of facts %s failed", self._name)
            answer = Unanswered(type(error).__name__) if fact is None else answer
            # It does not count: a client may have chosen a question that we cannot handle.
            self._record_end("internal_error", began, SourceError("internal_error", type(error).__name__, counts=False))
        return answer

    def _record_end(self, result: str, began: float, failure: SourceError | None = None) -> None:
        """Record the end of a question; log the first of several failures, and the first answer after them."""
        now = self._monotonic()
        with self._lock:
            self._pending -= 1
            before = self._last_failure
            if failure is None or failure.responded:
                self._breaker, self._responded_at = CLOSED, now
            elif failure.counts and self._responded_at <= began:
                self._breaker = self._breaker.after_failure(now)
            if failure is None:
                self._last_failure = None
            elif failure.counts:
                self._last_failure = failure
        if failure is None and before is not None:
            log.info("%s answers again", self._name)
        elif failure is not None and failure.counts and before is None:
            log.warning("%s failed: %s", self._name, failure)
        self._observer.on_answered(result, now - began)
