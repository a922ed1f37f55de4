"""The lane to the server that exchanges tokens, if one is configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authz.config.exchange import Exchange
from authz.config.issuer import Issuer
from authz.config.model import Config
from authz.feeds.exchange import ExchangeSource, ExchangeTtl
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.issuer_client import make_issuer_auth, make_issuer_endpoint, make_issuer_poster

MAX_RESPONSE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class ExchangeServer:
    """An issuer that exchanges tokens, and the *settings* of the exchange."""

    issuer: Issuer
    settings: Exchange


def exchange_servers(config: Config) -> Mapping[str, ExchangeServer]:
    """Return the server that exchanges tokens, by the name of its issuer, if one is configured."""
    exchange = config.identity.exchange
    return {} if exchange is None else {exchange.issuer: ExchangeServer(config.issuers[exchange.issuer], exchange)}


def make_exchange(issuer: Issuer, exchange: Exchange, *, resolve: Resolve = resolve) -> ExchangeSource:
    """Return the source that exchanges tokens at *issuer*."""
    return ExchangeSource(
        make_issuer_poster(
            issuer,
            exchange.url,
            timeout=exchange.timeout.total_seconds(),
            max_bytes=MAX_RESPONSE_BYTES,
            resolve=resolve,
        ),
        make_issuer_endpoint(issuer, exchange.url, member="token_endpoint", resolve=resolve),
        make_issuer_auth(exchange.client, issuer),
        token_type=exchange.token_type,
        ttl=ExchangeTtl(token=exchange.cache.total_seconds(), refused=exchange.cache_refused.total_seconds()),
    )
