"""The lane to the server that exchanges tokens, if one is configured."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Final

from authz.config.exchange import Exchange
from authz.config.issuer import Issuer
from authz.config.model import Config
from authz.core.exchange import EXCHANGED
from authz.facts.lane import Bounds, SourceLane
from authz.feeds.asking import auth_of, poster_for
from authz.feeds.assembly import make_dialer, make_fetcher
from authz.feeds.discovery import discovery_url
from authz.feeds.exchange import ExchangeSource, Keep
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.introspection import Endpoint
from authz.telemetry.facts import FactMetrics

MAX_ANSWER_BYTES: Final = 65_536


class ExchangeLane:
    """The lane of one process. At most *max_waiting* checks wait for it."""

    def __init__(self, metrics: FactMetrics, *, max_waiting: int, resolve: Resolve = resolve) -> None:
        self._metrics: Final = metrics
        self._max_waiting: Final = max_waiting
        self._resolve: Final = resolve
        self._section: object = None
        self._source: ExchangeSource | None = None
        self.lanes: Mapping[str, SourceLane] = {}

    def follow(self, config: Config) -> None:
        """Have a lane to the server that *config* names; as long as that is the same, the lane stays."""
        exchange = config.identity.exchange
        section = None if exchange is None else (exchange, config.issuers[exchange.issuer])
        if section == self._section:
            return
        old_lanes, old_source = self.lanes, self._source
        if exchange is None:
            self._source, self.lanes = None, {}
        else:
            self._source = make_exchange(config.issuers[exchange.issuer], exchange, resolve=self._resolve)
            self.lanes = {exchange.issuer: self._make_lane(exchange, self._source)}
        self._section = section
        _end(old_lanes, old_source)

    def close(self) -> None:
        """End the lane."""
        old_lanes, old_source, self.lanes, self._source = self.lanes, self._source, {}, None
        _end(old_lanes, old_source)

    def _make_lane(self, exchange: Exchange, source: ExchangeSource) -> SourceLane:
        return SourceLane(
            f"token exchange at {exchange.issuer}",
            source,
            bounds=Bounds(
                max_asked=exchange.max_concurrent,
                max_waiting=self._max_waiting,
                max_wait=exchange.max_wait.total_seconds(),
                burst=exchange.max_per_second,
                refill=1.0 / exchange.max_per_second,
                max_kept=exchange.max_cached,
            ),
            monotonic=time.monotonic,
            observer=self._metrics.of(EXCHANGED, exchange.issuer),
            random=random.random,
        )


def make_exchange(issuer: Issuer, exchange: Exchange, *, resolve: Resolve = resolve) -> ExchangeSource:
    """Return what exchanges tokens at *issuer*."""
    return ExchangeSource(
        poster_for(
            issuer,
            exchange.url,
            timeout=exchange.timeout.total_seconds(),
            max_bytes=MAX_ANSWER_BYTES,
            resolve=resolve,
        ),
        Endpoint(
            exchange.url,
            fetch=make_fetcher(issuer, make_dialer(issuer, resolve=resolve)).get,
            discovery_url=issuer.discovery_url or discovery_url(issuer.discovery_base),
            issuer=issuer.issuer,
            every=issuer.fetch.max_interval.total_seconds(),
            monotonic=time.monotonic,
            member="token_endpoint",
        ),
        auth_of(exchange.client, issuer),
        kind=exchange.token_type,
        keep=Keep(token=exchange.cache.total_seconds(), refused=exchange.cache_refused.total_seconds()),
    )


def _end(lanes: Mapping[str, SourceLane], source: ExchangeSource | None) -> None:
    for lane in lanes.values():
        lane.stop()
    if source is not None:
        source.close()
