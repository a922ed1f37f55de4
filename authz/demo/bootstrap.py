"""Envoy's bootstrap: a listener whose every request is judged by the sidecar before it reaches the upstream.

What is safe is written out even where it is Envoy's default: fail closed, one spelling of each path, and nothing taken
from the client that only the operator may say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
_V3 = "type.googleapis.com/envoy.extensions"
_METADATA = "envoy.filters.http.ext_authz"


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of the listener; with a client CA, a client must show a certificate that this CA signed."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """What may differ between one Envoy and another. Addresses are `host:port`; port 0 lets Envoy choose.

    `sidecars` are `unix:/path` or `host:port`, each an endpoint that Envoy balances over, request by request.
    `route_context` gives the context_extensions of each path prefix. `timeout_ms` bounds one Check.
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
    max_request_headers_kb: int = 60
    websockets: bool = False


def write_bootstrap(proxy: Proxy, path: Path) -> Path:
    """Write the bootstrap of this proxy as JSON, to a file whose name ends in `.json`."""
    path.write_text(json.dumps(bootstrap(proxy), indent=2) + "\n", encoding="utf-8")
    return path


def bootstrap(proxy: Proxy) -> dict[str, object]:
    """The whole of `envoy.config.bootstrap.v3.Bootstrap`."""
    clusters = [
        _cluster("upstream", (proxy.upstream,), http={"explicit_http_config": {"http_protocol_options": {}}}),
        _cluster("authz", proxy.sidecars, http={"explicit_http_config": {"http2_protocol_options": {}}}),
    ]
    if proxy.trace_collector is not None:
        http2: dict[str, object] = {"explicit_http_config": {"http2_protocol_options": {}}}
        clusters.append(_cluster("traces", (proxy.trace_collector,), http=http2))
    return {
        "admin": {"address": _address(proxy.admin)},
        "static_resources": {"listeners": [_listener(proxy)], "clusters": clusters},
    }


def ext_authz_filter(proxy: Proxy) -> dict[str, object]:
    """The HTTP filter that asks the sidecar (`envoy.extensions.filters.http.ext_authz.v3.ExtAuthz`)."""
    return {
        "name": _METADATA,
        "typed_config": {
            "@type": f"{_V3}.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "authz"},
                "timeout": f"{proxy.timeout_ms / 1000}s",
            },
            # Fail closed: while no sidecar answers, nobody passes.
            "failure_mode_allow": proxy.failure_mode_allow,
            "status_on_error": {"code": "ServiceUnavailable"},
            # An answer with a header that HTTP does not allow is an error, not a request to the upstream.
            "validate_mutations": True,
            # Tokens that are bound to a client certificate (RFC 8705) can be judged only where the sidecar sees it.
            "include_peer_certificate": True,
            "encode_raw_headers": proxy.encode_raw_headers,
            "metadata_context_namespaces": list(proxy.metadata_namespaces),
        },
    }


def _listener(proxy: Proxy) -> dict[str, object]:
    chain: dict[str, object] = {"filters": [_connection_manager(proxy)]}
    if proxy.tls is not None:
        chain["transport_socket"] = _downstream_tls(proxy.tls)
    return {"name": "front", "address": _address(proxy.listen), "filter_chains": [chain]}


def _connection_manager(proxy: Proxy) -> dict[str, object]:
    settings: dict[str, object] = {
        "@type": f"{_V3}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "AUTO",
        # Dot segments are resolved before the sidecar judges, and the upstream gets that same path. Spellings that two
        # readers could take for different paths (%2F, //) stay as they came: the sidecar refuses them.
        "normalize_path": proxy.normalize_path,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "use_remote_address": True,
        "max_request_headers_kb": proxy.max_request_headers_kb,
        "upgrade_configs": [{"upgrade_type": "websocket"}] if proxy.websockets else [],
        "http_filters": [
            ext_authz_filter(proxy),
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_V3}.filters.http.router.v3.Router"}},
        ],
        "route_config": {
            "name": "front",
            "virtual_hosts": [{"name": "front", "domains": ["*"], "routes": _routes(proxy)}],
            # The operator's view: the upstream's log can name the decision. Overwritten: no client can forge it.
            "request_headers_to_add": [_verdict("reason"), _verdict("decision_id")],
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
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": settings}


def _routes(proxy: Proxy) -> list[dict[str, object]]:
    # The longest prefix first: Envoy takes the first route that matches.
    routes = [
        {
            **_route(prefix),
            "typed_per_filter_config": {
                _METADATA: {
                    "@type": f"{_V3}.filters.http.ext_authz.v3.ExtAuthzPerRoute",
                    "check_settings": {"context_extensions": dict(context)},
                },
            },
        }
        for prefix, context in sorted(proxy.route_context.items(), reverse=True)
    ]
    return [*routes, _route("/")]


def _route(prefix: str) -> dict[str, object]:
    return {"match": {"prefix": prefix}, "route": {"cluster": "upstream"}}


def _verdict(key: str) -> dict[str, object]:
    header = {"key": f"x-authz-{key.replace('_', '-')}", "value": f"%DYNAMIC_METADATA({_METADATA}:{key})%"}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _downstream_tls(tls: Tls) -> dict[str, object]:
    files = {"certificate_chain": {"filename": str(tls.cert_file)}, "private_key": {"filename": str(tls.key_file)}}
    common: dict[str, object] = {"tls_certificates": [files], "alpn_protocols": ["h2", "http/1.1"]}
    if tls.client_ca_file is not None:
        common["validation_context"] = {"trusted_ca": {"filename": str(tls.client_ca_file)}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_V3}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": tls.client_ca_file is not None,
        },
    }


def _cluster(name: str, addresses: tuple[str, ...], *, http: Mapping[str, object]) -> dict[str, object]:
    endpoints = [{"endpoint": {"address": _address(address)}} for address in addresses]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_V3}.upstreams.http.v3.HttpProtocolOptions",
                # Shorter than what the embedded servers grant, so that no request meets a connection as it closes.
                "common_http_protocol_options": {"idle_timeout": "30s"},
                **http,
            },
        },
    }


def _address(address: str) -> dict[str, object]:
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
