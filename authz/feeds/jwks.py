"""One issuer's keys, kept fresh: when to refresh, what to keep, when to give up.

Rules of this file:
1. A refresh is due before the copy expires; what the answer says is clamped, and jitter keeps replicas from marching in
   step.
2. An unknown key id asks for a refresh at once, at most once a cool-down, which counts attempts and not successes; and
   not while the issuer asked to be left alone.
3. One flight at a time; whoever asks meanwhile shares it, and may leave while it goes on. Every flight ends.
4. Nothing replaces good keys but good keys. They serve for `max_stale` after the last success, then they are withdrawn.
5. Ages and cool-downs are on the monotonic clock: the wall clock may jump. It dates what people and the cache read.
6. A feed that is retired publishes nothing any more, whatever is still in flight.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock
from typing import Final

from authz.core.keys import KeySet
from authz.feeds.cache import KeyCache
from authz.feeds.failure import RefreshError
from authz.feeds.history import History
from authz.feeds.sources import KeySource, Loaded
from authz.telemetry.keys import IssuerKeyMetrics, Refresh

log = logging.getLogger(__name__)

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
class Runtime:
    """What a feed needs of the world: two clocks, numbers from 0 to 1, and threads for refreshes to run on.

    *tell* gets the name, the result and the seconds of each refresh, once it has ended.
    """

    monotonic: Callable[[], float]
    now: Callable[[], float]
    jitter: Callable[[], float]
    fly: Callable[[Callable[[], None]], None]
    tell: Callable[[str, Refresh, float], None] = lambda _name, _result, _seconds: None


class Flight:
    """A refresh under way."""

    def __init__(self) -> None:
        self._ended: Final = Event()

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds; tell whether the refresh has ended."""
        return self._ended.wait(timeout)

    def end(self) -> None:
        """Release whoever waits."""
        self._ended.set()


@dataclass(frozen=True, slots=True)
class Failure:
    """A refresh that failed *at* so many seconds since the epoch."""

    at: float
    result: Refresh
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedState:
    """What there is to know of a feed at one moment; durations in seconds, *last_success* since the epoch."""

    keys: KeySet | None
    serving: bool
    refreshing: bool
    last_success: float | None
    age: float | None
    stale_in: float | None
    next_refresh_in: float
    last_failure: Failure | None
    unknown_kids: int


class KeyFeed:
    """Keeps the keys of the issuer configured as *name*. *publish* takes each new set, or None when it is too old."""

    def __init__(
        self,
        name: str,
        source: KeySource,
        *,
        schedule: Schedule,
        publish: Callable[[KeySet | None], None],
        runtime: Runtime,
        metrics: IssuerKeyMetrics,
        cache: KeyCache | None = None,
    ) -> None:
        self.name: Final = name
        self.source: Final = source
        self.schedule: Final = schedule
        self.history: Final = History(name, metrics)
        self.has_had_keys: Final = Event()
        self._publish: Final = publish
        self._runtime: Final = runtime
        self._metrics: Final = metrics
        self._cache: Final = cache
        self._lock: Final = Lock()
        self._retired = False
        self._flight: Flight | None = None
        self._keys: KeySet | None = None  # the last good ones, also when they are too old to serve
        self._document = b""
        self._good_since: float | None = None  # when they were last fetched or confirmed
        self._good_until: float | None = None  # None while no keys are served
        self._last_success: float | None = None
        self._last_failure: Failure | None = None
        self._refresh_at = runtime.monotonic()
        self._tried_at = float("-inf")
        self._asked_at = float("-inf")
        self._leave_alone_until = float("-inf")
        self._failures = 0
        self._unknown_kids = 0

    def restore(self) -> None:
        """Serve what the cache holds until the first refresh, which is due at once, succeeds."""
        cached = self._cache.load() if self._cache is not None else None
        if cached is None:
            return
        try:
            keys = self.source.read(cached.document)
        except RefreshError as error:
            log.warning("cached keys of %s ignored: %s", self.name, error)
            return
        self._accept(Loaded(keys, cached.document), self._runtime.monotonic() - cached.age, cached.fetched_at)

    def succeed_to(self, previous: KeyFeed) -> KeySet | None:
        """Take over what *previous*, which is retired, served; return it as this source reads it, None if nothing.

        It is not published: it goes into the snapshot that this feed was made for.
        """
        with previous._lock:
            document, fetched, fetched_wall = previous._document, previous._good_since, previous._last_success
            serving = previous._good_until is not None
        if not serving or fetched is None or fetched_wall is None:
            return None
        try:
            keys = self.source.read(document)
        except RefreshError as error:
            log.warning("keys of %s not kept: %s", self.name, error)
            return None
        self._accept(Loaded(keys, document), fetched, fetched_wall, publish=False)
        return keys

    def retire(self) -> None:
        """Publish nothing any more."""
        with self._lock:
            self._retired = True

    def due(self) -> float:
        """Return the monotonic instant at which `step` has something to do."""
        with self._lock:
            if self._retired:
                return float("inf")
            refresh_at = float("inf") if self._flight is not None else self._refresh_at
            return min(refresh_at, self._good_until if self._good_until is not None else refresh_at)

    def step(self) -> None:
        """Do what is due: withdraw keys that are too old, begin a refresh."""
        now = self._runtime.monotonic()
        with self._lock:
            if self._retired:
                return
            expired = self._good_until is not None and now >= self._good_until
            if expired:
                self._good_until = None
                self._publish(None)
            flight = self._take_off(now) if now >= self._refresh_at and self._flight is None else None
        if expired:
            self._metrics.show_keys(usable=0, rejected=0, exposed=0)
            log.error("keys of %s withdrawn: no refresh succeeded for %g s", self.name, self.schedule.max_stale)
        if flight is not None:
            self._launch(flight, searching=False)

    def find_unknown_key(self) -> Flight | None:
        """Ask for a refresh that could bring an unknown key; None where none is under way and the budget allows none.

        One may have ended since the caller looked: whoever gets None looks at the snapshot once more.
        """
        now = self._runtime.monotonic()
        self._metrics.count_unknown_kid()
        with self._lock:
            self._unknown_kids += 1
            if self._flight is not None:
                return self._flight
            if self._retired or not self._may_ask(now):
                return None
            self._asked_at = now
            flight = self._take_off(now)
        self._launch(flight, searching=True)
        return flight

    def state(self) -> FeedState:
        """Return what there is to know now."""
        now = self._runtime.monotonic()
        with self._lock:
            return FeedState(
                keys=self._keys,
                serving=self._good_until is not None,
                refreshing=self._flight is not None,
                last_success=self._last_success,
                age=None if self._good_since is None else now - self._good_since,
                stale_in=None if self._good_until is None else max(0.0, self._good_until - now),
                next_refresh_in=max(0.0, self._refresh_at - now),
                last_failure=self._last_failure,
                unknown_kids=self._unknown_kids,
            )

    def _may_ask(self, now: float) -> bool:
        if now < self._leave_alone_until:
            return False
        # While refreshes fail, those of the schedule count too: an issuer in trouble is asked once a cool-down at most.
        last = max(self._asked_at, self._tried_at) if self._failures else self._asked_at
        return now - last >= self.schedule.cooldown

    def _take_off(self, now: float) -> Flight:
        self._tried_at = now
        self._flight = Flight()
        return self._flight

    def _launch(self, flight: Flight, *, searching: bool) -> None:
        try:
            self._runtime.fly(lambda: self._refresh(flight, searching=searching))
        except Exception as error:  # no thread to be had: without this the flight would never end
            log.exception("refresh of %s could not start", self.name)
            self._fail(RefreshError(Refresh.INTERNAL_ERROR, f"the refresh could not start: {type(error).__name__}"))
            self._land(flight)

    def _refresh(self, flight: Flight, *, searching: bool) -> None:
        """Load once, and let the outcome be known before anybody who waits looks again."""
        began, began_wall = self._runtime.monotonic(), self._runtime.now()
        result = Refresh.INTERNAL_ERROR
        try:
            loaded = self.source.load(searching=searching)
            self._succeed(loaded, began, began_wall)
            result = Refresh.NOT_MODIFIED if loaded.keys is None else Refresh.UPDATED
        except RefreshError as error:
            result = error.result
            self._fail(error)
        except Exception:  # a source that breaks must not end the feed
            log.exception("refresh of %s broke", self.name)
            self._fail(RefreshError(Refresh.INTERNAL_ERROR, "the refresh itself broke; see the log"))
        finally:
            self._land(flight)  # after the new keys are in the snapshot
        self._runtime.tell(self.name, result, self._runtime.monotonic() - began)

    def _land(self, flight: Flight) -> None:
        with self._lock:
            self._flight = None
        flight.end()

    def _succeed(self, loaded: Loaded, began: float, began_wall: float) -> None:
        pause = self.schedule.pause_after_success(loaded.fresh_for, self._runtime.jitter())
        with self._lock:
            self._failures = 0
            self._leave_alone_until = float("-inf")
            self._refresh_at = self._runtime.monotonic() + pause
        if self._accept(loaded, began, began_wall):
            self._metrics.count_refresh(Refresh.NOT_MODIFIED if loaded.keys is None else Refresh.UPDATED)
            if self._cache is not None:
                self._cache.save(self._document, began_wall)

    def _accept(self, loaded: Loaded, fetched: float, fetched_wall: float, *, publish: bool = True) -> bool:
        """Serve what was *fetched* then, by both clocks; False where nobody wants it any more."""
        with self._lock:
            if self._retired:
                return False
            keys = loaded.keys if loaded.keys is not None else self._keys
            if keys is None:
                raise RefreshError(Refresh.INTERNAL_ERROR, "the source has nothing new, and gave nothing before")
            changed = keys != self._keys or self._good_until is None
            self._keys = keys
            self._document = loaded.document or self._document
            self._good_since = fetched
            self._good_until = fetched + self.schedule.max_stale
            self._last_success = fetched_wall
            if changed and publish:
                self._publish(keys)
        self.has_had_keys.set()
        self._metrics.show_success(fetched_wall)
        self.history.note(keys, fetched_wall)
        return True

    def _fail(self, error: RefreshError) -> None:
        pause = self.schedule.pause_after_failure(self._failures, self._runtime.jitter())
        with self._lock:
            now = self._runtime.monotonic()
            # Retry-After is honoured, but not beyond the point where the keys would be withdrawn.
            left = self._good_until - now if self._good_until is not None else float("inf")
            wait = min(error.wait or 0.0, self.schedule.max_interval, max(left, 0.0))
            pause = max(pause, wait)
            self._failures += 1
            self._refresh_at = now + pause
            self._leave_alone_until = now + wait
            self._last_failure = Failure(self._runtime.now(), error.result, str(error))
            kept = self._good_until is not None
        self._metrics.count_refresh(error.result)
        log.log(
            # A file of ours that cannot be read: nobody but the operator can mend it.
            logging.ERROR if error.result is Refresh.MISCONFIGURED else logging.WARNING,
            "refresh of %s failed (%s), next in %.1f s, %s: %s",
            self.name,
            error.result.value,
            pause,
            "last good keys serve on" if kept else "there are no keys",
            error,
        )
