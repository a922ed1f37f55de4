"""Every mode and every feature is rendered by both Helms, and taken by every Kubernetes from 1.29 on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.chart.helm import HELMS, KINDS_OF_OPERATORS, Charts, only
from tests.tools import TOOLS

pytestmark = pytest.mark.needs("helm")

KUBERNETES = [f"1.{minor}" for minor in range(29, 38)]


@pytest.mark.parametrize("helm", HELMS)
def test_lint_finds_nothing(charts: Charts, helm: str) -> None:
    """`helm lint --strict` takes every chart with every file of values."""
    for chart, values in charts.cases:
        charts.say(helm, "lint", "--strict", chart, *(() if values is None else ("--values", values)))


def test_both_helms_make_the_same(charts: Charts) -> None:
    """Helm 3 and Helm 4 render the same objects."""
    for chart, values in charts.cases:
        old, new = (charts.case(chart, values, helm=helm) for helm in HELMS)
        service = {"app.kubernetes.io/managed-by": "Helm"}
        assert old == new, (chart, values)
        assert all(service.items() <= one["metadata"].get("labels", service).items() for one in new)


@pytest.mark.parametrize("helm", HELMS)
def test_charts_can_be_packaged(charts: Charts, helm: str, tmp_path: Path) -> None:
    """`helm package` makes an archive of each chart, and the archive renders."""
    for chart in (charts.library, charts.app):
        charts.say(helm, "package", chart, "--destination", tmp_path)
    values = charts.app / "ci/proxy-values.yaml"
    packaged = charts.render(tmp_path / "authz-0.1.0.tgz", "--values", values, helm=helm)
    assert packaged == charts.render(charts.app, "--values", values, helm=helm)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_object(charts: Charts, tmp_path: Path, version: str) -> None:
    """kubernetes-validate knows every object, strictly; only the kinds of operators are foreign to it."""
    for number, (chart, values) in enumerate(charts.cases):
        documents = charts.case(chart, values, kube=version)
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump_all(documents))
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, *map(str, tmp_path.glob("*.yaml"))],
        env={"PYTHONPATH": str(TOOLS / "helm")},
        check=False,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    unknown = set(re.findall(r"schema for kind (\w+)", said))
    assert unknown <= KINDS_OF_OPERATORS
    assert re.search(rf"deployment/orders\S* against version {re.escape(version)}$", said, re.MULTILINE), said


def test_an_alien_field_is_noticed(tmp_path: Path) -> None:
    """The proof above can fail: a misspelt field of a Deployment is refused."""
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(wrong))
    argv = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", "1.37", str(tmp_path / "x.yaml")]
    done = subprocess.run(argv, env={"PYTHONPATH": str(TOOLS / "helm")}, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "prots" in done.stdout


def test_sleep_before_the_end_only_where_kubernetes_knows_it(charts: Charts) -> None:
    """Kubernetes 1.29 has no preStop sleep, and refuses a preStop that does nothing."""
    for kube, expected in (("1.29", False), ("1.30", True)):
        text = json.dumps(charts.case(charts.app, charts.app / "ci/existing-config-values.yaml", kube=kube))
        assert ('"preStop": {"sleep"' in text) is expected


def test_only_what_cannot_be_reloaded_restarts_the_pods(charts: Charts) -> None:
    """The checksum changes with `server`, and with a rule only where every change shall restart the pods."""
    rule = {"name": "other", "match": {"paths": ["/other"]}, "allow": "authenticated"}

    def annotations(**authz: object) -> dict[str, str]:
        deployment = only(charts.with_values("proxy", {"authz": authz}), "Deployment")
        found: dict[str, str] = deployment["spec"]["template"]["metadata"]["annotations"]
        return found

    assert annotations() == annotations(config={"rules": [rule]})
    assert annotations() != annotations(config={"server": {"max_concurrent": 8}})
    always = {"restartOnConfigChange": True}
    assert annotations(**always) != annotations(**always, config={"rules": [rule]})
    assert annotations() != annotations(config={"identity": {"headers": {"x-auth-subject": "sub"}}})  # Envoy's


def test_notes_say_where_to_send_traffic_and_what_is_insecure(charts: Charts) -> None:
    """NOTES.txt names the Service, the network policy and each insecure setting, and no other."""
    values = charts.app / "ci/proxy-values.yaml"
    loose = ("authz.envoy.failureModeAllow=true", "authz.config.issuers.corporate.insecure.http=true")
    plain = notes(charts, values)
    assert "orders-authz.shop.svc" in plain
    assert "Only Envoy reaches the pods with app=orders" in plain
    assert "failureModeAllow" not in plain
    said = notes(charts, values, "--set", ",".join(loose), "--set", "networkPolicy.upstream=false")
    assert "- authz.envoy.failureModeAllow" in said
    assert "- authz.config.issuers.corporate.insecure.http" in said
    assert "- networkPolicy.upstream is false" in said
    full = notes(charts, charts.app / "ci/proxy-full-values.yaml")
    assert "- proxy.routes: /static/ is open to every client" in full
    assert "- the rule orders is in shadow" in full


def test_notes_say_what_pods_do_not_learn(charts: Charts) -> None:
    """A logout reaches one pod: several need shared_state, and one does not."""
    values, receiving = charts.app / "ci/proxy-values.yaml", ("--set", "authz.receiver.enabled=true")
    alone, shared = ("--set", "replicaCount=1"), ("--set", "authz.config.shared_state.url=rediss://10.0.0.9")
    warning = "the others do not learn of it"
    assert "/authz/backchannel-logout" in notes(charts, values, *receiving)
    assert warning in notes(charts, values, *receiving)
    assert warning in notes(charts, values, *receiving, *alone, "--set", "autoscaling.enabled=true")
    for more in (alone, shared):
        assert warning not in notes(charts, values, *receiving, *more)
    assert warning not in notes(charts, values)


def notes(charts: Charts, values: Path, *arguments: str) -> str:
    """Return NOTES.txt, as `helm install` prints it; a dry run of Helm 4 needs no cluster."""
    argv = ("install", "orders", charts.app, "--namespace", "shop", "--dry-run=client", "--values", values)
    return charts.say("helm4", *argv, *arguments).partition("NOTES:\n")[2]


def test_nobody_is_limited_unasked(charts: Charts) -> None:
    """Without a word about limits none is there: behind an ingress all clients would share that of one address."""
    envoy = only(charts.with_values("proxy", {}), "ConfigMap", name="orders-authz-envoy")["data"]["envoy.yaml"]
    assert "local_ratelimit" not in envoy
    limited = {"authz": {"envoy": {"trustedHops": 0, "rateLimit": {"address": {"enabled": True}}}}}
    envoy = only(charts.with_values("proxy", limited), "ConfigMap", name="orders-authz-envoy")["data"]["envoy.yaml"]
    assert envoy.count("local_ratelimit") == 1
    assert "xff_num_trusted_hops: 0" in envoy
