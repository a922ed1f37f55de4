"""Kubernetes' own types and Pod Security evaluator, without a server, on everything that deploy/ makes."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from tests.chart.helm import DEPLOY, HELMS, KINDS_OF_OPERATORS, Charts
from tests.tools import TOOLS, path

pytestmark = pytest.mark.needs("helm", "admission")


def judge(manifests: str) -> subprocess.CompletedProcess[str]:
    """What the program says of manifests as text, in which a key may stand twice."""
    program = f"{path('admission')}/admission"
    return subprocess.run([program], input=manifests, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("helm", HELMS)
def test_charts(charts: Charts, helm: str) -> None:
    """Of every chart and values file no field is unknown, no key stands twice, and each pod keeps `restricted`."""
    pods = 0
    for chart, values in charts.cases:
        arguments = () if values is None else ("--values", values)
        done = judge(charts.say(helm, "template", "orders", chart, "--namespace", "shop", *arguments))
        assert done.returncode == 0, (values, done.stdout)
        _, made, *foreign = done.stdout.split()
        assert set(foreign) <= KINDS_OF_OPERATORS
        pods += int(made)
    assert pods > 12


def test_kustomize() -> None:
    """The example of the component keeps `restricted` too."""
    argv = [str(TOOLS / "helm/kubectl"), "kustomize", str(DEPLOY / "kustomize/example")]
    done = judge(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    assert (done.returncode, done.stdout.split()[1:]) == (0, ["1"]), done.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": None, "imagee": "a"}, 'unknown field "spec.containers[0].imagee"'),
        ({"securityContext": {"runAsNonRoot": True}}, "allowPrivilegeEscalation != false"),
    ],
)
def test_the_proof_can_fail(change: dict[str, object], told: str) -> None:
    """A misspelt field, and a pod that may become root."""
    container = {"name": "a", "image": "a", **change}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}}
    done = judge(yaml.safe_dump(pod))
    assert done.returncode == 1
    assert told in done.stdout


def test_a_key_that_stands_twice() -> None:
    """The last one counts for many readers; an API server with strict validation refuses."""
    done = judge("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: b\n  a: c\n")
    assert done.returncode == 1
    assert 'key "a" already set' in done.stdout
