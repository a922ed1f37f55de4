"""The kinds of findings of a review of an Envoy configuration: name, meaning, fix, and the function that finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from authz.tooling.envoy_config import (
    review_bypasses,
    review_cluster,
    review_filter,
    review_forwarded_headers,
    review_receiver,
    review_settings,
)
from authz.tooling.envoy_config.context import Context, Location


class Level(StrEnum):
    """A finding lets something bypass the sidecar, or breaks what should pass; a note needs a look."""

    FINDING = "finding"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class FindingKind:
    """One kind of finding: *what* is wrong, how to *fix* it, and *check*, which yields where it is found."""

    level: Level
    what: str
    fix: str
    check: Callable[[Context], Iterator[Location]]


_NOT_CHECKED: Final = "give it the filter of `authz envoy-config`, before the router"
_EVERY_REQUEST: Final = "leave it out: a rule can make a path public"

FINDING_KINDS: Final[Mapping[str, FindingKind]] = {
    "not-checked": FindingKind(
        Level.FINDING, "requests reach the upstream without a decision", _NOT_CHECKED, review_bypasses.not_checked
    ),
    "other-listener": FindingKind(
        Level.NOTE,
        "requests are not checked here",
        "make sure that nothing behind it needs a token",
        review_bypasses.other_listener,
    ),
    "nothing-found": FindingKind(
        Level.FINDING,
        "no HttpConnectionManager is in this file",
        "give the bootstrap, or the listener as YAML or JSON",
        review_bypasses.nothing_found,
    ),
    "tcp-around": FindingKind(
        Level.FINDING,
        "a filter for connections leads to a protected upstream, around the check",
        "remove it, or let it lead elsewhere",
        review_bypasses.tcp_around,
    ),
    "after-router": FindingKind(
        Level.FINDING, "the filter is behind the router, and never runs", "move it up", review_bypasses.after_router
    ),
    "upgrade-not-checked": FindingKind(
        Level.FINDING,
        "upgraded requests have filters of their own, and are not checked",
        "leave out `filters`, or put the filter there too",
        review_bypasses.upgrade_not_checked,
    ),
    "filter-off": FindingKind(
        Level.FINDING, "the filter is switched off", "leave `disabled` out", review_bypasses.switched_off
    ),
    "filter-shadow": FindingKind(
        Level.FINDING,
        "the decision is only reported: every request passes",
        "leave `shadow_mode` out",
        review_bypasses.shadowed,
    ),
    "filter-conditional": FindingKind(
        Level.FINDING,
        "a matcher, or another filter around it, decides whether requests are checked",
        "put the filter there without it; rules can tell requests apart",
        review_bypasses.conditional,
    ),
    "filter-optional": FindingKind(
        Level.FINDING,
        "an Envoy that does not know the filter leaves it out",
        "leave `is_optional` out",
        review_bypasses.optional,
    ),
    "filter-unseen": FindingKind(
        Level.FINDING,
        "the filter is configured by discovery (ECDS): it is not in this file, and was not reviewed",
        "put it into the file, or review Envoy's /config_dump",
        review_bypasses.filter_unseen,
    ),
    "others-unseen": FindingKind(
        Level.NOTE,
        "this is configured by discovery: it is not in this file, and was not reviewed",
        "review Envoy's /config_dump too",
        review_bypasses.others_unseen,
    ),
    "field-unknown": FindingKind(
        Level.FINDING,
        "this review does not know the field: it may let requests pass",
        "read what Envoy says about it, or use a newer authz",
        review_filter.fields_unknown,
    ),
    "field-twice": FindingKind(
        Level.FINDING,
        "a field is there in two spellings, and Envoy uses one of them",
        "leave one out",
        review_filter.fields_twice,
    ),
    "filter-runtime": FindingKind(
        Level.FINDING,
        "a runtime value can switch the check off",
        "leave `runtime_key` out",
        review_bypasses.runtime_decides,
    ),
    "filter-sampled": FindingKind(
        Level.FINDING, "only some requests are checked", _EVERY_REQUEST, review_bypasses.sampled
    ),
    "fails-open": FindingKind(
        Level.FINDING,
        "while no sidecar answers, every request passes as the client sent it",
        "failure_mode_allow: false",
        review_bypasses.fails_open,
    ),
    "route-not-checked": FindingKind(
        Level.FINDING,
        "requests on this route are not checked",
        "leave it out and write a public rule, or accept it by name",
        review_bypasses.route_not_checked,
    ),
    "cached": FindingKind(
        Level.FINDING, "a cache answers before requests are checked", "put it behind the filter", review_bypasses.cached
    ),
    "answered-in-front": FindingKind(
        Level.FINDING,
        "a filter answers before requests are checked",
        "put it behind the filter",
        review_bypasses.answered_before,
    ),
    "token-written": FindingKind(
        Level.FINDING,
        "Envoy itself writes a token before requests are checked: clients pass without one",
        "remove it",
        review_settings.token_written,
    ),
    "admin-exposed": FindingKind(
        Level.FINDING,
        "anyone who reaches the admin interface can change what Envoy does",
        "bind it to 127.0.0.1",
        review_bypasses.admin_exposed,
    ),
    "identity-kept": FindingKind(
        Level.FINDING,
        "requests that are not checked keep identity headers forged by a client",
        "early_header_mutation_extensions as `authz envoy-config` prints them, or request_headers_to_remove",
        review_bypasses.identity_kept,
    ),
    "claims-pass": FindingKind(
        Level.NOTE,
        "clients may claim another host, path or method than those that were decided on, and some servers believe them",
        "early_header_mutation_extensions as `authz envoy-config` prints them, or request_headers_to_remove",
        review_forwarded_headers.forwarded_headers_pass,
    ),
    "routes-unseen": FindingKind(
        Level.NOTE,
        "the routes are not in this file, and were not checked",
        "check them too",
        review_bypasses.routes_unseen,
    ),
    "stream-unbounded": FindingKind(
        Level.NOTE,
        "the token is checked once: a WebSocket or a gRPC stream may outlive it",
        "common_http_protocol_options.max_stream_duration or the route's; timeout and max_connection_duration end none",
        review_settings.streams_unbounded,
    ),
    "path-not-normalized": FindingKind(
        Level.FINDING,
        "dot segments stay: the sidecar decides on a different path than servers use",
        "normalize_path: true",
        review_settings.path_not_normalized,
    ),
    "slashes-not-merged": FindingKind(
        Level.FINDING,
        "// stays, which is ambiguous to servers and which the sidecar rejects",
        "merge_slashes: true",
        review_settings.slashes_not_merged,
    ),
    "slashes-merged": FindingKind(
        Level.NOTE,
        "// becomes /, though a rule accepts double_slash",
        "merge_slashes: false",
        review_settings.slashes_merged,
    ),
    "escaped-slashes": FindingKind(
        Level.FINDING,
        "%2F and %5C stay, which are ambiguous to servers",
        "path_with_escaped_slashes_action: REJECT_REQUEST",
        review_settings.escaped_slashes,
    ),
    "escaped-slashes-refused": FindingKind(
        Level.NOTE,
        "%2F does not reach the sidecar, though a rule accepts encoded_slash",
        "path_with_escaped_slashes_action: KEEP_UNCHANGED",
        review_settings.escaped_slashes_refused,
    ),
    "underscores": FindingKind(
        Level.FINDING,
        "a client can send x_auth_subject, which some servers take for x-auth-subject",
        "headers_with_underscores_action: REJECT_REQUEST",
        review_settings.underscores,
    ),
    "client-address": FindingKind(
        Level.FINDING,
        "clients can set their address, and headers that only Envoy may set (x-envoy-*)",
        "use_remote_address: true",
        review_settings.client_address,
    ),
    "proxies-are-clients": FindingKind(
        Level.FINDING,
        "all clients of the proxy in front of Envoy have one address: the failures of one throttle all",
        "the proxy's network in clients.trusted_proxies",
        review_settings.proxies_count_as_clients,
    ),
    "internal-trust": FindingKind(
        Level.FINDING,
        "public addresses count as internal, and may set headers that only Envoy may set (x-envoy-*)",
        "name private networks only",
        review_settings.internal_trust,
    ),
    "request-id": FindingKind(
        Level.NOTE,
        "clients choose the id of their requests, and can write into others' traces",
        "preserve_external_request_id: false",
        review_settings.request_id,
    ),
    "headers-too-short": FindingKind(
        Level.FINDING,
        "Envoy rejects requests with tokens that token.max_bytes allows",
        "raise it, or lower token.max_bytes",
        review_settings.headers_too_short,
    ),
    "written-behind": FindingKind(
        Level.FINDING,
        "a filter after ext_authz writes what the decision was based on, or what the sidecar wrote",
        "put it before ext_authz",
        review_settings.written_after,
    ),
    "may-write-behind": FindingKind(
        Level.NOTE,
        "a program after ext_authz may write identity headers, or change the path",
        "review it, or put it before ext_authz",
        review_settings.may_write_after,
    ),
    "routes-write": FindingKind(
        Level.FINDING,
        "a route overwrites the identity that the sidecar wrote",
        "use another name",
        review_settings.routes_write,
    ),
    "route-cache": FindingKind(
        Level.FINDING,
        "the route is chosen by an identity header before the sidecar has written it",
        "clear_route_cache: true",
        review_settings.route_cache,
    ),
    "error-status": FindingKind(
        Level.FINDING, "clients receive an error as success", "code: ServiceUnavailable", review_filter.error_status
    ),
    "over-http": FindingKind(
        Level.FINDING, "the sidecar speaks gRPC only", "grpc_service instead of http_service", review_filter.over_http
    ),
    "timeout-short": FindingKind(
        Level.FINDING,
        "Envoy times out while the sidecar may still wait for a key, an issuer or a PDP (max_wait)",
        "raise timeout, or lower max_wait",
        review_filter.timeout_short,
    ),
    "check-repeated": FindingKind(
        Level.FINDING,
        "a check that failed is sent again, and its proof (DPoP) is refused as one that was used",
        "leave retry_policy out of grpc_service; the client repeats the request with a new proof",
        review_filter.check_repeated,
    ),
    "body-sent": FindingKind(
        Level.NOTE,
        "requests are buffered until their bodies are complete, and the sidecar reads none",
        "leave with_request_body out",
        review_filter.body_sent,
    ),
    "body-too-long": FindingKind(
        Level.FINDING,
        "bodies of this length end in an error instead of a decision",
        "leave with_request_body out",
        review_filter.body_too_long,
    ),
    "headers-hidden": FindingKind(
        Level.FINDING,
        "the sidecar does not receive headers that it reads",
        "leave allowed_headers and disallowed_headers out",
        review_filter.headers_hidden,
    ),
    "mutations-refused": FindingKind(
        Level.FINDING,
        "Envoy does not let the sidecar change these headers: the client's stay, or requests fail",
        "decoder_header_mutation_rules as `authz envoy-config` prints them",
        review_filter.mutations_refused,
    ),
    "asks-elsewhere": FindingKind(
        Level.FINDING,
        "a route or an upgrade asks another service than the sidecar",
        "leave `grpc_service` out, or name the sidecar's cluster",
        review_filter.elsewhere,
    ),
    "cluster-unseen": FindingKind(
        Level.NOTE,
        "the cluster of the filter is not in this file, and was not checked",
        "add the cluster of `authz envoy-config`",
        review_cluster.cluster_unseen,
    ),
    "over-http1": FindingKind(
        Level.FINDING,
        "the cluster speaks HTTP/1.1, and gRPC needs HTTP/2: no check is answered",
        "explicit_http_config: {http2_protocol_options: {}}",
        review_cluster.over_http1,
    ),
    "endpoints-missing": FindingKind(
        Level.FINDING,
        "the endpoints are not those of server.listen and server.workers",
        "use those of `authz envoy-config`",
        review_cluster.endpoints_missing,
    ),
    "endpoints-foreign": FindingKind(
        Level.FINDING,
        "some checks are answered by endpoints that are not the sidecar's",
        "take the endpoints of `authz envoy-config`",
        review_cluster.endpoints_foreign,
    ),
    "breaker-low": FindingKind(
        Level.FINDING,
        "Envoy rejects requests while the sidecar has room for them (server.max_concurrent of each worker)",
        "raise it to that",
        review_cluster.breaker_low,
    ),
    "breaker-high": FindingKind(
        Level.NOTE,
        "Envoy sends checks that the sidecar can only reject, at half the cost of a decision",
        "lower it to server.max_concurrent of each worker",
        review_cluster.breaker_high,
    ),
    "in-plaintext": FindingKind(
        Level.FINDING,
        "the sidecar speaks TLS, the cluster does not",
        "the transport_socket of `authz envoy-config`",
        review_cluster.in_plaintext,
    ),
    "not-verified": FindingKind(
        Level.FINDING,
        "another service could answer instead of the sidecar",
        "trusted_ca and match_typed_subject_alt_names",
        review_cluster.not_verified,
    ),
    "no-health-check": FindingKind(
        Level.NOTE,
        "a sidecar without keys, or one that drains, still receives checks",
        "the health_checks of `authz envoy-config`",
        review_cluster.no_health_check,
    ),
    "receiver-checked": FindingKind(
        Level.FINDING,
        "what issuers send to the receiver has no access token, and is denied",
        "the routes of `authz envoy-config`, which switch the filter off",
        review_receiver.receiver_checked,
    ),
    "receiver-not-reached": FindingKind(
        Level.NOTE,
        "no route leads to receivers.listen: no logout token and no event arrives through this Envoy",
        "the routes of `authz envoy-config`, or let issuers reach it otherwise",
        review_receiver.receiver_not_reached,
    ),
    "receiver-crowded": FindingKind(
        Level.NOTE,
        "a flood of messages ends those of others: Envoy opens more connections than the receiver holds",
        "the circuit_breakers of `authz envoy-config`",
        review_receiver.receiver_crowded,
    ),
}
