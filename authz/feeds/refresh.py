"""When to refresh a document, and how long to use it: pure functions over one frozen state.

No locks, no clock, no I/O, no randomness: times are monotonic seconds from the caller, jitter is a random number from
0 to 1 from the caller. `authz.feeds.feed` does the waiting and loading.

Rules of this file:
1. A refresh is due before the document expires. The lifetime from the response is clamped, and jitter spreads the
   refreshes of replicas.
2. One refresh at a time.
3. Refreshes on demand have a token bucket: MAX_BURST of them, and one more after each cooldown. Failed attempts count.
   None may start before Retry-After has passed or, after a failure, within a cooldown of the last refresh.
4. A document may be used for `max_stale` after the last success, measured from the start of that fetch.
5. Retry-After delays scheduled refreshes by `max_interval` at most, and never beyond the time when the document would
   be withdrawn. It delays refreshes on demand by MAX_RETRY_AFTER at most. Without a document to use, both are limited
   to MAX_RETRY_AFTER_EMPTY.
6. Something counts as missing only if a successful refresh began less than a cooldown ago, and well after the first
   request for it: a source may publish late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from authz.facts.budget import Budget

NEVER: Final = float("inf")
MAX_BURST: Final = 4  # refreshes on demand
MAX_RETRY_AFTER: Final = 60.0  # seconds by which Retry-After delays refreshes on demand, at most
MAX_RETRY_AFTER_EMPTY: Final = 30.0  # the same for all refreshes while there is no document to use
_FIRST_RETRY: Final = 1.0  # seconds; doubled after each further failure
_MAX_SEARCHES: Final = 3  # in one cooldown, for something that may be published late


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The durations of one feed in seconds, as in `fetch`; *max_backoff* is the longest pause after a failure."""

    interval: float = 600.0
    min_interval: float = 60.0
    max_interval: float = 3600.0
    cooldown: float = 15.0
    max_wait: float = 1.0
    max_stale: float = 86_400.0
    max_backoff: float = 60.0

    def pause_after_success(self, fresh_for: float | None, jitter: float) -> float:
        """Return the seconds to the next refresh of a document that is fresh for *fresh_for* seconds (None: unknown).

        *jitter* is from 0 to 1. The refresh is at 75 to 95 % of the lifetime, but not before `min_interval`.
        """
        lifetime = min(max(self.interval if fresh_for is None else fresh_for, self.min_interval), self.max_interval)
        ahead = lifetime * (0.75 + 0.2 * jitter)
        return min(max(ahead, self.min_interval * (1.0 + 0.25 * jitter)), self.max_interval)

    def pause_after_failure(self, failures: int, jitter: float) -> float:
        """Return the seconds to the next attempt after this failure and *failures* consecutive ones before it."""
        return float(min(_FIRST_RETRY * 2.0 ** min(failures, 16), self.max_backoff) * (0.5 + 0.5 * jitter))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshState:
    """The state of one feed's schedule. All times are monotonic seconds."""

    refresh_at: float
    """When the next scheduled refresh is due; initially at once."""
    running: bool = False
    closed: bool = False
    began_at: float = -NEVER
    """When the last refresh began, scheduled or on demand."""
    budget: Budget | None = None
    """The budget for refreshes on demand; None before the first."""
    blocked_until: float = -NEVER
    """Until when Retry-After forbids refreshes on demand."""
    confirmed_at: float = -NEVER
    """When the last refresh that loaded or confirmed the complete document began."""
    failures: int = 0
    """The number of failed refreshes since the last success."""
    good_since: float | None = None
    """When the last good document was fetched or confirmed; it stays when that document is withdrawn."""
    good_until: float | None = None
    """When the document must be withdrawn; None if there is no document to use."""

    @property
    def serving(self) -> bool:
        """Whether there is a document to use."""
        return self.good_until is not None


def due(state: RefreshState) -> float:
    """Return the time of the next refresh or withdrawal."""
    if state.closed:
        return NEVER
    refresh_at = NEVER if state.running else state.refresh_at
    return refresh_at if state.good_until is None else min(refresh_at, state.good_until)


def must_refresh(state: RefreshState, now: float) -> bool:
    """Return whether a scheduled refresh is due."""
    return not state.closed and not state.running and now >= state.refresh_at


def must_withdraw(state: RefreshState, now: float) -> bool:
    """Return whether the document is too old to use."""
    return not state.closed and state.good_until is not None and now >= state.good_until


class Search(StrEnum):
    """The result of a search for something that is missing in the document."""

    NOW = "now"
    """Join the refresh in progress, or start one."""
    NOT_THERE = "not_there"
    """The search has ended: it does not exist."""
    TOO_NEW = "too_new"
    """A search has ended, but the first request for it is too recent: the source may publish late."""
    NO_BUDGET = "no_budget"
    """There was no search since the first request, and no refresh may start now."""
    REFRESH_FAILED = "refresh_failed"
    """The last refresh failed, and no other one may start now."""


def may_begin_on_demand(state: RefreshState, schedule: Schedule, now: float) -> bool:
    """Return whether a refresh on demand may start now."""
    if state.closed or state.running or now < state.blocked_until:
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
    grace: float,
    just_ended: bool = False,
) -> Search:
    """Return what to do about something that is missing in the document, first requested at *first_asked*.

    For *grace* seconds after that time, the source may publish late. With *just_ended*, the document of a refresh that
    has just succeeded counts as current, even if the refresh took longer than `cooldown`.
    """
    confirmed_at = state.confirmed_at
    grace_over = confirmed_at >= first_asked + grace
    current = now - confirmed_at < schedule.cooldown or (just_ended and not state.failures)
    if grace_over and current:
        return Search.NOT_THERE
    if state.running:
        return Search.NOW
    if not grace_over and confirmed_at >= first_asked and now - confirmed_at < schedule.cooldown / _MAX_SEARCHES:
        return Search.TOO_NEW
    if may_begin_on_demand(state, schedule, now):
        return Search.NOW
    return Search.REFRESH_FAILED if state.failures else Search.NO_BUDGET


def may_recheck(state: RefreshState, schedule: Schedule, now: float) -> bool:
    """Return whether a refresh may start now because something in the document may have changed.

    It uses the budget of refreshes on demand, and is not allowed within a cooldown of the last success.
    """
    return now - state.confirmed_at >= schedule.cooldown and may_begin_on_demand(state, schedule, now)


def started(state: RefreshState, schedule: Schedule, now: float, *, on_demand: bool) -> RefreshState:
    """Start a refresh, scheduled or *on_demand*; the latter uses the budget."""
    budget = _spend(state, schedule, now) if on_demand else state.budget
    return replace(state, running=True, began_at=now, budget=budget)


def _spend(state: RefreshState, schedule: Schedule, now: float) -> Budget | None:
    return (state.budget or Budget.full(MAX_BURST, schedule.cooldown, now)).spend(now)


def succeeded(
    state: RefreshState, schedule: Schedule, now: float, *, fresh_for: float | None, jitter: float
) -> RefreshState:
    """End a refresh that loaded or confirmed a document. Its age counts from the start of the refresh."""
    pause = schedule.pause_after_success(fresh_for, jitter)
    confirmed_at = state.began_at
    ended = replace(
        state, running=False, failures=0, blocked_until=-NEVER, refresh_at=now + pause, confirmed_at=confirmed_at
    )
    return adopt(ended, schedule, fetched=state.began_at)


def failed(
    state: RefreshState, schedule: Schedule, now: float, *, retry_after: float | None, jitter: float
) -> RefreshState:
    """End a refresh that failed; *retry_after* is from the Retry-After header, in seconds."""
    retry_after = retry_after or 0.0
    if state.good_until is None:
        delay = on_demand_delay = min(retry_after, MAX_RETRY_AFTER_EMPTY)
    else:
        delay = min(retry_after, schedule.max_interval, max(state.good_until - now, 0.0))
        on_demand_delay = min(delay, MAX_RETRY_AFTER)
    pause = max(schedule.pause_after_failure(state.failures, jitter), delay)
    return replace(
        state,
        running=False,
        failures=state.failures + 1,
        refresh_at=now + pause,
        blocked_until=now + on_demand_delay,
    )


def partly_failed(
    state: RefreshState, schedule: Schedule, now: float, *, retry_after: float | None, jitter: float
) -> RefreshState:
    """End a refresh that loaded a part of the document: it is used, but the search counts as failed."""
    adopted = adopt(state, schedule, fetched=state.began_at)
    return failed(adopted, schedule, now, retry_after=retry_after, jitter=jitter)


def adopt(state: RefreshState, schedule: Schedule, *, fetched: float) -> RefreshState:
    """Use a document that was fetched at *fetched*, by this feed or another one; the schedule does not change."""
    return replace(state, good_since=fetched, good_until=fetched + schedule.max_stale)


def withdrawn(state: RefreshState) -> RefreshState:
    """Stop using the document, until the next success."""
    return replace(state, good_until=None)


def closed(state: RefreshState) -> RefreshState:
    """Stop the schedule and refuse requests; a refresh in progress continues to its end."""
    return replace(state, closed=True)


def ended(state: RefreshState) -> RefreshState:
    """End a refresh whose result is ignored because the feed was closed meanwhile."""
    return replace(state, running=False)
