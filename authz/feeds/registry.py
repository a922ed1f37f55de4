"""Holds the feed of every configured issuer, and changes them when the configuration does.

Rules of this file:
1. An issuer whose keys come from where they came before keeps them: no reload opens a gap in which nobody is known.
2. Keys that are kept are read again if what may be used of them changed: a blocked key is out at once.
3. The new snapshot is swapped in whole, with the keys that its issuers have at that moment.
4. The feeds are one mapping, which is replaced and never changed: readers take no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.core.keys import KeySet
from authz.core.snapshot import Snapshot
from authz.feeds.assembly import make_feed, may_inherit
from authz.feeds.feed import Feed
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.key_lane import KeyFeed
from authz.feeds.ports import FeedEnv
from authz.feeds.store import Store
from authz.feeds.usage import Usage
from authz.telemetry.keys import KeyMetrics


class Registry:
    """Holds a feed for every issuer whose keys are not written in the configuration itself.

    *evict* gets the current snapshot, on a thread that no request waits for, after keys changed.
    """

    def __init__(
        self,
        *,
        store: Store,
        env: FeedEnv,
        usage: Usage,
        metrics: KeyMetrics,
        evict: Callable[[Snapshot], None] = lambda _: None,
        resolve: Resolve = resolve,
    ) -> None:
        self._store: Final = store
        self._env: Final = env
        self._usage: Final = usage
        self._metrics: Final = metrics
        self._evict: Final = evict
        self._resolve: Final = resolve
        self._sections: Mapping[str, IssuerSection] = {}
        self._feeds: Mapping[str, KeyFeed] = {}

    def feeds(self) -> Mapping[str, KeyFeed]:
        """Return the feeds of this moment, by the configured names of their issuers."""
        return self._feeds

    def steppable(self) -> list[Feed[KeySet]]:
        """Return what is to be stepped at this moment."""
        return [known.feed for known in self._feeds.values()]

    def follow(self, config: Config, snapshot: Snapshot) -> None:
        """Serve *snapshot*, which was built of *config*, from now on, and feed its issuers."""
        running = self._feeds
        kept = {name: feed for name, section in config.issuers.items() if (feed := self._keep(name, section))}
        # All of it is made before any of it counts: where this fails, what runs is untouched.
        made = {
            name: feed
            for name, section in config.issuers.items()
            if name not in kept and (feed := self._make(name, section))
        }
        for name, old in running.items():
            if name not in kept:
                old.feed.close()  # before the swap: what is still in flight there must not reach the new snapshot
        keys = {name: self._inherit(new.feed, config.issuers[name]) for name, new in made.items()}
        self._store.adopt(
            snapshot,
            kept={iss for name in kept for iss in config.issuers[name].accepted_issuers},
            keys={
                iss: inherited
                for name, inherited in keys.items()
                for iss in config.issuers[name].accepted_issuers
                if inherited is not None
            },
        )
        for name, new in made.items():
            if keys[name] is None:
                new.feed.restore()
        self._sections = dict(config.issuers)
        self._feeds = {**kept, **made}
        self._env.wake()
        self._evict(self._store.current())

    def refresh(self, name: str | None = None) -> list[str] | None:
        """Refresh the keys of the issuer configured as *name*, or of all, whatever the schedule says: for an operator.

        Return whose keys are being refreshed then, None if nothing is fetched for *name*.
        """
        feeds = self._feeds if name is None else {name: self._feeds.get(name)}
        for known in feeds.values():
            if known is None:
                return None
            known.feed.refresh_now()
        return list(feeds)

    def waiting_for(self) -> list[str]:
        """Name the required issuers that have never had keys."""
        feeds = self._feeds
        return [
            name
            for name, section in self._sections.items()
            if section.required and name in feeds and feeds[name].feed.view.copy is None
        ]

    def keys_age(self, name: str) -> float | None:
        """Return the seconds since the keys of an issuer were fetched or confirmed; None without a feed or keys."""
        known = self._feeds.get(name)
        good_since = known.feed.view.state.good_since if known is not None else None
        return None if good_since is None else self._env.monotonic() - good_since

    def _keep(self, name: str, section: IssuerSection) -> KeyFeed | None:
        """Return the feed that runs for *name*, if nothing that concerns it changed."""
        before = self._sections.get(name)
        same = before is not None and _feeding(section) == _feeding(before)
        return self._feeds.get(name) if same else None

    def _make(self, name: str, section: IssuerSection) -> KeyFeed | None:
        return make_feed(
            name,
            section,
            publish=partial(self._store.set_keys, section.accepted_issuers),
            env=self._env,
            metrics=self._metrics.of(name),
            tidy=partial(self._tidy, name),
            resolve=self._resolve,
        )

    def _inherit(self, feed: Feed[KeySet], section: IssuerSection) -> KeySet | None:
        """Hand *feed* the keys that its issuer has, under any name, if what made them trustworthy is the same."""
        for name, before in self._sections.items():
            previous = self._feeds.get(name)
            copy = previous.feed.view.copy if previous is not None else None
            if previous is None or copy is None or before.issuer != section.issuer:
                continue
            if may_inherit(section, before, copy.authorities):
                return feed.adopt_from(previous.feed)
        return None

    def _tidy(self, name: str, keys: KeySet | None) -> None:
        """Drop what was kept for keys that are gone."""
        if keys is not None:
            self._usage.forget_all_but(name, keys.keys)
        self._evict(self._store.current())


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
            "introspection": None,
            "insecure": section.insecure.model_copy(update={"any_audience": False, "no_expiry": False}),
        }
    )
