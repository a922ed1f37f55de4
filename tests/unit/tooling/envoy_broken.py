"""Envoy configurations that are broken in one way each, and what a review must find in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from authz.config.model import Config
from authz.tooling.envoy_config.bootstrap import bootstrap
from authz.tooling.envoy_config.derive import derive
from authz.tooling.envoy_config.forwarded_headers import FORWARDED_HEADERS
from authz.tooling.envoy_config.fragments import V3, assignment, connection_manager, router
from tests.unit.tooling.envoy_samples import sample

Data = Any
AUTHZ: Final = "envoy.filters.http.ext_authz"
PER_ROUTE: Final = f"{V3}.filters.http.ext_authz.v3.ExtAuthzPerRoute"
OPEN_ROUTES: Final = ("route-not-checked", "route-not-checked", "receiver-not-reached")


def good(config: Config) -> Data:
    """The bootstrap that fits."""
    return bootstrap(derive(config), listen="0.0.0.0:8080", upstream="127.0.0.1:3000")


class Envoy:
    """A bootstrap to be broken: its parts by short names."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.listeners = data["static_resources"]["listeners"]
        self.clusters = data["static_resources"]["clusters"]
        self.manager = self.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"]
        self.filters = self.manager["http_filters"]
        self.authz = self.filters[0]["typed_config"]
        self.hosts = self.manager["route_config"]["virtual_hosts"]
        self.routes = self.hosts[0]["routes"]
        self.cluster = self.clusters[0]

    def off(self, at: Data, **settings: object) -> None:
        """Switch the filter off at one level of the routes."""
        at["typed_per_filter_config"] = {AUTHZ: settings or {"@type": PER_ROUTE, "disabled": True}}

    def behind(self, kind: str, **settings: object) -> None:
        """Put a filter between ours and the router."""
        self.filters.insert(1, {"name": f"my.{kind}", "typed_config": {"@type": f"{V3}.x.v3.{kind}", **settings}})

    def second(self, to: str, **changes: object) -> None:
        """Add a listener without authorization."""
        route = {"match": {"prefix": "/"}, "route": {"cluster": to}}
        manager = {
            "@type": self.manager["@type"],
            "stat_prefix": "second",
            **connection_manager(derive(sample("unix"))),
            "http_filters": [router()],
            "route_config": {"virtual_hosts": [{"name": "second", "domains": ["*"], "routes": [route]}]},
            **changes,
        }
        address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
        chain = {"filters": [{"name": "second", "typed_config": manager}]}
        self.listeners.append({"name": "second", "address": address, "filter_chains": [chain]})


@dataclass(frozen=True)
class Spoilt:
    """What is done to a good file, and what is said of it: names of findings, and a word of the path or detail."""

    spoil: Callable[[Envoy], object]
    names: tuple[str, ...]
    word: str = ""
    config: str = "unix"
    workers: int = 1


def broken(*names: str, word: str = "", config: str = "unix", workers: int = 1) -> Callable[..., Spoilt]:
    """Say what must be found."""
    return lambda spoil: Spoilt(spoil, names, word, config, workers)


def set_in(part: str, **settings: object) -> Callable[[Envoy], None]:
    """Change keys of one part; None removes one."""

    def spoil(envoy: Envoy) -> None:
        settled: dict[str, object] = getattr(envoy, part)
        settled.update(settings)
        for key in [key for key, value in settings.items() if value is None]:
            del settled[key]

    return spoil


def early(envoy: Envoy, mutations: list[object]) -> object:
    """Remove other headers early than those that should be."""
    removal: object = envoy.manager["early_header_mutation_extensions"][0]["typed_config"].update(mutations=mutations)
    return removal


def off_and_kept(envoy: Envoy) -> None:
    """A route that is off, and nothing removed early."""
    envoy.off(envoy.routes[0])
    del envoy.manager["early_header_mutation_extensions"]


def off_and_removed_by_route(envoy: Envoy) -> None:
    """The same, and the host removes the headers."""
    off_and_kept(envoy)
    envoy.hosts[0]["request_headers_to_remove"] = ["X-Auth-Subject", "x-auth.v1+org"]


def off_in_weighted(envoy: Envoy) -> None:
    """The filter is off for one of the clusters that share a route."""
    weighted = {"name": "upstream", "weight": 1}
    envoy.off(weighted)
    envoy.routes[0]["route"] = {"weighted_clusters": {"clusters": [weighted]}}


def off_and_on_again(envoy: Envoy) -> None:
    """The host switches it off, the route says more, and so it is on."""
    envoy.off(envoy.hosts[0])
    envoy.off(envoy.routes[0], **{"@type": PER_ROUTE, "check_settings": {"context_extensions": {"k": "v"}}})


def wrapped_in_matcher(envoy: Envoy) -> None:
    """A matcher stands around the filter."""
    inner = {"name": "x", "typed_config": dict(envoy.authz)}
    kind = f"{V3}.common.matching.v3.ExtensionWithMatcher"
    envoy.filters[0]["typed_config"] = {"@type": kind, "extension_config": inner}


def camel_case(envoy: Envoy) -> None:
    """The other spelling of protobuf's names."""
    envoy.authz["failureModeAllow"] = True
    del envoy.authz["failure_mode_allow"]


MUTATION: Final = {"request_mutations": [{"append": {"header": {"key": "X-Auth_Subject", "value": "root"}}}]}
ROUTE_BY_SUBJECT: Final = {"prefix": "/", "headers": [{"name": "x-auth-subject", "string_match": {"exact": "a"}}]}
WIDE_OPEN: Final = {"numerator": 0, "denominator": "HUNDRED"}

CASES: Final[dict[str, Spoilt]] = {
    "no filter": broken("identity-kept", "not-checked")(
        lambda envoy: (envoy.filters.pop(0), envoy.manager.pop("early_header_mutation_extensions"))
    ),
    "no filter, headers removed": broken("not-checked", word="http_filters")(lambda envoy: envoy.filters.pop(0)),
    "a second listener around it": broken("not-checked", word="listeners[1]")(lambda envoy: envoy.second("upstream")),
    "a listener to elsewhere": broken("other-listener", word="it leads to admin")(lambda envoy: envoy.second("admin")),
    "a listener with routes from elsewhere": broken("not-checked", "routes-unseen")(
        lambda envoy: envoy.second("", rds={"route_config_name": "x"}, route_config=None)
    ),
    "a cluster that a header names": broken("not-checked")(
        lambda envoy: envoy.second(
            "", route_config={"virtual_hosts": [{"routes": [{"match": {}, "route": {"cluster_header": "x-to"}}]}]}
        )
    ),
    "TCP around it": broken("tcp-around", word="upstream")(
        lambda envoy: envoy.listeners.append({"typed_config": {"@type": f"{V3}.x.TcpProxy", "cluster": "upstream"}})
    ),
    "nothing at all": broken("nothing-found")(lambda envoy: envoy.data.clear()),
    "behind the router": broken("after-router")(lambda envoy: envoy.filters.reverse()),
    "upgrades of their own": broken("upgrade-not-checked", word="websocket")(
        set_in("manager", upgrade_configs=[{"upgrade_type": "websocket", "filters": [router()]}])
    ),
    "switched off": broken("filter-off")(lambda envoy: envoy.filters[0].update(disabled=True)),
    "in a matcher": broken("filter-conditional")(wrapped_in_matcher),
    "sampled": broken("filter-sampled", word="filter_enabled")(
        set_in("authz", filter_enabled={"default_value": WIDE_OPEN})
    ),
    "asked by metadata": broken("filter-sampled", word="metadata")(
        set_in("authz", filter_enabled_metadata={"filter": "x"})
    ),
    "fails open": broken("fails-open")(set_in("authz", failure_mode_allow=True)),
    "fails open, in camel case": broken("fails-open", word="failureModeAllow")(camel_case),
    "fails open with headers": broken("claims-pass", "fails-open", "identity-kept", word="x-auth-subject")(
        lambda envoy: (early(envoy, []), envoy.authz.update(failure_mode_allow=True))
    ),
    "a route that is off": broken("route-not-checked", word="routes[0]")(lambda envoy: envoy.off(envoy.routes[0])),
    "a host that is off": broken("route-not-checked", word="virtual_hosts[0].typed")(
        lambda envoy: envoy.off(envoy.hosts[0])
    ),
    "all routes off": broken("route-not-checked", word="route_config.typed")(
        lambda envoy: envoy.off(envoy.manager["route_config"])
    ),
    "off by FilterConfig": broken("route-not-checked")(
        lambda envoy: envoy.off(envoy.routes[0], **{"@type": "x.v3.FilterConfig", "disabled": True})
    ),
    "off inside FilterConfig": broken("route-not-checked")(
        lambda envoy: envoy.off(envoy.routes[0], **{"@type": "x.v3.FilterConfig", "config": {"disabled": True}})
    ),
    "off for a weighted cluster": broken("route-not-checked", word="weighted_clusters")(off_in_weighted),
    "off and its headers kept": broken("claims-pass", "identity-kept", "route-not-checked", word="x-auth-subject")(
        off_and_kept
    ),
    "claims of clients": broken("claims-pass", word="forwarded, x-forwarded-host, x-forwarded-server, x-host, x-")(
        lambda envoy: early(envoy, [{"remove": "x-auth-subject"}, {"remove": "x-auth.v1+org"}])
    ),
    "all claims but one removed": broken("claims-pass", word="x-rewrite-url (")(
        lambda envoy: (
            early(envoy, [{"remove": "x-auth-subject"}, {"remove": "x-auth.v1+org"}]),
            envoy.hosts[0].update(
                request_headers_to_remove=[name for name in FORWARDED_HEADERS if name != "x-rewrite-url"]
            ),
        )
    ),
    "a claim with an underscore": broken("claims-pass", "underscores", word="script_name (")(
        lambda envoy: (
            envoy.manager["common_http_protocol_options"].update(headers_with_underscores_action="ALLOW"),
            envoy.hosts[0].update(
                request_headers_to_remove=[name for name in FORWARDED_HEADERS if name != "script_name"]
            ),
            early(envoy, [{"remove": "x-auth-subject"}, {"remove": "x-auth.v1+org"}]),
        )
    ),
    "a cache in front": broken("cached")(
        lambda envoy: envoy.filters.insert(0, {"name": "c", "typed_config": {"@type": f"{V3}.cache.v3.CacheConfig"}})
    ),
    "admin for all": broken("admin-exposed", word="0.0.0.0")(  # noqa: S104 - to be found
        lambda envoy: envoy.data["admin"]["address"]["socket_address"].update(address="0.0.0.0")  # noqa: S104
    ),
    "routes from elsewhere": broken("routes-unseen")(set_in("manager", rds={"route_config_name": "x"})),
    "paths as they come": broken("path-not-normalized")(set_in("manager", normalize_path=False)),
    "paths unset": broken("path-not-normalized", word="it is not set")(set_in("manager", normalize_path=None)),
    "slashes as they come": broken("slashes-not-merged")(set_in("manager", merge_slashes=False)),
    "slashes merged though accepted": broken("slashes-merged", config="odd paths")(
        set_in("manager", merge_slashes=True)
    ),
    "escapes refused though accepted": broken("escaped-slashes-refused", config="odd paths")(
        set_in("manager", path_with_escaped_slashes_action="REJECT_REQUEST")
    ),
    "escapes as they come": broken("escaped-slashes")(
        set_in("manager", path_with_escaped_slashes_action="KEEP_UNCHANGED")
    ),
    "underscores": broken("underscores")(set_in("manager", common_http_protocol_options=None)),
    "client's own address": broken("client-address")(set_in("manager", use_remote_address=False)),
    "a proxy that counts as a client": broken("proxies-are-clients", word="xff_num_trusted_hops", config="throttled")(
        set_in("manager", xff_num_trusted_hops=1)
    ),
    "another way to find clients behind a proxy": broken("proxies-are-clients", config="throttled")(
        set_in("manager", original_ip_detection_extensions=[{"name": "envoy.http.original_ip_detection.xff"}])
    ),
    "a proxy whose header is not sent on": broken(
        "headers-hidden", word="x-forwarded-for", config="throttled behind a proxy"
    )(set_in("authz", allowed_headers={"patterns": [{"exact": "authorization"}, {"exact": "connection"}]})),
    "public internals": broken("internal-trust", word="0.0.0.0/0")(
        set_in(
            "manager",
            internal_address_config={
                "cidr_ranges": [
                    {"address_prefix": "10.0.0.0", "prefix_len": 8},
                    {"address_prefix": "0.0.0.0", "prefix_len": 0},  # noqa: S104 - to be found
                    {"address_prefix": "x"},
                ]
            },
        )
    ),
    "client's own request id": broken("request-id")(set_in("manager", preserve_external_request_id=True)),
    "headers too short": broken("headers-too-short")(set_in("manager", max_request_headers_kb={"value": 16})),
    "a mutation behind": broken("written-behind", word="x-auth_subject")(
        lambda envoy: envoy.behind("HeaderMutation", mutations=MUTATION)
    ),
    "a mutation of the path behind": broken("written-behind", word=":path")(
        lambda envoy: envoy.behind(
            "HeaderMutation", mutations={"request_mutations": [{"append": {"header": {"key": ":path", "value": "/"}}}]}
        )
    ),
    "a mutation by route": broken("written-behind", word="typed_per_filter_config")(
        lambda envoy: (
            envoy.behind("HeaderMutation"),
            envoy.routes[0].update(typed_per_filter_config={"my.HeaderMutation": {"mutations": MUTATION}}),
        )
    ),
    "another judge behind": broken("written-behind", word="x-auth-subject")(
        lambda envoy: envoy.behind(
            "JwtAuthentication",
            providers={"p": {"claim_to_headers": [{"header_name": "x-auth-subject", "claim_name": "sub"}]}},
        )
    ),
    "Lua that writes": broken("written-behind", word="x-auth-subject")(
        lambda envoy: envoy.behind("Lua", inline_code='handle:headers():replace("x-auth-subject", "root")')
    ),
    "Lua that reads": broken("may-write-behind", word="my.Lua")(
        lambda envoy: envoy.behind(
            "Lua", default_source_code={"inline_string": 'handle:headers():get("x-auth-subject")'}
        )
    ),
    "Go": broken("may-write-behind")(lambda envoy: envoy.behind("golang.v3alpha.Config")),
    "a route that writes": broken("routes-write", word="x-auth-subject")(
        lambda envoy: envoy.routes[0].update(request_headers_to_add=[{"header": {"key": "x-auth-subject"}}])
    ),
    "routed by identity": broken("route-cache", word="x-auth-subject")(
        lambda envoy: envoy.routes[0].update(match=ROUTE_BY_SUBJECT)
    ),
    "an error as success": broken("error-status", word="OK")(set_in("authz", status_on_error={"code": "OK"})),
    "an error as redirect": broken("error-status", word="302")(set_in("authz", status_on_error={"code": 302})),
    "over HTTP": broken("over-http")(set_in("authz", http_service={}, grpc_service=None)),
    "impatient": broken("timeout-short", word="0.2s; the sidecar may take 2050 ms", config="patient")(
        lambda envoy: envoy.authz["grpc_service"].update(timeout="0.2s")
    ),
    "impatient by default": broken("timeout-short", word="Envoy's default", config="patient")(
        lambda envoy: envoy.authz["grpc_service"].pop("timeout")
    ),
    "with bodies": broken("body-sent")(set_in("authz", with_request_body={"max_request_bytes": 8192})),
    "with long bodies": broken("body-too-long")(set_in("authz", with_request_body={"max_request_bytes": 8 << 20})),
    "headers not allowed": broken("headers-hidden", word="authorization, cookie, origin", config="cookies")(
        set_in("authz", allowed_headers={"patterns": [{"prefix": "x-"}]})
    ),
    "headers disallowed": broken("headers-hidden", word="authorization")(
        set_in("authz", disallowed_headers={"patterns": [{"exact": "Authorization", "ignore_case": True}]})
    ),
    "no proofs": broken("headers-hidden", word="dpop", config="proofs")(
        set_in("authz", allowed_headers={"patterns": [{"exact": "authorization"}, {"exact": "connection"}]})
    ),
    "proofs not to be removed": broken("mutations-refused", word="dpop", config="proofs")(
        set_in("authz", decoder_header_mutation_rules={"disallow_all": True, "allow_expression": {"regex": "x-.*"}})
    ),
    "checks with proofs sent again": broken("check-repeated", word="retry_policy", config="proofs")(
        lambda envoy: envoy.authz["grpc_service"].update(retry_policy={"num_retries": 1})
    ),
    "checks with proofs sent again by Envoy's own client": broken("check-repeated", config="proofs")(
        lambda envoy: envoy.authz["grpc_service"]["envoy_grpc"].update(retry_policy={"num_retries": 1})
    ),
    "headers not to be written": broken("mutations-refused", word="x-auth-subject")(
        set_in("authz", decoder_header_mutation_rules={"disallow_all": True, "allow_expression": {"regex": "x"}})
    ),
    "headers forbidden": broken("mutations-refused", word="x-auth-subject")(
        set_in("authz", decoder_header_mutation_rules={"disallow_expression": {"regex": "x-auth.*"}})
    ),
    "another service by route": broken("asks-elsewhere")(
        lambda envoy: envoy.off(envoy.routes[0], check_settings={"grpc_service": {"envoy_grpc": {"cluster_name": "o"}}})
    ),
    "another cluster": broken("cluster-unseen", word="gone")(
        lambda envoy: envoy.authz["grpc_service"]["envoy_grpc"].update(cluster_name="gone")
    ),
    "HTTP/1.1": broken("over-http1")(set_in("cluster", typed_extension_protocol_options=None)),
    "a worker that nobody asks": broken("endpoints-missing", word="authz-2.sock", workers=3)(
        lambda envoy: envoy.cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].pop()
    ),
    "another port": broken("endpoints-missing", word="9192", config="loopback", workers=2)(
        lambda envoy: envoy.cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].pop()
    ),
    "a low breaker": broken("breaker-low", word="255", config="unix")(
        lambda envoy: envoy.cluster["circuit_breakers"]["thresholds"][0].update(max_requests=255)
    ),
    "a high breaker": broken("breaker-high", word="257", config="unix")(
        lambda envoy: envoy.cluster["circuit_breakers"]["thresholds"][0].update(max_requests=257)
    ),
    "the default breaker": broken("breaker-low", "breaker-low", config="busy")(
        set_in("cluster", circuit_breakers={"thresholds": [{"priority": "HIGH", "max_requests": 90_000}]})
    ),
    "plaintext": broken("in-plaintext", config="mutual TLS")(set_in("cluster", transport_socket=None)),
    "any certificate": broken("not-verified", word="match_typed", config="mutual TLS")(
        lambda envoy: envoy.cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"].pop(
            "match_typed_subject_alt_names"
        )
    ),
    "any authority": broken("not-verified", word="trusted_ca", config="TLS")(
        lambda envoy: envoy.cluster["transport_socket"]["typed_config"]["common_tls_context"].clear()
    ),
    "no health check": broken("no-health-check")(set_in("cluster", health_checks=None)),
    "a receiver that wants tokens": broken("receiver-checked", word="routes[0]", config="receiving")(
        lambda envoy: envoy.routes[0].pop("typed_per_filter_config")
    ),
    "a receiver without a route": broken("receiver-not-reached", config="receiving")(
        lambda envoy: envoy.routes.__delitem__(slice(0, 4))
    ),
    "a receiver for many": broken("receiver-crowded", word="1024; the receiver holds 64", config="receiving")(
        lambda envoy: envoy.clusters[1].pop("circuit_breakers")
    ),
    "a receiver for some more": broken("receiver-crowded", word="65", config="receiving")(
        lambda envoy: envoy.clusters[1]["circuit_breakers"]["thresholds"][0].update(max_connections=65)
    ),
    "an upstream at the receiver's port": broken(*OPEN_ROUTES, config="receiving")(
        lambda envoy: envoy.clusters[1].update(
            load_assignment=assignment("authz-receiver", ("10.0.0.1:9193",)), circuit_breakers={}
        )
    ),
    "copies of what a receiver gets": broken("route-not-checked", word="routes[0]", config="receiving")(
        lambda envoy: envoy.routes[0]["route"].update(request_mirror_policies=[{"cluster": "upstream"}])
    ),
    "a receiver and an upstream": broken(*OPEN_ROUTES, config="receiving")(
        lambda envoy: envoy.clusters[1].update(
            load_assignment=assignment("authz-receiver", ("127.0.0.1:9193", "127.0.0.1:3000"))
        )
    ),
}

HARMLESS: Final[dict[str, Spoilt]] = {
    "its own names": broken()(lambda envoy: envoy.filters[0].update(name="my-authz")),
    "asked about all": broken()(
        set_in("authz", filter_enabled={"default_value": {"numerator": 10_000, "denominator": "TEN_THOUSAND"}})
    ),
    "clients of a proxy that is trusted": broken(config="throttled behind a proxy")(
        set_in("manager", xff_num_trusted_hops=1)
    ),
    "peers that are clients": broken(config="throttled")(lambda _: None),
    "hops and no throttle": broken()(set_in("manager", xff_num_trusted_hops=1)),
    "upgrades like the rest": broken()(set_in("manager", upgrade_configs=[{"upgrade_type": "websocket"}])),
    "removed early by name": broken("claims-pass", "fails-open")(
        lambda envoy: (
            early(envoy, [{"remove": "x-auth-subject"}, {"remove": "x-auth.v1+org"}]),
            envoy.authz.update(failure_mode_allow=True),
        )
    ),
    "off and removed by the route": broken("claims-pass", "route-not-checked")(off_and_removed_by_route),
    "off and on again": broken()(off_and_on_again),
    "escapes that a rule accepts": broken(config="odd paths")(lambda _: None),
    "routed anew": broken()(
        lambda envoy: (envoy.routes[0].update(match=ROUTE_BY_SUBJECT), envoy.authz.update(clear_route_cache=True))
    ),
    "no answer of Envoy's is a way": broken()(
        lambda envoy: (
            envoy.second("", route_config={"virtual_hosts": [{"routes": [{"direct_response": {}}]}]})
            or envoy.listeners.pop()
        )
    ),
    "headers that are enough": broken()(
        set_in("authz", allowed_headers={"patterns": [{"exact": "authorization"}, {"suffix": "nection"}]})
    ),
    "rules that leave ours": broken()(set_in("authz", decoder_header_mutation_rules={"allow_all_routing": False})),
    "no timeout": broken()(lambda envoy: envoy.authz["grpc_service"].update(timeout="0s")),
    "a receiver behind a listener of its own": broken("other-listener", config="receiving")(
        lambda envoy: envoy.second("authz-receiver")
    ),
    "a receiver at the sidecar's address": broken(config="receiving elsewhere")(lambda _: None),
    "a mutation of other headers": broken()(
        lambda envoy: envoy.behind(
            "HeaderMutation",
            mutations={"request_mutations": [{"append": {"header": {"key": "x-other"}}}, {"remove": "y"}]},
        )
    ),
}
