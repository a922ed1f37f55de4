"""How Envoy passes logout tokens and security events to the sidecar's receiver, which checks them itself."""

from __future__ import annotations

from collections.abc import Iterator

from authz.admin.server import MAX_CONNECTIONS
from authz.tooling.envoy_config.context import Context, Location

_DEFAULT_CONNECTIONS = 1024


def receiver_checked(context: Context) -> Iterator[Location]:
    """A route to the receiver on which the filter runs: what issuers send has no access token."""
    for manager, chain, ext_authz in context.checks:
        for route in manager.routes if chain is manager.main else ():
            if context.leads_to_receiver(route) and route.switched_off(ext_authz.name) is None:
                yield Location(route.node)


def receiver_not_reached(context: Context) -> Iterator[Location]:
    """No route leads to the receiver, as far as routes are in the file."""
    if context.requirements.receiver_port is None:
        return
    complete = [manager for manager, _ in context.protected_managers if manager.routes and not manager.unseen]
    if complete and not any(
        context.leads_to_receiver(route) for manager in context.managers for route in manager.routes
    ):
        yield Location(complete[0].route_configs[0])


def receiver_crowded(context: Context) -> Iterator[Location]:
    """More connections than the receiver holds: each further one ends the oldest, and what it was sending."""
    for name in sorted(context.receiver_clusters):
        cluster = context.clusters[name]
        limits = [
            limit_node.get("max_connections") for limit_node in cluster.get("circuit_breakers.thresholds").children()
        ]
        limit = min((limit_node.number(_DEFAULT_CONNECTIONS) for limit_node in limits), default=_DEFAULT_CONNECTIONS)
        if limit > MAX_CONNECTIONS:
            node = next((limit_node for limit_node in limits if limit_node.exists), cluster.get("circuit_breakers"))
            yield Location(node, f"{limit:.0f}; the receiver holds {MAX_CONNECTIONS}")
