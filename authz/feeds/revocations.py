"""Holds the sources of revocations that a configuration names, and changes them when it does.

Rules of this file:
1. A list that is configured as before keeps its feed. Another one begins with what the list of its name revoked.
2. Events are a source from the first one on: without any, a check costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final

from authz.config.model import Config
from authz.config.revocation import RevocationList as Section
from authz.core.revocation import RevocationSource, RevocationTable
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.ports import FeedEnv
from authz.feeds.revocation_events import Keeping, RevocationEvents
from authz.feeds.revocation_lists import ListedRevocations, ListFeed, make_list_feed
from authz.feeds.scheduler import Steppable
from authz.feeds.store import Store
from authz.files.journal import Journal
from authz.telemetry.revocations import RevocationMetrics

LOGOUT: Final = "logout"  # the source of logout tokens, of an issuer or of no known one
OPERATOR: Final = "operator"  # the source of what `authz revoke` sends


class Revocations:
    """The sources of revocations of one process; events are in the file *shared*, if the configuration names none."""

    def __init__(
        self,
        config: Config,
        *,
        store: Store,
        env: FeedEnv,
        metrics: RevocationMetrics,
        shared: Path | None = None,
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
            _keeping(config),
            journal=Journal(file) if file is not None else None,
            metrics=metrics,
            env=env,
            on_first=self._publish,
        )
        metrics.expect_events(OPERATOR)
        metrics.watch(self.count)

    def follow(self, config: Config) -> None:
        """Have the lists of *config*, and keep events as it says."""
        self.events.follow(_keeping(config))
        for name, issuer in config.issuers.items():
            if issuer.logout is not None:
                self.metrics.expect_events(f"{LOGOUT} of {name}")
        max_entries = config.revocation.max_entries
        sections = {name: (section, max_entries) for name, section in config.revocation.lists.items()}
        made = {
            name: self._feeds[name] if self._sections.get(name) == wanted else self._make(name, *wanted)
            for name, wanted in sections.items()
        }
        adopted: dict[str, ListedRevocations | None] = {}
        for name, old in self._feeds.items():
            if made.get(name) is not old:
                old.close()
                adopted[name] = made[name].adopt_from(old) if name in made else None
        with self._lock:
            self._lists = {
                name: self._lists[name]
                if name in self._lists and name not in adopted
                else _first(name, section, adopted.get(name))
                for name, (section, _) in sections.items()
            }
            self._feeds, self._sections = made, sections
        self._publish()
        self._env.wake()

    def feeds_to_step(self) -> list[Steppable]:
        """Return what the scheduler must step."""
        return [*self._feeds.values(), self.events]

    def waiting_for(self) -> list[str]:
        """Return the names of the required lists that have never been loaded."""
        feeds, sections = self._feeds, self._sections
        return [
            name
            for name, (section, _) in sections.items()
            if section.required and name in feeds and feeds[name].view.last_good is None
        ]

    def count(self) -> dict[str, int]:
        """Return the number of entries of each source."""
        lists = self._lists
        return {self.events.name: len(self.events.table), **{name: len(each.table) for name, each in lists.items()}}

    def describe(self) -> dict[str, object]:
        """Describe the sources for operators."""
        events, feeds, described = self.events.table, self._feeds, []
        for name, source in self._lists.items():
            status = feeds[name].status() if name in feeds else None
            failure = status.last_failure if status is not None else None
            described.append(
                {
                    "source": name,
                    "where": feeds[name].source.where if name in feeds else "",
                    "available": source.available,
                    "entries": len(source.table),
                    "age_seconds": None if status is None or status.age is None else round(status.age, 1),
                    "rejected": 0 if status is None or status.value is None else len(status.value.errors),
                    "last_error": failure.text if failure is not None else "",
                }
            )
        return {
            "sources": [
                *([{"source": self.events.name, "entries": len(events), "by": events.counts()}] if len(events) else []),
                *described,
            ],
            "max_entries": events.max_entries,
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
            known, (section, _) = self._lists.get(name), self._sections.get(name, (None, 0))
            if known is None or section is None:
                return
            table = known.table if listed is None else listed.table
            available = listed is not None or not section.required
            self._lists = {**self._lists, name: RevocationSource(name, table, available)}
        self._publish()

    def _publish(self) -> None:
        with self._lock:
            events = self.events.table
            kept = (RevocationSource(self.events.name, events),) if len(events) else ()
            self._store.set_revocations((*kept, *self._lists.values()))


def _first(name: str, section: Section, adopted: ListedRevocations | None) -> RevocationSource:
    """Return a list before its first load: as the one of that name was before, or empty."""
    if adopted is not None:
        return RevocationSource(name, adopted.table)
    return RevocationSource(name, RevocationTable(max_entries=0), available=not section.required)


def _keeping(config: Config) -> Keeping:
    """Keep an event for as long as a token lives, with the tolerance for clocks that its issuer has."""
    leeway = max((issuer.leeway.total_seconds() for issuer in config.issuers.values()), default=0.0)
    return Keeping(
        seconds=config.revocation.max_lifetime.total_seconds() + leeway, max_entries=config.revocation.max_entries
    )
