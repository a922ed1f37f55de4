"""Complete files: the fragments in one file to paste from, or a bootstrap to start Envoy with."""

from __future__ import annotations

from collections.abc import Iterable

from authz.tooling.envoy_config.comments import COMMENTS
from authz.tooling.envoy_config.fragments import (
    MANAGER,
    V3,
    EnvoySettings,
    Fragment,
    access_log,
    cluster,
    connection_manager,
    ext_authz_filter,
    router,
    socket_address,
    upstream_cluster,
)
from authz.tooling.envoy_config.receiver import receiver_clusters, receiver_filters, receiver_routes
from authz.tooling.envoy_config.yaml_text import comment, write_yaml

ADMIN = "127.0.0.1:9901"


def fragments(settings: EnvoySettings) -> Fragment:
    """Return the settings, the filters and the clusters, each under its key in Envoy's configuration."""
    received = (
        {"route_config": {"virtual_hosts": [{"routes": routes}]}} if (routes := receiver_routes(settings)) else {}
    )
    return {
        "http_connection_manager": {
            **connection_manager(settings),
            "access_log": [access_log()],
            "http_filters": [*receiver_filters(settings), ext_authz_filter(settings)],
            **received,
        },
        "clusters": [cluster(settings), *receiver_clusters(settings)],
    }


def bootstrap(settings: EnvoySettings, *, listen: str, upstream: str, admin: str = ADMIN) -> Fragment:
    """Return an `envoy.config.bootstrap.v3.Bootstrap`: requests to *listen* are checked, then sent to *upstream*."""
    listener = {
        "name": "front",
        "address": socket_address(listen),
        "per_connection_buffer_limit_bytes": 32_768,
        "filter_chains": [{"filters": [{"name": MANAGER, "typed_config": _front_manager(settings)}]}],
    }
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": f"{V3}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": 10_000,
        },
    }
    return {
        "node": {"id": "front", "cluster": "front"},
        "admin": {"address": socket_address(admin)},
        "static_resources": {
            "listeners": [listener],
            "clusters": [
                cluster(settings),
                *receiver_clusters(settings),
                upstream_cluster("upstream", (upstream,)),
            ],
        },
        "overload_manager": {"resource_monitors": [monitor]},
    }


def _front_manager(settings: EnvoySettings) -> Fragment:
    """Return the connection manager that checks each request, and sends it to the upstream."""
    return {
        "@type": f"{V3}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "AUTO",
        **connection_manager(settings),
        "access_log": [access_log()],
        "http_filters": [*receiver_filters(settings), ext_authz_filter(settings), router()],
        "route_config": {
            "name": "front",
            "virtual_hosts": [
                {
                    "name": "front",
                    "domains": ["*"],
                    "routes": [
                        *receiver_routes(settings),
                        {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "15s"}},
                    ],
                }
            ],
        },
    }


def write(data: Fragment, notes: Iterable[str]) -> str:
    """Write *data* as YAML, with *notes* at its head and a comment for each setting."""
    head = "".join(f"{line}\n" for remark in notes for line in comment(remark))
    return f"{head}\n{write_yaml(data, COMMENTS)}"
