"""Envoy in front of the sidecar's receiver of logout tokens and security events: its routes, filters and cluster.

What issuers send has no access token, and is signed: its requests are not checked. Envoy brings TLS, a limit of each
sender, a bound of the body and the access log. The ext_authz filter could ask the sidecar about these requests too
(`with_request_body`); it does not, because a Check changes nothing, and an accepted event would be a denial with status
200, which an Envoy that fails open passes on to the upstream instead.
"""

from __future__ import annotations

from typing import Final

from authz.tooling.envoy_config.fragments import (
    EXT_AUTHZ,
    V3,
    EnvoyReceiver,
    EnvoySettings,
    Fragment,
    assignment,
    cluster_type,
    http_options,
)

PATHS: Final = ("/backchannel-logout", "/events")
DEFAULT_PREFIX: Final = "/authz"
MAX_CONNECTIONS: Final = 8  # of Envoy to the receiver: messages that are verified at one time, beside the checks
_MAX_PENDING: Final = 256
_MAX_BODY_BYTES: Final = 98_304  # as the receiver's own (authz.admin.receivers)
_BURST, _PER_SECOND = 1000, 100  # of one address
_ROUTE_FILTER: Final = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
_RATE_LIMIT, _BODY = "authz.receiver.rate_limit", "authz.receiver.body"


def receiver_filters(envoy: EnvoySettings) -> list[Fragment]:
    """Return entries of http_filters that are off, but on the routes of the receiver; in front of all others."""
    if envoy.receiver is None:
        return []
    limited: Fragment = {
        "@type": f"{V3}.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "authz_receiver",
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
        "max_dynamic_descriptors": 10_000,
        "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
        "rate_limits": [{"actions": [{"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}]}],
        "descriptors": [
            {
                "entries": [{"key": "masked_remote_address"}],
                "token_bucket": {"max_tokens": _BURST, "tokens_per_fill": _PER_SECOND, "fill_interval": "1s"},
            }
        ],
    }
    body: Fragment = {"@type": f"{V3}.filters.http.buffer.v3.Buffer", "max_request_bytes": _MAX_BODY_BYTES}
    return [
        {"name": _RATE_LIMIT, "disabled": True, "typed_config": limited},
        {"name": _BODY, "disabled": True, "typed_config": body},
    ]


def receiver_routes(envoy: EnvoySettings) -> list[Fragment]:
    """Return routes of a virtual host, in front of others: what is posted goes to the receiver, the rest gets 405."""
    if envoy.receiver is None:
        return []
    posted = {"name": ":method", "string_match": {"exact": "POST"}}
    routes: list[Fragment] = []
    for path in PATHS:
        public = f"{envoy.receiver.prefix}{path}"
        routes += [
            {
                "match": {"path": public, "headers": [posted]},
                "route": {"cluster": _name(envoy), "prefix_rewrite": path, "timeout": "10s"},
                "typed_per_filter_config": _route_overrides(),
            },
            {
                "match": {"path": public},
                "direct_response": {"status": 405},
                "response_headers_to_add": [{"header": {"key": "allow", "value": "POST"}}],
                "typed_per_filter_config": _route_overrides(),
            },
        ]
    return routes


def _route_overrides() -> Fragment:
    """Return which filters are switched on and off on these routes."""
    return {
        EXT_AUTHZ: {"@type": f"{V3}.filters.http.ext_authz.v3.ExtAuthzPerRoute", "disabled": True},
        **{name: {"@type": _ROUTE_FILTER, "config": {}} for name in (_RATE_LIMIT, _BODY)},
    }


def receiver_clusters(envoy: EnvoySettings) -> list[Fragment]:
    """Return the cluster of the receiver, if there is one."""
    return [] if envoy.receiver is None else [_cluster(envoy.receiver, _name(envoy))]


def _name(envoy: EnvoySettings) -> str:
    return f"{envoy.cluster}-receiver"


def _cluster(receiver: EnvoyReceiver, name: str) -> Fragment:
    return {
        "name": name,
        "type": cluster_type((receiver.address,)),
        "connect_timeout": "1s",
        "load_assignment": assignment(name, (receiver.address,)),
        "typed_extension_protocol_options": http_options({"http_protocol_options": {}}),
        "circuit_breakers": {
            "thresholds": [{"max_connections": MAX_CONNECTIONS, "max_pending_requests": _MAX_PENDING}]
        },
    }
