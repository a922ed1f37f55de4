"""The input of a review: an Envoy configuration, parsed once, and the sidecar's requirements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from authz.tooling.envoy_config.reading import Filter, Manager, Node, find_clusters, find_managers
from authz.tooling.envoy_config.requirements import EnvoyRequirements


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the configuration, and a detail about it."""

    node: Node
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that a check may need."""

    root: Node
    requirements: EnvoyRequirements
    managers: tuple[Manager, ...]
    clusters: Mapping[str, Node]

    @classmethod
    def of(cls, root: Node, requirements: EnvoyRequirements) -> Context:
        """Parse *root*."""
        return cls(root=root, requirements=requirements, managers=find_managers(root), clusters=find_clusters(root))

    @property
    def protected_managers(self) -> tuple[tuple[Manager, Filter], ...]:
        """The connection managers with the filter, each with its filter."""
        return tuple((manager, manager.asking) for manager in self.managers if manager.asking is not None)

    @property
    def protected_clusters(self) -> frozenset[str] | None:
        """The clusters that only checked requests should reach; None if the file does not say."""
        named = [manager.clusters for manager, _ in self.protected_managers]
        return None if None in named else frozenset().union(*(each for each in named if each is not None))

    def lets_by(self, manager: Manager) -> bool:
        """Return whether requests may pass *manager* without a check."""
        asking = manager.asking
        if asking is None or asking.node.get("disabled").is_true or asking.conditional:
            return True
        config = asking.config
        return config.get("failure_mode_allow").is_true or not enabled_always(config)


def enabled_always(config: Node) -> bool:
    """Return whether the filter checks every request (`filter_enabled`, `filter_enabled_metadata`)."""
    share = config.get("filter_enabled.default_value")
    of = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}.get(share.get("denominator").text, 100)
    asked = not config.get("filter_enabled").there or share.get("numerator").number(0) >= of
    return asked and not config.get("filter_enabled_metadata").there
