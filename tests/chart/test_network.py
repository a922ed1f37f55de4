"""Proves that the NetworkPolicy lets out what the configuration needs, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.chart.helm import HELMS, Charts, only

pytestmark = pytest.mark.needs("helm")

PEERS: Final = [{"podSelector": {"matchLabels": {"app": "found"}}}]
CLIENT: Final = {"bearer_token_file": "/var/run/secrets/tokens/asking"}
PUBLIC: Final = ["0.0.0.0/0", "2000::/3"]


def egress(
    charts: Charts,
    issuer: Mapping[str, Any] | None,
    policy: Mapping[str, Any] | None = None,
    *,
    name: str = "proxy",
    helm: str = "helm4",
    **authz: object,
) -> list[tuple[list[int], list[Any]]]:
    """The rules besides those of DNS and the upstream: ports, and addresses or peers."""
    config = {} if issuer is None else {"config": {"issuers": {"corporate": dict(issuer)}}}
    changes = {"networkPolicy": dict(policy or {}), "authz": {**config, **authz}}
    found = only(charts.with_values(name, changes, helm=helm), "NetworkPolicy", name="orders-authz")["spec"]["egress"]
    rules = [([port["port"] for port in rule["ports"]], rule["to"]) for rule in found]
    return [
        (ports, [peer["ipBlock"]["cidr"] if "ipBlock" in peer else peer for peer in peers])
        for ports, peers in rules
        if 53 not in ports and peers != [{"podSelector": {"matchLabels": {"app": "orders"}}}]
    ]


@pytest.mark.parametrize(
    ("issuer", "rules"),
    [
        ({}, [([443], PUBLIC)]),
        # AD FS: an http identifier is not fetched.
        (
            {"issuer": "http://fs.test/adfs/services/trust", "jwks_uri": "https://fs.test:8443/keys"},
            [([8443], PUBLIC)],
        ),
        ({"jwks_uris": ["https://a.test:8443/", "https://b.test/"]}, [([443, 8443], PUBLIC)]),
        ({"fetch": {"allowed_hosts": ["keys.test:9443"]}}, [([443, 9443], PUBLIC)]),
        ({"issuer": "https://10.1.2.3:8443/"}, [([8443], ["10.1.2.3/32"])]),
        ({"issuer": "https://[fd00::1]/"}, [([443], ["fd00::1/128"])]),
        ({"fetch": {"allowed_networks": ["10.20.0.0/16"]}}, [([443], PUBLIC), ([443], ["10.20.0.0/16"])]),
        ({"fetch": {"proxy": "http://10.0.0.9:3128"}}, [([3128], ["10.0.0.9/32"])]),
        ({"fetch": {"proxy": "http://10.0.0.9"}}, [([80], ["10.0.0.9/32"])]),
        ({"issuer": "http://127.0.0.1:8080/", "insecure": {"http": True}}, []),
        # Where tokens are asked about, beside the keys, or alone.
        ({"introspection": {"client": CLIENT, "url": "https://ask.test:9443/"}}, [([443, 9443], PUBLIC)]),
        (
            {"jwks": {"keys": []}, "introspection": {"client": CLIENT, "url": "https://10.1.2.3/"}},
            [([443], ["10.1.2.3/32"])],
        ),
        ({"introspection": {"client": CLIENT}}, [([443], PUBLIC)]),
    ],
    ids=str,
)
def test_the_issuer_can_be_asked(
    charts: Charts, issuer: Mapping[str, Any], rules: list[tuple[list[int], list[str]]]
) -> None:
    """For keys and about tokens: ports and addresses follow the URLs of the issuer, or its proxy."""
    assert egress(charts, issuer) == rules


@pytest.mark.parametrize(
    ("url", "rules"),
    [
        ("https://pdp.example.com:8443/access/v1/evaluation", [([443, 8443], PUBLIC)]),
        ("https://10.1.2.3/access/v1/evaluation", [([443], PUBLIC), ([443], ["10.1.2.3/32"])]),
        ("http://localhost:3592/access/v1/evaluation", [([443], PUBLIC)]),
        ("http://cerbos.shop.svc:3592/access/v1/evaluation", [([443, 3592], PEERS)]),
    ],
)
def test_a_pdp_can_be_asked(charts: Charts, url: str, rules: list[tuple[list[int], list[Any]]]) -> None:
    """Where issuers are, by its own port; in this pod without any rule."""
    policy = {"issuers": PEERS} if ".svc" in url else None
    pdps = {"p": {"url": url, "insecure": {"http": True}}}
    config = {"issuers": {"corporate": {}}, "pdps": pdps}
    assert sorted(egress(charts, None, policy, config=config)) == sorted(rules)


HUB: Final = {"issuer": "https://hub.test:7443", "audiences": ["us"], "revokes_for": ["corporate"]}


@pytest.mark.parametrize(
    ("revocation", "rules"),
    [
        (
            {"lists": {"ours": {"url": "https://lists.test:9443/l"}, "mine": {"file": "/lists/l"}}},
            [([443, 9443], PUBLIC)],
        ),
        ({"lists": {"ours": {"url": "https://10.1.2.3/l"}}}, [([443], PUBLIC), ([443], ["10.1.2.3/32"])]),
        (
            {"lists": {"ours": {"url": "https://lists.test/l", "proxy": "http://10.0.0.9:3128"}}},
            [([443], PUBLIC), ([3128], ["10.0.0.9/32"])],
        ),
        ({"transmitters": {"hub": {**HUB, "poll_url": "https://hub.test:8443/poll"}}}, [([443, 7443, 8443], PUBLIC)]),
    ],
    ids=str,
)
def test_revocations_can_be_fetched(
    charts: Charts, revocation: Mapping[str, Any], rules: list[tuple[list[int], list[str]]]
) -> None:
    """A required list that the policy keeps away would deny every request."""
    mounts = [{"name": "lists", "mountPath": "/lists"}]
    config = {"revocation": revocation}
    assert egress(charts, None, config=config, receiver={"enabled": True}, extraVolumeMounts=mounts) == rules


@pytest.mark.parametrize("helm", HELMS)
def test_what_has_a_name_is_where_the_values_say(charts: Charts, helm: str) -> None:
    """Peers for issuers in the cluster, for a proxy, and for the API server, at both of its ports."""
    inside = {"issuer": "https://keycloak.auth.svc:8443/"}
    assert egress(charts, inside, {"issuers": PEERS}, helm=helm) == [([8443], PEERS)]
    proxy = {"fetch": {"proxy": "http://user@proxy.corp.example:3128/"}}
    assert egress(charts, proxy, {"fetchProxy": PEERS}, helm=helm) == [([3128], PEERS)]
    for name in ("kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "kubernetes"):
        api = {"apiServer": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}
        assert egress(charts, {"issuer": f"https://{name}"}, api, helm=helm) == [([443, 6443], ["10.0.0.1/32"])]


@pytest.mark.parametrize(
    ("endpoint", "collector", "rules"),
    [
        ("http://otel.telemetry:14317", PEERS, [([14317], PEERS)]),
        ("otel:4317", PEERS, [([4317], PEERS)]),
        ("http://$(HOST_IP):4317", PEERS, [([4317], PEERS)]),
        ("http://10.9.9.9:4317", [], [([4317], ["10.9.9.9/32"])]),
        ("http://localhost:4317", [], []),
    ],
)
@pytest.mark.parametrize("signal", ["TRACES", "LOGS", "METRICS"])
def test_signals_can_leave(charts: Charts, signal: str, endpoint: str, collector: list[Any], rules: list[Any]) -> None:
    """The endpoint of the OTEL_* variables, in either place, opens its port to the collector."""
    by_name: dict[str, Any] = {"otel": {f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": endpoint}}
    by_list: dict[str, Any] = {"extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": endpoint}]}
    for authz in (by_name, by_list):
        assert egress(charts, {}, {"collector": collector}, **authz) == [([443], PUBLIC), *rules]


@pytest.mark.parametrize(
    ("url", "peers", "rules"),
    [
        ("rediss://valkey.shop.svc", PEERS, [([6379], PEERS)]),
        ("rediss://valkey.example.com:6390/1", PEERS, [([6390], PEERS)]),
        ("rediss://10.9.9.9:6380", [], [([6380], ["10.9.9.9/32"])]),
        ("redis://localhost", [], []),
    ],
)
def test_the_shared_state_can_be_reached(charts: Charts, url: str, peers: list[Any], rules: list[Any]) -> None:
    """Its port is open to the peers of the values, or to its address."""
    config = {"issuers": {"corporate": {}}, "shared_state": {"url": url}}
    assert egress(charts, None, {"sharedState": peers}, config=config) == [([443], PUBLIC), *rules]


AWS: Final = {"kind": "aws_kms", "key": "alias/authz"}
AZURE: Final = {"kind": "azure_key_vault", "key": f"https://vault.example.com/keys/k/{'0' * 32}"}


@pytest.mark.parametrize(
    ("key", "peers", "rules"),
    [
        (AWS, [], [([443], PUBLIC)]),
        (AWS, PEERS, [([443], PEERS)]),
        ({**AWS, "endpoint": "https://10.0.9.9:8443"}, [], [([8443], ["10.0.9.9/32"])]),
        ({**AWS, "endpoint": "https://kms.internal"}, PEERS, [([443], PEERS)]),
        (AZURE, [], [([443], PUBLIC)]),
        ({"kind": "memory"}, [], []),
    ],
    ids=str,
)
def test_a_key_service_can_be_reached(
    charts: Charts, key: Mapping[str, str], peers: list[Any], rules: list[tuple[list[int], list[str]]]
) -> None:
    """Beside issuers with peers of their own: at public addresses, at an address, or where the values say."""
    config = {"issuers": {"corporate": {}}, "signing": {"keys": {"main": key}}}
    found = egress(charts, None, {"issuers": PEERS, "keyServices": peers}, config=config)
    assert sorted(found, key=str) == sorted([([443], PEERS), *rules], key=str)


def test_a_server_that_exchanges_tokens_can_be_reached(charts: Charts) -> None:
    """At the port of its URL."""
    exchange = {"issuer": "corporate", "url": "https://sts.example.com:9443/token", "client": {"id": "gw"}}
    token = {"audience": ["orders"], "exchange": exchange}
    config = {"issuers": {"corporate": {}}, "identity": {"token": token}}
    assert egress(charts, None, config=config) == [([443, 9443], PUBLIC)]


def test_all_of_it_together(charts: Charts) -> None:
    """Every feature: DNS, issuers, the API server, the upstream, the collector, and what the values add."""
    full = charts.case(charts.app, charts.app / "ci/proxy-full-values.yaml")
    rules = only(full, "NetworkPolicy", name="orders-authz")["spec"]["egress"]
    assert [[port["port"] for port in rule.get("ports", [])] for rule in rules] == [
        [53, 53, 5353, 5353],
        [8443],
        [443, 6443],
        [8443],
        [4317],
        [],
    ]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rules[0]["to"]


def test_a_cloud_s_metadata_service_is_not_public(charts: Charts) -> None:
    """Private and link-local addresses are not among those that are allowed unasked."""
    plain = only(charts.case(charts.app, charts.app / "ci/proxy-values.yaml"), "NetworkPolicy", name="orders-authz")
    blocked = plain["spec"]["egress"][1]["to"][0]["ipBlock"]["except"]
    assert {"169.254.0.0/16", "10.0.0.0/8", "192.168.0.0/16"} <= set(blocked)


def test_a_configuration_of_the_operator_s_own_is_not_read(charts: Charts) -> None:
    """The chart cannot know its issuers: public addresses, port 443, or what the values say."""
    rules = egress(charts, None, name="existing-config")
    assert rules == [([443], PUBLIC)]
    assert egress(charts, None, {"issuerPorts": [8443]}, name="existing-config") == [([8443], PUBLIC)]
