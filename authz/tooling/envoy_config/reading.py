"""Read a given Envoy configuration, YAML or JSON, by key, in either of protobuf's spellings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from authz.config.problems import KeyPath

_TRUE: Final = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})


@dataclass(frozen=True, slots=True)
class Node:
    """A *value* and its *path*; a missing value is None, at the path that it would have."""

    value: object
    path: KeyPath = ()

    def get(self, path: str) -> Node:
        """Follow the keys between the dots of *path*, each as `snake_case` or `lowerCamelCase`."""
        node = self
        for key in path.split("."):
            node = node.key(key)
        return node

    def key(self, key: str) -> Node:
        """Return the value at one *key*, which may contain dots."""
        value = self.value if isinstance(self.value, dict) else {}
        camel = re.sub("_([a-z])", lambda match: match[1].upper(), key)
        name = camel if camel in value and key not in value else key
        return Node(value.get(name), (*self.path, name))

    def children(self) -> Iterator[Node]:
        """Yield the items of a list, or the values of a mapping."""
        items: Iterator[tuple[str | int, object]] = iter(())
        if isinstance(self.value, list):
            items = iter(enumerate(self.value))
        elif isinstance(self.value, dict):
            items = iter(self.value.items())
        yield from (Node(value, (*self.path, step)) for step, value in items)

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, each without a TypedStruct around it."""
        node = self.unwrapped
        yield node
        for child in node.children():
            yield from child.walk()

    @property
    def exists(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    @property
    def text(self) -> str:
        """The value as text; empty if it is not text."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def is_true(self) -> bool:
        """Whether Envoy reads the value as true: `yes`, `On` and `"true"` too, for yaml-cpp reads YAML 1.1."""
        value = self._plain
        return value is True or (isinstance(value, str) and value in _TRUE)

    @property
    def kind(self) -> str:
        """The last word of the value's `@type`, such as ExtAuthz; Go's filter is called Config."""
        words = self.key("@type").text.split(".")
        return "Golang" if "golang" in words else words[-1]

    @property
    def unwrapped(self) -> Node:
        """The message in a TypedStruct (`xds.type.v3`, `udpa.type.v1`), with its own `@type`; any other value as is."""
        if self.kind != "TypedStruct":
            return self
        inner = self.get("value")
        fields = inner.value if isinstance(inner.value, dict) else {}
        return Node({**fields, "@type": self.get("type_url").text}, inner.path)

    def number(self, default: float) -> float:
        """Return the value as a number; a wrapper or, as protobuf's JSON allows, quotes may stand around it."""
        value = self._plain
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            return int(value)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else default

    @property
    def _plain(self) -> object:
        """The value without a wrapper of protobuf's."""
        return self.value.get("value") if isinstance(self.value, dict) else self.value

    def seconds(self, default: float) -> float:
        """Return the value as a duration (`0.5s`)."""
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s", self.text)
        return float(match[1]) if match else default


def find_bootstraps(root: Node) -> tuple[Node, ...]:
    """Return the file itself, and the bootstraps in a dump of Envoy's admin interface (`/config_dump`)."""
    return (root, *(node.get("bootstrap") for node in root.walk() if node.kind == "BootstrapConfigDump"))


def find_clusters(root: Node) -> dict[str, Node]:
    """Return every cluster by its name: of a bootstrap, of discovery (CDS), or of a dump of Envoy's admin interface."""
    lists = (
        root.get("clusters"),
        *(clusters_list.get("static_resources.clusters") for clusters_list in find_bootstraps(root)),
    )
    clusters = [cluster for clusters_list in lists for cluster in clusters_list.children()]
    typed = (node for node in root.walk() if node.kind == "Cluster")
    return {cluster.get("name").text: cluster for cluster in (*typed, *clusters)}


def matches(matcher: Node, text: str) -> bool:
    """Return whether a StringMatcher (`envoy.type.matcher.v3`) matches *text*, a header's name in lower case."""
    if (pattern := matcher.get("safe_regex.regex")).exists:
        return matches_regex(pattern, text)
    fold = matcher.get("ignore_case").is_true
    for key, holds in (
        ("exact", str.__eq__),
        ("prefix", str.startswith),
        ("suffix", str.endswith),
        ("contains", str.__contains__),
    ):
        if (wanted := matcher.get(key)).exists:
            return bool(holds(text, wanted.text.lower() if fold else wanted.text))
    return False


def matches_regex(pattern: Node, text: str) -> bool:
    """Return whether a regular expression matches all of *text*; one that Python cannot compile matches nothing."""
    try:
        return re.fullmatch(pattern.text, text) is not None
    except re.error:
        return False
