"""Read a given Envoy configuration, YAML or JSON, by key, in either of protobuf's spellings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from authz.config.problems import KeyPath


@dataclass(frozen=True, slots=True)
class Node:
    """A *value* and its *path*; a missing value is None, at the path that it would have."""

    value: object
    path: KeyPath = ()

    def get(self, way: str) -> Node:
        """Follow the keys between the dots of *way*, each as `snake_case` or `lowerCamelCase`."""
        node = self
        for key in way.split("."):
            node = node.key(key)
        return node

    def key(self, key: str) -> Node:
        """Return the value at one *key*, which may contain dots."""
        value = self.value if isinstance(self.value, dict) else {}
        camel = re.sub("_([a-z])", lambda match: match[1].upper(), key)
        name = camel if camel in value and key not in value else key
        return Node(value.get(name), (*self.path, name))

    def each(self) -> Iterator[Node]:
        """Yield the items of a list, or the values of a mapping."""
        items: Iterator[tuple[str | int, object]] = iter(())
        if isinstance(self.value, list):
            items = iter(enumerate(self.value))
        elif isinstance(self.value, dict):
            items = iter(self.value.items())
        yield from (Node(value, (*self.path, step)) for step, value in items)

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it."""
        yield self
        for child in self.each():
            yield from child.walk()

    @property
    def there(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    @property
    def text(self) -> str:
        """The value as text; empty if it is not text."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def is_true(self) -> bool:
        """Whether the value is true, or a protobuf wrapper of true."""
        return (self.value.get("value") if isinstance(self.value, dict) else self.value) is True

    @property
    def kind(self) -> str:
        """The last word of the value's `@type`, such as ExtAuthz; Go's filter is called Config."""
        words = self.key("@type").text.split(".")
        return "Golang" if "golang" in words else words[-1]

    def number(self, default: float) -> float:
        """Return the value, or the value in a protobuf wrapper, as a number."""
        value = self.value.get("value") if isinstance(self.value, dict) else self.value
        return value if isinstance(value, int | float) and not isinstance(value, bool) else default

    def seconds(self, default: float) -> float:
        """Return the value as a duration (`0.5s`)."""
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s", self.text)
        return float(match[1]) if match else default


@dataclass(frozen=True, slots=True)
class Filter:
    """One entry of http_filters. *config* is its typed_config, without a matcher around it (*conditional*)."""

    node: Node
    name: str
    kind: str
    config: Node
    conditional: bool

    @classmethod
    def read(cls, node: Node) -> Filter:
        """Read one entry."""
        config, conditional = node.get("typed_config"), False
        if config.kind == "ExtensionWithMatcher":
            config, conditional = config.get("extension_config.typed_config"), True
        kind = config.kind
        if kind == "TypedStruct":
            kind, config = config.get("type_url").text.rpartition(".")[2], config.get("value")
        return cls(node, node.get("name").text, kind, config, conditional)

    @property
    def asks(self) -> bool:
        """Whether this is the ext_authz filter."""
        return self.kind == "ExtAuthz" or self.name == "envoy.filters.http.ext_authz"


@dataclass(frozen=True, slots=True)
class Route:
    """A route to an upstream. *levels* may have settings for it, the nearest first; *clusters* is None if unknown."""

    node: Node
    levels: tuple[Node, ...]
    clusters: frozenset[str] | None

    @property
    def match(self) -> Node:
        """Which requests take this route."""
        return self.levels[-3].get("match")

    def settings(self, name: str) -> Iterator[Node]:
        """Yield the settings of the levels for the filter *name*, the nearest first."""
        for level in self.levels:
            found = level.get("typed_per_filter_config").key(name)
            if found.there:
                yield found

    def switched_off(self, name: str) -> Node | None:
        """Return the setting that switches the filter *name* off here, or None if it is on."""
        nearest = next(self.settings(name), None)
        if nearest is None:
            return None
        config = nearest.get("config") if nearest.kind == "FilterConfig" else nearest
        return nearest if nearest.get("disabled").is_true or config.get("disabled").is_true else None


@dataclass(frozen=True)
class Manager:
    """One HttpConnectionManager at *node*, with its routes (*route_config*) if the file has them."""

    node: Node
    route_config: Node
    filters: tuple[Filter, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", tuple(map(Filter.read, self.node.get("http_filters").each())))

    @cached_property
    def asking(self) -> Filter | None:
        """The filter that calls the sidecar, if there is one."""
        return next((each for each in self.filters if each.asks), None)

    @cached_property
    def behind(self) -> tuple[Filter, ...]:
        """The filters that a request passes after the check, without the router."""
        asking = self.asking
        place = self.filters.index(asking) if asking is not None else len(self.filters)
        return tuple(each for each in self.filters[place + 1 :] if each.kind != "Router")

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """All routes in the file."""
        config = self.route_config
        return tuple(
            found
            for host in config.get("virtual_hosts").each()
            for route in host.get("routes").each()
            for found in _read_route(route, (route, host, config))
        )

    @cached_property
    def clusters(self) -> frozenset[str] | None:
        """The clusters that requests are routed to; None if the file does not say."""
        if not self.route_config.there and self.node.get("rds").there:
            return None
        named = [route.clusters for route in self.routes]
        return None if None in named else frozenset().union(*(each for each in named if each is not None))


def find_managers(root: Node) -> tuple[Manager, ...]:
    """Return every connection manager: of a bootstrap, a listener, or the fragments that `envoy-config` prints."""
    discovered = {node.get("name").text: node for node in root.walk() if node.kind == "RouteConfiguration"}

    def find_routes(manager: Node) -> Node:
        written = manager.get("route_config")
        return written if written.there else discovered.get(manager.get("rds.route_config_name").text, written)

    return tuple(
        Manager(node, find_routes(node))
        for node in root.walk()
        if node.kind == "HttpConnectionManager" or node.path[-1:] == ("http_connection_manager",)
    )


def find_bootstraps(root: Node) -> tuple[Node, ...]:
    """Return the file itself, and the bootstraps in a dump of Envoy's admin interface (`/config_dump`)."""
    return (root, *(node.get("bootstrap") for node in root.walk() if node.kind == "BootstrapConfigDump"))


def find_clusters(root: Node) -> dict[str, Node]:
    """Return every cluster by its name: of a bootstrap, of discovery (CDS), or of a dump of Envoy's admin interface."""
    lists = (root.get("clusters"), *(each.get("static_resources.clusters") for each in find_bootstraps(root)))
    named = [cluster for each in lists for cluster in each.each()]
    typed = (node for node in root.walk() if node.kind == "Cluster")
    return {cluster.get("name").text: cluster for cluster in (*typed, *named)}


def matches(matcher: Node, text: str) -> bool:
    """Return whether a StringMatcher (`envoy.type.matcher.v3`) matches *text*, a header's name in lower case."""
    if (pattern := matcher.get("safe_regex.regex")).there:
        return fits(pattern, text)
    fold = matcher.get("ignore_case").is_true
    for key, holds in (
        ("exact", str.__eq__),
        ("prefix", str.startswith),
        ("suffix", str.endswith),
        ("contains", str.__contains__),
    ):
        if (wanted := matcher.get(key)).there:
            return bool(holds(text, wanted.text.lower() if fold else wanted.text))
    return False


def fits(pattern: Node, text: str) -> bool:
    """Return whether a regular expression matches all of *text*; one that Python cannot compile matches nothing."""
    try:
        return re.fullmatch(pattern.text, text) is not None
    except re.error:
        return False


def _read_route(route: Node, levels: tuple[Node, ...]) -> Iterator[Route]:
    action = route.get("route")
    if not action.there:  # a redirect or a direct response of Envoy: there is no upstream
        return
    weighted = list(action.get("weighted_clusters.clusters").each())
    for cluster in weighted:
        yield Route(cluster, (cluster, *levels), _names(cluster.get("name")))
    if not weighted:
        yield Route(route, levels, _names(action.get("cluster")))


def _names(name: Node) -> frozenset[str] | None:
    return frozenset({name.text}) if name.text else None
