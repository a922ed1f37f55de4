"""When to refresh a document, how long to serve it, when to give up: pure functions over one frozen state.

No lock, no clock, no I/O, no randomness: instants are monotonic seconds that the caller read, jitter is a number from
0 to 1 that the caller drew. `authz.feeds.feed` is the shell that waits and loads.

Rules of this file:
1. A refresh is due before the document expires; what the answer says is clamped, and jitter keeps replicas from
   marching in step.
2. One refresh at a time.
3. Refreshes on demand come from a bucket: MAX_AT_ONCE of them, and one more each cool-down. It counts attempts and not
   successes. None begins while the source asked to be left alone, nor, while refreshes fail, within a cool-down of the
   last one.
4. A document serves for `max_stale` after the last success, counted from the moment at which that fetch began.
5. Retry-After delays the schedule by `max_interval` at most, and never beyond the moment at which the document would be
   withdrawn; refreshes on demand by MAX_QUIET; and both by MAX_QUIET_EMPTY while there is no document to serve.
6. What is missing is not there only if a refresh that succeeded began less than a cool-down ago, and well after it was
   first asked for: a source may publish late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from authz.facts.budget import Budget

NEVER: Final = float("inf")
MAX_AT_ONCE: Final = 4  # refreshes on demand
MAX_QUIET: Final = 60.0  # seconds in which refreshes on demand honour Retry-After
MAX_QUIET_EMPTY: Final = 30.0  # the same of all refreshes while there is nothing to serve
_FIRST_RETRY: Final = 1.0  # seconds; doubled after each further failure
_LOOKS: Final = 3  # looks in a cool-down, at most, for something that may be published late


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The durations of one feed, in seconds, as configured under `fetch`; *last_retry* is the longest back-off."""

    interval: float = 600.0
    min_interval: float = 60.0
    max_interval: float = 3600.0
    cooldown: float = 15.0
    max_wait: float = 1.0
    max_stale: float = 86_400.0
    last_retry: float = 60.0

    def pause_after_success(self, fresh_for: float | None, jitter: float) -> float:
        """Return the seconds to the next refresh of a copy that is fresh for so long, None if unsaid.

        *jitter* is from 0 to 1. The refresh comes at 75 to 95 % of the lifetime, and never sooner than `min_interval`.
        """
        lifetime = min(max(self.interval if fresh_for is None else fresh_for, self.min_interval), self.max_interval)
        ahead = lifetime * (0.75 + 0.2 * jitter)
        return min(max(ahead, self.min_interval * (1.0 + 0.25 * jitter)), self.max_interval)

    def pause_after_failure(self, failures: int, jitter: float) -> float:
        """Return the seconds to the next attempt after so many *failures* in a row before this one."""
        return float(min(_FIRST_RETRY * 2.0 ** min(failures, 16), self.last_retry) * (0.5 + 0.5 * jitter))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshState:
    """What the schedule of one feed depends on. Instants are monotonic seconds."""

    refresh_at: float
    """When the next scheduled refresh is due; the first one is due at once."""
    running: bool = False
    closed: bool = False
    began_at: float = -NEVER
    """When the last refresh began, whoever wanted it."""
    budget: Budget | None = None
    """What is left for refreshes on demand; None before the first."""
    quiet_until: float = -NEVER
    """Until when nothing may be asked on demand, because the source asked to be left alone."""
    looked_at: float = -NEVER
    """When the last refresh that brought or confirmed the whole document began."""
    failures: int = 0
    """Refreshes that failed since the last success."""
    good_since: float | None = None
    """When the last good document was fetched or confirmed; it stays when that document is withdrawn."""
    good_until: float | None = None
    """When the document must be withdrawn; None if there is none to serve."""

    @property
    def serving(self) -> bool:
        """Whether there is a document to serve."""
        return self.good_until is not None


def due(state: RefreshState) -> float:
    """Return the instant at which there is something to do: a refresh, or a withdrawal."""
    if state.closed:
        return NEVER
    refresh_at = NEVER if state.running else state.refresh_at
    return refresh_at if state.good_until is None else min(refresh_at, state.good_until)


def must_refresh(state: RefreshState, now: float) -> bool:
    """Tell whether a scheduled refresh is due."""
    return not state.closed and not state.running and now >= state.refresh_at


def must_withdraw(state: RefreshState, now: float) -> bool:
    """Tell whether the document is too old to serve."""
    return not state.closed and state.good_until is not None and now >= state.good_until


class Search(StrEnum):
    """What a search for something that the document has not comes to."""

    NOW = "now"
    """Join the refresh under way, or begin one."""
    NOT_THERE = "not_there"
    """It was looked for, and is not there."""
    TOO_NEW = "too_new"
    """It was looked for, but is first asked for since moments ago: a source that publishes late may bring it yet."""
    NO_BUDGET = "no_budget"
    """Nobody has looked for it yet, and no refresh may begin now."""
    REFRESH_FAILED = "refresh_failed"
    """Nobody could look for it, for the last refresh failed, and no other may begin now."""


def may_ask(state: RefreshState, schedule: Schedule, now: float) -> bool:
    """Tell whether a refresh on demand may begin now."""
    if state.closed or state.running or now < state.quiet_until:
        return False
    if state.failures and now - state.began_at < schedule.cooldown:
        return False
    return _spend(state, schedule, now) is not None


def search(
    state: RefreshState,
    schedule: Schedule,
    now: float,
    *,
    first_asked: float,
    patience: float,
    just_ended: bool = False,
) -> Search:
    """Say what to do about something that the document has not, and that was *first_asked* for then.

    For *patience* seconds after that moment the source may still be about to publish it. If a refresh has *just_ended*
    well, its document counts however long it took to come: longer than a short `cooldown`, perhaps.
    """
    looked_at = state.looked_at
    given_up = looked_at >= first_asked + patience
    current = now - looked_at < schedule.cooldown or (just_ended and not state.failures)
    if given_up and current:
        return Search.NOT_THERE
    if state.running:
        return Search.NOW
    if not given_up and looked_at >= first_asked and now - looked_at < schedule.cooldown / _LOOKS:
        return Search.TOO_NEW
    if may_ask(state, schedule, now):
        return Search.NOW
    return Search.REFRESH_FAILED if state.failures else Search.NO_BUDGET


def may_doubt(state: RefreshState, schedule: Schedule, now: float) -> bool:
    """Tell whether a refresh may begin now because something in the document seems to have changed.

    It comes from the budget of refreshes on demand, and not within a cool-down of the last success.
    """
    return now - state.looked_at >= schedule.cooldown and may_ask(state, schedule, now)


def begun(state: RefreshState, schedule: Schedule, now: float, *, on_demand: bool) -> RefreshState:
    """Begin a refresh: a scheduled one, or one on demand, which uses up its budget."""
    budget = _spend(state, schedule, now) if on_demand else state.budget
    return replace(state, running=True, began_at=now, budget=budget)


def _spend(state: RefreshState, schedule: Schedule, now: float) -> Budget | None:
    return (state.budget or Budget.full(MAX_AT_ONCE, schedule.cooldown, now)).spend(now)


def succeeded(
    state: RefreshState, schedule: Schedule, now: float, *, fresh_for: float | None, jitter: float
) -> RefreshState:
    """End a refresh that brought or confirmed a document, which is as old as the beginning of the refresh."""
    pause = schedule.pause_after_success(fresh_for, jitter)
    looked_at = state.began_at
    ended = replace(state, running=False, failures=0, quiet_until=-NEVER, refresh_at=now + pause, looked_at=looked_at)
    return adopt(ended, schedule, fetched=state.began_at)


def failed(state: RefreshState, schedule: Schedule, now: float, *, wait: float | None, jitter: float) -> RefreshState:
    """End a refresh that brought nothing; *wait* is how many seconds the source asked to be left alone."""
    wait = wait or 0.0
    if state.good_until is None:
        delay = quiet = min(wait, MAX_QUIET_EMPTY)
    else:
        delay = min(wait, schedule.max_interval, max(state.good_until - now, 0.0))
        quiet = min(delay, MAX_QUIET)
    pause = max(schedule.pause_after_failure(state.failures, jitter), delay)
    return replace(state, running=False, failures=state.failures + 1, refresh_at=now + pause, quiet_until=now + quiet)


def partly_failed(
    state: RefreshState, schedule: Schedule, now: float, *, wait: float | None, jitter: float
) -> RefreshState:
    """End a refresh that brought a part of the document: it serves, and what is missing in it was not looked for."""
    adopted = adopt(state, schedule, fetched=state.began_at)
    return failed(adopted, schedule, now, wait=wait, jitter=jitter)


def adopt(state: RefreshState, schedule: Schedule, *, fetched: float) -> RefreshState:
    """Serve a document that was *fetched* then, by this feed or by another; when to refresh it does not change."""
    return replace(state, good_since=fetched, good_until=fetched + schedule.max_stale)


def withdrawn(state: RefreshState) -> RefreshState:
    """Serve nothing until the next success."""
    return replace(state, good_until=None)


def closed(state: RefreshState) -> RefreshState:
    """Nothing is due and nothing may be asked any more; a refresh under way goes on to its end."""
    return replace(state, closed=True)


def ended(state: RefreshState) -> RefreshState:
    """End a refresh whose outcome counts for nothing, because the feed was closed meanwhile."""
    return replace(state, running=False)
