"""The chains of HTTP filters of an Envoy configuration, at any place, and the ext_authz filters in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from authz.tooling.envoy_config.reading import Node
from authz.tooling.envoy_config.routing import Route, find_routes, find_unseen


@dataclass(frozen=True, slots=True)
class Filter:
    """One HTTP filter. *config* is its typed_config; *node* is the entry of http_filters that it stands in.

    It is *conditional* if it stands inside another filter that decides whether it runs. It is *seen* if its settings
    are in the file.
    """

    node: Node
    name: str
    kind: str
    config: Node
    conditional: bool = False
    seen: bool = True

    @property
    def is_ext_authz(self) -> bool:
        """Whether this is an ext_authz filter."""
        return self.kind == "ExtAuthz"

    @property
    def cluster(self) -> str:
        """The name of the cluster that an ext_authz filter calls."""
        return self.config.get("grpc_service.envoy_grpc.cluster_name").text


def read_filters(entry: Node, discovered: Mapping[str, Node]) -> Iterator[Filter]:
    """Yield the filter of one *entry* of http_filters, or each ext_authz filter inside it.

    A filter may stand inside a matcher (ExtensionWithMatcher), a Composite or a FilterChainConfig. *discovered* are
    settings that are configured by discovery (ECDS) and are in the file all the same.
    """
    name = entry.get("name").text
    config, in_file = entry.get("typed_config").unwrapped, True
    if not config.exists and (source := entry.get("config_discovery")).exists:
        discovered_config, default = discovered.get(name), source.get("default_config").unwrapped
        types = {
            type_url.value.rpartition(".")[2]
            for type_url in source.get("type_urls").children()
            if isinstance(type_url.value, str)
        }
        config = discovered_config if discovered_config is not None else default
        if discovered_config is None:
            kind = "ExtAuthz" if "ExtAuthz" in types or "ext_authz" in name else config.kind
            yield Filter(entry, name, kind, config, seen=False)
            return
    kinds = [(node, _kind(node)) for node in config.walk()]
    inside = [node for node, kind in kinds if kind == "ExtAuthz" and node.path != config.path]
    for node in inside:
        yield Filter(entry, name, "ExtAuthz", node, conditional=True, seen=in_file)
    if not inside:
        if config.kind == "ExtensionWithMatcher":
            config = config.get("extension_config.typed_config").unwrapped
        yield Filter(entry, name, _kind(config), config, seen=in_file)


@dataclass(frozen=True)
class Chain:
    """The filters at *node* that requests pass: all requests of a manager, or those for an *upgrade*."""

    node: Node
    filters: tuple[Filter, ...]
    upgrade: str = ""

    @cached_property
    def ext_authz(self) -> tuple[Filter, ...]:
        """The ext_authz filters, in their order."""
        return tuple(filter_ for filter_ in self.filters if filter_.is_ext_authz)

    def before(self, ext_authz: Filter) -> tuple[Filter, ...]:
        """The filters that a request passes before the check."""
        return self.filters[: self.filters.index(ext_authz)]

    def after(self, ext_authz: Filter) -> tuple[Filter, ...]:
        """The filters that a request passes after the check, the router aside."""
        later = self.filters[self.filters.index(ext_authz) + 1 :]
        return tuple(filter_ for filter_ in later if filter_.kind != "Router" and not filter_.is_ext_authz)


@dataclass(frozen=True)
class Manager:
    """One HttpConnectionManager at *node*, with the chains and routes that the file has of it."""

    node: Node
    chains: tuple[Chain, ...]
    route_configs: tuple[Node, ...]
    unseen: tuple[Node, ...]

    @property
    def main(self) -> Chain:
        """The chain of requests that are not upgraded, and of upgrades without a chain of their own."""
        return self.chains[0]

    @cached_property
    def has_ext_authz(self) -> bool:
        """Whether requests that are not upgraded pass an ext_authz filter."""
        return bool(self.main.ext_authz)

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """Every route that is written here."""
        return tuple(route for config in self.route_configs for route in find_routes(config))

    @cached_property
    def clusters(self) -> frozenset[str] | None:
        """The clusters that requests are routed to; None if they are not all in the file."""
        by_route = [route.clusters for route in self.routes]
        if self.unseen or None in by_route:
            return None
        return frozenset().union(*(clusters for clusters in by_route if clusters is not None))


def find_managers(root: Node) -> tuple[Manager, ...]:
    """Return every connection manager: of a bootstrap, a listener, or the fragments that `envoy-config` prints."""
    nodes = list(root.walk())
    route_configs = {node.get("name").text: node for node in nodes if node.kind == "RouteConfiguration"}
    extensions = {
        node.get("name").text: node.get("typed_config").unwrapped
        for node in nodes
        if node.kind == "TypedExtensionConfig"
    }
    managers = [
        node for node in nodes if node.kind == "HttpConnectionManager" or node.path[-1:] == ("http_connection_manager",)
    ]
    managers += [node.get("config") for node in nodes if node.kind == "EnvoyMobileHttpConnectionManager"]
    return tuple(_read_manager(node, route_configs, extensions) for node in managers)


def _read_manager(node: Node, route_configs: Mapping[str, Node], extensions: Mapping[str, Node]) -> Manager:
    def chain(filters: Node, upgrade: str = "") -> Chain:
        return Chain(
            filters, tuple(f for entry in filters.children() for f in read_filters(entry, extensions)), upgrade
        )

    upgrades = [
        chain(upgrade.get("filters"), upgrade.get("upgrade_type").text)
        for upgrade in node.get("upgrade_configs").children()
        if list(upgrade.get("filters").children())
    ]
    seen, unseen = _read_routes(node, route_configs)
    return Manager(node, (chain(node.get("http_filters")), *upgrades), seen, unseen)


def _read_routes(manager: Node, route_configs: Mapping[str, Node]) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Return the route configurations that are here, and what names those that are not."""
    seen: list[Node] = []
    unseen: list[Node] = []
    if (inline_config := manager.get("route_config")).exists:
        seen.append(inline_config)
    if (source := manager.get("rds")).exists:
        route_config = route_configs.get(source.get("route_config_name").text)
        (seen if route_config is not None else unseen).append(route_config if route_config is not None else source)
    if (scoped := manager.get("scoped_routes")).exists:
        scopes = list(scoped.get("scoped_route_configurations_list.scoped_route_configurations").children())
        for scope in scopes:
            route_config = route_configs.get(scope.get("route_configuration_name").text)
            inline = scope.get("route_configuration")
            (seen if inline.exists or route_config is not None else unseen).append(
                inline if inline.exists or route_config is None else route_config
            )
        if not scopes:
            unseen.append(scoped)
    unseen += [node for config in seen for node in find_unseen(config)]
    return tuple(seen), tuple(unseen)


def _kind(config: Node) -> str:
    """The kind of an HTTP filter; the network filter of the same name is another one."""
    kind = config.kind
    return "NetworkExtAuthz" if kind == "ExtAuthz" and ".network." in config.key("@type").text else kind
