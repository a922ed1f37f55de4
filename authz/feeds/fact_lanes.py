"""Holds the lanes to the sources of facts that a configuration names, and changes them when it does.

Rules of this file:
1. A source that is configured as before keeps its lane: its connections, its cache, and what is known of its health.
2. The lanes are one mapping, which is replaced and never changed: readers take no lock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from authz.config.introspection import Introspection
from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.core.exchange import EXCHANGED
from authz.core.introspection import INTROSPECTION
from authz.facts.by_source import LanesBySource
from authz.facts.lane import Bounds, SourceLane
from authz.feeds.asking import auth_of, poster_for
from authz.feeds.assembly import make_dialer, make_fetcher
from authz.feeds.discovery import discovery_url
from authz.feeds.exchange_lane import ExchangeLane
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.post import Poster
from authz.feeds.introspection import Endpoint, IntrospectionSource, Keep
from authz.telemetry.facts import FactMetrics


@dataclass(frozen=True, slots=True)
class _Running:
    """A lane, the *section* that it was made of, and what closes its connections."""

    section: object
    lane: SourceLane
    close: Callable[[], None]


class FactLanes:
    """The lanes of one process. At most *max_waiting* checks wait for one kind of fact."""

    def __init__(self, metrics: FactMetrics, *, max_waiting: int, resolve: Resolve = resolve) -> None:
        self._metrics: Final = metrics
        self._max_waiting: Final = max_waiting
        self._resolve: Final = resolve
        self._introspection: Mapping[str, _Running] = {}
        self._lanes: Mapping[str, SourceLane] = {}
        self._exchange: Final = ExchangeLane(metrics, max_waiting=max_waiting, resolve=resolve)

    @property
    def metrics(self) -> FactMetrics:
        """What observes all lanes."""
        return self._metrics

    def by_kind(self) -> dict[str, LanesBySource]:
        """Return what answers each kind of need; it follows the configuration."""
        return {
            INTROSPECTION: LanesBySource(lambda: self._lanes, max_waiting=self._max_waiting),
            EXCHANGED: LanesBySource(lambda: self._exchange.lanes, max_waiting=self._max_waiting),
        }

    def follow(self, config: Config) -> None:
        """Have lanes to the sources of *config*."""
        self._exchange.follow(config)
        running = self._introspection
        asked = {name: issuer for name, issuer in config.issuers.items() if issuer.introspection is not None}
        share = self._max_waiting if len(asked) < 2 else max(1, self._max_waiting // 2)
        made = {name: self._keep_or_make(name, section, share) for name, section in asked.items()}
        self._introspection = made
        self._lanes = {name: each.lane for name, each in made.items()}
        for name, old in running.items():
            if made.get(name) is not old:
                _end(old)

    def close(self) -> None:
        """End all lanes."""
        self._exchange.close()
        running, self._introspection, self._lanes = self._introspection, {}, {}
        for each in running.values():
            _end(each)

    def _keep_or_make(self, name: str, issuer: IssuerSection, share: int) -> _Running:
        section = (_asking(issuer), share)
        before = self._introspection.get(name)
        if before is not None and before.section == section:
            return before
        source = make_introspection(issuer, resolve=self._resolve)
        lane = SourceLane(
            f"introspection of {name}",
            source,
            bounds=_bounds(issuer, share),
            monotonic=time.monotonic,
            observer=self._metrics.of(INTROSPECTION, name),
            random=random.random,
        )
        return _Running(section, lane, source.close)


def make_introspection(
    issuer: IssuerSection, *, auth: ClientAuth | None = None, resolve: Resolve = resolve
) -> IntrospectionSource:
    """Return what asks *issuer*, whose section has introspection, about tokens; *auth* is in place of its own."""
    asked = _introspection(issuer)
    return IntrospectionSource(
        make_poster(issuer, resolve=resolve),
        Endpoint(
            asked.url,
            fetch=make_fetcher(issuer, make_dialer(issuer, resolve=resolve)).get,
            discovery_url=issuer.discovery_url or discovery_url(issuer.discovery_base),
            issuer=issuer.issuer,
            every=issuer.fetch.max_interval.total_seconds(),
            monotonic=time.monotonic,
        ),
        auth or make_auth(issuer),
        keep=Keep(active=asked.cache.total_seconds(), inactive=asked.cache_inactive.total_seconds()),
        signed=asked.signed,
    )


def make_poster(issuer: IssuerSection, *, resolve: Resolve = resolve) -> Poster:
    """Return what posts to the servers of *issuer*: those whose URLs the configuration names."""
    asked = _introspection(issuer)
    return poster_for(
        issuer, asked.url, timeout=asked.timeout.total_seconds(), max_bytes=asked.max_bytes, resolve=resolve
    )


def make_auth(issuer: IssuerSection) -> ClientAuth:
    """Return what proves to *issuer* who asks."""
    return auth_of(_introspection(issuer).client, issuer)


def _introspection(issuer: IssuerSection) -> Introspection:
    if issuer.introspection is None:
        raise ValueError("the issuer is not asked about tokens")
    return issuer.introspection


def _bounds(issuer: IssuerSection, max_waiting: int) -> Bounds:
    asked = _introspection(issuer)
    return Bounds(
        max_asked=asked.max_concurrent,
        max_waiting=max_waiting,
        max_wait=asked.max_wait.total_seconds(),
        burst=asked.max_per_second,
        refill=1.0 / asked.max_per_second,
        max_kept=asked.max_cached,
        max_kept_bytes=asked.max_cached_bytes,
    )


def _asking(issuer: IssuerSection) -> object:
    """Return all that decides what is asked, of whom, and how."""
    return issuer.issuer, issuer.discovery_url, issuer.key_sources, issuer.introspection, issuer.fetch, issuer.insecure


def _end(running: _Running) -> None:
    running.lane.stop()
    running.close()
