"""Checks of how an issuer is asked for the upstream's token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.config.checks.introspection import check_client
from authz.config.checks.outbound import check_called_url
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote, suggest

_TOKEN: Final[KeyPath] = ("identity", "token")
_PATH: Final[KeyPath] = (*_TOKEN, "exchange")
_ONLY_IF_MINTED: Final = ("issuer", "format", "claims", "workload", "lifetime", "reuse", "max_cached")


def check_exchange(config: Config) -> Iterator[Problem]:
    """Report a server that cannot be asked, and settings of a token that the sidecar would sign itself."""
    token, exchange = config.identity.token, config.identity.exchange
    if token is None or exchange is None:
        return
    for key in _ONLY_IF_MINTED:
        if key in token.model_fields_set:
            yield Problem(path=(*_TOKEN, key), message="is not for exchange: the issuer decides")
    for index, subject in enumerate(exchange.subjects):
        if subject not in config.issuers:
            yield _unknown(subject, (*_PATH, "subjects", index), config)
    issuer = config.issuers.get(exchange.issuer)
    if issuer is None:
        yield _unknown(exchange.issuer, (*_PATH, "issuer"), config)
        return
    if exchange.url is not None:
        section: KeyPath = ("issuers", exchange.issuer)
        yield from check_called_url(exchange.url, (*_PATH, "url"), http=issuer.insecure.http, section=section)
    elif issuer.key_sources not in ((), ("discovery_url",)) or issuer.tenants:
        yield Problem(path=(*_PATH, "url"), message="must be given: no discovery of this issuer takes place")
    yield from check_client(exchange.client, issuer, (*_PATH, "client"))


def _unknown(name: str, path: KeyPath, config: Config) -> Problem:
    return Problem(path=path, message=f"unknown issuer {quote(name)}", hint=suggest(name, config.issuers))
