"""Settings of a connection manager, and of other filters, that change the sidecar's input or its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_network

from authz.core.request import AmbiguousEncoding
from authz.tooling.envoy_config.chains import Filter, Manager
from authz.tooling.envoy_config.context import Context, Location
from authz.tooling.envoy_config.reading import Node

_ROUTING = frozenset({":path", ":authority", ":method", "host"})
_CODE = frozenset({"Lua", "ExternalProcessor", "Wasm", "Golang", "DynamicModuleFilter"})
_SEPARATE = frozenset({"KEEP_UNCHANGED", "IMPLEMENTATION_SPECIFIC_DEFAULT", ""})
_UNDERSCORES = frozenset({"REJECT_REQUEST", "DROP_HEADER"})
_DEFAULT_HEADERS_KB = 60
_WRITTEN_BY_LUA = re.compile(r"""[:.](?:add|replace)\(\s*["']([^"']+)["']""")


def _check_setting(key: str, is_wrong: Callable[[Node, Context], bool]) -> Callable[[Context], Iterator[Location]]:
    """Return a check of the setting *key* of every protected connection manager."""

    def check(context: Context) -> Iterator[Location]:
        for manager, _ in context.protected_managers:
            node = manager.node.get(key)
            if is_wrong(node, context):
                yield Location(node, "" if node.exists else "it is not set")

    return check


path_not_normalized = _check_setting("normalize_path", lambda node, _: not node.is_true)
slashes_not_merged = _check_setting(
    "merge_slashes",
    lambda node, context: not node.is_true and AmbiguousEncoding.DOUBLE_SLASH not in context.requirements.encodings,
)
slashes_merged = _check_setting(
    "merge_slashes",
    lambda node, context: node.is_true and AmbiguousEncoding.DOUBLE_SLASH in context.requirements.encodings,
)
escaped_slashes = _check_setting(
    "path_with_escaped_slashes_action",
    lambda node, context: (
        node.text in _SEPARATE and AmbiguousEncoding.ENCODED_SLASH not in context.requirements.encodings
    ),
)
escaped_slashes_refused = _check_setting(
    "path_with_escaped_slashes_action",
    lambda node, context: (
        node.text == "REJECT_REQUEST" and AmbiguousEncoding.ENCODED_SLASH in context.requirements.encodings
    ),
)
underscores = _check_setting(
    "common_http_protocol_options.headers_with_underscores_action",
    lambda node, context: (
        node.text not in _UNDERSCORES
        and bool(context.requirements.identity)
        and not any("_" in name for name in context.requirements.read)
    ),
)
client_address = _check_setting("use_remote_address", lambda node, _: not node.is_true)


def proxies_count_as_clients(context: Context) -> Iterator[Location]:
    """A proxy in front of Envoy, whose clients have one address for the sidecar: that of the proxy."""
    if not context.requirements.peers_are_clients:
        return
    for manager, _ in context.protected_managers:
        for key in ("xff_num_trusted_hops", "original_ip_detection_extensions"):
            if (node := manager.node.get(key)).exists and (node.number(0) > 0 or any(node.children())):
                yield Location(node)


request_id = _check_setting("preserve_external_request_id", lambda node, _: node.is_true)
headers_too_short = _check_setting(
    "max_request_headers_kb", lambda node, context: node.number(_DEFAULT_HEADERS_KB) <= context.requirements.header_kb
)


def internal_trust(context: Context) -> Iterator[Location]:
    """Public addresses that count as internal may set headers that only Envoy may set (`x-envoy-*`)."""
    for manager, _ in context.protected_managers:
        for cidr in manager.node.get("internal_address_config.cidr_ranges").children():
            prefix = cidr.get("address_prefix")
            try:
                network = ip_network(f"{prefix.text}/{round(cidr.get('prefix_len').number(0))}", strict=False)
            except ValueError:
                continue  # Envoy itself refuses it
            if not network.is_private:
                yield Location(cidr, str(network))


def written_after(context: Context) -> Iterator[Location]:
    """A filter behind ours that writes what the decision was made on, or what the sidecar said."""
    for manager, chain, ext_authz in context.checks:
        for filter_ in chain.after(ext_authz):
            for node, name in _names_written(filter_):
                if name in context.requirements.identity | _ROUTING:
                    yield Location(node, f"{filter_.name} writes {name}")
            for route in manager.routes:
                for settings in route.settings(filter_.name):
                    for node, name in _mutations(settings.get("mutations.request_mutations")):
                        if name in context.requirements.identity | _ROUTING:
                            yield Location(node, f"{filter_.name} writes {name}")


def may_write_after(context: Context) -> Iterator[Location]:
    """A program behind ours, which cannot be read here."""
    for _, chain, ext_authz in context.checks:
        for filter_ in chain.after(ext_authz):
            if filter_.kind in _CODE and not any(
                name in context.requirements.identity for _, name in _names_written(filter_)
            ):
                yield Location(filter_.node, filter_.name)


def token_written(context: Context) -> Iterator[Location]:
    """What writes a token into the request before the check: a client that sends none passes with Envoy's own."""
    reported = set()
    for manager, chain, ext_authz in context.checks:
        written = [
            (node, f"{filter_.name} writes {name}")
            for filter_ in chain.before(ext_authz)
            for node, name in (*_names_written(filter_), *_names_by_route(manager, filter_))
            if name in context.requirements.token_headers
        ]
        written += [
            (filter_.node, filter_.name) for filter_ in chain.before(ext_authz) if filter_.kind == "CredentialInjector"
        ]
        for extension in manager.node.get("early_header_mutation_extensions").children():
            for node, name in _mutations(extension.get("typed_config").unwrapped.get("mutations")):
                if name in context.requirements.token_headers:
                    written.append((node, name))
        for node, detail in written:
            if node.path not in reported:
                reported.add(node.path)
                yield Location(node, detail)


def streams_unbounded(context: Context) -> Iterator[Location]:
    """Streams that may outlive the token they began with: it is checked once, at their beginning."""
    for manager, _ in context.protected_managers:
        common = manager.node.get("common_http_protocol_options")
        if common.get("max_stream_duration").seconds(0) > 0:
            continue
        if (upgrades := manager.node.get("upgrade_configs")).exists:
            kinds = ", ".join(upgrade.get("upgrade_type").text for upgrade in upgrades.children())
            yield Location(upgrades, f"upgrades to {kinds}")
        reported = set()
        for route in manager.routes:
            action = route.route.get("route")
            if action.get("max_stream_duration.max_stream_duration").seconds(0) > 0 or action.path in reported:
                continue
            reported.add(action.path)
            if (upgrades := action.get("upgrade_configs")).exists:
                yield Location(upgrades, "upgrades on this route")
            elif action.get("timeout").seconds(1) == 0:
                yield Location(action.get("timeout"), "answers without end")


def routes_write(context: Context) -> Iterator[Location]:
    """A route that writes an identity header overwrites the sidecar's."""
    for manager, _ in context.protected_managers:
        reported = set()
        for route in manager.routes:
            for level in route.levels:
                for added in level.get("request_headers_to_add").children():
                    name = added.get("header.key")
                    if name.text.lower() in context.requirements.identity and name.path not in reported:
                        reported.add(name.path)
                        yield Location(name, name.text)


def route_cache(context: Context) -> Iterator[Location]:
    """A route that is chosen by an identity header is chosen by what the client sent, unless it is chosen again."""
    for manager, _, ext_authz in context.checks:
        if ext_authz.config.get("clear_route_cache").is_true:
            continue
        for route in manager.routes:
            for matcher in route.match.get("headers").children():
                if matcher.get("name").text.lower() in context.requirements.identity:
                    yield Location(matcher, matcher.get("name").text)


def _names_written(filter_: Filter) -> Iterator[tuple[Node, str]]:
    """Yield the names of request headers that a filter writes, as far as its settings show."""
    match filter_.kind:
        case "HeaderMutation":
            yield from _mutations(filter_.config.get("mutations.request_mutations"))
        case "JwtAuthentication":
            for provider in filter_.config.get("providers").children():
                yield provider, provider.get("forward_payload_header").text.lower()
                for claim in provider.get("claim_to_headers").children():
                    yield claim, claim.get("header_name").text.lower()
        case "Lua":
            code = filter_.config.get("default_source_code.inline_string")
            code = code if code.exists else filter_.config.get("inline_code")
            yield from ((code, name.lower()) for name in _WRITTEN_BY_LUA.findall(code.text))
        case _:
            return


def _names_by_route(manager: Manager, filter_: Filter) -> Iterator[tuple[Node, str]]:
    for route in manager.routes:
        for settings in route.overrides(filter_.name):
            yield from _mutations(settings.get("mutations.request_mutations"))


def _mutations(mutations: Node) -> Iterator[tuple[Node, str]]:
    for mutation in mutations.children():
        if (key := mutation.get("append.header.key")).exists:
            yield key, key.text.lower()
