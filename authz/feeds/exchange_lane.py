"""The lane to the server that exchanges tokens, if one is configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authz.config.exchange import Exchange
from authz.config.issuer import Issuer
from authz.config.model import Config
from authz.facts.lane import Bounds
from authz.feeds.asking import auth_of, endpoint_of, poster_for
from authz.feeds.exchange import ExchangeSource, Keep
from authz.feeds.http.connect import Resolve, resolve

MAX_ANSWER_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Exchanging:
    """An issuer that exchanges tokens, and the *settings* of that."""

    issuer: Issuer
    settings: Exchange


def exchanging(config: Config) -> Mapping[str, Exchanging]:
    """Return the server that exchanges tokens, by the name of its issuer, if one is configured."""
    exchange = config.identity.exchange
    return {} if exchange is None else {exchange.issuer: Exchanging(config.issuers[exchange.issuer], exchange)}


def bounds_of_exchange(exchange: Exchange, max_waiting: int) -> Bounds:
    """Return the bounds of the lane to the server."""
    return Bounds(
        max_asked=exchange.max_concurrent,
        max_waiting=max_waiting,
        max_wait=exchange.max_wait.total_seconds(),
        burst=exchange.max_per_second,
        refill=1.0 / exchange.max_per_second,
        max_kept=exchange.max_cached,
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
        endpoint_of(issuer, exchange.url, member="token_endpoint", resolve=resolve),
        auth_of(exchange.client, issuer),
        kind=exchange.token_type,
        keep=Keep(token=exchange.cache.total_seconds(), refused=exchange.cache_refused.total_seconds()),
    )
