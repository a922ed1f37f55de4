"""Holds the lanes to the sources of facts that a configuration names, and changes them when it does.

Rules of this file:
1. A source that is configured as before keeps its lane: its connections, its cache, and its circuit breaker.
2. The lanes are one mapping, which is replaced and never changed: readers take no lock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from authz.config.introspection import Introspection, IntrospectionKind
from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.config.pdp import Pdp
from authz.config.risk import Risk
from authz.core.exchange import EXCHANGED
from authz.core.introspection import INTROSPECTION
from authz.core.needs import Need
from authz.core.pdp import PDP
from authz.core.risk import ENGINE, RISK
from authz.facts.bounds import Bounds
from authz.facts.by_source import LanesBySource
from authz.facts.lane import SourceLane
from authz.facts.loop import Loop
from authz.facts.source import Fact
from authz.feeds.build_exchange import ExchangeServer, exchange_servers, make_exchange
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.post import Poster
from authz.feeds.introspection import IntrospectionSource, IntrospectionTtl
from authz.feeds.issuer_client import make_issuer_auth, make_issuer_endpoint, make_issuer_poster
from authz.feeds.json_service import bounds_of
from authz.feeds.pdp import make_pdp
from authz.feeds.risk import make_risk
from authz.feeds.token_review import TokenReviewSource
from authz.telemetry.facts import FactMetrics


class _Source(Protocol):
    """A source of facts with connections, which are closed at the end."""

    def __call__(self, need: Need, /) -> Fact:
        """Answer *need*. Raises SourceError."""

    def close(self) -> None:
        """Close the idle connections."""


@dataclass(frozen=True, slots=True)
class _SourceConfig:
    """A source in the configuration: all *settings* that its answers depend on, its *bounds*, and *make*, a factory."""

    settings: object
    bounds: Bounds
    make: Callable[[Resolve], _Source] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _RunningLane:
    """A lane and its source, with the configuration that they were made from."""

    configured: _SourceConfig
    lane: SourceLane
    source: _Source


_LanesByName = Mapping[str, _RunningLane]


class FactLanes:
    """The lanes of one process. At most *max_waiting* checks wait for one kind of fact.

    With a *loop*, lanes are called on its thread, which asks nonblocking sources itself.
    """

    def __init__(
        self, metrics: FactMetrics, *, max_waiting: int, resolve: Resolve = resolve, loop: Loop | None = None
    ) -> None:
        self._metrics: Final = metrics
        self._max_waiting: Final = max_waiting
        self._resolve: Final = resolve
        self._loop: Final = loop
        self._running: Mapping[str, _LanesByName] = {kind: {} for kind in _SOURCES}
        self._lanes: Mapping[str, Mapping[str, SourceLane]] = {kind: {} for kind in _SOURCES}

    def by_kind(self) -> dict[str, LanesBySource]:
        """Return the lane of each kind of need; it follows the configuration."""
        return {kind: LanesBySource(partial(self._lanes_of, kind), max_waiting=self._max_waiting) for kind in _SOURCES}

    def reconfigure(self, config: Config) -> None:
        """Use lanes to the sources of *config*."""
        self._use(
            {
                kind: {
                    name: self._keep_or_make(kind, name, wanted)
                    for name, wanted in self._configured_sources(kind, config).items()
                }
                for kind in _SOURCES
            }
        )

    def close(self) -> None:
        """End all lanes."""
        self._use({kind: {} for kind in _SOURCES})

    def _lanes_of(self, kind: str) -> Mapping[str, SourceLane]:
        return self._lanes[kind]

    def _configured_sources(self, kind: str, config: Config) -> dict[str, _SourceConfig]:
        sections, configure = _SOURCES[kind]
        configured = sections(config)
        share = self._max_waiting if len(configured) < 2 else max(1, self._max_waiting // 2)
        return {name: configure(section, share) for name, section in configured.items()}

    def _use(self, running: Mapping[str, _LanesByName]) -> None:
        before, self._running = self._running, running
        self._lanes = {kind: {name: lane.lane for name, lane in by_name.items()} for kind, by_name in running.items()}
        for kind, by_name in before.items():
            for name, old in by_name.items():
                if running[kind].get(name) is not old:
                    old.lane.stop()
                    old.source.close()

    def _keep_or_make(self, kind: str, name: str, wanted: _SourceConfig) -> _RunningLane:
        before = self._running[kind].get(name)
        if before is not None and before.configured == wanted:
            return before
        source = wanted.make(self._resolve)
        lane = SourceLane(
            f"{kind} of {name}",
            source,
            bounds=wanted.bounds,
            monotonic=time.monotonic,
            observer=self._metrics.for_source(kind, name),
            random=random.random,
            loop=self._loop,
        )
        return _RunningLane(wanted, lane, source)


def _issuers_with_introspection(config: Config) -> Mapping[str, IssuerSection]:
    return {name: issuer for name, issuer in config.issuers.items() if issuer.introspection is not None}


def _configure_introspection(issuer: IssuerSection, share: int) -> _SourceConfig:
    section = _introspection(issuer)
    bounds = Bounds.of(
        section, max_waiting=share, max_cached=section.max_cached, max_cached_bytes=section.max_cached_bytes
    )
    return _SourceConfig(
        _decisive_settings(issuer), bounds, lambda resolve: make_introspection(issuer, resolve=resolve)
    )


def _configure_pdp(pdp: Pdp, share: int) -> _SourceConfig:
    return _SourceConfig(pdp, bounds_of(pdp, share), lambda resolve: make_pdp(pdp, resolve=resolve))


def _configure_exchange(server: ExchangeServer, share: int) -> _SourceConfig:
    issuer, settings = server.issuer, server.settings
    bounds = Bounds.of(settings, max_waiting=share, max_cached=settings.max_cached)
    return _SourceConfig(server, bounds, lambda resolve: make_exchange(issuer, settings, resolve=resolve))


def _configure_risk(section: Risk, share: int) -> _SourceConfig:
    return _SourceConfig(section, bounds_of(section, share), lambda resolve: make_risk(section, resolve=resolve))


_SOURCES: Final[Mapping[str, tuple[Callable[[Config], Mapping[str, Any]], Callable[[Any, int], _SourceConfig]]]] = {
    INTROSPECTION: (_issuers_with_introspection, _configure_introspection),
    PDP: (lambda config: config.pdps, _configure_pdp),
    RISK: (lambda config: {} if config.risk is None else {ENGINE: config.risk}, _configure_risk),
    EXCHANGED: (exchange_servers, _configure_exchange),
}
"""By kind of need: the function that returns the sections of a configuration by name, and the one that reads each."""


def make_introspection(
    issuer: IssuerSection, *, auth: ClientAuth | None = None, resolve: Resolve = resolve
) -> IntrospectionSource | TokenReviewSource:
    """Return the source that introspects tokens at *issuer*; *auth* replaces the configured client authentication."""
    section = _introspection(issuer)
    ttl = IntrospectionTtl(active=section.cache.total_seconds(), inactive=section.cache_inactive.total_seconds())
    if section.kind is IntrospectionKind.TOKEN_REVIEW:
        return TokenReviewSource(
            make_poster(issuer, resolve=resolve),
            section.url or "",
            auth or make_auth(issuer),
            audiences=issuer.audiences,
            ttl=ttl,
        )
    return IntrospectionSource(
        make_poster(issuer, resolve=resolve),
        make_issuer_endpoint(issuer, section.url, resolve=resolve),
        auth or make_auth(issuer),
        ttl=ttl,
        signed_for=section.client.id if section.signed else None,
    )


def make_poster(issuer: IssuerSection, *, resolve: Resolve = resolve) -> Poster:
    """Return a poster to the servers of *issuer* whose URLs are configured."""
    section = _introspection(issuer)
    return make_issuer_poster(
        issuer, section.url, timeout=section.timeout.total_seconds(), max_bytes=section.max_bytes, resolve=resolve
    )


def make_auth(issuer: IssuerSection) -> ClientAuth:
    """Return our client authentication at *issuer*."""
    return make_issuer_auth(_introspection(issuer).client, issuer)


def _introspection(issuer: IssuerSection) -> Introspection:
    if issuer.introspection is None:
        raise ValueError("the issuer is not asked about tokens")
    return issuer.introspection


def _decisive_settings(issuer: IssuerSection) -> object:
    """Return all settings that decide the answers."""
    review = issuer.introspection is not None and issuer.introspection.kind is IntrospectionKind.TOKEN_REVIEW
    trust = issuer.issuer, issuer.discovery_url, issuer.key_sources, issuer.audiences if review else ()
    return trust, issuer.introspection, issuer.fetch, issuer.insecure
