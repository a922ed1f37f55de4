"""Keep one document fresh: adds threads, locks and I/O to the pure functions of `authz.feeds.refresh`.

Rules of this file:
1. Readers take no lock: they read one reference, `view`, which is replaced as a whole. Writers take the lock, and never
   hold it while they load, write to disk or report.
2. The outcome of a refresh is first published, put into the view, and passed to waiting callers. Reports, spans and the
   disk cache, which may be slow or fail, come after that.
3. Every refresh ends, even if no thread can be started or if the source or a report raises; the schedule continues.
4. Only a good document replaces a good document.
5. A closed feed publishes nothing, even if a refresh is in progress.
6. Ages and cooldowns use the monotonic clock, because the wall clock may jump. Wall-clock times are for people and for
   the disk cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Final, Generic, TypeVar

from authz.feeds import refresh
from authz.feeds.failure import RefreshError
from authz.feeds.ports import Cache, FeedEnv, Loaded, Observer, Source
from authz.feeds.refresh import RefreshState, Schedule, Search
from authz.telemetry.keys import Refresh

log = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """A refresh that failed *at* a Unix time."""

    at: float
    result: Refresh
    text: str


@dataclass(frozen=True, slots=True)
class LastGood(Generic[T_co]):
    """The last good *value*, with the *document* that it was read from, *fetched_at* a Unix time.

    *authorities* is the CA digest at that time: see Loaded.
    """

    value: T_co
    document: bytes
    fetched_at: float
    authorities: str = ""


@dataclass(frozen=True, slots=True)
class View(Generic[T_co]):
    """The state of a feed at one moment. *last_good* stays even when it is too old to be used."""

    state: RefreshState
    last_good: LastGood[T_co] | None = None
    last_failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Generic[T_co]):
    """A view for operators: durations in seconds from now, *last_success* in Unix time."""

    value: T_co | None
    serving: bool
    refreshing: bool
    last_success: float | None
    age: float | None
    stale_in: float | None
    next_refresh_in: float
    last_failure: Failure | None


class Feed(Generic[T]):
    """Keeps the document of *name* fresh. *publish* gets each new value, and None when the last one is too old to use.

    *publish* is called under the feed's lock: it must only replace a reference.
    """

    def __init__(
        self,
        name: str,
        source: Source[T],
        *,
        schedule: Schedule,
        publish: Callable[[T | None], None],
        env: FeedEnv,
        observer: Observer[T],
        cache: Cache | None = None,
    ) -> None:
        self.name: Final = name
        self.source: Final = source
        self.schedule: Final = schedule
        self._publish: Final = publish
        self._env: Final = env
        self._observer: Final = observer
        self._cache: Final = cache
        self._lock: Final = Lock()
        self._view: View[T] = View(RefreshState(refresh_at=env.monotonic()))
        self._waiters: list[Callable[[], None]] = []  # called when the refresh in progress has ended
        self._save_lock: Final = Lock()
        self._saved: LastGood[T] | None = None

    @property
    def view(self) -> View[T]:
        """The current state. Takes no lock."""
        return self._view

    def status(self) -> Status[T]:
        """Return the current state for operators. Takes no lock."""
        view, now = self._view, self._env.monotonic()
        state, last_good = view.state, view.last_good
        return Status(
            value=last_good.value if last_good is not None else None,
            serving=state.serving,
            refreshing=state.running,
            last_success=last_good.fetched_at if last_good is not None else None,
            age=None if state.good_since is None else now - state.good_since,
            stale_in=None if state.good_until is None else max(0.0, state.good_until - now),
            next_refresh_in=max(0.0, state.refresh_at - now),
            last_failure=view.last_failure,
        )

    def restore(self) -> None:
        """Use the cached document until the first refresh, which is due at once, succeeds."""
        cached = self._cache.load() if self._cache is not None else None
        if cached is None:
            return
        try:
            value = self.source.read(cached.document)
        except RefreshError as error:
            self._report(self._observer.on_unreadable, "cached", error)
            return
        with self._lock:
            state = refresh.adopt(self._view.state, self.schedule, fetched=self._env.monotonic() - cached.age)
            self._accept(LastGood(value, cached.document, cached.fetched_at, cached.authorities), state)
        self._report(self._observer.on_accepted, value, cached.fetched_at)

    def adopt_from(self, previous: Feed[T]) -> T | None:
        """Take over the document of the closed feed *previous*; return it as read by this source, or None.

        It is not published: the caller puts it into the new snapshot.
        """
        view = previous.view
        if view.last_good is None or view.state.good_since is None or not view.state.serving:
            return None
        try:
            value = self.source.read(view.last_good.document)
        except RefreshError as error:
            self._report(self._observer.on_unreadable, "last good", error)
            return None
        with self._lock:
            state = refresh.adopt(self._view.state, self.schedule, fetched=view.state.good_since)
            self._view = replace(self._view, state=state, last_good=replace(view.last_good, value=value))
        self._report(self._observer.on_accepted, value, view.last_good.fetched_at)
        return value

    def close(self) -> None:
        """Stop publishing."""
        with self._lock:
            self._view = replace(self._view, state=refresh.closed(self._view.state))

    def due(self) -> float:
        """Return the monotonic time at which `step` must be called."""
        return refresh.due(self._view.state)

    def step(self) -> None:
        """Do what is due: withdraw a document that is too old, start a refresh."""
        with self._lock:
            state, now = self._view.state, self._env.monotonic()
            if expired := refresh.must_withdraw(state, now):
                self._publish(None)
                state = refresh.withdrawn(state)
            if begins := refresh.must_refresh(state, now):
                state = refresh.started(state, self.schedule, now, on_demand=False)
            self._view = replace(self._view, state=state)
        if expired:
            self._report(self._observer.on_withdrawn, self.schedule.max_stale)
        if begins:
            self._start(on_demand=False)

    def monotonic(self) -> float:
        """Return the current time of the clock that this feed uses."""
        return self._env.monotonic()

    def search(self, *, first_asked: float, grace: float, just_ended: bool = False) -> Search:
        """Return what to do about something that is missing in the document; see `refresh.search`. Takes no lock."""
        now = self._env.monotonic()
        return refresh.search(
            self._view.state, self.schedule, now, first_asked=first_asked, grace=grace, just_ended=just_ended
        )

    def may_recheck(self) -> bool:
        """Return whether `ask` may be called because the document may be outdated; see `refresh.may_recheck`."""
        return refresh.may_recheck(self._view.state, self.schedule, self._env.monotonic())

    def ask(self, done: Callable[[], None]) -> None:
        """Join the refresh in progress, or start one; call *done* when it has ended, or at once if none may start.

        *done* is called once, on any thread. Never raises, never blocks.
        """
        with self._lock:
            state, now = self._view.state, self._env.monotonic()
            if begins := refresh.may_begin_on_demand(state, self.schedule, now):
                state = refresh.started(state, self.schedule, now, on_demand=True)
                self._view = replace(self._view, state=state)
            if joins := state.running:
                self._waiters.append(done)
        if begins:
            self._start(on_demand=True)
        if not joins:
            self._report(done)

    def refresh_now(self) -> bool:
        """Start a refresh regardless of schedule and budget; False if one is in progress or the feed is closed.

        Only an operator may cause this.
        """
        with self._lock:
            state = self._view.state
            if begins := not (state.running or state.closed):
                state = refresh.started(state, self.schedule, self._env.monotonic(), on_demand=False)
                self._view = replace(self._view, state=state)
        if begins:
            self._start(on_demand=True)
        return begins

    def _start(self, *, on_demand: bool) -> None:
        try:
            self._env.spawn(partial(self._refresh, on_demand=on_demand))
        except Exception as error:  # without a thread the refresh would never end
            log.exception("refresh of %s could not start", self.name)
            self._fail(RefreshError(Refresh.INTERNAL_ERROR, f"the refresh could not start: {type(error).__name__}"))

    def _refresh(self, *, on_demand: bool) -> None:
        """Load once, and publish the outcome before the waiting callers continue."""
        began, began_wall = self._env.monotonic(), self._env.now()
        try:
            loaded = self.source.load(on_demand=on_demand)
            result = Refresh.NOT_MODIFIED if loaded.value is None else Refresh.UPDATED
            if loaded.incomplete is not None:
                result = loaded.incomplete.result
            accepted = self._succeed(loaded, result, began_wall)
        except RefreshError as error:
            result, accepted = error.result, False
            self._fail(error)
        except BaseException:
            log.exception("refresh of %s raised an unexpected error", self.name)
            result, accepted = Refresh.INTERNAL_ERROR, False
            self._fail(RefreshError(result, "internal error during the refresh; see the log"))
        self._report(self._env.on_refresh, self.name, result, self._env.monotonic() - began)
        if accepted:
            self._report(self._save)

    def _succeed(self, loaded: Loaded[T], result: Refresh, fetched_at: float) -> bool:
        """Publish what was loaded; return False if the feed was closed meanwhile. Raises RefreshError."""
        last_good, partial_failure, pause = None, loaded.incomplete, 0.0
        with self._lock:
            before = self._view
            if before.state.closed:
                self._view = replace(before, state=refresh.ended(before.state))
            else:
                last_good = _make_last_good(loaded, before.last_good, fetched_at)
                now, jitter = self._env.monotonic(), self._env.jitter()
                if partial_failure is None:
                    state = refresh.succeeded(
                        before.state, self.schedule, now, fresh_for=loaded.fresh_for, jitter=jitter
                    )
                else:
                    state = refresh.partly_failed(
                        before.state, self.schedule, now, retry_after=partial_failure.retry_after, jitter=jitter
                    )
                    failure = Failure(self._env.now(), partial_failure.result, str(partial_failure))
                    self._view = replace(before, last_failure=failure)
                    pause = state.refresh_at - now
                self._accept(last_good, state)
            waiters, self._waiters = self._waiters, []
        self._announce(waiters)
        if last_good is not None:
            self._report(self._observer.on_accepted, last_good.value, fetched_at)
            if partial_failure is None:
                self._report(self._observer.on_refreshed, result)
            else:
                self._report(partial(self._observer.on_failed, partial_failure, pause=pause, serving=True))
        return last_good is not None

    def _accept(self, last_good: LastGood[T], state: RefreshState) -> None:
        """Publish, under the lock: before the view shows that the refresh has ended."""
        before = self._view
        if before.last_good is None or last_good.value != before.last_good.value or not before.state.serving:
            self._publish(last_good.value)
        self._view = replace(before, state=state, last_good=last_good)

    def _fail(self, error: RefreshError) -> None:
        with self._lock:
            before, now = self._view, self._env.monotonic()
            jitter = self._env.jitter()
            state = refresh.failed(before.state, self.schedule, now, retry_after=error.retry_after, jitter=jitter)
            failure = Failure(self._env.now(), error.result, str(error))
            self._view = replace(before, state=state, last_failure=failure)
            waiters, self._waiters = self._waiters, []
        self._announce(waiters)
        pause = state.refresh_at - now
        self._report(partial(self._observer.on_failed, error, pause=pause, serving=state.serving))

    def _announce(self, waiters: list[Callable[[], None]]) -> None:
        self._report(self._env.wake)
        for done in waiters:
            self._report(done)

    def _save(self) -> None:
        """Write the last good document to the cache. Only one thread writes; the others do not wait for a slow disk."""
        while (
            self._cache is not None
            and self._view.last_good is not self._saved
            and self._save_lock.acquire(blocking=False)
        ):
            try:
                self._saved = newest = self._view.last_good
                if newest is not None:
                    self._cache.save(newest.document, newest.fetched_at, newest.authorities)
            finally:
                self._save_lock.release()

    def _report(self, report: Callable[..., object], *arguments: object) -> None:
        try:
            report(*arguments)
        except Exception:
            log.exception("a report about a refresh of %s failed", self.name)


def _make_last_good(loaded: Loaded[T], last: LastGood[T] | None, fetched_at: float) -> LastGood[T]:
    """Return what was loaded, or *last* with a new time if it was confirmed. Raises RefreshError."""
    if loaded.value is not None:
        return LastGood(loaded.value, loaded.document, fetched_at, loaded.authorities)
    if last is None:
        raise RefreshError(Refresh.INTERNAL_ERROR, "the source reported no change, but there is no earlier document")
    document = loaded.document or last.document
    return replace(last, document=document, fetched_at=fetched_at, authorities=loaded.authorities)
