"""Proves that ci/proxy-full-values.yaml, which has every feature of mode proxy, becomes ready in a real cluster."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
import trustme
import yaml

from authz.demo.client import Answer, send
from authz.demo.upstream import echo_server
from tests.chart.harness import seen
from tests.chart.helm import Charts, Document
from tests.cluster.apiserver import Cluster
from tests.cluster.controllers import running_jobs
from tests.cluster.kubelet import Node, pod_of, running
from tests.cluster.sidecar import way_into
from tests.fakes.ports import free_address

pytestmark = pytest.mark.needs("cluster", "helm", "envoy")

NAMESPACE: Final = "proxy-full"
EDGE: Final = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "edge"},
    "value": 1000,
}


def secret(name: str, **files: bytes) -> Document:
    """A Secret; `_` stands for the dot in the names of its files."""
    data = {file.replace("_", "."): base64.b64encode(blob).decode() for file, blob in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


@dataclass(frozen=True, slots=True)
class Front:
    """The release, as a pod that runs, and what its Envoy listens on."""

    node: Node
    url: str
    admin: str
    tls: ssl.SSLContext
    said: list[str]

    def ask(self, path: str, token: str | None = None) -> Answer:
        """Send one request, as the trusted proxy in front of Envoy does."""
        bearer = [] if token is None else [("Authorization", f"Bearer {token}")]
        return send(f"{self.url}{path}", headers=[("X-Forwarded-For", "203.0.113.1"), *bearer], tls=self.tls)


@pytest.fixture(scope="module")
def front(cluster: Cluster, charts: Charts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The values file, installed by Helm; of it only ports, the upstream and the way to the API server are others."""
    cluster.apply(EDGE)
    cluster.make_namespace(NAMESPACE)
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    cluster.apply(
        secret("orders-tls", tls_crt=chain, tls_key=leaf.private_key_pem.bytes()),
        secret("partner-ca", ca_crt=ca.cert_pem.bytes()),
        namespace=NAMESPACE,
    )
    ports = {name: int(free_address().rpartition(":")[2]) for name in ("front", "telemetry", "admin", "envoy")}
    file = tmp_path_factory.mktemp("values") / "here.yaml"
    with echo_server() as upstream, way_into(cluster) as proxy:
        changes: dict[str, Any] = {
            "authz": {
                "adminPort": ports["admin"],
                # Of a slow machine; the sidecar's own patience is as in the file.
                "envoy": {"timeoutMilliseconds": 60_000},
                "config": {"issuers": {"cluster": {"fetch": {"proxy": f"http://127.0.0.1:{proxy.port}"}}}},
            },
            "proxy": {
                "port": ports["front"],
                "telemetryPort": ports["telemetry"],
                "upstream": {
                    "host": "127.0.0.1",
                    "port": upstream.port,
                    "protocol": "http1",
                    "tls": {"enabled": False},
                },
            },
        }
        file.write_text(yaml.safe_dump(changes), encoding="utf-8")
        values = ("--values", charts.app / "ci/proxy-full-values.yaml", "--values", file)
        with running_jobs(cluster, NAMESPACE) as said:
            cluster.helm("helm4", "install", "orders", charts.app, "--namespace", NAMESPACE, *values)
        deployment = cluster.get("deployment", "orders-authz", NAMESPACE)
        pod = cluster.create(pod_of(deployment, "orders-authz-0"))
        with running(cluster, pod, envoy_admin=ports["envoy"]) as node:
            context = ssl.create_default_context()
            ca.configure_trust(context)
            admin = f"http://127.0.0.1:{ports['admin']}"
            yield Front(node, f"https://127.0.0.1:{ports['front']}", admin, context, said)
        cluster.helm("helm4", "uninstall", "orders", "--namespace", NAMESPACE)  # it has a port of the nodes


def caller(cluster: Cluster, audience: str, *, bound: bool = True) -> str:
    """The token of a pod in the cluster, or one of its account alone."""
    pod = cluster.get("pod", "orders-authz-0", NAMESPACE) if bound else None
    return cluster.token(NAMESPACE, "orders-authz", audience=audience, pod=pod)


def test_the_check_of_the_configuration_ran_first(front: Front) -> None:
    """Helm waited for the Job, which found nothing to object to."""
    assert front.said
    assert "error" not in "".join(front.said)


def test_it_becomes_ready_by_the_keys_of_the_api_server(front: Front) -> None:
    """The required issuer's keys are there: fetched with the cluster's authority and the pod's own token."""
    assert send(f"{front.admin}/readyz").status == 200
    issuers = {one["issuer"]: one for one in send(f"{front.admin}/keys").json()["issuers"]}
    assert {key["kty"] for key in issuers["cluster"]["keys"]} == {"RSA", "EC"}
    assert issuers["partner"]["keys"] == []


def test_pod_of_the_cluster_passes(cluster: Cluster, front: Front) -> None:
    """A pod's token for the audience passes, and its identity arrives."""
    headers = seen(front.ask("/files/7", caller(cluster, "orders-api")))
    assert headers["x-auth-subject"] == f"system:serviceaccount:{NAMESPACE}:orders-authz"
    assert headers["x_auth_issuer"] == "https://kubernetes.default.svc"
    assert "authorization" not in headers


def test_others_do_not(cluster: Cluster, front: Front) -> None:
    """No token, one for another audience, and one that is bound to no pod, are refused."""
    assert front.ask("/files/7").status == 401
    assert front.ask("/files/7", caller(cluster, "billing")).status == 401
    assert front.ask("/files/7", caller(cluster, "orders-api", bound=False)).status == 401
    assert front.ask("/elsewhere", caller(cluster, "orders-api")).status == 403


def test_open_routes_stay_open(front: Front) -> None:
    """What the file takes out of authorization, and what a rule makes public, needs no token."""
    assert front.ask("/static/logo.svg").status == 200
    assert front.ask("/healthz").status == 200
