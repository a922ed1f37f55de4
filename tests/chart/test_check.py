"""Proves that a release with a configuration that the sidecar would refuse ends before anything is changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chart.helm import HELMS, Charts, Document, only, pod_specs

pytestmark = pytest.mark.needs("helm")

RULE: Final[dict[str, Any]] = {"name": "orders", "match": {"paths": ["/orders/**"]}, "allow": "authenticated"}
BROKEN: Final[dict[str, tuple[list[dict[str, Any]], str]]] = {
    "a path without a slash": ([{**RULE, "match": {"paths": ["orders"]}}], "rules[0].match.paths[0]"),
    "broken CEL": ([{"name": "x", "match": {"paths": ["/x"]}, "require": {"when": "claims.sub =="}}], "rules[0]"),
    "public by accident": ([{"name": "open", "match": {"paths": ["/**"]}, "allow": "public"}], "public-by-accident"),
}


def check(documents: list[Document], folder: Path) -> subprocess.CompletedProcess[str]:
    """Do what the Job does, with the file that it mounts."""
    job = only(documents, "Job")
    (spec,) = pod_specs([job])
    (mounted,) = (volume for volume in spec["volumes"] if volume["name"] == "authz-config")
    file = folder / "authz.yaml"
    config = only(documents, "ConfigMap", name=mounted["configMap"]["name"])
    file.write_text(config["data"]["authz.yaml"], encoding="utf-8")
    (container,) = spec["containers"]
    arguments = [argument.replace("/etc/authz/authz.yaml", str(file)) for argument in container["args"]]
    argv = [sys.executable, "-m", "authz", *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


@pytest.mark.parametrize(("rules", "told"), BROKEN.values(), ids=BROKEN)
def test_a_bad_file_ends_the_release(charts: Charts, tmp_path: Path, rules: list[Any], told: str) -> None:
    """What no schema can see is seen by the Job: it fails, and says where."""
    documents = charts.with_values("proxy", {"authz": {"config": {"rules": rules}}})
    done = check(documents, tmp_path)
    assert done.returncode == 2
    assert told in done.stderr


def test_every_configuration_of_the_charts_passes(charts: Charts, tmp_path: Path) -> None:
    """No release of ours is stopped: files that are only there in the cluster are no error."""
    checked = 0
    for chart, values in charts.cases:
        documents = charts.case(chart, values)
        if chart == charts.app and values is not None and values.name != "existing-config-values.yaml":
            done = check(documents, tmp_path)
            assert done.returncode == 0, (values, done.stderr)
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize("helm", HELMS)
def test_the_check_comes_first_with_a_file_of_its_own(charts: Charts, helm: str) -> None:
    """A hook before installation and upgrade; its ConfigMap is made before it, and is the same as the release's."""
    documents = charts.with_values("proxy", {}, helm=helm)
    job, own, released = (
        only(documents, "Job"),
        only(documents, "ConfigMap", name="orders-authz-check"),
        only(documents, "ConfigMap", name="orders-authz"),
    )
    for hook in (job, own):
        assert hook["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert int(own["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0
    assert own["data"] == released["data"]
    assert job["spec"]["backoffLimit"] == 0


def test_a_configuration_of_the_operator_s_own_is_checked_too(charts: Charts) -> None:
    """The Job mounts the ConfigMap that is named; none is made."""
    documents = charts.with_values("existing-config", {})
    (spec,) = pod_specs([only(documents, "Job")])
    assert spec["volumes"][0]["configMap"]["name"] != "orders-authz-check"
    maps = {each["metadata"]["name"] for each in documents if each["kind"] == "ConfigMap"}
    assert "orders-authz-check" not in maps


def test_the_check_can_be_left_out(charts: Charts) -> None:
    """Without it no Job is made; not so strict, a likely mistake is a warning."""
    without = charts.with_values("proxy", {"configCheck": {"enabled": False}})
    assert "Job" not in {each["kind"] for each in without}
    lenient = charts.with_values("proxy", {"configCheck": {"strict": False}})
    assert "--strict" not in pod_specs([only(lenient, "Job")])[0]["containers"][0]["args"]
