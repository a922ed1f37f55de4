"""Review a given Envoy configuration for what lets a request, or an identity header, bypass the sidecar.

The table KINDS lists what is checked: a name, what it means, how to fix it, and the function that finds the places. The
review reads the file, and reports parts that come from elsewhere; it does not simulate Envoy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from authz.config.document import Document
from authz.config.model import Config
from authz.config.problems import render_path
from authz.telemetry.redaction import printable
from authz.tooling.envoy_config import review_bypasses, review_claims, review_cluster, review_filter, review_settings
from authz.tooling.envoy_config.context import Context, Location
from authz.tooling.envoy_config.reading import Node
from authz.tooling.envoy_config.requirements import requirements_of


class Level(StrEnum):
    """A finding lets something bypass the sidecar, or breaks valid requests; a note needs a review."""

    FINDING = "finding"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding."""

    level: Level
    what: str
    fix: str
    check: Callable[[Context], Iterator[Location]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place where the kind *name* was found; *line* counts from 1."""

    name: str
    path: str
    line: int
    detail: str

    @property
    def kind(self) -> Kind:
        """The kind of this finding."""
        return KINDS[self.name]

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        where = f"{self.path}: " if self.path else ""
        return f"{self.kind.level}: {self.name}: {where}{self.kind.what}{detail} ({self.kind.fix})"

    def document(self) -> dict[str, Any]:
        """Return the same as JSON data."""
        return {
            "name": self.name,
            "level": self.kind.level.value,
            "line": self.line,
            "path": self.path,
            "what": self.kind.what,
            "detail": self.detail,
            "fix": self.kind.fix,
        }


def review(document: Document, config: Config) -> list[Finding]:
    """Return the findings in *document*, an Envoy configuration in front of the sidecar of *config*, by line."""
    context = Context.of(Node(document.data), requirements_of(config))
    found = [
        Finding(
            name=name,
            path=render_path(location.node.path),
            line=document.line_of(location.node.path),
            detail=printable(location.detail) or "",
        )
        for name, kind in KINDS.items()
        for location in kind.check(context)
    ]
    return sorted(found, key=lambda finding: (finding.line, finding.name))


_NOT_CHECKED: Final = "give it the filter of `authz envoy-config`, before the router"
_EVERY_REQUEST: Final = "leave it out: a rule can make a path public"

KINDS: Final[Mapping[str, Kind]] = {
    "not-checked": Kind(
        Level.FINDING, "requests reach the upstream without a decision", _NOT_CHECKED, review_bypasses.not_checked
    ),
    "other-listener": Kind(
        Level.NOTE,
        "requests are not checked here",
        "make sure that nothing behind it needs a token",
        review_bypasses.other_listener,
    ),
    "nothing-found": Kind(
        Level.FINDING,
        "no HttpConnectionManager is in this file",
        "give the bootstrap, or the listener as YAML or JSON",
        review_bypasses.nothing_found,
    ),
    "tcp-around": Kind(
        Level.FINDING,
        "a TCP proxy leads to a protected upstream, around the filter",
        "remove it, or let it lead elsewhere",
        review_bypasses.tcp_around,
    ),
    "after-router": Kind(
        Level.FINDING, "the filter is behind the router, and never runs", "move it up", review_bypasses.after_router
    ),
    "upgrade-not-checked": Kind(
        Level.FINDING,
        "upgraded requests have filters of their own, and are not checked",
        "leave out `filters`, or put the filter there too",
        review_bypasses.upgrade_not_checked,
    ),
    "filter-off": Kind(
        Level.FINDING, "the filter is switched off", "leave `disabled` out", review_bypasses.switched_off
    ),
    "filter-conditional": Kind(
        Level.FINDING,
        "a matcher decides whether requests are checked",
        "configure the filter without it; rules can distinguish requests",
        review_bypasses.conditional,
    ),
    "filter-sampled": Kind(Level.FINDING, "only some requests are checked", _EVERY_REQUEST, review_bypasses.sampled),
    "fails-open": Kind(
        Level.FINDING,
        "while no sidecar answers, every request passes as the client sent it",
        "failure_mode_allow: false",
        review_bypasses.fails_open,
    ),
    "route-not-checked": Kind(
        Level.FINDING,
        "requests on this route are not checked",
        "leave it out and write a public rule, or accept it by name",
        review_bypasses.route_not_checked,
    ),
    "cached": Kind(
        Level.FINDING, "a cache answers before requests are checked", "put it behind the filter", review_bypasses.cached
    ),
    "admin-exposed": Kind(
        Level.FINDING,
        "anyone who reaches the admin interface can change what Envoy does",
        "bind it to 127.0.0.1",
        review_bypasses.admin_exposed,
    ),
    "identity-kept": Kind(
        Level.FINDING,
        "requests that are not checked keep identity headers forged by a client",
        "early_header_mutation_extensions as `authz envoy-config` prints them, or request_headers_to_remove",
        review_bypasses.identity_kept,
    ),
    "claims-pass": Kind(
        Level.NOTE,
        "clients may claim another host, path or method than those that were decided on, and some servers believe them",
        "early_header_mutation_extensions as `authz envoy-config` prints them, or request_headers_to_remove",
        review_claims.claims_pass,
    ),
    "routes-unseen": Kind(
        Level.NOTE,
        "the routes are not in this file, and were not checked",
        "check them too",
        review_bypasses.routes_unseen,
    ),
    "path-not-normalized": Kind(
        Level.FINDING,
        "dot segments stay: the sidecar decides on a different path than servers use",
        "normalize_path: true",
        review_settings.path_not_normalized,
    ),
    "slashes-not-merged": Kind(
        Level.FINDING,
        "// stays, which is ambiguous to servers and which the sidecar rejects",
        "merge_slashes: true",
        review_settings.slashes_not_merged,
    ),
    "slashes-merged": Kind(
        Level.NOTE,
        "// becomes /, though a rule accepts double_slash",
        "merge_slashes: false",
        review_settings.slashes_merged,
    ),
    "escaped-slashes": Kind(
        Level.FINDING,
        "%2F and %5C stay, which are ambiguous to servers",
        "path_with_escaped_slashes_action: REJECT_REQUEST",
        review_settings.escaped_slashes,
    ),
    "escaped-slashes-refused": Kind(
        Level.NOTE,
        "%2F does not reach the sidecar, though a rule accepts encoded_slash",
        "path_with_escaped_slashes_action: KEEP_UNCHANGED",
        review_settings.escaped_slashes_refused,
    ),
    "underscores": Kind(
        Level.FINDING,
        "a client can send x_auth_subject, which some servers take for x-auth-subject",
        "headers_with_underscores_action: REJECT_REQUEST",
        review_settings.underscores,
    ),
    "client-address": Kind(
        Level.FINDING,
        "clients can set their address, and headers that only Envoy may set (x-envoy-*)",
        "use_remote_address: true",
        review_settings.client_address,
    ),
    "internal-trust": Kind(
        Level.FINDING,
        "public addresses count as internal, and may set headers that only Envoy may set (x-envoy-*)",
        "name private networks only",
        review_settings.internal_trust,
    ),
    "request-id": Kind(
        Level.NOTE,
        "clients choose the id of their requests, and can write into others' traces",
        "preserve_external_request_id: false",
        review_settings.request_id,
    ),
    "headers-too-short": Kind(
        Level.FINDING,
        "Envoy rejects requests with tokens that token.max_bytes allows",
        "raise it, or lower token.max_bytes",
        review_settings.headers_too_short,
    ),
    "written-behind": Kind(
        Level.FINDING,
        "a filter after ext_authz writes what the decision was based on, or what the sidecar wrote",
        "put it before ext_authz",
        review_settings.written_behind,
    ),
    "may-write-behind": Kind(
        Level.NOTE,
        "a program after ext_authz may write identity headers, or change the path",
        "review it, or put it before ext_authz",
        review_settings.may_write_behind,
    ),
    "routes-write": Kind(
        Level.FINDING,
        "a route overwrites the identity that the sidecar wrote",
        "use another name",
        review_settings.routes_write,
    ),
    "route-cache": Kind(
        Level.FINDING,
        "the route is chosen by an identity header before the sidecar has written it",
        "clear_route_cache: true",
        review_settings.route_cache,
    ),
    "error-status": Kind(
        Level.FINDING, "clients receive an error as success", "code: ServiceUnavailable", review_filter.error_status
    ),
    "over-http": Kind(
        Level.FINDING, "the sidecar speaks gRPC only", "grpc_service instead of http_service", review_filter.over_http
    ),
    "timeout-short": Kind(
        Level.FINDING,
        "Envoy gives up while the sidecar may still wait for a key (fetch.max_wait)",
        "raise timeout, or lower fetch.max_wait",
        review_filter.timeout_short,
    ),
    "body-sent": Kind(
        Level.NOTE,
        "requests are buffered until their bodies are complete, and the sidecar reads none",
        "leave with_request_body out",
        review_filter.body_sent,
    ),
    "body-too-long": Kind(
        Level.FINDING,
        "bodies of this length end in an error instead of a decision",
        "leave with_request_body out",
        review_filter.body_too_long,
    ),
    "headers-hidden": Kind(
        Level.FINDING,
        "the sidecar does not receive headers that it reads",
        "leave allowed_headers and disallowed_headers out",
        review_filter.headers_hidden,
    ),
    "mutations-refused": Kind(
        Level.FINDING,
        "Envoy does not let the sidecar change these headers: the client's stay, or requests fail",
        "decoder_header_mutation_rules as `authz envoy-config` prints them",
        review_filter.mutations_refused,
    ),
    "asks-elsewhere": Kind(
        Level.NOTE, "a route calls another service", "make sure that it is a sidecar too", review_filter.elsewhere
    ),
    "cluster-unseen": Kind(
        Level.NOTE,
        "the cluster of the filter is not in this file, and was not checked",
        "add the cluster of `authz envoy-config`",
        review_cluster.cluster_unseen,
    ),
    "over-http1": Kind(
        Level.FINDING,
        "the cluster speaks HTTP/1.1, and gRPC needs HTTP/2: no check is answered",
        "explicit_http_config: {http2_protocol_options: {}}",
        review_cluster.over_http1,
    ),
    "endpoints-missing": Kind(
        Level.FINDING,
        "the endpoints are not those of server.listen and server.workers",
        "use those of `authz envoy-config`",
        review_cluster.endpoints_missing,
    ),
    "breaker-low": Kind(
        Level.FINDING,
        "Envoy rejects requests while the sidecar has room for them (server.max_concurrent of each worker)",
        "raise it to that",
        review_cluster.breaker_low,
    ),
    "breaker-high": Kind(
        Level.NOTE,
        "Envoy sends checks that the sidecar can only reject, at half the cost of a decision",
        "lower it to server.max_concurrent of each worker",
        review_cluster.breaker_high,
    ),
    "in-plaintext": Kind(
        Level.FINDING,
        "the sidecar speaks TLS, the cluster does not",
        "the transport_socket of `authz envoy-config`",
        review_cluster.in_plaintext,
    ),
    "not-verified": Kind(
        Level.FINDING,
        "another service could answer instead of the sidecar",
        "trusted_ca and match_typed_subject_alt_names",
        review_cluster.not_verified,
    ),
    "no-health-check": Kind(
        Level.NOTE,
        "a sidecar without keys, or one that drains, still receives checks",
        "the health_checks of `authz envoy-config`",
        review_cluster.no_health_check,
    ),
}
