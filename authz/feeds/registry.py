"""Holds the feeds of all configured issuers, and updates them when the configuration changes.

Rules of this file:
1. An issuer whose source of keys has not changed keeps its keys during a reload.
2. These keys are read again if the rules for reading them changed: a blocked key is removed at once.
3. The new snapshot is published together with the current keys of its issuers.
4. The mapping of feeds is replaced and never changed: readers take no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.core.keys import KeySet
from authz.core.snapshot import Snapshot
from authz.feeds.build_feed import make_feed, may_adopt_keys
from authz.feeds.feed import Feed
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.key_lane import KeyFeed
from authz.feeds.key_usage import KeyUsage
from authz.feeds.ports import FeedEnv
from authz.feeds.snapshot_store import SnapshotStore
from authz.telemetry.keys import KeyMetrics


class Registry:
    """Holds a feed for every issuer whose keys are not in the configuration itself.

    After a change of keys, *evict* is called with the current snapshot, on a background thread.
    """

    def __init__(
        self,
        *,
        store: SnapshotStore,
        env: FeedEnv,
        usage: KeyUsage,
        metrics: KeyMetrics,
        evict: Callable[[Snapshot], None] = lambda _: None,
        resolve: Resolve = resolve,
    ) -> None:
        self._store: Final = store
        self._env: Final = env
        self._usage: Final = usage
        self.metrics: Final = metrics
        self._evict: Final = evict
        self._resolve: Final = resolve
        self._sections: Mapping[str, IssuerSection] = {}
        self._feeds: Mapping[str, KeyFeed] = {}

    def feeds(self) -> Mapping[str, KeyFeed]:
        """Return the current feeds by the configured names of their issuers."""
        return self._feeds

    def feeds_to_step(self) -> list[Feed[KeySet]]:
        """Return the feeds that the scheduler must step."""
        return [key_feed.feed for key_feed in self._feeds.values()]

    def apply(self, config: Config, snapshot: Snapshot) -> None:
        """Publish *snapshot*, which was built from *config*, and update the feeds for it."""
        running = self._feeds
        unchanged = {name: feed for name, section in config.issuers.items() if (feed := self._keep(name, section))}
        # Everything is created before anything is changed: if this raises, the running feeds are not affected.
        added = {
            name: feed
            for name, section in config.issuers.items()
            if name not in unchanged and (feed := self._make(name, section))
        }
        for name, old in running.items():
            if name not in unchanged:
                old.feed.close()  # before the swap: its refresh in progress must not change the new snapshot
        keys = {name: self._adopt_keys(new.feed, config.issuers[name]) for name, new in added.items()}
        self._store.adopt(
            snapshot,
            kept={iss for name in unchanged for iss in config.issuers[name].accepted_issuers},
            keys={
                iss: adopted
                for name, adopted in keys.items()
                for iss in config.issuers[name].accepted_issuers
                if adopted is not None
            },
        )
        for name, new in added.items():
            if keys[name] is None:
                new.feed.restore()
        self._sections = dict(config.issuers)
        self._feeds = {**unchanged, **added}
        self._env.wake()
        self._evict(self._store.current())

    def refresh(self, name: str | None = None) -> list[str] | None:
        """Refresh the keys of the issuer configured as *name*, or of all issuers, on an operator's request.

        Return the names of these issuers; None if *name* has no feed.
        """
        feeds = self._feeds if name is None else {name: self._feeds.get(name)}
        for key_feed in feeds.values():
            if key_feed is None:
                return None
            key_feed.feed.refresh_now()
        return list(feeds)

    def waiting_for(self) -> list[str]:
        """Return the names of the required issuers that have never had keys."""
        feeds = self._feeds
        return [
            name
            for name, section in self._sections.items()
            if section.required and name in feeds and feeds[name].feed.view.last_good is None
        ]

    def keys_age(self, name: str) -> float | None:
        """Return the seconds since the keys of an issuer were fetched or confirmed; None without a feed or keys."""
        key_feed = self._feeds.get(name)
        good_since = key_feed.feed.view.state.good_since if key_feed is not None else None
        return None if good_since is None else self._env.monotonic() - good_since

    def _keep(self, name: str, section: IssuerSection) -> KeyFeed | None:
        """Return the running feed of *name* if its settings have not changed."""
        before = self._sections.get(name)
        same = before is not None and _without_token_rules(section) == _without_token_rules(before)
        return self._feeds.get(name) if same else None

    def _make(self, name: str, section: IssuerSection) -> KeyFeed | None:
        return make_feed(
            name,
            section,
            publish=partial(self._store.set_keys, section.accepted_issuers),
            env=self._env,
            metrics=self.metrics.for_issuer(name),
            on_change=partial(self._evict_removed, name),
            resolve=self._resolve,
        )

    def _adopt_keys(self, feed: Feed[KeySet], section: IssuerSection) -> KeySet | None:
        """Pass the issuer's current keys, under whatever name, to *feed*, if all trust settings are the same."""
        for name, before in self._sections.items():
            previous = self._feeds.get(name)
            last_good = previous.feed.view.last_good if previous is not None else None
            if previous is None or last_good is None or before.issuer != section.issuer:
                continue
            if may_adopt_keys(section, before, last_good.authorities):
                return feed.adopt_from(previous.feed)
        return None

    def _evict_removed(self, name: str, keys: KeySet | None) -> None:
        """Remove usage times and cached signatures of keys that were removed."""
        if keys is not None:
            self._usage.retain_only(name, keys.keys)
        self._evict(self._store.current())


def _without_token_rules(section: IssuerSection) -> IssuerSection:
    """Return *section* without the settings that apply to tokens only: if the rest is equal, the feed is kept."""
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
            "introspection": None,
            "logout": None,
            "insecure": section.insecure.model_copy(update={"any_audience": False, "no_expiry": False}),
        }
    )
