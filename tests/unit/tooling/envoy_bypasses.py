"""Envoy configurations that Envoy itself takes, and by which a request passes without a token, or may pass."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from authz.tooling.envoy_config.fragments import V3, router
from tests.unit.tooling.envoy_broken import AUTHZ, PER_ROUTE, Envoy, Spoilt, broken

HTTP: Final = f"{V3}.filters.http"
MATCHING: Final = f"{V3}.common.matching.v3"
FILTER_CONFIG: Final = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
INPUT: Final = {
    "name": "request-headers",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
        "header_name": "x-check",
    },
}
SOURCE: Final = {"path_config_source": {"path": "/etc/envoy/extension.yaml"}}


def upgrade(envoy: Envoy, **changes: object) -> dict[str, Any]:
    """Give WebSockets a chain of their own with the same filter, changed; return its settings."""
    entry = {**deepcopy(envoy.filters[0]), **changes}
    envoy.manager["upgrade_configs"] = [{"upgrade_type": "websocket", "filters": [entry, router()]}]
    settings: dict[str, Any] = entry.get("typed_config", {})
    return settings


def tree(action: object) -> dict[str, object]:
    """A matcher that does *action* where a client sends `x-check: no`."""
    return {
        "matcher_tree": {
            "input": INPUT,
            "exact_match_map": {"map": {"no": {"action": {"name": "a", **as_any(action)}}}},
        }
    }


def as_any(action: object) -> dict[str, object]:
    """The typed_config of an action."""
    return {"typed_config": action}


def delegate(envoy: Envoy) -> None:
    """A match delegate stands around the filter, and skips it where the client says so."""
    skip = {"@type": "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter"}
    envoy.filters[0]["typed_config"] = {
        "@type": f"{MATCHING}.ExtensionWithMatcher",
        "xds_matcher": tree(skip),
        "extension_config": {"name": "x", "typed_config": envoy.authz},
    }


def composite(envoy: Envoy) -> None:
    """A Composite runs the filter only where the client says so."""
    action = {
        "@type": f"{HTTP}.composite.v3.ExecuteFilterAction",
        "typed_config": {"name": "x", "typed_config": envoy.authz},
    }
    envoy.filters[0]["typed_config"] = {
        "@type": f"{MATCHING}.ExtensionWithMatcher",
        "xds_matcher": tree(action),
        "extension_config": {"name": "c", "typed_config": {"@type": f"{HTTP}.composite.v3.Composite"}},
    }


def chain_in_a_filter(envoy: Envoy, **changes: object) -> None:
    """A chain of filters as one filter, which a route can replace."""
    envoy.filters[0]["typed_config"] = {
        "@type": f"{HTTP}.filter_chain.v3.FilterChainConfig",
        "default_filter_chain": {"filters": [{"name": "x", "typed_config": {**envoy.authz, **changes}}]},
    }


def chain_replaced(envoy: Envoy) -> None:
    """And a route that does."""
    chain_in_a_filter(envoy)
    stats = {"@type": f"{HTTP}.grpc_stats.v3.FilterConfig"}
    envoy.off(
        envoy.routes[0],
        **{
            "@type": f"{HTTP}.filter_chain.v3.FilterChainConfigPerRoute",
            "filter_chain": {"filters": [{"name": "y", "typed_config": stats}]},
        },
    )


def matcher_replaced(envoy: Envoy) -> None:
    """A route that replaces the matcher of a match delegate."""
    delegate(envoy)
    skip = {"@type": "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter"}
    envoy.off(envoy.routes[0], **{"@type": f"{MATCHING}.ExtensionWithMatcherPerRoute", "xds_matcher": tree(skip)})


def from_discovery(envoy: Envoy) -> None:
    """The settings of the filter come from a file of their own."""
    del envoy.filters[0]["typed_config"]
    envoy.filters[0]["config_discovery"] = {"config_source": SOURCE, "type_urls": [f"{HTTP}.ext_authz.v3.ExtAuthz"]}


def other_from_discovery(envoy: Envoy) -> None:
    """Another filter, in front, comes from a file of its own."""
    source = {"config_source": SOURCE, "type_urls": [f"{HTTP}.lua.v3.Lua"]}
    envoy.filters.insert(0, {"name": "front", "config_discovery": source})


def other_cluster(envoy: Envoy, address: str = "10.0.0.9") -> str:
    """Add a cluster that is not the sidecar's, and return its name."""
    host = {"endpoint": {"address": {"socket_address": {"address": address, "port_value": 9000}}}}
    assignment = {"cluster_name": "other", "endpoints": [{"lb_endpoints": [host]}]}
    envoy.clusters.append({**deepcopy(envoy.cluster), "name": "other", "load_assignment": assignment})
    return "other"


def upgrade_asks_another(envoy: Envoy) -> None:
    """Upgrades are decided by another service."""
    upgrade(envoy)["grpc_service"]["envoy_grpc"]["cluster_name"] = other_cluster(envoy)


def second_name(envoy: Envoy) -> None:
    """A second listener leads to the protected hosts by a cluster of another name."""
    cluster = next(each for each in envoy.clusters if each["name"] == "upstream")
    twin = {**deepcopy(cluster), "name": "twin"}
    envoy.clusters.append(twin)
    envoy.second("twin")


def anywhere(envoy: Envoy) -> None:
    """A second listener leads wherever the client's connection was meant to go."""
    envoy.clusters.append({"name": "any", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"})
    envoy.second("any")


def route_in_matcher(envoy: Envoy) -> None:
    """Routes stand in a tree of matchers, and the filter is off in one of them."""
    (route,) = envoy.routes
    off = {"@type": PER_ROUTE, "disabled": True}
    leaf = {
        "@type": "type.googleapis.com/envoy.config.route.v3.Route",
        **route,
        "typed_per_filter_config": {AUTHZ: off},
    }
    del envoy.hosts[0]["routes"]
    envoy.hosts[0]["matcher"] = tree(leaf)


def hidden_by_nothing(envoy: Envoy) -> None:
    """The host switches the filter off, and an empty FilterConfig of the route does not switch it on."""
    envoy.off(envoy.hosts[0])
    envoy.off(envoy.routes[0], **{"@type": FILTER_CONFIG})


def typed_struct(kind: str, **fields: object) -> dict[str, object]:
    """A message as `xds.type.v3.TypedStruct`."""
    return {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": kind, "value": fields}


def whole_in_struct(envoy: Envoy) -> None:
    """The connection manager itself stands in a TypedStruct, with a filter that is off."""
    envoy.filters[0]["disabled"] = True
    fields = {key: value for key, value in envoy.manager.items() if key != "@type"}
    envoy.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"] = typed_struct(
        envoy.manager["@type"], **fields
    )


def credential(envoy: Envoy) -> None:
    """Envoy adds a token of its own to requests without one."""
    secret = {"name": "token", "sds_config": SOURCE}
    injector = {
        "@type": f"{HTTP}.credential_injector.v3.CredentialInjector",
        "credential": {
            "name": "generic",
            "typed_config": {"@type": f"{V3}.http.injected_credentials.generic.v3.Generic", "credential": secret},
        },
    }
    envoy.filters.insert(0, {"name": "inject", "typed_config": injector})


def token_added(envoy: Envoy) -> None:
    """A mutation in front writes the header that tokens come in."""
    mutation = {"append": {"header": {"key": "Authorization", "value": "Bearer x"}}}
    settings = {"@type": f"{HTTP}.header_mutation.v3.HeaderMutation", "mutations": {"request_mutations": [mutation]}}
    envoy.filters.insert(0, {"name": "m", "typed_config": settings})


def token_added_early(envoy: Envoy) -> None:
    """The same before all filters."""
    mutation = {"append": {"header": {"key": "authorization", "value": "Bearer x"}}}
    envoy.manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"].append(mutation)


def token_added_by_route(envoy: Envoy) -> None:
    """The same by a route."""
    kind = f"{HTTP}.header_mutation.v3.HeaderMutation"
    envoy.filters.insert(0, {"name": "m", "typed_config": {"@type": kind}})
    mutation = {"append": {"header": {"key": "authorization", "value": "Bearer x"}}}
    override = {"@type": f"{kind}PerRoute", "mutations": {"request_mutations": [mutation]}}
    envoy.routes[0]["typed_per_filter_config"] = {"m": override}


def serves_files(envoy: Envoy) -> None:
    """Files are served without a check."""
    settings = {
        "@type": f"{HTTP}.file_server.v3.FileServerConfig",
        "manager_config": {"thread_pool": {"thread_count": 1}},
        "path_mappings": [{"request_path_prefix": "/", "file_path_prefix": "/srv"}],
    }
    envoy.filters.insert(0, {"name": "files", "typed_config": settings})


def weighted_tcp(envoy: Envoy) -> None:
    """A TCP proxy leads to the protected cluster among others."""
    proxy = {
        "@type": f"{V3}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "x",
        "weighted_clusters": {"clusters": [{"name": "upstream", "weight": 1}]},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    chain = {"filters": [{"name": "x", "typed_config": proxy}]}
    envoy.listeners.append({"name": "t", "address": address, "default_filter_chain": chain})


def more_endpoints(envoy: Envoy) -> None:
    """Every second check is answered by something else."""
    host = {"endpoint": {"address": {"pipe": {"path": "/run/other.sock"}}}}
    envoy.cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].append(host)


def unbounded(envoy: Envoy, *upgrades: str, **action: object) -> None:
    """Nothing ends a stream."""
    del envoy.manager["common_http_protocol_options"]["max_stream_duration"]
    if upgrades:
        envoy.manager["upgrade_configs"] = [{"upgrade_type": each} for each in upgrades]
    envoy.routes[0]["route"].update(action)


def dynamic_listeners(envoy: Envoy) -> None:
    """Other listeners come by discovery."""
    envoy.data["dynamic_resources"] = {"lds_config": SOURCE}


def twice(envoy: Envoy) -> None:
    """One field in both spellings."""
    envoy.authz["failureModeAllow"] = True


TAKEN_BY_ENVOY: Final[dict[str, Spoilt]] = {
    "only in shadow": broken("filter-shadow")(lambda envoy: envoy.authz.update(shadow_mode=True)),
    "in shadow by a word of YAML 1.1": broken("filter-shadow")(lambda envoy: envoy.authz.update(shadow_mode="yes")),
    "fails open by a word of YAML 1.1": broken("fails-open")(lambda envoy: envoy.authz.update(failure_mode_allow="On")),
    "sampled by text": broken("filter-sampled")(
        lambda envoy: envoy.authz.update(filter_enabled={"default_value": {"numerator": "100", "denominator": 1}})
    ),
    "the runtime decides": broken("filter-runtime", word="authz.on")(
        lambda envoy: envoy.authz.update(
            filter_enabled={"default_value": {"numerator": 100}, "runtime_key": "authz.on"}
        )
    ),
    "a field twice": broken("field-twice", word="failureModeAllow")(twice),
    "a field of the manager twice": broken("field-twice", word="mergeSlashes")(
        lambda envoy: envoy.manager.update(mergeSlashes=False)
    ),
    "a field of the sidecar's cluster twice": broken("field-twice", word="connectTimeout")(
        lambda envoy: envoy.cluster.update(connectTimeout="1s")
    ),
    "a field of a route's settings twice": broken("field-twice", word="disableRequestBodyBuffering")(
        lambda envoy: envoy.off(
            envoy.routes[0],
            **{
                "@type": PER_ROUTE,
                "check_settings": {"disable_request_body_buffering": True, "disableRequestBodyBuffering": False},
            },
        )
    ),
    "optional": broken("filter-optional")(lambda envoy: envoy.filters[0].update(is_optional=True)),
    "optional on a route": broken("filter-optional", word="routes[0]")(
        lambda envoy: envoy.off(
            envoy.routes[0],
            **{"@type": FILTER_CONFIG, "is_optional": True, "config": {"@type": PER_ROUTE, "check_settings": {}}},
        )
    ),
    "off for upgrades": broken("filter-off", word="upgrade_configs[0]")(lambda envoy: upgrade(envoy, disabled=True)),
    "in shadow for upgrades": broken("filter-shadow", word="upgrade_configs[0]")(
        lambda envoy: upgrade(envoy).update(shadow_mode=True)
    ),
    "fails open for upgrades": broken("fails-open", word="upgrade_configs[0]")(
        lambda envoy: upgrade(envoy).update(failure_mode_allow=True)
    ),
    "upgrades have another filter under the name of ours": broken("upgrade-not-checked", word="websocket")(
        lambda envoy: upgrade(envoy, typed_config={"@type": f"{HTTP}.cors.v3.Cors"})
    ),
    "another filter under the name of ours": broken("not-checked")(
        lambda envoy: envoy.filters[0].update(typed_config={"@type": f"{HTTP}.cors.v3.Cors"})
    ),
    "upgrades ask another service": broken("asks-elsewhere", "endpoints-missing", word="websocket")(
        upgrade_asks_another
    ),
    "a match delegate": broken("filter-conditional")(delegate),
    "a match delegate that a route replaces": broken("filter-conditional", "route-not-checked")(matcher_replaced),
    "a Composite": broken("filter-conditional")(composite),
    "a chain in a filter": broken("filter-conditional")(chain_in_a_filter),
    "a chain in a filter, in shadow": broken("filter-conditional", "filter-shadow")(
        lambda envoy: chain_in_a_filter(envoy, shadow_mode=True)
    ),
    "a chain in a filter that a route replaces": broken("filter-conditional", "route-not-checked")(chain_replaced),
    "from discovery": broken("filter-unseen", word=AUTHZ)(from_discovery),
    "another filter from discovery": broken("others-unseen", word="config_discovery")(other_from_discovery),
    "listeners from discovery": broken("others-unseen", word="listeners")(dynamic_listeners),
    "the same hosts by another name": broken("not-checked", word="listeners[1]")(second_name),
    "a cluster that leads anywhere": broken("not-checked", word="listeners[1]")(anywhere),
    "off in a tree of routes": broken("route-not-checked", word="matcher")(route_in_matcher),
    "off in a TypedStruct": broken("route-not-checked", word="value")(
        lambda envoy: envoy.off(envoy.routes[0], **typed_struct(PER_ROUTE, disabled=True))
    ),
    "all of it in a TypedStruct": broken("filter-off", word="typed_config.value")(whole_in_struct),
    "Envoy's own token": broken("token-written", word="inject")(credential),
    "a token by a mutation": broken("token-written", word="authorization")(token_added),
    "a token by an early mutation": broken("token-written", word="authorization")(token_added_early),
    "a token by a route": broken("token-written", word="routes[0]")(token_added_by_route),
    "files in front": broken("answered-in-front", word="files")(serves_files),
    "TCP to one of several": broken("tcp-around", word="upstream")(weighted_tcp),
    "an endpoint beside ours": broken("endpoints-foreign", word="/run/other.sock")(more_endpoints),
    "WebSockets without end": broken("stream-unbounded", word="websocket")(lambda envoy: unbounded(envoy, "websocket")),
    "WebSockets of a route without end": broken("stream-unbounded", word="routes[0].route.upgrade_configs")(
        lambda envoy: unbounded(envoy, upgrade_configs=[{"upgrade_type": "websocket"}])
    ),
    "answers without end": broken("stream-unbounded", word="timeout")(lambda envoy: unbounded(envoy, timeout="0s")),
}
"""Files that Envoy 1.40 takes, all of them."""

SINCE: Final = {
    "only in shadow": "1.38",
    "in shadow by a word of YAML 1.1": "1.38",
    "in shadow for upgrades": "1.38",
    "files in front": "1.38",
    "a chain in a filter": "1.39",
    "a chain in a filter, in shadow": "1.39",
    "a chain in a filter that a route replaces": "1.40",
}
"""The release of Envoy that was the first to take such a file; the others are taken by 1.37 too."""

ENVOY_REFUSES: Final[dict[str, Spoilt]] = {
    "an empty FilterConfig hides nothing": broken("route-not-checked", word="virtual_hosts[0].typed")(
        hidden_by_nothing
    ),
    "a field of tomorrow": broken("field-unknown", word="allow_all")(lambda envoy: envoy.authz.update(allow_all=True)),
    "a field of tomorrow in a part": broken("field-unknown", word="lenient")(
        lambda envoy: envoy.authz["grpc_service"]["envoy_grpc"].update(lenient=True)
    ),
    "a field of tomorrow too": broken("field-unknown", word="bypass")(
        lambda envoy: envoy.filters[0].update(bypass=True)
    ),
    "a field of tomorrow on a route": broken("field-unknown", word="enforced")(
        lambda envoy: envoy.off(envoy.routes[0], **{"@type": PER_ROUTE, "enforced": False})
    ),
    "a field of tomorrow in FilterConfig": broken("field-unknown", word="weight")(
        lambda envoy: envoy.off(envoy.routes[0], **{"@type": FILTER_CONFIG, "weight": 1})
    ),
    "an override of another filter": broken("field-unknown", word="@type")(
        lambda envoy: envoy.off(envoy.routes[0], **{"@type": f"{HTTP}.cors.v3.CorsPolicy"})
    ),
    "hosts from elsewhere": broken("routes-unseen", word="vhds")(
        lambda envoy: envoy.manager["route_config"].update(vhds={"config_source": SOURCE})
    ),
    "routes of an extension": broken("routes-unseen", word="route_specifiers")(
        lambda envoy: envoy.hosts[0].update(route_specifiers=[{"name": "x"}])
    ),
}
"""Files that this Envoy does not take, or not so."""

HARMLESS: Final[dict[str, Spoilt]] = {
    "the same filter for upgrades": broken()(upgrade),
    "a route bounds its own streams": broken()(
        lambda envoy: unbounded(envoy, timeout="0s", max_stream_duration={"max_stream_duration": "600s"})
    ),
    "the sidecar by name on a route": broken()(
        lambda envoy: envoy.off(
            envoy.routes[0],
            **{"@type": PER_ROUTE, "check_settings": {"grpc_service": {"envoy_grpc": {"cluster_name": "authz"}}}},
        )
    ),
}
