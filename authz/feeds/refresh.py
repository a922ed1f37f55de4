"""When to refresh a document, how long to serve it, when to give up: pure functions over one frozen state.

No lock, no clock, no I/O, no randomness: instants are monotonic seconds that the caller read, jitter is a number from
0 to 1 that the caller drew. `authz.feeds.feed` is the shell that waits and loads.

Rules of this file:
1. A refresh is due before the document expires; what the answer says is clamped, and jitter keeps replicas from
   marching in step.
2. One refresh at a time.
3. A refresh on demand is allowed at most once a cool-down, which counts attempts and not successes; and not while the
   source asked to be left alone.
4. A document serves for `max_stale` after the last success, counted from the moment at which that fetch began.
5. Retry-After is honoured for `max_interval` at most, and never beyond the moment at which the document would be
   withdrawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

NEVER: Final = float("inf")
_FIRST_RETRY: Final = 1.0  # seconds; doubled after each further failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The durations of one feed, in seconds, as configured under `fetch`; *last_retry* is the longest back-off."""

    interval: float = 600.0
    min_interval: float = 60.0
    max_interval: float = 3600.0
    cooldown: float = 30.0
    max_wait: float = 0.1
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
    asked_at: float = -NEVER
    """When the last refresh on demand began."""
    quiet_until: float = -NEVER
    """Until when the source asked to be left alone."""
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


def may_ask(state: RefreshState, schedule: Schedule, now: float) -> bool:
    """Tell whether a refresh on demand may begin now."""
    if state.closed or state.running or now < state.quiet_until:
        return False
    # While refreshes fail, those of the schedule count too: a source in trouble is asked once a cool-down at most.
    last = max(state.asked_at, state.began_at) if state.failures else state.asked_at
    return now - last >= schedule.cooldown


def begun(state: RefreshState, now: float, *, on_demand: bool) -> RefreshState:
    """Begin a refresh: a scheduled one, or one on demand, which uses up its budget."""
    return replace(state, running=True, began_at=now, asked_at=now if on_demand else state.asked_at)


def succeeded(
    state: RefreshState, schedule: Schedule, now: float, *, fresh_for: float | None, jitter: float
) -> RefreshState:
    """End a refresh that brought or confirmed a document, which is as old as the beginning of the refresh."""
    pause = schedule.pause_after_success(fresh_for, jitter)
    ended = replace(state, running=False, failures=0, quiet_until=-NEVER, refresh_at=now + pause)
    return adopt(ended, schedule, fetched=state.began_at)


def failed(state: RefreshState, schedule: Schedule, now: float, *, wait: float | None, jitter: float) -> RefreshState:
    """End a refresh that brought nothing; *wait* is how many seconds the source asked to be left alone."""
    left = state.good_until - now if state.good_until is not None else NEVER
    quiet = min(wait or 0.0, schedule.max_interval, max(left, 0.0))
    pause = max(schedule.pause_after_failure(state.failures, jitter), quiet)
    return replace(state, running=False, failures=state.failures + 1, refresh_at=now + pause, quiet_until=now + quiet)


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
