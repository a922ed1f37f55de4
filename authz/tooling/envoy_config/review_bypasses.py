"""Ways by which a request reaches an upstream without a decision of the sidecar."""

from __future__ import annotations

from collections.abc import Iterator

from authz.config.address import TcpAddress
from authz.tooling.envoy_config.context import Context, Location, checks_every_request
from authz.tooling.envoy_config.reading import Node, find_bootstraps, matches

_CACHES = frozenset({"CacheConfig", "CacheV2Config"})
_CONTENT_FILTERS = frozenset({"FileServerConfig", "McpRouter"})
_SAFE_ADMIN = frozenset({"127.0.0.1", "::1", "localhost"})


def not_checked(context: Context) -> Iterator[Location]:
    """A connection manager without the filter that routes to protected clusters, or to unknown ones."""
    for manager in context.managers:
        if not manager.has_ext_authz and context.leads_to_protected(manager):
            yield Location(manager.main.node)


def other_listener(context: Context) -> Iterator[Location]:
    """A connection manager without the filter that routes elsewhere."""
    for manager in context.managers:
        if not manager.has_ext_authz and not context.leads_to_protected(manager):
            to = ", ".join(sorted(manager.clusters or ())) or "no cluster"
            yield Location(manager.main.node, f"it leads to {to}")


def nothing_found(context: Context) -> Iterator[Location]:
    """No connection manager at all: nothing could be checked."""
    if not context.managers:
        yield Location(context.root)


def tcp_around(context: Context) -> Iterator[Location]:
    """A filter for connections (TcpProxy and others) or datagrams that names a protected cluster."""
    protected = context.protected_clusters or frozenset()
    for node in context.root.walk():
        kind = node.key("@type").text
        if ".filters.network." in kind or ".filters.udp." in kind or node.kind == "TcpProxy":
            if node.kind == "HttpConnectionManager":
                continue
            yield from (Location(value, value.text) for value in node.walk() if value.text and value.text in protected)


def after_router(context: Context) -> Iterator[Location]:
    """The router ends the chain: what stands behind it never runs."""
    for _, chain, ext_authz in context.checks:
        if any(filter_.kind == "Router" for filter_ in chain.before(ext_authz)):
            yield Location(ext_authz.node)


def upgrade_not_checked(context: Context) -> Iterator[Location]:
    """Upgrades may have their own filter chain."""
    for manager, _ in context.protected_managers:
        for chain in manager.chains:
            if not chain.ext_authz:
                yield Location(chain.node, chain.upgrade)


def switched_off(context: Context) -> Iterator[Location]:
    """The filter is off unless a route switches it on."""
    for _, _, ext_authz in context.checks:
        if (off := ext_authz.node.get("disabled")).is_true:
            yield Location(off)


def shadowed(context: Context) -> Iterator[Location]:
    """The decision is reported, and no request is stopped (Envoy 1.38)."""
    for _, _, ext_authz in context.checks:
        if (shadow := ext_authz.config.get("shadow_mode")).is_true:
            yield Location(shadow)


def conditional(context: Context) -> Iterator[Location]:
    """A filter around ours decides whether it runs: a matcher, Composite, or a chain that routes can replace."""
    for _, _, ext_authz in context.checks:
        if ext_authz.conditional:
            yield Location(ext_authz.node.get("typed_config"))


def optional(context: Context) -> Iterator[Location]:
    """An Envoy that does not know the filter leaves it out, and says nothing."""
    for manager, _, ext_authz in context.checks:
        if (own := ext_authz.node.get("is_optional")).is_true:
            yield Location(own)
        reported = set()
        for route in manager.routes:
            for settings in route.settings(ext_authz.name):
                if (flag := settings.get("is_optional")).is_true and flag.path not in reported:
                    reported.add(flag.path)
                    yield Location(flag)


def filter_unseen(context: Context) -> Iterator[Location]:
    """The ext_authz filter is configured by discovery (ECDS)."""
    for _, _, ext_authz in context.checks:
        if not ext_authz.seen:
            yield Location(ext_authz.node.get("config_discovery"), ext_authz.name)


def others_unseen(context: Context) -> Iterator[Location]:
    """Other filters, listeners or chains of filters that are configured by discovery."""
    known_paths = {ext_authz.node.get("config_discovery").path for _, _, ext_authz in context.checks}
    dumped = any(node.kind == "ListenersConfigDump" for node in context.root.walk())
    for node in context.root.walk():
        if node.path[-1:] in {("config_discovery",), ("configDiscovery",)} and node.path not in known_paths:
            if node.key("type_urls").exists or node.get("config_source").exists:
                yield Location(node, "a filter")
        elif node.path[-1:] in {("fcds_config",), ("fcdsConfig",)}:
            yield Location(node, "chains of filters")
    for root in find_bootstraps(context.root):
        source = root.get("dynamic_resources.lds_config")
        if source.exists and not dumped:
            yield Location(source, "listeners")


def sampled(context: Context) -> Iterator[Location]:
    """The filter runs for a share of the requests, or for those with some metadata."""
    for _, _, ext_authz in context.checks:
        if not checks_every_request(ext_authz.config):
            share = ext_authz.config.get("filter_enabled")
            yield Location(share if share.exists else ext_authz.config.get("filter_enabled_metadata"))


def runtime_decides(context: Context) -> Iterator[Location]:
    """A value of the runtime, which the admin interface and others can change, overrides the share."""
    for _, _, ext_authz in context.checks:
        if (key := ext_authz.config.get("filter_enabled.runtime_key")).text:
            yield Location(key, key.text)


def fails_open(context: Context) -> Iterator[Location]:
    """While no sidecar answers, every request passes."""
    for _, _, ext_authz in context.checks:
        if (allow := ext_authz.config.get("failure_mode_allow")).is_true:
            yield Location(allow)


def route_not_checked(context: Context) -> Iterator[Location]:
    """Routes on which the filter is off; a place that switches it off for several is listed once."""
    reported: dict[object, Location] = {}
    for manager, _, ext_authz in context.checks:
        for route in manager.routes:
            if context.leads_to_receiver(route):
                continue  # what issuers send is verified there
            if (off := route.switched_off(ext_authz.name)) is not None:
                reported.setdefault(off.path, Location(off.get("disabled") if off.get("disabled").exists else off))
    yield from reported.values()


def cached(context: Context) -> Iterator[Location]:
    """A cache in front of the filter answers with what was meant for another client."""
    yield from _filters_before(context, _CACHES)


def answered_before(context: Context) -> Iterator[Location]:
    """A filter in front of ours that serves content by itself."""
    yield from _filters_before(context, _CONTENT_FILTERS)


def _filters_before(context: Context, kinds: frozenset[str]) -> Iterator[Location]:
    for _, chain, ext_authz in context.checks:
        for filter_ in chain.before(ext_authz):
            if filter_.kind in kinds:
                yield Location(filter_.node, filter_.name)


def admin_exposed(context: Context) -> Iterator[Location]:
    """The admin interface can read secrets and change runtime values."""
    for root in find_bootstraps(context.root):
        address = root.get("admin.address.socket_address.address")
        if address.exists and address.text not in _SAFE_ADMIN and not TcpAddress(address.text, 0).loopback:
            yield Location(address, address.text)


def identity_kept(context: Context) -> Iterator[Location]:
    """If the filter does not run, identity headers that a client sent reach the upstream."""
    for manager in context.managers:
        if not manager.has_ext_authz and not context.leads_to_protected(manager):
            continue
        names = {ext_authz.name for checked, _, ext_authz in context.checks if checked is manager}
        left = context.requirements.identity - removed_by_early_mutations(manager.node, context.requirements.identity)
        for route in manager.routes:
            if context.leads_to_receiver(route):
                continue  # it reads no identity headers
            off = any(route.switched_off(name) is not None for name in names)
            if not (off or context.may_pass_unchecked(manager)):
                continue
            removed = {
                name.text.lower()
                for level in route.levels
                for name in level.get("request_headers_to_remove").children()
            }
            remaining = without_rejected(manager.node, left) - removed
            if remaining:
                yield Location(route.node, _name_some(remaining))


def routes_unseen(context: Context) -> Iterator[Location]:
    """Routes that come from elsewhere cannot be checked."""
    for manager in context.managers:
        yield from map(Location, manager.unseen)


def removed_by_early_mutations(manager: Node, names: frozenset[str]) -> set[str]:
    """Return which of *names* the manager removes from every request, before its filters and routes."""
    removed: set[str] = set()
    for extension in manager.get("early_header_mutation_extensions").children():
        for mutation in extension.get("typed_config.mutations").children():
            matcher = mutation.get("remove_on_match.key_matcher")
            removed |= {name for name in names if name == mutation.get("remove").text.lower() or matches(matcher, name)}
    return removed


def without_rejected(manager: Node, names: set[str] | frozenset[str]) -> set[str]:
    """Return *names* without those that Envoy rejects or drops, if a client sends them."""
    action = manager.get("common_http_protocol_options.headers_with_underscores_action").text
    return {name for name in names if "_" not in name or action not in {"REJECT_REQUEST", "DROP_HEADER"}}


def _name_some(names: set[str]) -> str:
    shown = sorted(names, key=lambda name: ("_" in name, name))
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
