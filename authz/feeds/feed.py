"""Keep one document fresh: the thread shell around `authz.feeds.refresh`, the same for every kind of document.

Rules of this file:
1. Readers take no lock: all that they may know is in one reference, `view`, which is replaced whole. The lock is for
   those who change it, and is never held while anything waits, loads, writes or reports.
2. A refresh is announced first: published, in the view, and told to whoever asked. Reports, spans and the cache, all of
   which may be slow or broken, come after it.
3. Every refresh ends, even if no thread can be had, or the source or a report breaks; the schedule goes on.
4. Nothing replaces a good document but a good document.
5. A feed that was closed publishes nothing any more, whatever is still under way.
6. Ages and cool-downs are on the monotonic clock: the wall clock may jump. It dates what people and the cache read.
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
    """A refresh that failed *at* so many seconds since the epoch."""

    at: float
    result: Refresh
    text: str


@dataclass(frozen=True, slots=True)
class Copy(Generic[T_co]):
    """The last good *value*, the document it was read from, and when that was *fetched_at*, since the epoch.

    *authorities* are those that vouched for it then: see Loaded.
    """

    value: T_co
    document: bytes
    fetched_at: float
    authorities: str = ""


@dataclass(frozen=True, slots=True)
class View(Generic[T_co]):
    """All that there is to know of a feed at one moment. The *copy* stays when it is too old to serve."""

    state: RefreshState
    copy: Copy[T_co] | None = None
    last_failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Generic[T_co]):
    """A view for people: durations in seconds from now, *last_success* in seconds since the epoch."""

    value: T_co | None
    serving: bool
    refreshing: bool
    last_success: float | None
    age: float | None
    stale_in: float | None
    next_refresh_in: float
    last_failure: Failure | None


class Feed(Generic[T]):
    """Keeps the document of *name* fresh. *publish* swaps in each new value, or None if the last is too old to serve.

    *publish* is called under the feed's lock: it must swap a reference and do nothing else.
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
        self._asking: list[Callable[[], None]] = []  # to be called when the refresh under way has ended
        self._saving: Final = Lock()
        self._saved: Copy[T] | None = None

    @property
    def view(self) -> View[T]:
        """What there is to know now. Takes no lock."""
        return self._view

    def status(self) -> Status[T]:
        """Say how things stand now. Takes no lock."""
        view, now = self._view, self._env.monotonic()
        state, copy = view.state, view.copy
        return Status(
            value=copy.value if copy is not None else None,
            serving=state.serving,
            refreshing=state.running,
            last_success=copy.fetched_at if copy is not None else None,
            age=None if state.good_since is None else now - state.good_since,
            stale_in=None if state.good_until is None else max(0.0, state.good_until - now),
            next_refresh_in=max(0.0, state.refresh_at - now),
            last_failure=view.last_failure,
        )

    def restore(self) -> None:
        """Serve what the cache holds until the first refresh, which is due at once, succeeds."""
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
            self._accept(Copy(value, cached.document, cached.fetched_at, cached.authorities), state)
        self._report(self._observer.on_accepted, value, cached.fetched_at)

    def adopt_from(self, previous: Feed[T]) -> T | None:
        """Take over what *previous*, which is closed, served; return it as this source reads it, None if nothing.

        It is not published: it goes into the snapshot that this feed was made for.
        """
        view = previous.view
        if view.copy is None or view.state.good_since is None or not view.state.serving:
            return None
        try:
            value = self.source.read(view.copy.document)
        except RefreshError as error:
            self._report(self._observer.on_unreadable, "last good", error)
            return None
        with self._lock:
            state = refresh.adopt(self._view.state, self.schedule, fetched=view.state.good_since)
            self._view = replace(self._view, state=state, copy=replace(view.copy, value=value))
        self._report(self._observer.on_accepted, value, view.copy.fetched_at)
        return value

    def close(self) -> None:
        """Publish nothing any more."""
        with self._lock:
            self._view = replace(self._view, state=refresh.closed(self._view.state))

    def due(self) -> float:
        """Return the monotonic instant at which `step` has something to do."""
        return refresh.due(self._view.state)

    def step(self) -> None:
        """Do what is due: withdraw a document that is too old, begin a refresh."""
        with self._lock:
            state, now = self._view.state, self._env.monotonic()
            if expired := refresh.must_withdraw(state, now):
                self._publish(None)
                state = refresh.withdrawn(state)
            if begins := refresh.must_refresh(state, now):
                state = refresh.begun(state, self.schedule, now, on_demand=False)
            self._view = replace(self._view, state=state)
        if expired:
            self._report(self._observer.on_withdrawn, self.schedule.max_stale)
        if begins:
            self._start(on_demand=False)

    def monotonic(self) -> float:
        """Return the instant by the clock that all instants of this feed are on."""
        return self._env.monotonic()

    def search(self, *, first_asked: float, patience: float, just_ended: bool = False) -> Search:
        """Say what to do now about something that the document has not; see `refresh.search`. Takes no lock."""
        now = self._env.monotonic()
        return refresh.search(
            self._view.state, self.schedule, now, first_asked=first_asked, patience=patience, just_ended=just_ended
        )

    def may_doubt(self) -> bool:
        """Tell whether `ask` may be called because the document seems outdated; see `refresh.may_doubt`."""
        return refresh.may_doubt(self._view.state, self.schedule, self._env.monotonic())

    def ask(self, done: Callable[[], None]) -> None:
        """Join the refresh under way, or begin one; call *done* once it has ended, or at once if none may begin.

        *done* is called once, on any thread. Never raises, never waits.
        """
        with self._lock:
            state, now = self._view.state, self._env.monotonic()
            if begins := refresh.may_ask(state, self.schedule, now):
                state = refresh.begun(state, self.schedule, now, on_demand=True)
                self._view = replace(self._view, state=state)
            if joins := state.running:
                self._asking.append(done)
        if begins:
            self._start(on_demand=True)
        if not joins:
            self._report(done)

    def refresh_now(self) -> bool:
        """Begin a refresh whatever the schedule and the budget say; False if one is under way, or the feed is closed.

        Only an operator may have this done.
        """
        with self._lock:
            state = self._view.state
            if begins := not (state.running or state.closed):
                state = refresh.begun(state, self.schedule, self._env.monotonic(), on_demand=False)
                self._view = replace(self._view, state=state)
        if begins:
            self._start(on_demand=True)
        return begins

    def _start(self, *, on_demand: bool) -> None:
        try:
            self._env.spawn(partial(self._refresh, on_demand=on_demand))
        except Exception as error:  # no thread to be had: without this the refresh would never end
            log.exception("refresh of %s could not start", self.name)
            self._fail(RefreshError(Refresh.INTERNAL_ERROR, f"the refresh could not start: {type(error).__name__}"))

    def _refresh(self, *, on_demand: bool) -> None:
        """Load once, and let the outcome be known before anybody who waits looks again."""
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
            log.exception("refresh of %s broke", self.name)
            result, accepted = Refresh.INTERNAL_ERROR, False
            self._fail(RefreshError(result, "the refresh itself broke; see the log"))
        self._report(self._env.on_refresh, self.name, result, self._env.monotonic() - began)
        if accepted:
            self._report(self._save)

    def _succeed(self, loaded: Loaded[T], result: Refresh, fetched_at: float) -> bool:
        """Serve what was loaded; False if nobody wants it any more. Raises RefreshError."""
        copy, part, pause = None, loaded.incomplete, 0.0
        with self._lock:
            before = self._view
            if before.state.closed:
                self._view = replace(before, state=refresh.ended(before.state))
            else:
                copy = _make_copy(loaded, before.copy, fetched_at)
                now, jitter = self._env.monotonic(), self._env.jitter()
                if part is None:
                    state = refresh.succeeded(
                        before.state, self.schedule, now, fresh_for=loaded.fresh_for, jitter=jitter
                    )
                else:
                    state = refresh.partly_failed(before.state, self.schedule, now, wait=part.wait, jitter=jitter)
                    failure = Failure(self._env.now(), part.result, str(part))
                    self._view = replace(before, last_failure=failure)
                    pause = state.refresh_at - now
                self._accept(copy, state)
            asking, self._asking = self._asking, []
        self._announce(asking)
        if copy is not None:
            self._report(self._observer.on_accepted, copy.value, fetched_at)
            if part is None:
                self._report(self._observer.on_refreshed, result)
            else:
                self._report(partial(self._observer.on_failed, part, pause=pause, serving=True))
        return copy is not None

    def _accept(self, copy: Copy[T], state: RefreshState) -> None:
        """Publish, under the lock. Who sees in the view that a refresh has ended finds its outcome published."""
        before = self._view
        if before.copy is None or copy.value != before.copy.value or not before.state.serving:
            self._publish(copy.value)
        self._view = replace(before, state=state, copy=copy)

    def _fail(self, error: RefreshError) -> None:
        with self._lock:
            before, now = self._view, self._env.monotonic()
            state = refresh.failed(before.state, self.schedule, now, wait=error.wait, jitter=self._env.jitter())
            failure = Failure(self._env.now(), error.result, str(error))
            self._view = replace(before, state=state, last_failure=failure)
            asking, self._asking = self._asking, []
        self._announce(asking)
        pause = state.refresh_at - now
        self._report(partial(self._observer.on_failed, error, pause=pause, serving=state.serving))

    def _announce(self, asking: list[Callable[[], None]]) -> None:
        self._report(self._env.wake)
        for done in asking:
            self._report(done)

    def _save(self) -> None:
        """Keep the newest copy on disk. One thread saves at a time, and none waits for a disk that hangs."""
        while self._cache is not None and self._view.copy is not self._saved and self._saving.acquire(blocking=False):
            try:
                self._saved = copy = self._view.copy
                if copy is not None:
                    self._cache.save(copy.document, copy.fetched_at, copy.authorities)
            finally:
                self._saving.release()

    def _report(self, report: Callable[..., object], *what: object) -> None:
        try:
            report(*what)
        except Exception:
            log.exception("a report on the refreshes of %s broke", self.name)


def _make_copy(loaded: Loaded[T], last: Copy[T] | None, fetched_at: float) -> Copy[T]:
    """Return what was loaded, or *last*, confirmed, if there was nothing new. Raises RefreshError."""
    if loaded.value is not None:
        return Copy(loaded.value, loaded.document, fetched_at, loaded.authorities)
    if last is None:
        raise RefreshError(Refresh.INTERNAL_ERROR, "the source has nothing new, and gave nothing before")
    document = loaded.document or last.document
    return replace(last, document=document, fetched_at=fetched_at, authorities=loaded.authorities)
