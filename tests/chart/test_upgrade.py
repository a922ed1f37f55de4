"""Proves what the templates make of a release that is installed: they look it up, as `helm upgrade` does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.chart.helm import HELMS, Charts, Document, only, pod_specs
from tests.fakes.kubernetes import api_server

pytestmark = pytest.mark.needs("helm")

# Who set `spec.replicas` last, as the API server notes it.
HELM_4: Final = {"manager": "helm", "operation": "Apply"}
HELM_3: Final = {"manager": "helm", "operation": "Update"}
AUTOSCALER: Final = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale"}
ON: Final = {"autoscaling": {"enabled": True}}
OFF: Final[dict[str, Any]] = {}


def installed(replicas: int, *, helm: Mapping[str, str], scaled: bool = False, mode: str = "proxy") -> Document:
    """The Deployment as it is in the cluster, made by one Helm, and *scaled* by another than Helm or not."""
    by_helm: Document = {"f:metadata": {"f:labels": {"f:helm.sh/chart": {}}}, "f:spec": {"f:selector": {}}}
    count: Document = {"f:replicas": {}}
    if not scaled:
        by_helm["f:spec"] |= count
    fields = [{**helm, "fieldsV1": by_helm}, *([{**AUTOSCALER, "fieldsV1": {"f:spec": count}}] if scaled else [])]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "orders-authz", "namespace": "shop", "managedFields": fields},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app.kubernetes.io/component": mode}}},
    }


def upgrade(
    charts: Charts, helm: str, live: Document | None, changes: Mapping[str, Any], *, base: str = "proxy"
) -> subprocess.CompletedProcess[str]:
    """What an upgrade of the release would render, with what is live."""
    extra = charts.folder / f"upgrade-{helm}.yaml"
    extra.write_text(yaml.safe_dump(dict(changes)), encoding="utf-8")
    values = ("--values", charts.app / f"ci/{base}-values.yaml", "--values", extra)
    with api_server([] if live is None else [live]) as server:
        # A server with a few objects has no schema of them.
        cluster = ("--dry-run=server", "--kube-apiserver", server.url, "--disable-openapi-validation")
        argv = ("template", "orders", charts.app, "--namespace", "shop", "--is-upgrade")
        return charts.run(helm, *argv, *cluster, *values)


def replicas(charts: Charts, helm: str, live: Document | None, changes: Mapping[str, Any]) -> int | None:
    """The number of pods that the manifest asks for; None: it leaves the number alone."""
    done = upgrade(charts, helm, live, changes)
    assert done.returncode == 0, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    found: int | None = only(documents, "Deployment")["spec"].get("replicas")
    return found


@pytest.mark.parametrize("helm", HELMS)
def test_turning_the_autoscaler_on_stops_no_pod(charts: Charts, helm: str) -> None:
    """A number that leaves the manifest would be reset to one pod: while it is Helm's, the live number stands there."""
    for maker in (HELM_3, HELM_4):
        assert replicas(charts, helm, installed(4, helm=maker), ON) == 4
    # Helm 3 resets what its last manifest had, though the autoscaler has set it since.
    assert replicas(charts, helm, installed(7, helm=HELM_3, scaled=True), ON) == 7


@pytest.mark.parametrize("helm", HELMS)
def test_a_scaled_deployment_is_no_conflict(charts: Charts, helm: str) -> None:
    """By server-side apply a number that another has set, and that differs, ends the upgrade: it is left out."""
    scaled = installed(7, helm=HELM_4, scaled=True)
    assert replicas(charts, helm, scaled, ON) is None
    assert replicas(charts, helm, scaled, OFF) is None
    assert replicas(charts, helm, scaled, {"replicaCount": 7}) == 7


@pytest.mark.parametrize("helm", HELMS)
def test_the_number_of_the_values_counts_otherwise(charts: Charts, helm: str) -> None:
    """On installation, and while no one else has set it; with an autoscaler, a new Deployment is the autoscaler's."""
    assert replicas(charts, helm, None, OFF) == 2
    assert replicas(charts, helm, None, ON) is None
    for maker in (HELM_3, HELM_4):
        assert replicas(charts, helm, installed(2, helm=maker), {"replicaCount": 3}) == 3


@pytest.mark.parametrize("helm", HELMS)
def test_a_release_keeps_its_mode(charts: Charts, helm: str) -> None:
    """Another mode is refused while rendering: nothing is changed; ConfigMaps alone may become any mode."""
    for was, becomes in (("proxy", "server"), ("server", "proxy"), ("proxy", "config-only")):
        done = upgrade(charts, helm, installed(2, helm=HELM_4, mode=was), {}, base=becomes)
        assert done.returncode != 0
        assert f"mode is {becomes}, and this release is installed as {was}" in done.stderr
    assert upgrade(charts, helm, installed(2, helm=HELM_4, mode="server"), {}, base="server").returncode == 0


@pytest.mark.parametrize(("was", "status"), [("proxy", 0), ("server", 1), ("config-only", 0), (None, 0)])
def test_the_hook_sees_another_mode_without_helm_s_lookup(
    charts: Charts, tmp_path: Path, was: str | None, status: int
) -> None:
    """Where `helm template` made the objects, the Job reads the ConfigMap of before, if there is one, and fails."""
    job = only(charts.with_values("proxy", {}), "Job")
    (spec,) = pod_specs([job])
    (before,) = (volume["configMap"] for volume in spec["volumes"] if volume["name"] == "before")
    assert (before["name"], before["optional"]) == ("orders-authz-envoy", True)
    if was is not None:
        released = only(charts.with_values(was, {}), "ConfigMap", name=before["name"])["data"]
        (item,) = before["items"]
        (tmp_path / item["path"]).write_text(released[item["key"]], encoding="utf-8")
    (container,) = spec["initContainers"]
    argv = [argument.replace("/etc/authz-before", str(tmp_path)) for argument in container["command"]]
    done = subprocess.run([sys.executable, *argv[1:]], check=False, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert status == 0 or f"installed as {was}" in done.stderr
