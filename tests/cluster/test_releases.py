"""Proves what becomes of releases in a real cluster: upgrades, rollbacks, other modes, pods that someone scaled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.chart.helm import HELMS, Charts
from tests.cluster.apiserver import Cluster, Refused
from tests.cluster.controllers import running_jobs

pytestmark = pytest.mark.needs("cluster", "helm")

PATHS: Final = {
    "proxy": ("proxy", "proxy-full", "existing-config", "proxy-full", "proxy"),
    "server": ("server", "server-mesh", "server"),
    "config-only": ("config-only", "config-only"),
}
OWN_CONFIG: Final = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "orders-authz-config"},
    "data": {
        "authz.yaml": yaml.safe_dump(
            {
                "version": 1,
                "issuers": {"corporate": {"issuer": "https://login.example.com/", "audiences": ["orders-api"]}},
                "rules": [{"name": "orders", "match": {"paths": ["/orders/**"]}, "allow": "authenticated"}],
            }
        )
    },
}


class Release:
    """A release of one Helm in a namespace of its own."""

    def __init__(self, cluster: Cluster, charts: Charts, helm: str, namespace: str, said: list[str]) -> None:
        self._cluster = cluster
        self._charts = charts
        self._helm = helm
        self.namespace = namespace
        self.said = said

    def upgrade(self, name: str, changes: dict[str, Any] | None = None) -> None:
        """Install or upgrade to a file of ci/, with changes over it. Raises Refused."""
        extra = self._charts.folder / f"{self.namespace}.yaml"
        extra.write_text(yaml.safe_dump(changes or {}), encoding="utf-8")
        values = ("--values", self._charts.app / f"ci/{name}-values.yaml", "--values", extra)
        self._run("upgrade", "orders", self._charts.app, "--install", *values)

    def rollback(self, revision: int) -> None:
        """Go back to a revision. Raises Refused."""
        self._run("rollback", "orders", str(revision))

    def uninstall(self) -> None:
        """Remove the release. Raises Refused."""
        self._run("uninstall", "orders")

    def _run(self, *arguments: str | Path) -> None:
        self._cluster.helm(self._helm, *arguments, "--namespace", self.namespace)

    def replicas(self) -> int:
        """How many pods the Deployment asks for."""
        count: int = self._cluster.get("deployment", "orders-authz", self.namespace)["spec"]["replicas"]
        return count

    def scale(self, count: int) -> None:
        """Do what an autoscaler does, or an operator by hand."""
        there = ("--namespace", self.namespace)
        self._cluster.kubectl("scale", "deployment", "orders-authz", "--replicas", str(count), *there)

    def names(self) -> str:
        """What is installed, by kind and name."""
        kinds = "configmap,deployment,service,networkpolicy,horizontalpodautoscaler,poddisruptionbudget"
        return self._cluster.kubectl("get", kinds, "--namespace", self.namespace, "--output", "name")


@contextmanager
def release(cluster: Cluster, charts: Charts, helm: str, name: str) -> Iterator[Release]:
    """A namespace with someone to run the Jobs of hooks."""
    namespace = cluster.make_namespace(f"{name}-{helm}")
    cluster.apply(OWN_CONFIG, namespace=namespace)
    with running_jobs(cluster, namespace) as said:
        yield Release(cluster, charts, helm, namespace, said)


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("mode", PATHS)
def test_upgrades_and_rollbacks(cluster: Cluster, charts: Charts, mode: str, helm: str) -> None:
    """Each values file of a mode follows each other, each revision can be gone back to, and at last nothing is left."""
    with release(cluster, charts, helm, f"upgrade-{mode}") as orders:
        for name in PATHS[mode]:
            orders.upgrade(name)
        for revision in range(len(PATHS[mode]) - 1, 0, -1):
            orders.rollback(revision)
        orders.uninstall()
        assert orders.names().split() == ["configmap/kube-root-ca.crt", "configmap/orders-authz-config"]


@pytest.mark.parametrize("helm", HELMS)
def test_another_mode_changes_nothing(cluster: Cluster, charts: Charts, helm: str) -> None:
    """A release keeps its mode: the upgrade ends before any object is touched."""
    with release(cluster, charts, helm, "mode") as orders:
        orders.upgrade("proxy")
        before = orders.names()
        for name in ("server", "server-mesh"):
            with pytest.raises(Refused, match="installed as proxy"):
                orders.upgrade(name)
        assert orders.names() == before
        orders.upgrade("proxy")


@pytest.mark.parametrize("helm", HELMS)
def test_a_bad_configuration_changes_nothing(cluster: Cluster, charts: Charts, helm: str) -> None:
    """The Job of the hook refuses what the sidecar would: the release stays as it was, and can be upgraded again."""
    wrong = [{"name": "orders", "match": {"paths": ["/orders/**"]}, "require": {"when": "claims.sub =="}}]
    with release(cluster, charts, helm, "bad") as orders:
        orders.upgrade("proxy")
        with pytest.raises(Refused, match="pre-upgrade"):
            orders.upgrade("proxy", {"authz": {"config": {"rules": wrong}}})
        assert "rules[0]" in orders.said[-1]
        live = cluster.get("configmap", "orders-authz", orders.namespace)["data"]["authz.yaml"]
        assert "allow: authenticated" in live
        orders.upgrade("proxy")


@pytest.mark.parametrize("helm", HELMS)
def test_scaled_by_hand(cluster: Cluster, charts: Charts, helm: str) -> None:
    """Who scales the Deployment by hand does not make later upgrades fail; Helm 3 writes its own number again."""
    with release(cluster, charts, helm, "scaled") as orders:
        orders.upgrade("proxy")
        assert orders.replicas() == 2
        orders.scale(5)
        orders.upgrade("proxy", {"podAnnotations": {"example.com/a": "1"}})
        assert orders.replicas() == {"helm3": 2, "helm4": 5}[helm]
        orders.upgrade("proxy", {"podAnnotations": {"example.com/a": "2"}})


@pytest.mark.parametrize("helm", HELMS)
def test_autoscaler_turned_on_and_off(cluster: Cluster, charts: Charts, helm: str) -> None:
    """Turning the autoscaler on stops no pod, what it sets stays through upgrades, and it can be turned off."""
    on = {"autoscaling": {"enabled": True}}
    with release(cluster, charts, helm, "autoscaler") as orders:
        orders.upgrade("proxy", {"replicaCount": 4})
        orders.upgrade("proxy", on)
        assert orders.replicas() == 4
        orders.scale(7)
        for number in range(3):
            orders.upgrade("proxy", {**on, "podAnnotations": {"example.com/a": str(number)}})
            assert orders.replicas() == 7
        orders.upgrade("proxy", {"replicaCount": 3})
        orders.scale(3)
        orders.upgrade("proxy", {"replicaCount": 3})
        assert orders.replicas() == 3
