"""What the charts render for Envoy and for the sidecar, evaluated by Envoy and by the sidecar."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from authz.config.address import worker_addresses
from authz.config.load import parse
from authz.demo.envoy import binary
from tests.chart.helm import DEPLOY, Charts, Document, only

pytestmark = pytest.mark.needs("helm", "envoy")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Certificates under the names that a Secret gives them."""
    ca = trustme.CA()
    server = ca.issue_cert("orders")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    server.private_key_pem.write_to_path(str(tmp_path / "tls.key"))
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "tls.crt"))
    return tmp_path


def judge(bootstrap: str, folder: Path) -> str:
    """What Envoy says of a bootstrap; its mounts are this folder."""
    for mount in ("/etc/envoy-upstream-tls", "/etc/envoy-authz-tls", "/etc/envoy-tls", "/etc/envoy"):
        bootstrap = bootstrap.replace(mount, str(folder))
    (folder / "envoy.yaml").write_text(bootstrap, encoding="utf-8")
    argv = [str(binary()), "--mode", "validate", "--log-level", "warning", "--config-path", str(folder / "envoy.yaml")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def data(documents: list[Document], key: str) -> list[str]:
    """The texts under a key of any ConfigMap that stays, which that of the check does not."""
    kept = [document for document in documents if "helm.sh/hook" not in document["metadata"].get("annotations", {})]
    maps = [document["data"] for document in kept if document["kind"] == "ConfigMap"]
    return [found[key] for found in maps if key in found]


def test_envoy_takes_every_bootstrap(charts: Charts, files: Path) -> None:
    """`envoy --mode validate` takes what mode proxy and the consumer's chart render, and finds nothing deprecated."""
    judged = 0
    for chart, values in charts.cases:
        documents = charts.case(chart, values)
        for secret in data(documents, "tls.yaml"):
            (files / "tls.yaml").write_text(secret.replace("/etc/envoy-tls", str(files)), encoding="utf-8")
        for bootstrap in data(documents, "envoy.yaml"):
            judged += 1
            assert "deprecated" not in judge(bootstrap, files).lower()
    assert judged == 4


@pytest.mark.parametrize("name", ["server", "server-mesh", "config-only"])
def test_envoy_takes_the_pieces(charts: Charts, files: Path, name: str) -> None:
    """Put together as their names say, the pieces for an Envoy elsewhere are a valid bootstrap."""
    documents = charts.case(charts.app, charts.app / f"ci/{name}-values.yaml")
    pieces = {key.removesuffix(".yaml"): yaml.safe_load(text) for key, text in only_pieces(documents).items()}
    router: dict[str, Any] = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }
    kind = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    received, clusters = pieces.get("receiver_routes", []), [*pieces["cluster"], *pieces.get("receiver_cluster", [])]
    manager = {
        "@type": kind,
        "stat_prefix": "front",
        **pieces["connection_manager"],
        "access_log": pieces["access_log"],
        "http_filters": [*pieces["http_filters"], router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [*received, route]}]},
    }
    network_filter = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    listener = {
        "name": "front",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [network_filter]}],
    }
    judge(yaml.safe_dump({"static_resources": {"listeners": [listener], "clusters": clusters}}), files)


def only_pieces(documents: list[Document]) -> dict[str, str]:
    """The ConfigMap of the pieces."""
    pieces: dict[str, str] = only(documents, "ConfigMap", name="orders-authz-envoy")["data"]
    return pieces


def test_headers_that_a_service_needs_are_kept(charts: Charts) -> None:
    """Named in keepHeaders, or read by a condition: such a header of clients is not removed, and others are."""
    rule = {"name": "shop", "require": {"when": 'request.headers["x-forwarded-prefix"] == "/shop"'}}
    changes = {"authz": {"envoy": {"keepHeaders": ["x-forwarded-host"]}, "config": {"rules": [rule]}}}
    manager = only_pieces(charts.with_values("config-only", changes))["connection_manager.yaml"]
    assert "x[-_]forwarded[-_]server" in manager
    assert "x[-_]forwarded[-_]host" not in manager
    assert "x[-_]forwarded[-_]prefix" not in manager


@pytest.mark.parametrize(
    ("workers", "sockets", "ports"),
    [(1, ["authz.sock"], [9191]), (3, ["authz-0.sock", "authz-1.sock", "authz-2.sock"], [9191, 9192, 9193])],
)
def test_one_endpoint_for_each_worker(charts: Charts, workers: int, sockets: list[str], ports: list[int]) -> None:
    """The cluster lists what the configuration makes: a socket for each, or the pods' ports behind one name."""
    pipes = [{"pipe": {"path": f"/run/authz/{name}"}} for name in sockets]
    named = [{"socket_address": {"address": "orders-authz.shop.svc", "port_value": port}} for port in ports]
    changes = {"authz": {"adminPort": 9199, "config": {"server": {"workers": workers}}}}
    for name, addresses in (("config-only", pipes), ("server", named)):
        documents = charts.with_values(name, changes)
        (cluster,) = yaml.safe_load(only_pieces(documents)["cluster.yaml"])
        (endpoints,) = cluster["load_assignment"]["endpoints"]
        assert [one["endpoint"]["address"] for one in endpoints["lb_endpoints"]] == addresses
        (config,) = data(documents, "authz.yaml")
        listen = parse(config, file="authz.yaml").server.listen
        bound = [
            address.rpartition("/" if name == "config-only" else ":")[2]
            for address in worker_addresses(listen, workers)
        ]
        assert bound == (sockets if name == "config-only" else [str(port) for port in ports])


def test_breaker_opens_at_what_all_workers_take(charts: Charts) -> None:
    """Envoy turns away what the sidecar would have to refuse, however many workers there are."""
    for changes, most in (({}, 256), ({"workers": 3}, 768), ({"workers": 2, "max_concurrent": 1000}, 2000)):
        documents = charts.with_values("config-only", {"authz": {"config": {"server": changes}}})
        (cluster,) = yaml.safe_load(only_pieces(documents)["cluster.yaml"])
        (threshold,) = cluster["circuit_breakers"]["thresholds"]
        assert threshold == {"max_requests": most, "max_pending_requests": most}


def test_sidecar_may_write_its_headers_and_no_others(charts: Charts) -> None:
    """The mutation rules name the identity headers in both spellings, and the sources of tokens that are withheld."""
    documents = charts.case(charts.app, charts.app / "ci/proxy-full-values.yaml")
    (text,) = data(documents, "envoy.yaml")
    assert 'regex: "^(?:x[-_]auth[-_]subject|x[-_]auth[-_]issuer|authorization|cookie)$"' in text
    assert "disallow_all: true" in text
    assert "failure_mode_allow: false" in text


def test_sidecar_takes_every_configuration(charts: Charts, tmp_path: Path) -> None:
    """`authz check-config` takes every ConfigMap that is rendered, numbers and octal text included."""
    judged = 0
    for chart, values in charts.cases:
        for config in data(charts.case(chart, values), "authz.yaml"):
            judged += 1
            file = tmp_path / f"{judged}.yaml"
            file.write_text(config, encoding="utf-8")
            argv = [sys.executable, "-m", "authz", "check-config", str(file)]
            done = subprocess.run(argv, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    assert judged == 6


def test_envoy_takes_the_plain_bootstrap(files: Path) -> None:
    """The bootstrap that stands in deploy/envoy, for those who use no chart, is valid as it is."""
    judge((DEPLOY / "envoy/envoy.yaml").read_text(encoding="utf-8"), files)
