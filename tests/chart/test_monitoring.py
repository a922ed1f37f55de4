"""Monitors, alerts and dashboard of a release speak of this release, and are the operator's to set."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.chart.helm import DEPLOY, Charts, Document, only
from tests.tools import path

pytestmark = pytest.mark.needs("helm")

EVERYTHING: Final = {
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "grafanaDashboard": {"enabled": True},
}


def release(charts: Charts, name: str, **authz: object) -> list[Document]:
    """The objects of a release of this name, in the namespace `shop`."""
    file = charts.folder / "monitoring.yaml"
    file.write_text(yaml.safe_dump({"authz": {**EVERYTHING, **authz}}), encoding="utf-8")
    values = ("--values", charts.app / "ci/proxy-values.yaml", "--values", file)
    text = charts.say("helm4", "template", name, charts.app, "--namespace", "shop", *values)
    return [document for document in yaml.safe_load_all(text) if document]


def rules(documents: list[Document]) -> dict[str, Document]:
    """The alerts by name."""
    (group,) = only(documents, "PrometheusRule")["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_two_releases_in_one_namespace_do_not_collide(charts: Charts) -> None:
    """No object, group, alert, uid or file of one is the other's, and each alert looks at the series of one release."""
    one, other = release(charts, "orders"), release(charts, "reports")
    names = [{(document["kind"], document["metadata"]["name"]) for document in documents} for documents in (one, other)]
    assert not names[0] & names[1]
    boards = [
        only(documents, "ConfigMap", name=f"{name}-authz-dashboard")["data"]
        for documents, name in ((one, "orders"), (other, "reports"))
    ]
    assert not boards[0].keys() & boards[1].keys()
    first, second = (json.loads(text) for board in boards for text in board.values())
    assert first["uid"] != second["uid"]
    assert max(len(first["uid"]), len(second["uid"])) <= 40  # Grafana's bound
    assert first["title"] != second["title"]
    for documents, name in ((one, "orders"), (other, "reports")):
        for rule in rules(documents).values():
            series = re.findall(
                r"\b(?:authz_(?!sidecar_release)|envoy_http_)[a-z_]+(\{[^}]*\}|)",
                rule["expr"].replace('~"authz_', '~"'),
            )
            assert series
            assert all(f'{{authz_sidecar_release="{name}", namespace="shop"' in found for found in series), rule["expr"]
            assert rule["labels"]["authz_sidecar_release"] == name


def test_monitor_puts_the_label_of_the_release_on_every_series(charts: Charts) -> None:
    """Pods carry it, and both kinds of monitor take it from them; scraping is the operator's to tune."""
    tuned = {
        "enabled": True,
        "interval": "30s",
        "scrapeTimeout": "5s",
        "labels": {"release": "prometheus"},
        "relabelings": [{"action": "labeldrop", "regex": "pod_ip"}],
        "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "python_.*"}],
    }
    asked = {key: tuned[key] for key in ("interval", "scrapeTimeout", "relabelings", "metricRelabelings")}
    by_pod = release(charts, "orders", podMonitor=tuned)
    by_service = release(charts, "orders", podMonitor={"enabled": False}, serviceMonitor=tuned)
    labels = only(by_pod, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["authz-sidecar/release"] == "orders"
    for documents, kind, endpoints in (
        (by_pod, "PodMonitor", "podMetricsEndpoints"),
        (by_service, "ServiceMonitor", "endpoints"),
    ):
        monitor = only(documents, kind)
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert monitor["spec"]["podTargetLabels"] == ["authz-sidecar/release"]
        assert monitor["spec"][endpoints] == [
            {"port": "authz-admin", "path": "/metrics", **asked},
            {"port": "envoy-admin", "path": "/stats/prometheus", **asked},
        ]
    service = only(by_service, "Service", name="orders-authz-metrics")
    selector = only(by_service, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    assert not selector.items() <= only(by_service, "Service", name="orders-authz")["metadata"]["labels"].items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {"authz-admin", "envoy-admin"}
    assert service["spec"]["selector"].items() <= labels.items()
    policy = only(by_service, "NetworkPolicy", name="orders-authz")["spec"]["ingress"]
    assert any({"protocol": "TCP", "port": 9192} in rule["ports"] for rule in policy)


def test_alerts_have_the_thresholds_of_the_values(charts: Charts) -> None:
    """One left out, one with another bound, wait and severity, which its text names too; the rest as they were."""
    alerts = {
        "AuthzInsecureOptions": {"enabled": False},
        "AuthzSlow": {"thresholds": {"seconds": 0.3}, "for": "30m", "severity": "critical"},
        "AuthzCredentialStuffing": {"thresholds": {"forged": 50}},
    }
    plain = rules(release(charts, "orders"))
    changed = rules(release(charts, "orders", prometheusRule={"enabled": True, "alerts": alerts}))
    assert plain.keys() - changed.keys() == {"AuthzInsecureOptions"}
    slow = changed["AuthzSlow"]
    assert slow["expr"].endswith("> 0.3")
    assert "longer than 0.3 s" in slow["annotations"]["summary"]
    assert (slow["for"], slow["labels"]["severity"]) == ("30m", "critical")
    stuffing = changed["AuthzCredentialStuffing"]["expr"]
    assert re.findall(r"> (\d+)", stuffing) == ["300", "50", "5"]
    for name in changed.keys() - alerts.keys():
        assert changed[name] == plain[name]


@pytest.mark.needs("promtool")
def test_an_alert_of_one_release_is_not_the_other_s(charts: Charts, tmp_path: Path) -> None:
    """Promtool, on the rules of both in one Prometheus, and the series of one that is unwell: one alert fires."""
    groups = [
        group
        for name in ("orders", "reports")
        for group in only(release(charts, name), "PrometheusRule")["spec"]["groups"]
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    series = 'authz_config_last_reload_successful{namespace="shop", pod="a", authz_sidecar_release="%s"}'
    fired = '{alertname="AuthzConfigRejected", authz_sidecar_release="orders"}'
    alerts = 'count by (alertname, authz_sidecar_release) (ALERTS{alertstate="firing"})'
    test = {
        "interval": "1m",
        "input_series": [
            {"series": series % "orders", "values": "0x10"},
            {"series": series % "reports", "values": "1x10"},
        ],
        "promql_expr_test": [
            {"expr": alerts, "eval_time": "5m", "exp_samples": [{"labels": fired, "value": 1}]},
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]}))
    argv = [path("promtool"), "test", "rules", str(tmp_path / "test.yaml")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_of_the_chart_are_those_of_the_plain_file(charts: Charts) -> None:
    """With the defaults, and without their scope, the expressions are those that promtool tests."""
    (group,) = yaml.safe_load((DEPLOY / "observability/alerts.yaml").read_text())["groups"]
    made = rules(release(charts, "orders"))
    scope = 'authz_sidecar_release="orders", namespace="shop"'
    for rule in group["rules"]:
        expr = made[rule["alert"]]["expr"].replace(f"{{{scope}}}", "").replace(f"{scope}, ", "")
        assert (expr, made[rule["alert"]]["annotations"]) == (rule["expr"], rule["annotations"])
        assert "${" not in expr + str(rule)


def test_alerts_take_the_labels_of_a_scrape_configuration_of_ones_own(charts: Charts) -> None:
    """Without a monitor of the chart the operator says which labels the series have."""
    rule = {"enabled": True, "matchers": {"job": "orders"}}
    made = rules(release(charts, "orders", podMonitor={"enabled": False}, prometheusRule=rule))
    assert made["AuthzConfigRejected"]["expr"].count('{job="orders"}') == 1


def test_every_alert_links_to_its_runbook(charts: Charts) -> None:
    """The address has the alert's name, and the page that a release publishes has a heading of that name."""
    rule = {"enabled": True, "runbookUrl": "https://wiki.example.com/authz#%s"}
    made = rules(release(charts, "orders", prometheusRule=rule))
    page = (DEPLOY / "observability/RUNBOOKS.md").read_text()
    for name, alert in made.items():
        assert alert["annotations"]["runbook_url"] == f"https://wiki.example.com/authz#{name.lower()}"
        assert f"\n## {name}\n" in page
