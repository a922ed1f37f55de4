"""One issuer's keys, kept fresh: when to refresh, what to keep, when to give up.

Rules of this file:
1. A refresh is due before the copy expires; what the answer says is clamped, and jitter keeps replicas from marching in
   step.
2. An unknown key id asks for a refresh at once, at most once a cool-down, which counts attempts and not successes.
3. One flight at a time; whoever asks meanwhile shares it, and may leave while it goes on.
4. Nothing replaces good keys but good keys. They serve for `max_stale` after the last success, then they are withdrawn.
5. Ages and cool-downs are on the monotonic clock: the wall clock may jump.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock
from typing import Final

from authz.core.keys import KeySet
from authz.feeds.sources import KeySource, Loaded, SourceError

log = logging.getLogger(__name__)

_FIRST_RETRY: Final = 1.0  # seconds; doubled after each further failure
_LAST_RETRY: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The durations of one feed, in seconds, as configured under `fetch`."""

    interval: float = 600.0
    min_interval: float = 60.0
    max_interval: float = 3600.0
    cooldown: float = 30.0
    max_wait: float = 0.1
    max_stale: float = 86_400.0


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


class KeyFeed:
    """Keeps the keys of the issuer configured as *name*.

    *publish* takes each new set, or None when the last one is too old. *fly* runs a refresh, on a thread of its own
    where time is real. *jitter* gives numbers from 0 to 1.
    """

    def __init__(
        self,
        name: str,
        source: KeySource,
        *,
        schedule: Schedule,
        publish: Callable[[KeySet | None], None],
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        fly: Callable[[Callable[[], None]], None],
    ) -> None:
        self.name: Final = name
        self.schedule: Final = schedule
        self._source: Final = source
        self._publish: Final = publish
        self._monotonic: Final = monotonic
        self._jitter: Final = jitter
        self._fly: Final = fly
        self._lock: Final = Lock()
        self._flight: Flight | None = None
        self._keys: KeySet | None = None  # the last good ones, also when they are too old to serve
        self._good_until: float | None = None  # None while no keys are served
        self._refresh_at = monotonic()
        self._asked_at: float | None = None
        self._failures = 0
        self.has_had_keys: Final = Event()

    def due(self) -> float:
        """Return the monotonic instant at which `step` has something to do."""
        with self._lock:
            refresh_at = float("inf") if self._flight is not None else self._refresh_at
            return min(refresh_at, self._good_until if self._good_until is not None else refresh_at)

    def step(self) -> None:
        """Do what is due: withdraw keys that are too old, begin a refresh."""
        now = self._monotonic()
        with self._lock:
            expired = self._good_until is not None and now >= self._good_until
            if expired:
                self._good_until = None
                self._publish(None)
            flight = self._take_off() if now >= self._refresh_at and self._flight is None else None
        if expired:
            log.error("keys of %s withdrawn: no refresh succeeded for %g s", self.name, self.schedule.max_stale)
        if flight is not None:
            self._fly(lambda: self._refresh(flight))

    def find_unknown_key(self) -> Flight | None:
        """Ask for a refresh that could bring an unknown key; None where none is under way and the cool-down holds."""
        now = self._monotonic()
        with self._lock:
            if self._flight is not None:
                return self._flight
            if self._asked_at is not None and now - self._asked_at < self.schedule.cooldown:
                return None
            self._asked_at = now
            flight = self._take_off()
        self._fly(lambda: self._refresh(flight))
        return flight

    def _take_off(self) -> Flight:
        self._flight = Flight()
        return self._flight

    def _refresh(self, flight: Flight) -> None:
        """Load once, and let the outcome be known before anybody who waits looks again."""
        try:
            loaded = self._source.load()
        except SourceError as error:
            self._fail(error)
        except Exception:  # a source that breaks must not end the feed
            log.exception("refresh of %s broke", self.name)
            self._fail(SourceError("internal_error", "the refresh itself broke; see the log"))
        else:
            self._succeed(loaded)
        finally:
            with self._lock:
                self._flight = None
            flight.end()

    def _succeed(self, loaded: Loaded) -> None:
        now = self._monotonic()
        lifetime = self.schedule.interval if loaded.fresh_for is None else loaded.fresh_for
        lifetime = min(max(lifetime, self.schedule.min_interval), self.schedule.max_interval)
        with self._lock:
            self._failures = 0
            self._refresh_at = now + lifetime * (0.75 + 0.2 * self._jitter())
            previous, served = self._keys, self._good_until is not None
            self._keys = loaded.keys or previous
            if self._keys is not None:
                self._good_until = now + self.schedule.max_stale
                if self._keys is not previous or not served:
                    self._publish(self._keys)
                    self.has_had_keys.set()
        if loaded.keys is not None:
            self._tell_changes(previous, loaded.keys)

    def _fail(self, error: SourceError) -> None:
        with self._lock:
            backoff = min(_FIRST_RETRY * 2.0**self._failures, _LAST_RETRY) * (0.5 + 0.5 * self._jitter())
            self._failures = min(self._failures + 1, 16)
            wait = max(backoff, min(error.wait or 0.0, self.schedule.max_interval))
            self._refresh_at = self._monotonic() + wait
            kept = self._good_until is not None
        log.warning(
            "refresh of %s failed (%s), next in %.1f s, %s: %s",
            self.name,
            error.result,
            wait,
            "last good keys serve on" if kept else "there are no keys",
            error,
        )

    def _tell_changes(self, previous: KeySet | None, current: KeySet) -> None:
        before = {key.thumbprint: key for key in previous.keys} if previous else {}
        after = {key.thumbprint: key for key in current.keys}
        for thumbprint in after.keys() - before.keys():
            log.info(
                "key appeared at %s: %r (%s, %s)", self.name, after[thumbprint].kid, after[thumbprint].kty, thumbprint
            )
        for thumbprint in before.keys() - after.keys():
            log.info("key vanished at %s: %r (%s)", self.name, before[thumbprint].kid, thumbprint)
        for kid, why in current.rejected if previous is None or previous.rejected != current.rejected else ():
            log.warning("key set aside at %s: %r: %s", self.name, kid, why)
