"""The cluster that the filter asks: whether it is the sidecar, all of it, and may ask as much as it must."""

from __future__ import annotations

from collections.abc import Iterator

from authz.tooling.envoy_config.context import Scene, Spot
from authz.tooling.envoy_config.fragments import HTTP_OPTIONS
from authz.tooling.envoy_config.reading import Node

_DEFAULT_REQUESTS = 1024


def cluster_unseen(scene: Scene) -> Iterator[Spot]:
    """The filter names a cluster that is not in this file, or speaks to the sidecar without one."""
    for _, asking in scene.fronts:
        service = asking.config.get("grpc_service")
        named = service.get("envoy_grpc.cluster_name")
        if service.there and named.text not in scene.clusters:
            yield Spot(named if named.there else service, named.text)


def over_http1(scene: Scene) -> Iterator[Spot]:
    """GRPC needs HTTP/2."""
    for cluster in _asked(scene):
        options = cluster.get("typed_extension_protocol_options").key(HTTP_OPTIONS)
        ways = (
            options.get("explicit_http_config.http2_protocol_options"),
            options.get("auto_config"),
            cluster.get("http2_protocol_options"),
        )
        if not any(way.there for way in ways):
            yield Spot(options)


def endpoints_missing(scene: Scene) -> Iterator[Spot]:
    """Sockets of workers that are never asked. Of TCP addresses only the ports are compared: names have many forms."""
    for cluster in _asked(scene):
        there = set(_addresses(cluster))
        wanted = {
            address if address.startswith("unix:") else address.rpartition(":")[2] for address in scene.needs.endpoints
        }
        if missing := sorted(wanted - there):
            yield Spot(cluster.get("load_assignment"), f"not among them: {', '.join(missing)}")


def breaker_low(scene: Scene) -> Iterator[Spot]:
    """Envoy turns requests away while the sidecar has room for them."""
    for spot, limit in _limits(scene):
        if limit < scene.needs.concurrent:
            yield Spot(spot, f"{limit:.0f}; the sidecar takes {scene.needs.concurrent}")


def breaker_high(scene: Scene) -> Iterator[Spot]:
    """Envoy asks while the sidecar can only refuse."""
    for spot, limit in _limits(scene):
        if limit > scene.needs.concurrent:
            yield Spot(spot, f"{limit:.0f}; the sidecar takes {scene.needs.concurrent}")


def _limits(scene: Scene) -> Iterator[tuple[Node, float]]:
    """Yield each limit on the requests that may be under way, where it stands or would stand."""
    for cluster in _asked(scene):
        thresholds = [
            each
            for each in cluster.get("circuit_breakers.thresholds").each()
            if each.get("priority").text in {"", "DEFAULT"}
        ]
        first = thresholds[0] if thresholds else cluster.get("circuit_breakers")
        for key in ("max_requests", "max_pending_requests"):
            yield first.get(key), first.get(key).number(_DEFAULT_REQUESTS)


def in_plaintext(scene: Scene) -> Iterator[Spot]:
    """The sidecar speaks TLS, and the cluster does not."""
    for cluster in _asked(scene):
        if scene.needs.tls and not cluster.get("transport_socket").there:
            yield Spot(cluster.get("transport_socket"))


def not_verified(scene: Scene) -> Iterator[Spot]:
    """Whoever sits on the way could answer in the sidecar's place."""
    for cluster in _asked(scene):
        tls = cluster.get("transport_socket.typed_config.common_tls_context")
        dynamic = (tls.get("validation_context_sds_secret_config"), tls.get("combined_validation_context"))
        if cluster.get("transport_socket").there and not any(each.there for each in dynamic):
            context = tls.get("validation_context")
            if not context.get("trusted_ca").there:
                yield Spot(context.get("trusted_ca"))
            elif not context.get("match_typed_subject_alt_names").there:
                yield Spot(context.get("match_typed_subject_alt_names"), "any certificate of that authority will do")


def no_health_check(scene: Scene) -> Iterator[Spot]:
    """A sidecar without keys, or one that drains, is asked all the same."""
    for cluster in _asked(scene):
        if not cluster.get("health_checks").there:
            yield Spot(cluster.get("health_checks"))


def _asked(scene: Scene) -> Iterator[Node]:
    names = {asking.config.get("grpc_service.envoy_grpc.cluster_name").text for _, asking in scene.fronts}
    yield from (cluster for name, cluster in scene.clusters.items() if name in names)


def _addresses(cluster: Node) -> Iterator[str]:
    for locality in cluster.get("load_assignment.endpoints").each():
        for endpoint in locality.get("lb_endpoints").each():
            address = endpoint.get("endpoint.address")
            if (pipe := address.get("pipe.path")).there:
                yield f"unix:{pipe.text}"
            yield str(address.get("socket_address.port_value").value)
