"""Derive Envoy's settings from the sidecar's configuration.

Rules of this file:
1. Envoy waits longer than the sidecar may: its timeout is above the sum of the waits of all kinds of facts, because a
   check may wait for each of them in turn.
2. Envoy's limits are wider than the sidecar's: a decision with a reason is better than an error without one.
3. Envoy rejects the path encodings that no rule accepts, and does not change those that a rule accepts.
4. The sidecar may write the headers that it is configured to write, and no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from authz.config.address import (
    TcpAddress,
    UnixAddress,
    parse_address,
    parse_tcp_address,
    worker_addresses,
    write_authority,
)
from authz.config.build import build_clients
from authz.config.model import Config
from authz.config.pdp import PdpQuestion
from authz.core.dpop import Possession
from authz.core.exchange import EXCHANGED
from authz.core.introspection import INTROSPECTION
from authz.core.minting import MINTED
from authz.core.needs import KEY, PROOF
from authz.core.pdp import PDP
from authz.core.request import AmbiguousEncoding
from authz.core.risk import RISK
from authz.core.status_list import STATUS_LIST
from authz.tooling.envoy_config.forwarded_headers import forwarded_headers_to_remove
from authz.tooling.envoy_config.fragments import ClusterTls, EnvoyReceiver, EnvoySettings, any_spelling, literal
from authz.tooling.envoy_config.receiver import DEFAULT_PREFIX

MIN_TIMEOUT_MS: Final = 500
TLS_FOLDER: Final = "/etc/envoy-authz-tls"
_PROCESSING_MS: Final = 400  # time for a check in addition to the wait for facts
_OTHER_HEADERS_KB: Final = 44  # in addition to the token
_READ_IN_CONDITION: Final = re.compile(r"""request\.headers\[\s*["']([^"']+)["']\s*\]""")
PROOF_HEADER: Final = "dpop"
_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to be recognised


def derive(  # noqa: PLR0913 - one for each option
    config: Config,
    *,
    host: str | None = None,
    cluster: str = "authz",
    trusted_hops: int = 0,
    peer_certificate: bool = False,
    tls_folder: str = TLS_FOLDER,
    kept_headers: Iterable[str] = (),
    receiver_prefix: str = DEFAULT_PREFIX,
) -> EnvoySettings:
    """Return the settings of an Envoy in front of the sidecar of *config*.

    *host* is where Envoy reaches it, if not at `server.listen`; *tls_folder* contains Envoy's own tls.crt and tls.key,
    and the ca.crt of the sidecar's certificate. *kept_headers* are forwarded headers that the upstream needs. Envoy
    takes messages for the receiver below *receiver_prefix*.
    """
    accepted = accepted_encodings(config)
    return EnvoySettings(
        endpoints=endpoints(config, host=host),
        cluster=cluster,
        timeout_ms=max(MIN_TIMEOUT_MS, max_wait_ms(config) + _PROCESSING_MS),
        peer_certificate=peer_certificate,
        removed=tuple(sorted({*config.identity.headers, *minted_headers(config)})),
        forwarded=forwarded_headers_to_remove(
            kept=(*kept_headers, *config.identity.headers, *read_headers(config), *minted_headers(config))
        ),
        mutable=tuple(dict.fromkeys(_mutable(config))),
        merge_slashes=AmbiguousEncoding.DOUBLE_SLASH not in accepted,
        escaped_slashes="KEEP_UNCHANGED" if AmbiguousEncoding.ENCODED_SLASH in accepted else "REJECT_REQUEST",
        underscores="ALLOW"
        if any("_" in (source.header or "") for source in config.token.sources)
        else "REJECT_REQUEST",
        trusted_hops=trusted_hops,
        max_headers_kb=-(-config.token.max_bytes // 1024) + _OTHER_HEADERS_KB,
        max_requests=max_concurrent(config),
        tls=_tls(config, host, tls_folder),
        receiver=_receiver(config, host, receiver_prefix),
    )


def endpoints(config: Config, *, host: str | None = None) -> tuple[str, ...]:
    """Return the address of each worker: `unix:/path` or `host:port`."""
    addresses = worker_addresses(config.server.listen, config.server.workers)
    listened = parse_address(config.server.listen)
    if isinstance(listened, UnixAddress):
        return addresses
    reachable = _reachable_host(listened, host)
    return tuple(write_authority(reachable, address.rpartition(":")[2]) for address in addresses)


def max_wait_ms(config: Config) -> int:
    """Return how long a check may wait for facts, at most, in milliseconds: once for each kind."""
    return round(1000 * sum(max_waits(config).values()))


def max_waits(config: Config) -> dict[str, float]:
    """Return the longest wait for each kind of fact, in seconds."""
    exchange = config.identity.exchange
    remote = [key for key in config.signing.keys.values() if config.identity.minted is not None and key.is_remote]
    introspections = [issuer.introspection for issuer in config.issuers.values() if issuer.introspection is not None]
    status_lists = [issuer.status_list for issuer in config.issuers.values() if issuer.status_list is not None]
    return {
        KEY: max(issuer.fetch.max_wait.total_seconds() for issuer in config.issuers.values()),
        INTROSPECTION: max((section.max_wait.total_seconds() for section in introspections), default=0.0),
        PDP: max((pdp.max_wait.total_seconds() for pdp in config.pdps.values()), default=0.0),
        STATUS_LIST: max((section.max_wait.total_seconds() for section in status_lists), default=0.0),
        RISK: config.risk.max_wait.total_seconds() if config.risk is not None else 0.0,
        PROOF: 2 * config.shared_state.timeout.total_seconds() if config.shared_state and reads_proofs(config) else 0.0,
        EXCHANGED: exchange.max_wait.total_seconds() if exchange is not None else 0.0,
        MINTED: max((section.max_wait.total_seconds() for section in remote), default=0.0),
    }


def max_concurrent(config: Config) -> int:
    """Return how many requests all workers together process at one time before they reject more."""
    return config.server.max_concurrent * config.server.workers


def accepted_encodings(config: Config) -> frozenset[AmbiguousEncoding]:
    """Return the ambiguous encodings of paths that some rule accepts."""
    return frozenset(encoding for rule in config.rules for encoding in rule.accept or ())


def read_headers(config: Config) -> Iterator[str]:
    """Yield the headers of requests that hold a token, or that a condition or a question to a PDP reads."""
    yield from (source.header for source in config.token.sources if source.header is not None)
    for rule in config.rules:
        if rule.require is not None and rule.require.when:
            yield from _READ_IN_CONDITION.findall(rule.require.when)
        if rule.require is not None and rule.require.pdp is not None:
            yield from _headers_in_question(rule.require.pdp)


def _headers_in_question(question: PdpQuestion) -> Iterator[str]:
    for reference in question.references():
        if reference.names[:1] == ("request.headers",):
            yield from reference.names[1:]
        yield from _READ_IN_CONDITION.findall(reference.text)


def minted_headers(config: Config) -> Iterator[str]:
    """Yield the header of the token for the upstream, unless clients send their own token in it."""
    token = config.identity.token
    if token is not None and token.header != "authorization":
        yield token.header


def reads_proofs(config: Config) -> bool:
    """Return whether the sidecar reads proofs of possession (DPoP)."""
    return any(issuer.dpop is not Possession.OFF for issuer in config.issuers.values())


def counts_clients(config: Config) -> bool:
    """Return whether the sidecar counts failures by the network of the client."""
    return build_clients(config) is not None


def removes_proofs(config: Config) -> bool:
    """Return whether the sidecar keeps proofs of possession from the upstream."""
    return reads_proofs(config) and not config.dpop.forward


def notes(config: Config) -> Iterator[str]:
    """Yield what else an operator must know to use the fragments in an existing Envoy."""
    yield "No allowed_headers and no with_request_body: the sidecar must see what the upstream sees, and needs no body."
    if any(source.cookie is not None for source in config.token.sources):
        yield (
            "Tokens come in cookies: the sidecar reads cookie, origin, sec-fetch-site and upgrade of every request, "
            "and must see them as the client sent them."
        )
    if reads_proofs(config):
        yield (
            "Clients send proofs (DPoP): no retry_policy in grpc_service, for a check that is sent again has a proof "
            "that was used; and behind a TLS terminator, or under another host, dpop.origins says what clients sign."
        )
    if counts_clients(config) and not config.clients.trusted_proxies:
        yield (
            "Failures are counted by the address of Envoy's peer: if a proxy is in front of Envoy, name its network in "
            "clients.trusted_proxies, or all of its clients are one."
        )
    if config.resource is not None:
        yield (
            "The sidecar itself answers below /.well-known/oauth-protected-resource (RFC 9728): these paths need a "
            "route, for Envoy asks only about requests that have one."
        )
    if config.responses.unavailable == "error":
        yield "responses.unavailable is error: with failure_mode_allow, requests would pass while keys are unavailable."


def _mutable(config: Config) -> Iterator[str]:
    for name in sorted({*config.identity.headers, *([token.header] if (token := config.identity.token) else [])}):
        yield any_spelling(name)
    if not config.forwards_token:
        for source in config.token.sources:
            yield literal(source.header) if source.header is not None else "cookie"
    if removes_proofs(config):
        yield PROOF_HEADER


def _tls(config: Config, host: str | None, folder: str) -> ClusterTls | None:
    address, tls = parse_address(config.server.listen), config.server.tls
    if tls is None or not isinstance(address, TcpAddress):
        return None
    mutual = tls.client_ca_file is not None
    return ClusterTls(
        server_name=_reachable_host(address, host),
        ca_file=f"{folder}/ca.crt",
        cert_file=f"{folder}/tls.crt" if mutual else None,
        key_file=f"{folder}/tls.key" if mutual else None,
    )


def _receiver(config: Config, host: str | None, prefix: str) -> EnvoyReceiver | None:
    if config.receivers.listen is None:
        return None
    address = parse_tcp_address(config.receivers.listen)
    reachable = _reachable_host(address, host)
    return EnvoyReceiver(write_authority(reachable, address.port), prefix)


def _reachable_host(address: TcpAddress, host: str | None) -> str:
    return host or ("127.0.0.1" if address.host in _ANY_ADDRESS else address.host)
