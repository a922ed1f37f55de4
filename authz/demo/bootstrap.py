"""Envoy's bootstrap for the demo and for tests: the fragments of `authz envoy-config`, in front of an upstream.

Two settings are more permissive than those fragments, to show that the sidecar does not rely on Envoy: ambiguous path
encodings are not rejected, and identity headers of clients are not removed early.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from authz.tooling.envoy_config import fragments
from authz.tooling.envoy_config.fragments import (
    EXT_AUTHZ,
    MANAGER,
    V3,
    EnvoySettings,
    assignment,
    http_options,
    router,
    socket_address,
)

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of the listener; with a client CA, a client must present a certificate that this CA signed."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The settings of one Envoy. Addresses are `host:port`; port 0 lets Envoy choose.

    `sidecars` are `unix:/path` or `host:port`, the endpoints that Envoy balances requests over. `route_context` gives
    the context_extensions of each path prefix. `timeout_ms` bounds one Check.
    """

    upstream: str
    sidecars: tuple[str, ...]
    listen: str = f"{LOOPBACK}:0"
    admin: str = f"{LOOPBACK}:0"
    timeout_ms: int = 500
    failure_mode_allow: bool = False
    encode_raw_headers: bool = False
    normalize_path: bool = True
    metadata_namespaces: tuple[str, ...] = ()
    route_context: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tls: Tls | None = None
    trace_collector: str | None = None
    max_headers: int = 1000  # more than the sidecar accepts
    max_request_headers_kb: int = 60
    websockets: bool = False


def write_bootstrap(proxy: Proxy, path: Path) -> Path:
    """Write the bootstrap of this proxy as JSON, to a file whose name ends in `.json`."""
    path.write_text(json.dumps(bootstrap(proxy), indent=2) + "\n", encoding="utf-8")
    return path


def bootstrap(proxy: Proxy) -> dict[str, object]:
    """Return the complete `envoy.config.bootstrap.v3.Bootstrap`."""
    clusters = [fragments.upstream_cluster("upstream", (proxy.upstream,)), fragments.cluster(_envoy_settings(proxy))]
    if proxy.trace_collector is not None:
        clusters.append(_collector(proxy.trace_collector))
    return {
        "admin": {"address": socket_address(proxy.admin)},
        "static_resources": {"listeners": [_listener(proxy)], "clusters": clusters},
    }


def _envoy_settings(proxy: Proxy) -> EnvoySettings:
    return EnvoySettings(
        endpoints=proxy.sidecars,
        timeout_ms=proxy.timeout_ms,
        failure_mode_allow=proxy.failure_mode_allow,
        peer_certificate=True,
        raw_headers=proxy.encode_raw_headers,
        metadata_namespaces=proxy.metadata_namespaces,
        normalize_path=proxy.normalize_path,
        merge_slashes=False,
        escaped_slashes="KEEP_UNCHANGED",
        underscores="ALLOW",
        max_headers=proxy.max_headers,
        max_headers_kb=proxy.max_request_headers_kb,
        health_checks=False,  # tests restart the sidecar, and send requests at once
    )


def _listener(proxy: Proxy) -> dict[str, object]:
    chain: dict[str, object] = {"filters": [_connection_manager(proxy)]}
    if proxy.tls is not None:
        chain["transport_socket"] = _downstream_tls(proxy.tls)
    return {"name": "front", "address": socket_address(proxy.listen), "filter_chains": [chain]}


def _connection_manager(proxy: Proxy) -> dict[str, object]:
    settings: dict[str, object] = {
        "@type": f"{V3}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "AUTO",
        **fragments.connection_manager(_envoy_settings(proxy)),
        "upgrade_configs": [{"upgrade_type": "websocket"}] if proxy.websockets else [],
        "http_filters": [fragments.ext_authz_filter(_envoy_settings(proxy)), router()],
        "route_config": {
            "name": "front",
            "virtual_hosts": [{"name": "front", "domains": ["*"], "routes": _routes(proxy)}],
            # For the operator: the upstream's log can contain the decision id. Overwritten: no client can forge it.
            "request_headers_to_add": [_metadata_header("reason"), _metadata_header("decision_id")],
        },
    }
    if proxy.trace_collector is not None:
        settings["tracing"] = {
            "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                    "grpc_service": {"envoy_grpc": {"cluster_name": "traces"}, "timeout": "0.25s"},
                    "service_name": "front",
                },
            },
        }
    return {"name": MANAGER, "typed_config": settings}


def _routes(proxy: Proxy) -> list[dict[str, object]]:
    # The longest prefix first: Envoy takes the first route that matches.
    routes = [
        {
            **_route(prefix),
            "typed_per_filter_config": {
                EXT_AUTHZ: {
                    "@type": f"{V3}.filters.http.ext_authz.v3.ExtAuthzPerRoute",
                    "check_settings": {"context_extensions": dict(context)},
                },
            },
        }
        for prefix, context in sorted(proxy.route_context.items(), reverse=True)
    ]
    return [*routes, _route("/")]


def _route(prefix: str) -> dict[str, object]:
    return {"match": {"prefix": prefix}, "route": {"cluster": "upstream"}}


def _metadata_header(key: str) -> dict[str, object]:
    header = {"key": f"x-authz-{key.replace('_', '-')}", "value": f"%DYNAMIC_METADATA({EXT_AUTHZ}:{key})%"}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _downstream_tls(tls: Tls) -> dict[str, object]:
    files = {"certificate_chain": {"filename": str(tls.cert_file)}, "private_key": {"filename": str(tls.key_file)}}
    common: dict[str, object] = {"tls_certificates": [files], "alpn_protocols": ["h2", "http/1.1"]}
    if tls.client_ca_file is not None:
        common["validation_context"] = {"trusted_ca": {"filename": str(tls.client_ca_file)}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{V3}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": tls.client_ca_file is not None,
        },
    }


def _collector(address: str) -> dict[str, object]:
    return {
        "name": "traces",
        "type": fragments.cluster_type((address,)),
        "connect_timeout": "0.25s",
        "load_assignment": assignment("traces", (address,)),
        "typed_extension_protocol_options": http_options({"http2_protocol_options": {}}, idle_timeout="30s"),
    }
