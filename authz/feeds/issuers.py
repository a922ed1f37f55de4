"""The feeds of all configured issuers, and how they change when the configuration does.

Rules of this file:
1. An issuer whose keys come from where they came before keeps them: no reload opens a gap in which nobody is known.
2. Keys that are kept are read anew where what may be used of them changed: a blocked key is out at once.
3. The new snapshot is swapped in whole, with the keys that its issuers have at that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.core.keys import KeySet
from authz.core.snapshot import Snapshot
from authz.feeds.assembly import bind, make_feed
from authz.feeds.jwks import KeyFeed, Runtime
from authz.feeds.scheduler import Scheduler
from authz.feeds.store import Store
from authz.feeds.usage import Usage
from authz.telemetry.keys import KeyMetrics


class IssuerFeeds:
    """Keeps a feed for every issuer whose keys are not written in the configuration itself."""

    def __init__(
        self, *, store: Store, scheduler: Scheduler, runtime: Runtime, usage: Usage, metrics: KeyMetrics
    ) -> None:
        self._store: Final = store
        self._scheduler: Final = scheduler
        self._runtime: Final = runtime
        self._usage: Final = usage
        self._metrics: Final = metrics
        self._sections: dict[str, IssuerSection] = {}

    def follow(self, config: Config, snapshot: Snapshot) -> None:
        """Judge by *snapshot*, which was built of *config*, from now on, and feed its issuers."""
        running = self._scheduler.feeds
        feeds = {name: self._keep(name, section) for name, section in config.issuers.items()}
        kept = [feed for feed in feeds.values() if feed is not None]
        # All of it is made before any of it counts: where this fails, what runs is untouched.
        made = {name: self._make(name, config.issuers[name]) for name, feed in feeds.items() if feed is None}
        for old in running.values():
            if old not in kept:
                old.retire()  # before the swap: what is still in flight there must not reach the new snapshot
        keys = {name: self._inherit(feed, config.issuers[name]) for name, feed in made.items() if feed is not None}
        self._store.adopt(
            snapshot,
            kept={config.issuers[feed.name].issuer for feed in kept},
            keys={config.issuers[name].issuer: inherited for name, inherited in keys.items() if inherited is not None},
        )
        for name, feed in made.items():
            if feed is not None and keys[name] is None:
                feed.restore()
        self._sections = dict(config.issuers)
        self._scheduler.replace([*kept, *(feed for feed in made.values() if feed is not None)])

    def waiting_for(self) -> list[str]:
        """Name the required issuers that have never had keys."""
        feeds = self._scheduler.feeds
        return [
            name
            for name, section in self._sections.items()
            if section.required and name in feeds and not feeds[name].has_had_keys.is_set()
        ]

    def _keep(self, name: str, section: IssuerSection) -> KeyFeed | None:
        """Return the feed that runs for *name*, where nothing that concerns it changed."""
        before = self._sections.get(name)
        same = before is not None and _feeding(section) == _feeding(before)
        return self._scheduler.feeds.get(name) if same else None

    def _make(self, name: str, section: IssuerSection) -> KeyFeed | None:
        return make_feed(
            name,
            section,
            publish=self._publisher(name, section.issuer),
            runtime=self._runtime,
            metrics=self._metrics.of(name),
        )

    def _inherit(self, feed: KeyFeed, section: IssuerSection) -> KeySet | None:
        """Hand *feed* the keys that its issuer has, under any name, where what made them trustworthy is the same."""
        for name, before in self._sections.items():
            predecessor = self._scheduler.feeds.get(name)
            if before.issuer == section.issuer and predecessor is not None and bind(section) == bind(before):
                return feed.succeed_to(predecessor)
        return None

    def _publisher(self, name: str, issuer: str) -> Callable[[KeySet | None], None]:
        def publish(keys: KeySet | None) -> None:
            self._store.set_keys(issuer, keys)
            if keys is not None:
                self._usage.forget_all_but(name, keys.keys)

        return publish


def _feeding(section: IssuerSection) -> IssuerSection:
    """Return *section* without what only judges tokens: two that are equal then have one feed."""
    return section.model_copy(
        update={
            "audiences": (),
            "audience_claim": "",
            "algorithms": (),
            "token_types": (),
            "required_claims": (),
            "leeway": None,
            "max_lifetime": None,
            "claims": {},
            "required": True,
        }
    )
