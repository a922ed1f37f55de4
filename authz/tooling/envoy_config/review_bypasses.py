"""Ways by which a request reaches an upstream without a decision of the sidecar."""

from __future__ import annotations

from collections.abc import Iterator

from authz.config.address import TcpAddress
from authz.tooling.envoy_config.context import Context, Location, enabled_always
from authz.tooling.envoy_config.reading import Manager, Node, find_bootstraps, matches

_CACHES = frozenset({"CacheConfig", "CacheV2Config"})
_SAFE_ADMIN = frozenset({"127.0.0.1", "::1", "localhost"})


def not_checked(context: Context) -> Iterator[Location]:
    """A connection manager without the filter that routes to protected clusters, or to unknown ones."""
    for manager in context.managers:
        if manager.asking is None and _leads_to_protected(manager, context):
            yield Location(manager.node.get("http_filters"))


def other_listener(context: Context) -> Iterator[Location]:
    """A connection manager without the filter that routes elsewhere."""
    for manager in context.managers:
        if manager.asking is None and not _leads_to_protected(manager, context):
            to = ", ".join(sorted(manager.clusters or ())) or "no cluster"
            yield Location(manager.node.get("http_filters"), f"it leads to {to}")


def nothing_found(context: Context) -> Iterator[Location]:
    """No connection manager at all: nothing could be checked."""
    if not context.managers:
        yield Location(context.root)


def tcp_around(context: Context) -> Iterator[Location]:
    """A TCP proxy to a protected cluster."""
    for node in context.root.walk():
        if node.kind == "TcpProxy":
            to = node.get("cluster")
            if to.text in (context.protected_clusters or ()):
                yield Location(to, to.text)


def after_router(context: Context) -> Iterator[Location]:
    """The router ends the chain: filters behind it never run."""
    for manager, asking in context.protected_managers:
        if any(each.kind == "Router" for each in manager.filters[: manager.filters.index(asking)]):
            yield Location(asking.node)


def upgrade_not_checked(context: Context) -> Iterator[Location]:
    """Upgrades may have their own filter chain."""
    for manager, _ in context.protected_managers:
        for upgrade in manager.node.get("upgrade_configs").each():
            own = list(upgrade.get("filters").each())
            if own and not any("ext_authz" in each.get("name").text or _asks(each) for each in own):
                yield Location(upgrade.get("filters"), upgrade.get("upgrade_type").text)


def switched_off(context: Context) -> Iterator[Location]:
    """The filter is off unless a route switches it on."""
    for _, asking in context.protected_managers:
        if (off := asking.node.get("disabled")).is_true:
            yield Location(off)


def conditional(context: Context) -> Iterator[Location]:
    """A matcher around the filter decides whether it runs."""
    for _, asking in context.protected_managers:
        if asking.conditional:
            yield Location(asking.node.get("typed_config"))


def sampled(context: Context) -> Iterator[Location]:
    """The filter runs only for a share of the requests, or for those with some metadata."""
    for _, asking in context.protected_managers:
        if not enabled_always(asking.config):
            share = asking.config.get("filter_enabled")
            yield Location(share if share.there else asking.config.get("filter_enabled_metadata"))


def fails_open(context: Context) -> Iterator[Location]:
    """While no sidecar answers, every request passes."""
    for _, asking in context.protected_managers:
        if (allow := asking.config.get("failure_mode_allow")).is_true:
            yield Location(allow)


def route_not_checked(context: Context) -> Iterator[Location]:
    """Routes on which the filter is off; a place that switches it off for several is listed once."""
    for manager, asking in context.protected_managers:
        found: dict[object, Location] = {}
        for route in manager.routes:
            if (off := route.switched_off(asking.name)) is not None:
                found.setdefault(off.path, Location(off.get("disabled") if off.get("disabled").there else off))
        yield from found.values()


def cached(context: Context) -> Iterator[Location]:
    """A cache before the filter may answer with a response for another client."""
    for manager, asking in context.protected_managers:
        for each in manager.filters[: manager.filters.index(asking)]:
            if each.kind in _CACHES:
                yield Location(each.node, each.name)


def admin_exposed(context: Context) -> Iterator[Location]:
    """The admin interface can read secrets and change runtime values."""
    for root in find_bootstraps(context.root):
        address = root.get("admin.address.socket_address.address")
        if address.there and address.text not in _SAFE_ADMIN and not TcpAddress(address.text, 0).loopback:
            yield Location(address, address.text)


def identity_kept(context: Context) -> Iterator[Location]:
    """If the filter does not run, identity headers that a client sent reach the upstream."""
    for manager in context.managers:
        if manager.asking is None and not _leads_to_protected(manager, context):
            continue
        left = context.requirements.identity - _removed_early(manager.node, context.requirements.identity)
        for route in manager.routes:
            off = manager.asking is not None and route.switched_off(manager.asking.name) is not None
            if not (off or context.lets_by(manager)):
                continue
            removed = {
                name.text.lower() for level in route.levels for name in level.get("request_headers_to_remove").each()
            }
            kept = _reaching(manager.node, left) - removed
            if kept:
                yield Location(route.node, _name_some(kept))


def routes_unseen(context: Context) -> Iterator[Location]:
    """Routes that come from elsewhere cannot be checked."""
    for manager in context.managers:
        if manager.route_config.there and not manager.node.get("route_config").there:  # elsewhere in this file
            continue
        for source in ("rds", "scoped_routes"):
            if (node := manager.node.get(source)).there:
                yield Location(node)


def _leads_to_protected(manager: Manager, context: Context) -> bool:
    protected_clusters = context.protected_clusters
    if not context.protected_managers or protected_clusters is None or manager.clusters is None:
        return True
    return bool(manager.clusters & protected_clusters)


def _removed_early(manager: Node, names: frozenset[str]) -> set[str]:
    removed: set[str] = set()
    for extension in manager.get("early_header_mutation_extensions").each():
        for mutation in extension.get("typed_config.mutations").each():
            matcher = mutation.get("remove_on_match.key_matcher")
            removed |= {name for name in names if name == mutation.get("remove").text.lower() or matches(matcher, name)}
    return removed


def _reaching(manager: Node, names: set[str] | frozenset[str]) -> set[str]:
    """Return the names without those that Envoy does not accept from clients."""
    action = manager.get("common_http_protocol_options.headers_with_underscores_action").text
    return {name for name in names if "_" not in name or action not in {"REJECT_REQUEST", "DROP_HEADER"}}


def _name_some(names: set[str]) -> str:
    shown = sorted(names, key=lambda name: ("_" in name, name))
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def _asks(each: Node) -> bool:
    return each.get("typed_config").kind == "ExtAuthz"
