"""Fetches status lists when a token names one, and again before they are old.

Rules of this file:
1. Only configured URIs are fetched: the core refuses others, and so does the dialer by host and port. No credentials
   are sent.
2. A list is fetched at its first token, which waits, and then in the background: after its `ttl`, its Cache-Control or
   the configured interval, by the requests that use it. One that no token names is not fetched.
3. A list that cannot be fetched again stays in use up to max_stale, and never beyond its `exp`.
4. Lists that have keys of their own (`jwks_uri`) come with them: the keys are fetched with each list, and serve as long
   as a list would if they cannot be.
5. A list that cannot be fetched at all is asked for once in _PAUSE, and opens no circuit breaker if its server has
   responded: its tokens must not use up the questions about other lists.
6. A refresh sends the ETag of the list that is in use: an unchanged list costs no transfer (RFC 9110 section 13.1.2).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final
from urllib.parse import urlsplit

from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.config.status_list import StatusList as StatusListSection
from authz.core.keys import KeySet
from authz.core.needs import Need, Unanswered
from authz.core.reasons import Rejected
from authz.core.status_list import STALE_STATUS_LIST, STATUS_LIST, TYPE, StatusList, read_status_list
from authz.facts.bounds import Bounds
from authz.facts.by_source import LanesBySource
from authz.facts.lane import DoneCallback, LaneObserver, SourceLane
from authz.facts.source import Fact, SourceError
from authz.feeds.build_feed import make_dialer
from authz.feeds.failure import RefreshError
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.fetch import Fetch, Fetcher, Response
from authz.feeds.http.freshness import fresh_for
from authz.feeds.http.trust import read_origin
from authz.feeds.sources import KeySetReader, KeySource, UrlSource
from authz.telemetry.facts import FactMetrics
from authz.telemetry.keys import Refresh

_RETRY_INTERVAL: Final = 5.0  # seconds between two attempts to fetch one list again
_PAUSE: Final = 1.0  # seconds between two attempts to fetch a list for the first time
_RESPONDED: Final = frozenset({Refresh.STATUS, Refresh.TOO_LARGE, Refresh.REDIRECT_REFUSED})
_MAX_PER_SECOND: Final = 10  # fetches of one issuer's lists
_MAX_CONCURRENT: Final = 4
_ACCEPT: Final = f"application/{TYPE}"


@dataclass(frozen=True, slots=True)
class _CachedList:
    """A list that was fetched, its ETag, and the monotonic time from which on a fresh copy is wanted."""

    listing: StatusList
    etag: str | None
    due: float


class SignerKeys:
    """The keys that sign the lists of one issuer, and nothing else; they serve for *max_stale* seconds."""

    def __init__(self, source: KeySource, *, max_stale: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source: Final = source
        self._max_stale: Final = max_stale
        self._monotonic: Final = monotonic
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._fetch_lock: Final = Lock()

    def __call__(self) -> KeySet:
        """Fetch them, if they changed. Raises SourceError."""
        with self._fetch_lock:
            try:
                loaded = self._source.load(on_demand=False)
            except RefreshError as error:
                if self._keys is None or self._monotonic() - self._fetched_at >= self._max_stale:
                    raise SourceError(error.result.value, f"the keys of the list: {error}") from error
                return self._keys
            self._keys = keys = self._keys if loaded.value is None else loaded.value
            self._fetched_at = self._monotonic()
            if keys is None:
                raise SourceError("status", "the keys of the list have not changed, and were never fetched")
            return keys


class StatusListSource:
    """Fetches the lists of one issuer, and remembers when each is due. *now* is Unix time.

    *keys* fetches those of the lists, if they have keys of their own.
    """

    def __init__(
        self,
        fetch: Fetch,
        section: StatusListSection,
        *,
        keys: Callable[[], KeySet] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch: Final = fetch
        self._keys: Final = keys
        self._section: Final = section
        self._interval: Final = section.interval.total_seconds()
        self._max_stale: Final = section.max_stale.total_seconds()
        self._now: Final = now
        self._monotonic: Final = monotonic
        self._cached: Final[dict[str, _CachedList]] = {}
        self._failed: Final[dict[str, tuple[float, str]]] = {}  # until when a list is not asked for, and why
        self._write_lock: Final = Lock()

    def __call__(self, need: Need) -> Fact:
        """Fetch the list that *need* asks for. Raises SourceError."""
        uri = need.identifier or ""
        try:
            fact = self._load(uri)
        except SourceError as error:
            self._pause(uri, str(error))
            raise
        if fact.ttl <= 0.0:
            self._pause(uri, "the list has expired")
        return fact

    def failed(self, need: Need) -> str:
        """Return why the list could not be fetched a moment ago; "" if it may be asked for. Takes no lock."""
        until, why = self._failed.get(need.identifier or "", (0.0, ""))
        return why if self._monotonic() < until else ""

    def _pause(self, uri: str, why: str) -> None:
        with self._write_lock:
            self._failed.pop(uri, None)
            self._failed[uri] = self._monotonic() + _PAUSE, why
            while len(self._failed) > self._section.max_lists:
                self._failed.pop(next(iter(self._failed)))

    def _load(self, uri: str) -> Fact:
        before = self._cached.get(uri)
        if before is not None:
            self._put(uri, replace(before, due=self._monotonic() + _RETRY_INTERVAL))
        try:
            response = self._fetch(uri, self._headers(before))
        except RefreshError as error:
            raise SourceError(error.result.value, str(error), responded=error.result in _RESPONDED) from error
        if response.status == 304 and before is not None:
            listing, result = before.listing, "not_modified"
        elif response.status == 200:
            listing, result = self._read(response), "answered"
        else:
            text = f"HTTP status {response.status} to a request without an ETag"
            raise SourceError("status", text, responded=True)
        if self._keys is not None:
            listing = replace(listing, keys=self._keys())
        ttl = self._max_stale
        if listing.expires is not None:
            ttl = max(0.0, min(ttl, listing.expires - self._now()))
        due = self._monotonic() + min(self._lifetime(listing, response), ttl)
        self._put(uri, _CachedList(listing, response.headers.get("etag") or (before.etag if before else None), due))
        return Fact(listing, ttl, len(listing.statuses) + len(listing.token.payload), result)

    def is_due(self, need: Need) -> bool:
        """Return whether the list is in use, and should be fetched again. Takes no lock."""
        cached = self._cached.get(need.identifier or "")
        return cached is not None and self._monotonic() >= cached.due

    def _headers(self, before: _CachedList | None) -> dict[str, str]:
        validator = {} if before is None or before.etag is None else {"if-none-match": before.etag}
        return {"accept": _ACCEPT, **validator}

    def _read(self, response: Response) -> StatusList:
        section = self._section
        try:
            text = response.body.decode("ascii").strip()
            return read_status_list(text, max_bytes=section.max_bytes, max_inflated=section.max_inflated)
        except Rejected as rejected:
            raise SourceError("unreadable", rejected.detail, responded=True) from None
        except UnicodeDecodeError:
            raise SourceError("unreadable", "the answer is not a JWT", responded=True) from None

    def _lifetime(self, listing: StatusList, response: Response) -> float:
        """Return after how many seconds a fresh copy is wanted: the list's `ttl` or Cache-Control, if it is sooner."""
        lifetime = listing.lifetime if listing.lifetime is not None else fresh_for(response.headers)
        return max(1.0, self._interval if lifetime is None else min(self._interval, lifetime))

    def _put(self, uri: str, cached: _CachedList) -> None:
        with self._write_lock:
            self._cached.pop(uri, None)
            self._cached[uri] = cached
            while len(self._cached) > self._section.max_lists:
                self._cached.pop(next(iter(self._cached)))


class StatusListLane(SourceLane):
    """A lane to *source*, which is not asked again at once for a list that it could not fetch."""

    def __init__(self, name: str, source: StatusListSource, *, bounds: Bounds, observer: LaneObserver) -> None:
        super().__init__(name, source, bounds=bounds, monotonic=time.monotonic, observer=observer)
        self._failed: Final = source.failed

    def find(self, need: Need) -> object | None:
        """Return the list if it is cached, or Unanswered. Takes no lock."""
        fact = super().find(need)
        return Unanswered(why) if fact is None and (why := self._failed(need)) else fact


class RefreshingLane:
    """Refreshes a list that is due, in the background: no check waits for it."""

    def __init__(self, source: StatusListSource, lane: SourceLane) -> None:
        self._source: Final = source
        self._lane: Final = lane
        self.max_waiting: Final = lane.max_waiting

    def find(self, need: Need) -> object | None:
        """Return None if the list is due. Takes no lock."""
        return None if self._source.is_due(need) else _FRESH

    def ask(self, need: Need, done: DoneCallback) -> None:
        """Fetch the list."""
        self._lane.ask(replace(need, kind=STATUS_LIST), done)

    def max_wait(self, _need: Need) -> float:
        """Return 0: no check waits."""
        return 0.0


_FRESH: Final = "fresh"


@dataclass(frozen=True, slots=True)
class _Running:
    """The lanes of one issuer, and the *section* that they were made from."""

    section: object
    lane: SourceLane
    refreshing: RefreshingLane


class StatusListLanes:
    """The lanes of one process. At most *max_waiting* checks wait for lists of one issuer."""

    def __init__(self, metrics: FactMetrics, *, max_waiting: int, resolve: Resolve = resolve) -> None:
        self._metrics: Final = metrics
        self._max_waiting: Final = max_waiting
        self._resolve: Final = resolve
        self._running: Mapping[str, _Running] = {}

    def by_kind(self) -> dict[str, _RefreshingLanes | LanesBySource]:
        """Return the lane of each kind of need; it follows the configuration."""
        lists = LanesBySource(
            lambda: {name: running.lane for name, running in self._running.items()}, max_waiting=self._max_waiting
        )
        return {STATUS_LIST: lists, STALE_STATUS_LIST: _RefreshingLanes(lambda: self._running, self._max_waiting)}

    def reconfigure(self, config: Config) -> None:
        """Use lanes to the lists of *config*; an issuer whose section has not changed keeps its lists."""
        before = self._running
        running: dict[str, _Running] = {}
        for name, issuer in config.issuers.items():
            if issuer.status_list is not None:
                blocked = issuer.blocked_keys if issuer.status_list.jwks_uri is not None else ()
                section = (issuer.status_list, issuer.fetch, issuer.insecure.http, blocked)
                current = before.get(name)
                if current is None or current.section != section:
                    current = self._make(name, issuer, section)
                running[name] = current
        self._running = running
        for name, old in before.items():
            if running.get(name) is not old:
                old.lane.stop()

    def close(self) -> None:
        """End all lanes."""
        before, self._running = self._running, {}
        for running in before.values():
            running.lane.stop()

    def _make(self, name: str, issuer: IssuerSection, section: object) -> _Running:
        source = make_status_list_source(issuer, resolve=self._resolve)
        lane = StatusListLane(
            f"status lists of {name}",
            source,
            bounds=_bounds(_section(issuer), self._max_waiting),
            observer=self._metrics.for_source(STATUS_LIST, name),
        )
        return _Running(section, lane, RefreshingLane(source, lane))


class _RefreshingLanes:
    """Passes each need on to the refreshing lane of its issuer."""

    def __init__(self, running: Callable[[], Mapping[str, _Running]], max_waiting: int) -> None:
        self._running: Final = running
        self.max_waiting: Final = max_waiting

    def find(self, need: Need) -> object | None:
        """Return None if the list is due."""
        running = self._running().get(need.source)
        return _FRESH if running is None else running.refreshing.find(need)

    def ask(self, need: Need, done: DoneCallback) -> None:
        """Fetch the list."""
        running = self._running().get(need.source)
        if running is None:
            done(None)
        else:
            running.refreshing.ask(need, done)

    def max_wait(self, _need: Need) -> float:
        """Return 0: no check waits."""
        return 0.0


def make_status_list_source(issuer: IssuerSection, *, resolve: Resolve = resolve) -> StatusListSource:
    """Return the source of the status lists of *issuer*, whose section has some."""
    section = _section(issuer)
    fetcher = _make_fetcher(issuer, section.uris, max_bytes=section.max_bytes, resolve=resolve)
    if section.jwks_uri is None:
        return StatusListSource(fetcher.get, section)
    reader = KeySetReader(
        max_bytes=issuer.fetch.max_bytes, max_keys=issuer.fetch.max_keys, blocked=tuple(issuer.blocked_keys)
    )
    key_fetcher = _make_fetcher(issuer, (section.jwks_uri,), max_bytes=issuer.fetch.max_bytes, resolve=resolve)
    source = UrlSource(key_fetcher.get, section.jwks_uri, reader)
    keys = SignerKeys(source, max_stale=section.max_stale.total_seconds())
    return StatusListSource(fetcher.get, section, keys=keys)


def _make_fetcher(issuer: IssuerSection, urls: Iterable[str], *, max_bytes: int, resolve: Resolve) -> Fetcher:
    """Return a fetcher for the origins of *urls*, and for no others."""
    dialer = make_dialer(issuer, resolve=resolve)
    origins = frozenset(read_origin(urlsplit(url)) for url in urls)
    trust = replace(dialer.trust, configured_origins=origins, allowed_hosts=frozenset())
    timeout = _section(issuer).timeout.total_seconds()
    return Fetcher(replace(dialer, trust=trust), timeout=timeout, max_bytes=max_bytes)


def _section(issuer: IssuerSection) -> StatusListSection:
    if issuer.status_list is None:
        raise ValueError("the issuer has no status lists")
    return issuer.status_list


def _bounds(section: StatusListSection, max_waiting: int) -> Bounds:
    return Bounds(
        max_concurrent=_MAX_CONCURRENT,
        max_waiting=max_waiting,
        max_wait=section.max_wait.total_seconds(),
        burst=_MAX_PER_SECOND,
        refill=1.0 / _MAX_PER_SECOND,
        max_cached=section.max_lists,
        max_cached_bytes=section.max_lists * (section.max_bytes + section.max_inflated + 4096),
    )
