"""What the configuration of the sidecar requires of the Envoy in front of it."""

from __future__ import annotations

from dataclasses import dataclass

from authz.config.address import parse_tcp_address
from authz.config.model import Config
from authz.core.client_network import FORWARDED_FOR
from authz.core.identity import separator_variants
from authz.core.request import AmbiguousEncoding
from authz.tooling.envoy_config.derive import (
    PROOF_HEADER,
    accepted_encodings,
    counts_clients,
    endpoints,
    max_concurrent,
    max_wait_ms,
    minted_headers,
    read_headers,
    reads_proofs,
    removes_proofs,
)

_ANSWER_MARGIN_MS = 50  # the sidecar stops waiting this long before a call's deadline
_READ_WITH_COOKIES = ("cookie", "origin", "sec-fetch-site", "upgrade")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyRequirements:
    """The requirements of a sidecar.

    *identity* are the identity headers in every spelling, *read* the headers that it must receive, *written* those that
    it may write. *wait_ms* is the longest time to an answer, *concurrent* the requests of all workers at one time,
    *header_kb* the longest token. Tokens come in *token_headers*. With *proofs*,
    clients prove that they hold the key of their token (DPoP). With *peers_are_clients*, failures count by the address
    of Envoy's peer. Logout tokens and security events are received at *receiver_port*.
    """

    identity: frozenset[str]
    read: tuple[str, ...]
    token_headers: frozenset[str]
    written: tuple[str, ...]
    endpoints: tuple[str, ...]
    encodings: frozenset[AmbiguousEncoding]
    wait_ms: int
    concurrent: int
    header_kb: int
    tls: bool
    proofs: bool
    peers_are_clients: bool
    receiver_port: int | None


def requirements_of(config: Config) -> EnvoyRequirements:
    """Return the requirements of *config*."""
    token = config.identity.token
    minted = [] if token is None else [token.header]
    removed = [*config.identity.headers, *minted_headers(config)]
    identity = frozenset(name for header in removed for name in separator_variants(header))
    sources = config.token.sources
    cookies = any(source.cookie is not None for source in sources)
    own = [source.header for source in sources if source.header is not None]
    written = [] if config.forwards_token else [*own, *(["cookie"] if cookies else [])]
    written += [PROOF_HEADER] if removes_proofs(config) else []
    return EnvoyRequirements(
        identity=identity,
        read=tuple(
            dict.fromkeys(
                [
                    *own,
                    *([PROOF_HEADER] if reads_proofs(config) else ()),
                    *(_READ_WITH_COOKIES if cookies else ()),
                    *(["connection"] if identity else []),
                    *([FORWARDED_FOR] if counts_clients(config) and config.clients.trusted_proxies else ()),
                    *read_headers(config),
                ]
            )
        ),
        token_headers=frozenset([*own, *(["cookie"] if cookies else [])]),
        written=tuple(dict.fromkeys((*sorted(config.identity.headers), *minted, *written))),
        endpoints=endpoints(config),
        encodings=accepted_encodings(config),
        wait_ms=max_wait_ms(config) + _ANSWER_MARGIN_MS,
        concurrent=max_concurrent(config),
        header_kb=-(-config.token.max_bytes // 1024),
        tls=config.server.tls is not None,
        proofs=reads_proofs(config),
        peers_are_clients=counts_clients(config) and not config.clients.trusted_proxies,
        receiver_port=parse_tcp_address(listen).port if (listen := config.receivers.listen) is not None else None,
    )
