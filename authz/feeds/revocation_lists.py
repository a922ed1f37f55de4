"""A list of revocations as a document that is kept fresh: at a URL, refreshed as keys are, or in a watched file.

Rules of this file:
1. An entry that cannot be read is reported, and the others are used. A list without a readable entry is refused: the
   last good list stays in use.
2. A list replaces the one before it: an entry that is gone from it is no longer revoked.
3. A list that is too old to rely on still revokes what it did.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from authz.config.issuer import Fetch, InsecureIssuer, Issuer
from authz.config.revocation import RevocationList as Section
from authz.core.revocation import RevocationTable
from authz.core.revocation_entries import parse_revocation_list
from authz.feeds.build_feed import FILE_INTERVAL, FILE_RETRY, make_dialer, make_fetcher
from authz.feeds.failure import RefreshError
from authz.feeds.feed import Feed
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.ports import FeedEnv, Source
from authz.feeds.refresh import Schedule
from authz.feeds.refresh_counter import RefreshCounter
from authz.feeds.sources import FileSource, UrlSource
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable
from authz.telemetry.revocations import RevocationMetrics

log = logging.getLogger(__name__)

_MAX_REPORTED: Final = 8  # entries that cannot be read, in one line of the log
_MAX_FRESHNESS: Final = 10  # times the interval: the longest freshness lifetime of a response that is respected


@dataclass(frozen=True, slots=True)
class ListedRevocations:
    """The content of a list: its *table*, and the *errors* of entries: position and text."""

    table: RevocationTable
    errors: tuple[tuple[int, str], ...] = ()


ListSource: TypeAlias = Source[ListedRevocations]
ListFeed: TypeAlias = Feed[ListedRevocations]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListReader:
    """Reads lists of at most *max_entries*."""

    max_bytes: int
    max_entries: int

    def read(self, document: bytes, location: str) -> ListedRevocations:
        """Parse a list. Raises RefreshError."""
        try:
            read = parse_revocation_list(document, max_entries=self.max_entries)
        except ValueError as error:
            raise RefreshError(Refresh.LIST_REJECTED, f"{printable(location)}: {printable(str(error))}") from None
        return ListedRevocations(RevocationTable(read.entries, max_entries=self.max_entries), read.errors)


def make_list_source(
    section: Section, *, max_entries: int, now: Callable[[], float] = time.time, resolve: Resolve = resolve
) -> ListSource:
    """Return the source of one list."""
    reader = ListReader(max_bytes=section.max_bytes, max_entries=max_entries)
    if section.url is None:
        return FileSource(Path(section.file or "").absolute(), reader)
    server = _as_issuer(section, section.url)
    return UrlSource(make_fetcher(server, make_dialer(server, resolve=resolve), now=now).get, section.url, reader)


def make_list_feed(
    name: str,
    section: Section,
    *,
    max_entries: int,
    publish: Callable[[ListedRevocations | None], None],
    env: FeedEnv,
    metrics: RevocationMetrics,
    resolve: Resolve = resolve,
) -> ListFeed:
    """Return the feed of the list configured as *name*."""
    return Feed(
        name,
        make_list_source(section, max_entries=max_entries, now=env.now, resolve=resolve),
        schedule=_make_schedule(section),
        publish=publish,
        env=env,
        observer=_ListObserver(name, metrics),
    )


class _ListObserver:
    """Observes the feed of one list: logs and metrics."""

    def __init__(self, name: str, metrics: RevocationMetrics) -> None:
        self._name: Final = name
        self._metrics: Final = metrics
        self._refreshes: Final = RefreshCounter(name, metrics)
        self._table: RevocationTable | None = None

    def on_accepted(self, value: ListedRevocations, fetched_at: float) -> None:
        """Show what is in use."""
        self._refreshes.show_success(fetched_at)
        self._metrics.rejected.labels(self._name).set(len(value.errors))
        if value.table is self._table:
            return
        self._table = value.table
        log.info("revocations of %s: %d entries", self._name, len(value.table))
        if value.errors:
            shown = "; ".join(f"entry {index}: {printable(why)}" for index, why in value.errors[:_MAX_REPORTED])
            log.error("revocations of %s: %d entries cannot be read: %s", self._name, len(value.errors), shown)

    def on_unreadable(self, which: str, error: RefreshError) -> None:
        """Log a stored list that is invalid."""
        log.warning("the %s revocations of %s are not used: %s", which, self._name, error)

    def on_withdrawn(self, max_stale: float) -> None:
        """Log that the list is too old."""
        log.error("revocations of %s: no refresh succeeded for %g s (max_stale)", self._name, max_stale)

    def on_failed(self, error: RefreshError, *, pause: float, serving: bool) -> None:
        """Count a failure, and log the first of several."""
        level = self._refreshes.count_failure(error)
        stays = "the last list stays in use" if serving else "there is no list that is recent enough"
        log.log(level, "revocations of %s: %s; %s; next in %.1f s", self._name, error, stays, pause)

    def on_refreshed(self, result: Refresh) -> None:
        """Count a success."""
        self._refreshes.count_success(result)


def as_fetch(section: Section) -> Fetch:
    """Return the settings of *section* as an issuer's `fetch` section."""
    names = ("timeout", "max_bytes", "ca_file", "client_cert_file", "client_key_file", "bearer_token_file", "proxy")
    return Fetch().model_copy(update={name: getattr(section, name) for name in names})


def _as_issuer(section: Section, url: str) -> Issuer:
    """Return an issuer section by which this list is fetched like keys."""
    insecure = InsecureIssuer(http=section.insecure.http)
    return Issuer(issuer=url, jwks_uri=url, fetch=as_fetch(section), insecure=insecure)


def _make_schedule(section: Section) -> Schedule:
    max_stale = section.max_stale.total_seconds()
    if section.url is None:
        return Schedule(
            interval=FILE_INTERVAL,
            min_interval=FILE_INTERVAL,
            max_interval=FILE_RETRY,
            max_backoff=FILE_RETRY,
            max_stale=max_stale,
        )
    interval = section.interval.total_seconds()
    return Schedule(
        interval=interval,
        min_interval=min(interval, 60.0),
        max_interval=interval * _MAX_FRESHNESS,
        max_backoff=interval,
        max_stale=max_stale,
    )
