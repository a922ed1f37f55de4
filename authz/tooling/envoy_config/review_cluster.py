"""The cluster that the filter calls: whether it is the sidecar, with all workers and enough capacity."""

from __future__ import annotations

from collections.abc import Iterator

from authz.tooling.envoy_config.context import Context, Location, addresses
from authz.tooling.envoy_config.fragments import HTTP_OPTIONS
from authz.tooling.envoy_config.reading import Node

_DEFAULT_REQUESTS = 1024


def cluster_unseen(context: Context) -> Iterator[Location]:
    """The filter names a cluster that is not in this file, or speaks to the sidecar without one."""
    for _, _, ext_authz in context.checks:
        service = ext_authz.config.get("grpc_service")
        cluster_name = service.get("envoy_grpc.cluster_name")
        if service.exists and cluster_name.text not in context.clusters:
            yield Location(cluster_name if cluster_name.exists else service, cluster_name.text)


def over_http1(context: Context) -> Iterator[Location]:
    """GRPC needs HTTP/2."""
    for cluster in _asked(context):
        options = cluster.get("typed_extension_protocol_options").key(HTTP_OPTIONS)
        options_of_http2 = (
            options.get("explicit_http_config.http2_protocol_options"),
            options.get("auto_config"),
            cluster.get("http2_protocol_options"),
        )
        if not any(option.exists for option in options_of_http2):
            yield Location(options)


def endpoints_missing(context: Context) -> Iterator[Location]:
    """Sockets of workers that are never asked. Of TCP addresses only the ports are compared: names have many forms."""
    for cluster in _asked(context):
        if missing := sorted(context.wanted_endpoints - set(addresses(cluster))):
            yield Location(cluster.get("load_assignment"), f"not among them: {', '.join(missing)}")


def endpoints_foreign(context: Context) -> Iterator[Location]:
    """Endpoints beside the sidecar's own: what answers there may allow everything."""
    for cluster in _asked(context):
        there = set(addresses(cluster))
        if context.wanted_endpoints <= there and (foreign := sorted(there - context.wanted_endpoints)):
            yield Location(cluster.get("load_assignment"), ", ".join(foreign))


def breaker_low(context: Context) -> Iterator[Location]:
    """Envoy rejects requests while the sidecar has room for them."""
    for location, limit in _limits(context):
        if limit < context.requirements.concurrent:
            yield Location(location, f"{limit:.0f}; the sidecar accepts {context.requirements.concurrent}")


def breaker_high(context: Context) -> Iterator[Location]:
    """Envoy sends checks that the sidecar can only reject."""
    for location, limit in _limits(context):
        if limit > context.requirements.concurrent:
            yield Location(location, f"{limit:.0f}; the sidecar accepts {context.requirements.concurrent}")


def _limits(context: Context) -> Iterator[tuple[Node, float]]:
    """Yield each limit on the requests in flight, at its place in the file even if it is missing."""
    for cluster in _asked(context):
        thresholds = [
            threshold
            for threshold in cluster.get("circuit_breakers.thresholds").children()
            if threshold.get("priority").text in {"", "DEFAULT"}
        ]
        first = thresholds[0] if thresholds else cluster.get("circuit_breakers")
        for key in ("max_requests", "max_pending_requests"):
            yield first.get(key), first.get(key).number(_DEFAULT_REQUESTS)


def in_plaintext(context: Context) -> Iterator[Location]:
    """The sidecar speaks TLS, and the cluster does not."""
    for cluster in _asked(context):
        if context.requirements.tls and not cluster.get("transport_socket").exists:
            yield Location(cluster.get("transport_socket"))


def not_verified(context: Context) -> Iterator[Location]:
    """Another service could answer in place of the sidecar."""
    for cluster in _asked(context):
        tls = cluster.get("transport_socket.typed_config.common_tls_context")
        dynamic = (tls.get("validation_context_sds_secret_config"), tls.get("combined_validation_context"))
        if cluster.get("transport_socket").exists and not any(source.exists for source in dynamic):
            validation = tls.get("validation_context")
            if not validation.get("trusted_ca").exists:
                yield Location(validation.get("trusted_ca"))
            elif not validation.get("match_typed_subject_alt_names").exists:
                yield Location(
                    validation.get("match_typed_subject_alt_names"), "any certificate of that authority is accepted"
                )


def no_health_check(context: Context) -> Iterator[Location]:
    """A sidecar without keys, or one that drains, still receives checks."""
    for cluster in _asked(context):
        if not cluster.get("health_checks").exists:
            yield Location(cluster.get("health_checks"))


def _asked(context: Context) -> Iterator[Node]:
    names = {ext_authz.cluster for _, _, ext_authz in context.checks}
    yield from (cluster for name, cluster in context.clusters.items() if name in names)
