"""Proves the decision log and metrics by OTLP with a real collector, in the resource of the spans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import wait_until
from tests.integration.collector import collecting
from tests.integration.sidecars import issuer, running
from tests.integration.test_traces import environment
from tests.unit.envoy.serving import short_folder

pytestmark = [pytest.mark.needs("rotel"), pytest.mark.xdist_group("traces")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


def test_a_collector_gets_what_the_log_says(folder: Path) -> None:
    """The decision id of a line is in a record, with its reason, subject and resource."""
    with (
        FakeIdp() as idp,
        collecting(folder, signals="logs") as collector,
        environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BLRP_SCHEDULE_DELAY="100",
            OTEL_RESOURCE_ATTRIBUTES="k8s.pod.name=orders-1",
        ),
        running(folder, issuer("a", idp), telemetry="logs: {exporter: otlp}") as started,
    ):
        started.await_ready()
        assert started.check(idp.mint()) == "authenticated"
        assert started.check() == "token_missing"
        log = started.process.log
        wait_until(lambda: log.read_text().count('"authz.decisions"') == 2)
        lines = [json.loads(line) for line in log.read_text().splitlines() if '"authz.decisions"' in line]
        for line in lines:
            wait_until(lambda line=line: f"-> authz.decision_id: Str({line['decision_id']})" in collector.text())  # type: ignore[misc]
        text = collector.text()
    for expected in (
        "k8s.pod.name: Str(orders-1)",
        "service.name: Str(authz)",
        "authz.reason: Str(token_missing)",
        "url.path: Str(/items/1)",
        "user.id: Str(",
    ):
        assert expected in text


def test_an_absent_collector_delays_nothing(folder: Path) -> None:
    """Checks are answered, each with its line."""
    with (
        FakeIdp() as idp,
        environment(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BLRP_SCHEDULE_DELAY="100"),
        running(folder, issuer("a", idp), telemetry="logs: {exporter: otlp}") as started,
    ):
        started.await_ready()
        assert [started.check() for _ in range(20)] == ["token_missing"] * 20
        wait_until(lambda: started.process.log.read_text().count('"authz.decisions"') == 20)


def test_a_collector_gets_metrics(folder: Path) -> None:
    """Those of a scrape, with the instance that they are of."""
    with (
        FakeIdp() as idp,
        collecting(folder, signals="metrics") as collector,
        environment(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_METRIC_EXPORT_INTERVAL="200"),
        running(folder, issuer("a", idp), telemetry="metrics: {exporter: otlp}") as started,
    ):
        started.await_ready()
        assert started.check() == "token_missing"
        wait_until(lambda: "reason: Str(token_missing)" in collector.text())
        text = collector.text()
    for expected in ("authz_decisions", "authz_check_duration_seconds", "service.instance.id: Str("):
        assert expected in text
