"""The input of a review: an Envoy configuration, parsed once, and the sidecar's requirements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from authz.tooling.envoy_config.chains import Chain, Filter, Manager, find_managers
from authz.tooling.envoy_config.reading import Node, find_clusters
from authz.tooling.envoy_config.requirements import EnvoyRequirements
from authz.tooling.envoy_config.routing import Route

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_DYNAMIC_TYPES = ("dynamic_forward_proxy", "aggregate", "original_dst")


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
        """The connection managers with the filter, each with that filter."""
        return tuple((manager, self.sidecar_filter(manager.main)) for manager in self.managers if manager.has_ext_authz)

    @property
    def checks(self) -> Iterator[tuple[Manager, Chain, Filter]]:
        """Yield every filter that calls the sidecar: in a main chain, a chain of upgrades, or inside another filter."""
        for manager in self.managers:
            for chain in manager.chains:
                if chain.ext_authz:
                    sidecar_filter = self.sidecar_filter(chain)
                    for filter_ in chain.ext_authz:
                        if filter_ is sidecar_filter or (filter_.conditional and filter_.node == sidecar_filter.node):
                            yield manager, chain, filter_

    def sidecar_filter(self, chain: Chain) -> Filter:
        """The filter of *chain* that asks the sidecar: of several the first whose cluster has its endpoints."""
        candidates = (filter_ for filter_ in chain.ext_authz if filter_.cluster in self.sidecar_clusters)
        return next(candidates, chain.ext_authz[0])

    @property
    def sidecar_clusters(self) -> frozenset[str]:
        """The clusters with all endpoints of the sidecar, as far as they are in the file."""
        wanted = self.wanted_endpoints
        return frozenset(name for name, cluster in self.clusters.items() if wanted <= set(addresses(cluster)))

    @property
    def wanted_endpoints(self) -> frozenset[str]:
        """Where the sidecar is. Of TCP addresses only the ports: names have many forms."""
        endpoints = self.requirements.endpoints
        return frozenset(
            endpoint if endpoint.startswith("unix:") else endpoint.rpartition(":")[2] for endpoint in endpoints
        )

    @property
    def protected_clusters(self) -> frozenset[str] | None:
        """The clusters that only checked requests should reach, and others with their hosts; None if not written."""
        by_manager = [manager.clusters for manager, _ in self.protected_managers]
        if None in by_manager:
            return None
        protected = (
            frozenset().union(*(clusters for clusters in by_manager if clusters is not None)) - self.receiver_clusters
        )
        hosts = {host for name in protected for host in hosts_of(self.clusters.get(name))}
        on_same_hosts = {name for name, cluster in self.clusters.items() if hosts.intersection(hosts_of(cluster))}
        return (protected | on_same_hosts) - self.receiver_clusters

    @property
    def receiver_clusters(self) -> frozenset[str]:
        """The clusters of the sidecar's receiver: its port, on the hosts of the sidecar and nowhere else."""
        port, endpoints = self.requirements.receiver_port, self.requirements.endpoints
        hosts = {host for name in self.sidecar_clusters for host in _host_names(self.clusters[name])}
        if any(
            endpoint.startswith("unix:") or endpoint.rpartition(":")[0].strip("[]") in _LOOPBACK
            for endpoint in endpoints
        ):
            hosts |= _LOOPBACK
        wanted = {f"{host}:{port}" for host in hosts}
        return frozenset(
            name
            for name, endpoint in self.clusters.items()
            if (addresses := set(hosts_of(endpoint))) and addresses <= wanted
        )

    def leads_to_receiver(self, route: Route) -> bool:
        """Return whether requests on *route* reach the sidecar's receiver and nothing else, not even copies of them."""
        copied = any(
            level.get(key).exists
            for level in (route.route, *route.levels)
            for key in ("route.request_mirror_policies", "request_mirror_policies")
        )
        return bool(route.clusters) and (route.clusters or frozenset()) <= self.receiver_clusters and not copied

    def leads_to_protected(self, manager: Manager) -> bool:
        """Return whether requests of *manager* may reach what only checked requests should reach."""
        protected = self.protected_clusters
        if not self.protected_managers or protected is None or manager.clusters is None:
            return True
        return bool(manager.clusters & protected) or any(map(self._is_dynamic, manager.clusters))

    def may_pass_unchecked(self, manager: Manager) -> bool:
        """Return whether requests may pass all of *manager* without a check."""
        if not all(chain.ext_authz for chain in manager.chains):
            return True
        return any(
            ext_authz.node.get("disabled").is_true
            or ext_authz.conditional
            or ext_authz.config.get("failure_mode_allow").is_true
            or ext_authz.config.get("shadow_mode").is_true
            or not checks_every_request(ext_authz.config)
            for checked, _, ext_authz in self.checks
            if checked is manager
        )

    def _is_dynamic(self, name: str) -> bool:
        """Return whether a cluster finds its hosts from the request, or in other clusters."""
        cluster = self.clusters.get(name, Node(None))
        kind = f"{cluster.get('type').text} {cluster.get('cluster_type.name').text}".lower()
        return any(word in kind for word in _DYNAMIC_TYPES)


def checks_every_request(config: Node) -> bool:
    """Return whether the filter checks every request (`filter_enabled`, `filter_enabled_metadata`)."""
    share = config.get("filter_enabled.default_value")
    denominators = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
    unit = share.get("denominator")
    denominator = denominators.get(unit.text) or {1: 10_000, 2: 1_000_000}.get(int(unit.number(0)), 100)
    complete = not config.get("filter_enabled").exists or share.get("numerator").number(0) >= denominator
    return complete and not config.get("filter_enabled_metadata").exists


def addresses(cluster: Node) -> Iterator[str]:
    """Yield the endpoints of a cluster: `unix:/path`, or the port alone."""
    for address in _addresses(cluster):
        if (pipe := address.get("pipe.path")).exists:
            yield f"unix:{pipe.text}"
        elif (port := address.get("socket_address.port_value")).exists:
            yield str(port.value)


def hosts_of(cluster: Node | None) -> Iterator[str]:
    """Yield the endpoints of a cluster as they are written: `unix:/path`, or `host:port`."""
    for address in _addresses(cluster or Node(None)):
        socket = address.get("socket_address")
        yield (
            f"{socket.get('address').text}:{socket.get('port_value').value}"
            if socket.exists
            else f"unix:{address.get('pipe.path').text}"
        )


def _host_names(cluster: Node) -> Iterator[str]:
    return (host.rpartition(":")[0] for host in hosts_of(cluster) if not host.startswith("unix:"))


def _addresses(cluster: Node) -> Iterator[Node]:
    for locality in cluster.get("load_assignment.endpoints").children():
        for endpoint in locality.get("lb_endpoints").children():
            yield endpoint.get("endpoint.address")
