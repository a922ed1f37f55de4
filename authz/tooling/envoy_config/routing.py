"""The routes of an Envoy configuration, and their settings for one filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from authz.tooling.envoy_config.fields import WRAPPER_PER_ROUTE
from authz.tooling.envoy_config.reading import Node


@dataclass(frozen=True, slots=True)
class Route:
    """A route to an upstream. *levels* may have settings for it, the nearest first; *clusters* is None if unknown."""

    node: Node
    route: Node
    levels: tuple[Node, ...]
    clusters: frozenset[str] | None

    @property
    def match(self) -> Node:
        """Which requests take this route."""
        return self.route.get("match")

    def settings(self, name: str) -> Iterator[Node]:
        """Yield the settings of the levels for the filter *name*, the nearest first."""
        for level in self.levels:
            settings = level.get("typed_per_filter_config").key(name)
            if settings.exists:
                yield settings.unwrapped

    def overrides(self, name: str) -> Iterator[Node]:
        """Yield the same without a FilterConfig around it; an empty FilterConfig has no settings for the filter."""
        for settings in self.settings(name):
            config = settings.get("config").unwrapped if settings.kind == "FilterConfig" else settings
            if config.exists:
                yield config

    def switched_off(self, name: str) -> Node | None:
        """Return what switches the filter *name* off here, or replaces what decides whether it runs; None if it is on.

        Envoy itself follows the nearest level that names the filter (`FilterConfig.disabled`); the filter follows the
        nearest level with settings of its own (`ExtAuthzPerRoute.disabled`), which an empty FilterConfig does not hide.
        """
        nearest = next(self.settings(name), None)
        if nearest is not None and nearest.kind == "FilterConfig" and nearest.get("disabled").is_true:
            return nearest
        own = next(self.overrides(name), None)
        if own is not None and (own.get("disabled").is_true or own.kind in WRAPPER_PER_ROUTE):
            return own
        return None


def find_routes(config: Node) -> Iterator[Route]:
    """Yield every route of one RouteConfiguration that leads to an upstream; weighted clusters are routes each."""
    for host in config.get("virtual_hosts").children():
        routes = list(host.get("routes").children())
        matched = [node for node in host.get("matcher").walk() if node.kind in {"Route", "RouteList"}]
        for node in matched:
            routes += [node] if node.kind == "Route" else node.get("routes").children()
        for route in routes:
            yield from _read_route(route, (route, host, config))


def find_unseen(config: Node) -> Iterator[Node]:
    """Yield what names routes of one RouteConfiguration that come from elsewhere, or are made by an extension."""
    yield from (node for node in [config.get("vhds")] if node.exists)
    for host in config.get("virtual_hosts").children():
        for level in (host, *host.get("routes").children()):
            yield from (node for node in [level.get("route_specifiers")] if node.exists)


def _read_route(route: Node, levels: tuple[Node, ...]) -> Iterator[Route]:
    action = route.get("route")
    if not action.exists:  # a redirect or an answer of Envoy's own: nothing lies behind it
        return
    weighted = list(action.get("weighted_clusters.clusters").children())
    for cluster in weighted:
        yield Route(cluster, route, (cluster, *levels), _names(cluster.get("name")))
    if not weighted:
        yield Route(route, route, levels, _names(action.get("cluster")))


def _names(name: Node) -> frozenset[str] | None:
    return frozenset({name.text}) if name.text else None
