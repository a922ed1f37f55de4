"""Proves that a real API server accepts every object of deploy/, strictly, where only `restricted` pods may run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.chart.helm import DEPLOY, HELMS, Charts, Document, only
from tests.cluster.apiserver import Cluster, Refused
from tests.cluster.kubelet import pod_of

pytestmark = pytest.mark.needs("cluster", "helm")

CASES: Final = [
    *sorted((DEPLOY / "charts/authz/ci").glob("*-values.yaml")),
    DEPLOY / "examples/own-chart/values.yaml",
]
EDGE: Final = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "edge"},
    "value": 1000,
}


def pods(documents: list[Document], namespace: str) -> Iterator[Document]:
    """The pods that these objects are or make, which no controller is there to make."""
    for document in documents:
        if document["kind"] == "Pod":
            yield document
        elif document["kind"] in {"Deployment", "StatefulSet", "Job"}:
            document["metadata"]["namespace"] = namespace
            yield pod_of(document, f"{document['metadata']['name']}-0")


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("values", CASES, ids=lambda file: file.stem)
def test_chart(cluster: Cluster, charts: Charts, values: Path, helm: str) -> None:
    """Each object of each values file, of hooks and tests too, by server-side apply; and each pod that they make."""
    cluster.apply(EDGE)
    namespace = cluster.make_namespace(f"{values.parent.parent.name}-{values.stem}-{helm}".lower())
    chart = charts.app if values.parent.name == "ci" else charts.consumer
    documents = charts.render(chart, "--values", values, helm=helm)
    cluster.apply(*documents, namespace=namespace)
    made = 0
    for pod in pods(documents, namespace):
        if pod["metadata"]["name"].endswith("-test"):
            continue  # it was applied
        if pod["spec"].get("serviceAccountName", "default") != "default":
            cluster.get("serviceaccount", pod["spec"]["serviceAccountName"], namespace)
        cluster.create(pod, namespace=namespace)
        made += 1
    assert made or "config-only" in values.stem
    cluster.kubectl("delete", "services", "--all", "--namespace", namespace)  # each has ports of the nodes


def test_restricted_is_enforced(cluster: Cluster, charts: Charts) -> None:
    """The proof above can fail: a pod that may become root is refused, and so is a field that is misspelt."""
    namespace = cluster.make_namespace("strict")
    documents = charts.case(charts.app, charts.app / "ci/proxy-values.yaml")
    (pod,) = (pod for pod in pods(documents, namespace) if pod["metadata"]["name"] == "orders-authz-0")
    cluster.apply(only(documents, "ServiceAccount"), namespace=namespace)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Refused, match=r'violates PodSecurity "restricted:latest": allowPrivilegeEscalation'):
        cluster.create(pod, namespace=namespace)
    service = only(documents, "Service")
    service["spec"]["prots"] = service["spec"].pop("ports")
    with pytest.raises(Refused, match="prots"):
        cluster.apply(service, namespace=namespace)


def test_kustomize(cluster: Cluster) -> None:
    """The example is built by kubectl itself, applied, and its pod may run."""
    cluster.make_namespace("shop")
    documents = [one for one in yaml.safe_load_all(cluster.kubectl("kustomize", DEPLOY / "kustomize/example")) if one]
    cluster.apply(*documents, namespace="shop")
    (pod,) = pods(documents, "shop")
    assert pod["spec"]["initContainers"][0]["name"] == "authz"
    cluster.create(pod, namespace="shop")


PAGES: Final = [
    *(file for folder in ("istio", "envoy-gateway") for file in sorted((DEPLOY / folder).glob("*.yaml"))),
    DEPLOY / "examples/signing-key/certificate.yaml",
]


@pytest.mark.parametrize("file", PAGES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_objects_of_others(cluster: Cluster, file: Path) -> None:
    """What pages have for Istio, Envoy Gateway and cert-manager has no field that their definitions do not know."""
    cluster.make_namespace("shop")
    documents = [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]
    if file.stem == "mesh":
        assert "apiVersion" not in documents[0]  # a fragment of Istio's own configuration
        return
    cluster.apply(*documents)


def test_a_route_owner_cannot_replace_the_policy(cluster: Cluster) -> None:
    """The role of the page lets the owners of a route change it, and leaves security policies to others."""
    cluster.make_namespace("shop")
    cluster.apply(*yaml.safe_load_all((DEPLOY / "envoy-gateway/rbac.yaml").read_text(encoding="utf-8")))
    owner = ("--namespace", "shop", "--as", "alice", "--as-group", "orders-team", "--as-group", "system:authenticated")
    cluster.kubectl("auth", "can-i", "create", "httproutes.gateway.networking.k8s.io", *owner)
    cluster.kubectl("auth", "can-i", "get", "securitypolicies.gateway.envoyproxy.io", *owner)
    for verb in ("create", "patch", "delete"):
        with pytest.raises(Refused, match="no"):
            cluster.kubectl("auth", "can-i", verb, "securitypolicies.gateway.envoyproxy.io", *owner)
