"""Proves the alerts and the dashboard with a real Prometheus: it takes the rules, and answers every query."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from authz.demo.client import send
from authz.demo.loopback import json_response
from authz.demo.process import Process
from authz.demo.signing import SigningKey
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.redis_server import redis_server
from tests.fakes.waiting import wait_until
from tests.integration.asking import INTROSPECT, endpoint_of
from tests.integration.sidecars import Running, issuer, running
from tests.tools import ROOT, path
from tests.unit.envoy.serving import short_folder

OBSERVABILITY = ROOT / "deploy/observability"
RULES = yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((OBSERVABILITY / "dashboard.json").read_text())
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("command", ["check rules alerts.yaml", "test rules alerts.test.yaml"])
def test_rules_are_sound_and_ring_when_they_should(command: str) -> None:
    """Prometheus's own tool takes the alerts, and runs their tests."""
    argv = [path("promtool"), *command.split()]
    done = subprocess.run(argv, cwd=OBSERVABILITY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    """No alert is without a case in which it rings."""
    text = (OBSERVABILITY / "alerts.test.yaml").read_text()
    assert [rule["alert"] for rule in RULES if f'"{rule["alert"]}"' not in text] == []


def test_panels_do_not_overlap() -> None:
    """Two columns of equal panels, each with a description and an id of its own."""
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(places) == len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})
    assert all(panel["description"] for panel in DASHBOARD["panels"])


@dataclass(frozen=True, slots=True)
class Stage:
    """A sidecar that has evaluated a few requests, and the Prometheus that scrapes it."""

    sidecar: Running
    idp: FakeIdp
    url: str

    def query(self, kind: str, **parameters: str) -> Any:  # noqa: ANN401 - a document of Prometheus
        """Ask the API; return its data."""
        words = "&".join(f"{name}={quote(value)}" for name, value in parameters.items())
        answer = send(f"{self.url}/api/v1/{kind}?{words}").json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expr: str) -> list[Any]:
        """Evaluate an expression now; return the series of the result."""
        found: list[Any] = self.query("query", query=expr)["result"]
        return found


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A sidecar that traces to nowhere and shares its state, scraped twice a second."""
    with ExitStack() as parts:
        folder, idp = parts.enter_context(short_folder()), parts.enter_context(FakeIdp())
        patch = parts.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{free_address()}")
        idp.answers[INTROSPECT] = lambda _: json_response({"active": False})
        (folder / "secret").write_text("secret")
        client = f"client: {{id: rs, secret_file: {folder}/secret}}"
        asked = f"url: '{endpoint_of(idp)}', {client}, max_wait: 10s, timeout: 10s"
        section = issuer("a", idp, introspection=asked)
        store = parts.enter_context(redis_server(folder))
        sidecar = parts.enter_context(
            running(folder, section, telemetry="traces: {exporter: otlp}", more=store.settings())
        )
        sidecar.await_ready()
        prometheus, address = start_prometheus(folder, target=sidecar.sidecar.admin_url.removeprefix("http://"))
        parts.callback(prometheus.kill)
        stage = Stage(sidecar, idp, f"http://{address}")
        wait_until(lambda: answers(stage))
        token = idp.mint()
        for _ in range(5):
            assert sidecar.check(token) == "authenticated"
        assert sidecar.check() == "token_missing"
        assert sidecar.check("an-opaque-token") == "token_inactive"
        assert sidecar.check(idp.mint(key=SigningKey.create("ES256"))) == "keys_unavailable"
        wait_until(lambda: bool(stage.value('authz_decisions_total{reason="keys_unavailable"}')))
        yield stage


def start_prometheus(folder: Path, *, target: str) -> tuple[Process, str]:
    """Start a Prometheus that scrapes *target* and knows the alerts; return it and its address."""
    scrape = {"job_name": "authz", "scrape_interval": "500ms", "scrape_timeout": "500ms"}
    config = {
        "global": {"evaluation_interval": "200ms"},
        "rule_files": [str(OBSERVABILITY / "alerts.yaml")],
        "scrape_configs": [scrape | {"static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = free_address()
    argv = [
        *(path("prometheus"), "--config.file", str(folder / "prometheus.yaml")),
        *("--storage.tsdb.path", str(folder / "tsdb"), "--web.listen-address", address),
        *("--enable-feature", "exemplar-storage"),
    ]
    process = Process("Prometheus", argv, log=folder / "prometheus.log", fix="read its log")
    process.start()
    return process, address


def answers(stage: Stage) -> bool:
    """Whether Prometheus has scraped the sidecar."""
    try:
        ready = send(f"{stage.url}/-/ready").status == 200
        return ready and stage.value("up == 1 and on(instance) authz_build_info") != []
    except OSError:
        return False


@pytest.mark.needs("prometheus")
@pytest.mark.needs("redis-server")
@pytest.mark.xdist_group("prometheus")
@pytest.mark.parametrize("expr", QUERIES)
def test_every_query_of_the_dashboard_is_answered(stage: Stage, expr: str) -> None:
    """No panel stays empty: each query can be parsed, and finds series in what was scraped."""
    expr = expr.replace("$namespace", ".*").replace("$release", ".*").replace("$__rate_interval", "1m")
    assert "$" not in expr
    wait_until(lambda: stage.value(expr) != [])


@pytest.mark.needs("prometheus")
@pytest.mark.needs("redis-server")
@pytest.mark.xdist_group("prometheus")
def test_every_alert_is_loaded_and_evaluated(stage: Stage) -> None:
    """On real numbers, without an error; none of the critical ones rings for a sidecar that is well."""

    def rules() -> list[Any]:
        found: list[Any] = stage.query("rules")["groups"][0]["rules"]
        return found

    wait_until(lambda: all(rule["health"] == "ok" for rule in rules()))
    assert {rule["name"] for rule in rules()} == {rule["alert"] for rule in RULES}
    # One scrape that this machine was too busy for is soon made up for.
    wait_until(lambda: all(rule["state"] == "inactive" for rule in rules() if rule["labels"]["severity"] == "critical"))


@pytest.mark.needs("prometheus")
@pytest.mark.needs("redis-server")
@pytest.mark.xdist_group("prometheus")
def test_an_exemplar_leads_to_the_trace(stage: Stage) -> None:
    """Prometheus asks for OpenMetrics and keeps the trace id with the duration, and with the denial."""
    for name in ("authz_check_duration_seconds_bucket", 'authz_decisions_total{reason="token_missing"}'):
        series = stage.query("query_exemplars", query=name, start="0", end="9999999999")
        labels = [exemplar["labels"] for found in series for exemplar in found["exemplars"]]
        assert labels
        assert all(len(label["trace_id"]) == 32 and len(label["span_id"]) == 16 for label in labels)


@pytest.mark.needs("prometheus")
@pytest.mark.needs("redis-server")
@pytest.mark.xdist_group("prometheus")
def test_metrics_are_openmetrics_for_those_who_ask(stage: Stage) -> None:
    """Every family can be parsed by the stricter form's own parser."""
    answer = send(
        f"{stage.sidecar.sidecar.admin_url}/metrics", headers=[("accept", "application/openmetrics-text;version=1.0.0")]
    )
    assert (answer.header("content-type") or "").startswith("application/openmetrics-text")
    parsed = text_string_to_metric_families(answer.body.decode())  # type: ignore[no-untyped-call]  # it has none
    families = {family.name for family in parsed}
    assert {"authz_decisions", "authz_signature_cache_requests", "authz_config", "authz_keys_refresh"} <= families
