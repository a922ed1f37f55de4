"""One feed's schedule, played by its pure functions alone: no thread, no document, no clock but a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from authz.feeds import refresh
from authz.feeds.refresh import NEVER, RefreshState, Schedule, Search


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an issuer answers after *takes* seconds: a *good* document that is fresh for so long, or a failure."""

    good: bool = True
    takes: float = 0.0
    fresh_for: float | None = None
    wait: float | None = None  # Retry-After


@dataclass(slots=True)
class Attempt:
    """One refresh; *answer* is what it got, known once it has *ended*."""

    began: float
    on_demand: bool
    answer: Answer
    ended: float


@dataclass(slots=True)
class Replica:
    """A feed of an issuer that gives *answer(now)* to each request. Times are seconds from its start."""

    answer: Callable[[float], Answer]
    schedule: Schedule = field(default_factory=Schedule)
    jitter: Callable[[], float] = lambda: 0.5
    now: float = 0.0
    state: RefreshState = field(default_factory=lambda: RefreshState(refresh_at=0.0))
    attempts: list[Attempt] = field(default_factory=list)
    withdrawals: list[float] = field(default_factory=list)

    def run(self, until: float) -> None:
        """Let time go by, with everything done at the moment at which it is due."""
        while (at := self.next_event()) <= until:
            self.step(at)
        self.now = until

    def next_event(self) -> float:
        """When something happens next, unless someone asks."""
        ends = self.attempts[-1].ended if self.state.running else NEVER
        return max(self.now, min(ends, refresh.due(self.state)))

    def step(self, at: float) -> None:
        """Do what is due *at* this moment."""
        self.now = at
        if self.state.running and self.attempts[-1].ended <= at:
            self._end(self.attempts[-1].answer)
        if refresh.must_withdraw(self.state, at):
            self.withdrawals.append(at)
            self.state = refresh.withdrawn(self.state)
        if refresh.must_refresh(self.state, at):
            self._begin(on_demand=False)

    def ask(self) -> bool:
        """Ask for something that the document has not; tell whether a refresh began for it."""
        if not refresh.may_begin_on_demand(self.state, self.schedule, self.now):
            return False
        self._begin(on_demand=True)
        return True

    def look_for(self, *, first_asked: float) -> Search:
        """Look for something that was *first_asked* for then, as who asks does; say what came of it."""
        grace = self.schedule.cooldown
        found = refresh.search(self.state, self.schedule, self.now, first_asked=first_asked, grace=grace)
        if found is Search.NOW and not self.state.running:
            self._begin(on_demand=True)
        return found

    def _begin(self, *, on_demand: bool) -> None:
        self.state = refresh.started(self.state, self.schedule, self.now, on_demand=on_demand)
        answer = self.answer(self.now)
        self.attempts.append(Attempt(self.now, on_demand, answer, self.now + answer.takes))
        if not answer.takes:
            self._end(answer)

    def _end(self, answer: Answer) -> None:
        if answer.good:
            self.state = refresh.succeeded(
                self.state, self.schedule, self.now, fresh_for=answer.fresh_for, jitter=self.jitter()
            )
        else:
            self.state = refresh.failed(
                self.state, self.schedule, self.now, retry_after=answer.wait, jitter=self.jitter()
            )
