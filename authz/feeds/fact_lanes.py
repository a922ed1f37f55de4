"""Holds the lanes to the sources of facts that a configuration names, and changes them when it does.

Rules of this file:
1. A source that is configured as before keeps its lane: its connections, its cache, and what is known of its health.
2. The lanes are one mapping, which is replaced and never changed: readers take no lock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from authz.config.introspection import AskedBy, Introspection
from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.config.pdp import Pdp
from authz.config.risk import Risk
from authz.core.exchange import EXCHANGED
from authz.core.introspection import INTROSPECTION
from authz.core.needs import Need
from authz.core.pdp import PDP
from authz.core.risk import ENGINE, RISK
from authz.facts.by_source import LanesBySource
from authz.facts.lane import Bounds, Fact, SourceLane
from authz.feeds.asking import auth_of, endpoint_of, poster_for
from authz.feeds.exchange_lane import Exchanging, bounds_of_exchange, exchanging, make_exchange
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.post import Poster
from authz.feeds.introspection import IntrospectionSource, Keep
from authz.feeds.json_service import bounds_of
from authz.feeds.pdp import make_pdp
from authz.feeds.risk import make_risk
from authz.feeds.token_review import TokenReviewSource
from authz.telemetry.facts import FactMetrics


class _Source(Protocol):
    """What answers needs, over connections that are closed at the end."""

    def __call__(self, need: Need, /) -> Fact:
        """Answer *need*. Raises SourceError."""

    def close(self) -> None:
        """Close the idle connections."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A source of a configuration: the *grounds* that decide what is asked, of whom and how, and what makes it."""

    grounds: object
    bounds: Bounds
    make: Callable[[Resolve], _Source] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Running:
    """A lane, what it was made of, and its source."""

    asked: _Asked
    lane: SourceLane
    source: _Source


_Named = Mapping[str, _Running]


class FactLanes:
    """The lanes of one process. At most *max_waiting* checks wait for one kind of fact."""

    def __init__(self, metrics: FactMetrics, *, max_waiting: int, resolve: Resolve = resolve) -> None:
        self._metrics: Final = metrics
        self._max_waiting: Final = max_waiting
        self._resolve: Final = resolve
        self._running: Mapping[str, _Named] = {kind: {} for kind in _SOURCES}
        self._lanes: Mapping[str, Mapping[str, SourceLane]] = {kind: {} for kind in _SOURCES}

    def by_kind(self) -> dict[str, LanesBySource]:
        """Return what answers each kind of need; it follows the configuration."""
        return {kind: LanesBySource(partial(self._of, kind), max_waiting=self._max_waiting) for kind in _SOURCES}

    def reconfigure(self, config: Config) -> None:
        """Have lanes to the sources of *config*."""
        self._use(
            {
                kind: {name: self._keep_or_make(kind, name, asked) for name, asked in self._find(kind, config).items()}
                for kind in _SOURCES
            }
        )

    def close(self) -> None:
        """End all lanes."""
        self._use({kind: {} for kind in _SOURCES})

    def _of(self, kind: str) -> Mapping[str, SourceLane]:
        return self._lanes[kind]

    def _find(self, kind: str, config: Config) -> dict[str, _Asked]:
        sections, ask = _SOURCES[kind]
        named = sections(config)
        share = self._max_waiting if len(named) < 2 else max(1, self._max_waiting // 2)
        return {name: ask(section, share) for name, section in named.items()}

    def _use(self, running: Mapping[str, _Named]) -> None:
        before, self._running = self._running, running
        self._lanes = {kind: {name: each.lane for name, each in named.items()} for kind, named in running.items()}
        for kind, named in before.items():
            for name, old in named.items():
                if running[kind].get(name) is not old:
                    old.lane.stop()
                    old.source.close()

    def _keep_or_make(self, kind: str, name: str, asked: _Asked) -> _Running:
        before = self._running[kind].get(name)
        if before is not None and before.asked == asked:
            return before
        source = asked.make(self._resolve)
        lane = SourceLane(
            f"{kind} of {name}",
            source,
            bounds=asked.bounds,
            monotonic=time.monotonic,
            observer=self._metrics.of(kind, name),
            random=random.random,
        )
        return _Running(asked, lane, source)


def _introspecting(config: Config) -> Mapping[str, IssuerSection]:
    return {name: issuer for name, issuer in config.issuers.items() if issuer.introspection is not None}


def _ask_issuer(issuer: IssuerSection, share: int) -> _Asked:
    return _Asked(_asking(issuer), _bounds(issuer, share), lambda resolve: make_introspection(issuer, resolve=resolve))


def _ask_pdp(pdp: Pdp, share: int) -> _Asked:
    return _Asked(pdp, bounds_of(pdp, share), lambda resolve: make_pdp(pdp, resolve=resolve))


def _ask_exchange(asked: Exchanging, share: int) -> _Asked:
    issuer, settings = asked.issuer, asked.settings
    return _Asked(
        asked,
        bounds_of_exchange(settings, share),
        lambda resolve: make_exchange(issuer, settings, resolve=resolve),
    )


def _ask_risk(section: Risk, share: int) -> _Asked:
    return _Asked(section, bounds_of(section, share), lambda resolve: make_risk(section, resolve=resolve))


_SOURCES: Final[Mapping[str, tuple[Callable[[Config], Mapping[str, Any]], Callable[[Any, int], _Asked]]]] = {
    INTROSPECTION: (_introspecting, _ask_issuer),
    PDP: (lambda config: config.pdps, _ask_pdp),
    RISK: (lambda config: {} if config.risk is None else {ENGINE: config.risk}, _ask_risk),
    EXCHANGED: (exchanging, _ask_exchange),
}
"""The sources of a configuration by the kind of need: their sections, and what is asked of each."""


def make_introspection(
    issuer: IssuerSection, *, auth: ClientAuth | None = None, resolve: Resolve = resolve
) -> IntrospectionSource | TokenReviewSource:
    """Return what asks *issuer*, whose section has introspection, about tokens; *auth* is in place of its own."""
    asked = _introspection(issuer)
    keep = Keep(active=asked.cache.total_seconds(), inactive=asked.cache_inactive.total_seconds())
    if asked.kind is AskedBy.TOKEN_REVIEW:
        return TokenReviewSource(
            make_poster(issuer, resolve=resolve),
            asked.url or "",
            auth or make_auth(issuer),
            audiences=issuer.audiences,
            keep=keep,
        )
    return IntrospectionSource(
        make_poster(issuer, resolve=resolve),
        endpoint_of(issuer, asked.url, resolve=resolve),
        auth or make_auth(issuer),
        keep=keep,
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
    review = issuer.introspection is not None and issuer.introspection.kind is AskedBy.TOKEN_REVIEW
    where = issuer.issuer, issuer.discovery_url, issuer.key_sources, issuer.audiences if review else ()
    return where, issuer.introspection, issuer.fetch, issuer.insecure
