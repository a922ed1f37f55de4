"""The fragments of an Envoy configuration, as plain data: what the demo runs and what `envoy-config` prints.

Safe values are explicit even if they are Envoy's defaults. Each function takes an EnvoySettings; `derive` makes one
from the configuration of the sidecar. authz.tooling.envoy_config.comments explains each setting.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

V3: Final = "type.googleapis.com/envoy.extensions"
EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
MANAGER: Final = "envoy.filters.network.http_connection_manager"
HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

Fragment = dict[str, object]

_MAX_NAMES_IN_REGEX: Final = (
    5  # names in one expression: each is tried on every header, and Envoy's bound on its size is 100
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterTls:
    """Envoy's own PEM files for its calls to the sidecar, and the name that the sidecar's certificate must have."""

    server_name: str
    ca_file: str
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class EnvoyReceiver:
    """The sidecar's receiver at *address*, `host:port`; Envoy takes messages for it below the path *prefix*."""

    address: str
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """The settings of an Envoy in front of the sidecar.

    *endpoints* are `unix:/path` or `host:port`, one for each worker. *removed* are identity headers that are removed
    from clients' requests, *forwarded* other ones; *mutable* are expressions for all headers that the sidecar
    may write, None for no such rules. *max_requests* may be in flight to all endpoints together.
    """

    endpoints: tuple[str, ...]
    cluster: str = "authz"
    timeout_ms: int = 500
    failure_mode_allow: bool = False
    peer_certificate: bool = False
    raw_headers: bool = False
    metadata_namespaces: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    forwarded: tuple[str, ...] = ()
    mutable: tuple[str, ...] | None = None
    normalize_path: bool = True
    merge_slashes: bool = True
    escaped_slashes: str = "REJECT_REQUEST"
    underscores: str = "REJECT_REQUEST"
    trusted_hops: int = 0
    max_headers: int = 100
    max_headers_kb: int = 60
    max_requests: int = 256
    max_stream_seconds: int = 3600
    health_checks: bool = True
    tls: ClusterTls | None = None
    receiver: EnvoyReceiver | None = None


def connection_manager(envoy: EnvoySettings) -> Fragment:
    """Return keys of the HttpConnectionManager (`envoy.extensions.filters.network.http_connection_manager.v3`)."""
    settings: Fragment = {
        "normalize_path": envoy.normalize_path,
        "merge_slashes": envoy.merge_slashes,
        "path_with_escaped_slashes_action": envoy.escaped_slashes,
        "use_remote_address": True,
        "xff_num_trusted_hops": envoy.trusted_hops,
        "common_http_protocol_options": {
            "headers_with_underscores_action": envoy.underscores,
            "idle_timeout": "3600s",
            "max_stream_duration": f"{envoy.max_stream_seconds}s",
            "max_headers_count": envoy.max_headers,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 65_536,
            "initial_connection_window_size": 1_048_576,
        },
        "max_request_headers_kb": envoy.max_headers_kb,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "300s",
    }
    expressions = [any_spelling(name) for name in envoy.removed]
    groups = (
        envoy.forwarded[start : start + _MAX_NAMES_IN_REGEX]
        for start in range(0, len(envoy.forwarded), _MAX_NAMES_IN_REGEX)
    )
    expressions += ["|".join(map(any_spelling, group)) for group in groups]
    if expressions:
        matchers = [{"key_matcher": {"safe_regex": {"regex": expression}}} for expression in expressions]
        settings["early_header_mutation_extensions"] = [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": f"{V3}.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [{"remove_on_match": matcher} for matcher in matchers],
                },
            }
        ]
    settings["preserve_external_request_id"] = False
    return settings


def access_log() -> Fragment:
    """Return an entry of the connection manager's access_log: the client, the request, and the decision."""
    decision = {key: f"%DYNAMIC_METADATA({EXT_AUTHZ}:{key})%" for key in _METADATA_KEYS}
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": f"{V3}.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"omit_empty_values": True, "json_format": {**_LOGGED, **decision}},
        },
    }


def ext_authz_filter(envoy: EnvoySettings) -> Fragment:
    """Return the filter that calls the sidecar (`envoy.extensions.filters.http.ext_authz.v3.ExtAuthz`)."""
    settings: Fragment = {
        "@type": f"{V3}.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {
            "envoy_grpc": {"cluster_name": envoy.cluster},
            "timeout": seconds(envoy.timeout_ms),
        },
        "failure_mode_allow": envoy.failure_mode_allow,
        "status_on_error": {"code": "ServiceUnavailable"},
        "validate_mutations": True,
    }
    if envoy.mutable is not None:
        allowed = {"allow_expression": {"regex": f"^(?:{'|'.join(envoy.mutable)})$"}} if envoy.mutable else {}
        settings["decoder_header_mutation_rules"] = {"disallow_all": True, **allowed, "disallow_is_error": True}
    settings["include_peer_certificate"] = envoy.peer_certificate
    if envoy.raw_headers:
        settings["encode_raw_headers"] = True
    if envoy.metadata_namespaces:
        settings["metadata_context_namespaces"] = list(envoy.metadata_namespaces)
    return {"name": EXT_AUTHZ, "typed_config": {**settings, "stat_prefix": "authz"}}


def router() -> Fragment:
    """Return the entry of http_filters that must be the last."""
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{V3}.filters.http.router.v3.Router"}}


def cluster(envoy: EnvoySettings) -> Fragment:
    """Return the cluster that the filter calls: every worker of the sidecar."""
    settings: Fragment = {
        "name": envoy.cluster,
        "type": cluster_type(envoy.endpoints),
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": assignment(envoy.cluster, envoy.endpoints),
        "typed_extension_protocol_options": http_options(
            {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}}
        ),
        "circuit_breakers": {
            "thresholds": [{"max_requests": envoy.max_requests, "max_pending_requests": envoy.max_requests}]
        },
    }
    if envoy.health_checks:
        settings["health_checks"] = [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_interval": "0.25s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": "envoy.service.auth.v3.Authorization"},
            }
        ]
    if envoy.tls is not None:
        settings["transport_socket"] = _cluster_tls(envoy.tls)
    return settings


def upstream_cluster(name: str, addresses: tuple[str, ...]) -> Fragment:
    """Return a cluster that speaks HTTP/1.1 to a service at *addresses*, `host:port`."""
    return {
        "name": name,
        "type": cluster_type(addresses),
        "connect_timeout": "1s",
        "load_assignment": assignment(name, addresses),
        "typed_extension_protocol_options": http_options({"http_protocol_options": {}}, idle_timeout="4s"),
    }


def http_options(protocol: Mapping[str, object], *, idle_timeout: str | None = None) -> Fragment:
    """Return the typed_extension_protocol_options of a cluster that speaks *protocol*."""
    common = {"common_http_protocol_options": {"idle_timeout": idle_timeout}} if idle_timeout is not None else {}
    kind = {"@type": f"{V3}.upstreams.http.v3.HttpProtocolOptions"}
    return {HTTP_OPTIONS: {**kind, **common, "explicit_http_config": dict(protocol)}}


def assignment(name: str, addresses: tuple[str, ...]) -> Fragment:
    """Return the load_assignment of a cluster: each address is an endpoint, balanced per request."""
    endpoints = [{"endpoint": {"address": socket_address(address)}} for address in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def socket_address(address: str) -> Fragment:
    """Write `unix:/path` or `host:port` as Envoy does (`envoy.config.core.v3.Address`)."""
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def cluster_type(addresses: tuple[str, ...]) -> str:
    """Return STRICT_DNS if a host must be resolved, else STATIC."""
    hosts = [address.rpartition(":")[0].strip("[]") for address in addresses if not address.startswith("unix:")]
    return "STATIC" if all(map(is_ip, hosts)) else "STRICT_DNS"


def is_ip(host: str) -> bool:
    """Return whether *host* is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def any_spelling(name: str) -> str:
    """Return an RE2 expression for a header's name with each `-` or `_`: some servers do not distinguish them."""
    return re.sub("[-_]", "[-_]", literal(name))


def literal(name: str) -> str:
    """Return an RE2 expression for a header's exact name."""
    return re.sub(r"[.*+^$|]", r"\\\g<0>", name)


def seconds(milliseconds: int) -> str:
    """Format a duration as in protobuf's JSON."""
    return f"{milliseconds / 1000:g}s"


def _cluster_tls(tls: ClusterTls) -> Fragment:
    kind = "IP_ADDRESS" if is_ip(tls.server_name) else "DNS"
    common: Fragment = {}
    if tls.cert_file is not None and tls.key_file is not None:
        files = {"certificate_chain": {"filename": tls.cert_file}, "private_key": {"filename": tls.key_file}}
        common["tls_certificates"] = [files]
    common["validation_context"] = {
        "trusted_ca": {"filename": tls.ca_file},
        "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": tls.server_name}}],
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{V3}.transport_sockets.tls.v3.UpstreamTlsContext",
            **({"sni": tls.server_name} if kind == "DNS" else {}),
            "common_tls_context": common,
        },
    }


_LOGGED: Final = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%TRACE_ID%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "protocol": "%PROTOCOL%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ:PATH)%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "milliseconds": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "upstream": "%UPSTREAM_HOST%",
}
_METADATA_KEYS: Final = ("decision", "reason", "decision_id", "rule", "issuer")
