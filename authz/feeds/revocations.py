"""Holds the sources of revocations that a configuration names, and changes them when it does.

Rules of this file:
1. A list that is configured as before keeps its feed. Another one begins with what the list of its name revoked.
2. Events are a source from the first one on: without any, a check costs nothing.
3. What replicas share is a source while it cannot be relied on; what it revokes are events.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final

from authz.config.model import Config
from authz.config.revocation import RevocationList as Section
from authz.core.revocation import RevocationSource, RevocationTable
from authz.core.revocation_entries import write_entry
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.ports import FeedEnv
from authz.feeds.revocation_events import EventSharing, Retention, RevocationEvents
from authz.feeds.revocation_lists import ListedRevocations, ListFeed, make_list_feed
from authz.feeds.revocation_sharing import NAME as SHARED
from authz.feeds.revocation_sharing import SharingCallbacks
from authz.feeds.revoked_entries import RevocationTarget
from authz.feeds.scheduler import Steppable
from authz.feeds.snapshot_store import SnapshotStore
from authz.files.journal import Journal
from authz.telemetry import revocations as results
from authz.telemetry.revocations import RevocationMetrics

LOGOUT: Final = "logout"  # the source of logout tokens, of an issuer or of no known one
OPERATOR: Final = "operator"  # the source of what `authz revoke` sends
_NEVER_READ: Final = RevocationTable(max_entries=0)
_MAX_SHOWN: Final = 500  # entries that can be taken back, in one description
_STREAM_FACTOR: Final = 4  # times max_entries: repeated entries are in the stream, and not in the table
_TRIM_MARGIN: Final = 3600.0  # seconds: entries end at whole hours


class Revocations:
    """The sources of revocations of one process; events are in the file *shared*, if the configuration names none.

    *replicas* is how they share events with each other, if they do.
    """

    def __init__(
        self,
        config: Config,
        *,
        store: SnapshotStore,
        env: FeedEnv,
        metrics: RevocationMetrics,
        shared: Path | None = None,
        replicas: EventSharing | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        """Read past events. Raises OSError if their file cannot be used."""
        self._store: Final = store
        self._env: Final = env
        self.metrics: Final = metrics
        self._resolve: Final = resolve
        self._lock: Final = Lock()  # guards the next three
        self._sections: Mapping[str, tuple[Section, int]] = {}
        self._feeds: Mapping[str, ListFeed] = {}
        self._lists: Mapping[str, RevocationSource] = {}
        file = Path(config.revocation.file).absolute() if config.revocation.file is not None else shared
        self.events: Final = RevocationEvents(
            _retention(config),
            journal=Journal(file) if file is not None else None,
            metrics=metrics,
            env=env,
            shared=replicas,
            on_change=self._publish,
        )
        sharing = replicas.sharing if replicas is not None else None
        self.sharing: Final = sharing
        self._callbacks: Final = SharingCallbacks(
            apply=self.events.apply_shared,
            stored=self.events.live_lines if file is not None else None,
            changed=self._publish,
            lost=partial(metrics.count_event, SHARED, results.LOST),
            succeeded=metrics.last_success.labels(SHARED).set if sharing is not None else lambda _: None,
        )
        if sharing is not None:
            metrics.expect_shared(SHARED, lambda: sharing.health.pending)
        metrics.expect_events(OPERATOR)
        metrics.watch(self.count)

    def reconfigure(self, config: Config) -> None:
        """Use the lists of *config*, and its retention of events."""
        retention = _retention(config)
        self.events.reconfigure(retention)
        if self.sharing is not None:
            self.sharing.required = config.revocation.shared.required
            self.sharing.max_stale = config.revocation.shared.max_stale.total_seconds()
            self.sharing.events.retention = retention.seconds + _TRIM_MARGIN
            self.sharing.events.max_lines = _STREAM_FACTOR * retention.max_entries
        for name, issuer in config.issuers.items():
            if issuer.logout is not None:
                self.metrics.expect_events(f"{LOGOUT} of {name}")
        max_entries = config.revocation.max_entries
        sections = {name: (section, max_entries) for name, section in config.revocation.lists.items()}
        feeds = {
            name: self._feeds[name] if self._sections.get(name) == wanted else self._make(name, *wanted)
            for name, wanted in sections.items()
        }
        adopted: dict[str, ListedRevocations | None] = {}
        for name, old in self._feeds.items():
            if feeds.get(name) is not old:
                old.close()
                adopted[name] = feeds[name].adopt_from(old) if name in feeds else None
        with self._lock:
            self._lists = {
                name: self._lists[name]
                if name in self._lists and name not in adopted
                else _initial_source(name, section, adopted.get(name))
                for name, (section, _) in sections.items()
            }
            self._feeds, self._sections = feeds, sections
        self._publish()
        self._env.wake()

    def start(self) -> None:
        """Read what replicas share, on a thread, until `stop`."""
        if self.sharing is not None:
            self.sharing.start(self._callbacks)

    def stop(self) -> None:
        """Stop reading."""
        if self.sharing is not None:
            self.sharing.stop()

    def feeds_to_step(self) -> list[Steppable]:
        """Return the feeds that the scheduler must step."""
        return [*self._feeds.values(), self.events]

    def waiting_for(self) -> list[str]:
        """Return the names of the required lists that have never been loaded."""
        feeds, sections = self._feeds, self._sections
        unread = self.sharing is not None and self.sharing.required and self.sharing.health.age is None
        return [SHARED] * unread + [
            name
            for name, (section, _) in sections.items()
            if section.required and name in feeds and feeds[name].view.last_good is None
        ]

    def count(self) -> dict[str, int]:
        """Return the number of entries of each source."""
        entries, lists = self.events.entries, self._lists
        return {
            self.events.name: len(entries.events),
            OPERATOR: len(entries.operator),
            **{name: len(source.table) for name, source in lists.items()},
        }

    def describe(self) -> dict[str, object]:
        """Describe the sources for operators."""
        entries, feeds, described = self.events.entries, self._feeds, []
        for name, source in self._lists.items():
            status = feeds[name].status() if name in feeds else None
            failure = status.last_failure if status is not None else None
            described.append(
                {
                    "source": name,
                    "where": feeds[name].source.location if name in feeds else "",
                    "available": source.available,
                    "entries": len(source.table),
                    "age_seconds": None if status is None or status.age is None else round(status.age, 1),
                    "rejected": 0 if status is None or status.value is None else len(status.value.errors),
                    "last_error": failure.text if failure is not None else "",
                }
            )
        return {
            "sources": [
                *(
                    {"source": name, "entries": len(table), "by": table.counts()}
                    for name, table in ((self.events.name, entries.events), (OPERATOR, entries.operator))
                    if len(table)
                ),
                *described,
            ],
            "max_entries": entries.max_entries,
            "undoable": [json.loads(write_entry(entry)) for entry in entries.list_undoable(_MAX_SHOWN)],
            "shared": self.describe_sharing(),
        }

    def describe_sharing(self) -> dict[str, Any] | None:
        """Describe how replicas share events; None if they do not."""
        return None if self.sharing is None else asdict(self.sharing.health)

    def look_up(self, name: RevocationTarget) -> dict[str, dict[str, float | None]]:
        """Describe by which sources the tokens of *name* are revoked: `before` and `until` of each."""
        by_source = {source.name: source.table.look_up(*name, self._env.now()) for source in self._sources()}
        return {
            source: {"before": times[0], "until": None if times[1] == math.inf else times[1]}
            for source, times in by_source.items()
            if times is not None
        }

    def _make(self, name: str, section: Section, max_entries: int) -> ListFeed:
        return make_list_feed(
            name,
            section,
            max_entries=max_entries,
            publish=partial(self._accept, name),
            env=self._env,
            metrics=self.metrics,
            resolve=self._resolve,
        )

    def _accept(self, name: str, listed: ListedRevocations | None) -> None:
        """Use a new list; None if the last one is too old, which then still revokes what it did."""
        with self._lock:
            running, (section, _) = self._lists.get(name), self._sections.get(name, (None, 0))
            if running is None or section is None:
                return
            table = running.table if listed is None else listed.table
            available = listed is not None or not section.required
            self._lists = {**self._lists, name: RevocationSource(name, table, available)}
        self._publish()

    def _publish(self) -> None:
        with self._lock:
            self._store.set_revocations(tuple(self._sources()))

    def _sources(self) -> Iterator[RevocationSource]:
        entries = self.events.entries
        for name, table in ((self.events.name, entries.events), (OPERATOR, entries.operator)):
            if len(table):
                yield RevocationSource(name, table)
        if self.sharing is not None and not self.sharing.available:
            yield RevocationSource(SHARED, _NEVER_READ, available=False)
        yield from self._lists.values()


def _initial_source(name: str, section: Section, adopted: ListedRevocations | None) -> RevocationSource:
    """Return a list before its first load: as the one of that name was before, or empty."""
    if adopted is not None:
        return RevocationSource(name, adopted.table)
    return RevocationSource(name, RevocationTable(max_entries=0), available=not section.required)


def _retention(config: Config) -> Retention:
    """Keep an event for as long as a token lives, with the tolerance for clocks that its issuer has."""
    leeway = max((issuer.leeway.total_seconds() for issuer in config.issuers.values()), default=0.0)
    return Retention(
        seconds=config.revocation.max_lifetime.total_seconds() + leeway, max_entries=config.revocation.max_entries
    )
