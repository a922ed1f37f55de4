"""Why each setting matters, by its keys: the comment that is printed above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COMMENTS: Final[Mapping[str, str]] = {
    "http_connection_manager": "In the typed_config of your envoy.filters.network.http_connection_manager.",
    "http_connection_manager.http_filters": "In front of your other filters, the last of which is the router.",
    "http_connection_manager.route_config": (
        "First in your virtual host's routes: what issuers post to the sidecar has no access token, and is not checked."
    ),
    "max_dynamic_descriptors": "Only on the routes of the receiver: a limit for each address that sends.",
    "max_request_bytes": "Only on the routes of the receiver: complete bodies, and none that it would refuse.",
    "clusters": "In static_resources.clusters.",
    "static_resources.clusters": "",
    "admin": "For this host only: anyone who reaches it can read everything, and change what Envoy does.",
    "per_connection_buffer_limit_bytes": "Bounds what a slow reader can hold in memory.",
    "normalize_path": (
        "One spelling of each path, before anything reads it: the sidecar decides on what the upstream will see."
    ),
    "use_remote_address": (
        "The client's address is that of the connection, or the one that the trusted proxies in front of Envoy report; "
        "x-envoy-* headers, which only Envoy may set, are not accepted from clients."
    ),
    "max_stream_duration": (
        "A token is checked once, when a request begins: no WebSocket and no gRPC stream outlives it by more than this."
    ),
    "headers_with_underscores_action": "Some servers take x_auth_subject for x-auth-subject.",
    "max_request_headers_kb": "Above token.max_bytes: what is longer, the sidecar refuses with a reason.",
    "request_headers_timeout": "A client that sends its request byte by byte holds nothing for long.",
    "early_header_mutation_extensions": (
        "What only the sidecar may say is taken out of every request before any filter or route sees it, in every "
        "spelling; and so is what clients claim of another host, path or method."
    ),
    "preserve_external_request_id": "A request id of the client's own would let it write into others' traces.",
    "json_format.path": "Without its query, where tokens may stand.",
    "json_format.decision": "Why: the decision_id that the client got, and what only the operator learns.",
    "grpc_service.timeout": (
        "Above all that a check may wait for: new keys, introspection, PDPs. No retry_policy: a question that was not "
        "answered in time would only add to the load."
    ),
    "failure_mode_allow": "Fail closed: while no sidecar answers, no request passes.",
    "validate_mutations": "An answer that HTTP does not allow is an error, and goes nowhere.",
    "decoder_header_mutation_rules": (
        "The sidecar may write these headers and no others: no mistake of its own reaches the route or the host."
    ),
    "include_peer_certificate": (
        "Tokens that are bound to a client certificate (RFC 8705) can be verified only if the sidecar sees it; needed "
        "where the listener asks clients for one."
    ),
    "encode_raw_headers": "Bytes beyond UTF-8 are shown as they came.",
    "metadata_context_namespaces": "What other filters found out, for the sidecar to see.",
    "lb_policy": "Request by request, to the endpoint with the least to do.",
    "common_lb_config": (
        "With no endpoint healthy, fail at once: asking one that does not serve only takes until the timeout."
    ),
    "connection_keepalive": "Notices a peer that is gone without a word.",
    "circuit_breakers": (
        "At what the sidecar takes (server.max_concurrent of each worker; its receiver a few messages). What is too "
        "much Envoy turns away at no cost; a refusal costs the sidecar half of a decision, and far above its capacity "
        "would do little else."
    ),
    "health_checks": "A sidecar that has no keys yet, or that drains, says so: it is asked no more.",
    "transport_socket": "The files are Envoy's own: its client certificate, and the authority of the sidecar's.",
    "overload_manager": "Sheds load before the kernel ends the process.",
}
