"""The fields of Envoy's messages that the review knows: of ExtAuthz, of its parts, and of what may stand around it.

A field that is not here is reported, because its effect on requests is unknown. A test compares the table with
the descriptors inside the newest Envoy that the tests run, and with those of xds-protos.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from authz.tooling.envoy_config.reading import Node

WRAPPER_PER_ROUTE: Final = frozenset({"ExtensionWithMatcherPerRoute", "CompositePerRoute", "FilterChainConfigPerRoute"})
"""Per-route messages of filters that contain other filters, and decide whether those run."""

_EXT_AUTHZ: Final = "envoy.extensions.filters.http.ext_authz.v3"
_GRPC: Final = "envoy.config.core.v3.GrpcService"
_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3"

MESSAGES: Final[Mapping[str, str]] = {
    "ExtAuthz": f"{_EXT_AUTHZ}.ExtAuthz",
    "ExtAuthzPerRoute": f"{_EXT_AUTHZ}.ExtAuthzPerRoute",
    "CheckSettings": f"{_EXT_AUTHZ}.CheckSettings",
    "BufferSettings": f"{_EXT_AUTHZ}.BufferSettings",
    "HttpService": f"{_EXT_AUTHZ}.HttpService",
    "AuthorizationRequest": f"{_EXT_AUTHZ}.AuthorizationRequest",
    "AuthorizationResponse": f"{_EXT_AUTHZ}.AuthorizationResponse",
    "GrpcService": _GRPC,
    "EnvoyGrpc": f"{_GRPC}.EnvoyGrpc",
    "HeaderMutationRules": "envoy.config.common.mutation_rules.v3.HeaderMutationRules",
    "RuntimeFractionalPercent": "envoy.config.core.v3.RuntimeFractionalPercent",
    "RuntimeFeatureFlag": "envoy.config.core.v3.RuntimeFeatureFlag",
    "HttpFilter": f"{_HCM}.HttpFilter",
    "FilterConfig": "envoy.config.route.v3.FilterConfig",
}
"""The messages below, by their full names."""

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "ExtAuthz": {
        "grpc_service": "GrpcService",
        "http_service": "HttpService",
        "transport_api_version": "",
        "failure_mode_allow": "",
        "failure_mode_allow_header_add": "",
        "with_request_body": "BufferSettings",
        "clear_route_cache": "",
        "clear_route_cache_headers": "",
        "status_on_error": "",
        "validate_mutations": "",
        "metadata_context_namespaces": "",
        "typed_metadata_context_namespaces": "",
        "route_metadata_context_namespaces": "",
        "route_typed_metadata_context_namespaces": "",
        "filter_enabled": "RuntimeFractionalPercent",
        "filter_enabled_metadata": "",
        "deny_at_disable": "RuntimeFeatureFlag",
        "include_peer_certificate": "",
        "stat_prefix": "",
        "bootstrap_metadata_labels_key": "",
        "allowed_headers": "",
        "disallowed_headers": "",
        "include_tls_session": "",
        "charge_cluster_response_stats": "",
        "encode_raw_headers": "",
        "decoder_header_mutation_rules": "HeaderMutationRules",
        "enable_dynamic_metadata_ingestion": "",
        "filter_metadata": "",
        "emit_filter_state_stats": "",
        "max_denied_response_body_bytes": "",
        "enforce_response_header_limits": "",
        "shadow_mode": "",
        "emit_client_span": "",
    },
    "ExtAuthzPerRoute": {"disabled": "", "check_settings": "CheckSettings"},
    "CheckSettings": {
        "context_extensions": "",
        "disable_request_body_buffering": "",
        "with_request_body": "BufferSettings",
        "grpc_service": "GrpcService",
        "http_service": "HttpService",
        "emit_client_span": "",
    },
    "BufferSettings": {"max_request_bytes": "", "allow_partial_message": "", "pack_as_bytes": ""},
    "HttpService": {
        "server_uri": "",
        "path_prefix": "",
        "path_override": "",
        "authorization_request": "AuthorizationRequest",
        "authorization_response": "AuthorizationResponse",
        "retry_policy": "",
    },
    "AuthorizationRequest": {"allowed_headers": "", "headers_to_add": ""},
    "AuthorizationResponse": {
        "allowed_upstream_headers": "",
        "allowed_upstream_headers_to_append": "",
        "allowed_client_headers": "",
        "allowed_client_headers_on_success": "",
        "dynamic_metadata_from_headers": "",
    },
    "GrpcService": {
        "envoy_grpc": "EnvoyGrpc",
        "google_grpc": "",
        "timeout": "",
        "initial_metadata": "",
        "retry_policy": "",
    },
    "EnvoyGrpc": {
        "cluster_name": "",
        "authority": "",
        "retry_policy": "",
        "max_receive_message_length": "",
        "skip_envoy_headers": "",
    },
    "HeaderMutationRules": {
        "allow_all_routing": "",
        "allow_envoy": "",
        "disallow_system": "",
        "disallow_all": "",
        "allow_expression": "",
        "disallow_expression": "",
        "disallow_is_error": "",
    },
    "RuntimeFractionalPercent": {"default_value": "", "runtime_key": ""},
    "RuntimeFeatureFlag": {"default_value": "", "runtime_key": ""},
    "HttpFilter": {"name": "", "typed_config": "", "config_discovery": "", "is_optional": "", "disabled": ""},
    "FilterConfig": {"config": "", "is_optional": "", "disabled": ""},
}
"""The fields of each message, with the message in a field if that is listed here too."""


def unknown_fields(node: Node, message: str) -> Iterator[Node]:
    """Yield what stands in *node*, a *message*, and is none of its fields."""
    field_names = FIELDS[message]
    for key in node.value if isinstance(node.value, dict) else ():
        part = field_names.get(snake_case(key))
        if key != "@type" and part is None:
            yield node.key(key)
        elif part:
            yield from unknown_fields(node.key(key), part)


def snake_case(key: str) -> str:
    """Write a `lowerCamelCase` name of protobuf's JSON as the field is named."""
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key)
