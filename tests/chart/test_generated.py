"""What follows from something else is made again and compared; so is what is said twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz import __version__
from authz.config.schema import json_schema
from authz.core.reasons import Reason
from authz.runtime.workers import Workers
from authz.telemetry.clients import ClientMetrics
from authz.telemetry.facts import FactMetrics
from authz.telemetry.keys import KeyMetrics
from authz.telemetry.metrics import Metrics
from authz.telemetry.revocations import RevocationMetrics
from authz.telemetry.signing import SigningMetrics
from tests.chart.helm import DEPLOY
from tests.tools import ROOT

CHARTS = DEPLOY / "charts"
LIBRARY = CHARTS / "authz-sidecar"


@pytest.mark.needs("helm")
def test_nothing_is_out_of_date() -> None:
    """Schema, tables of values, build.lock and the plain bootstrap are as deploy/generate.py makes them."""
    argv = [sys.executable, str(DEPLOY / "generate.py"), "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_schema_of_the_configuration_is_the_sidecar_s_own() -> None:
    """Below `authz.config` the chart's schema is what `authz schema` prints: same keys, same words, same bounds."""
    argv = [sys.executable, "-m", "authz", "schema"]
    printed = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    schema = json.loads((LIBRARY / "values.schema.json").read_text())
    assert schema["properties"]["config"]["$ref"] == "#/definitions/Config"
    definitions = dict(schema["definitions"])
    own = {**definitions.pop("Config"), "definitions": definitions}
    assert {"$schema": schema["$schema"], **own} == printed == json_schema()


@pytest.mark.parametrize("chart", ["authz", "authz-sidecar", "authz-injection"])
def test_schema_of_the_values_is_strict(chart: str) -> None:
    """Every mapping with named keys refuses others, and every value of values.yaml is known to the schema."""
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())

    def compare(value: object, known: dict[str, Any], path: str) -> None:
        if "properties" not in known:
            return
        assert path == f"{chart}.global" or known["additionalProperties"] is False, path  # all charts share global
        assert isinstance(value, dict), path
        assert value.keys() <= known["properties"].keys(), path
        for key, child in value.items():
            compare(child, known["properties"][key], f"{path}.{key}")

    compare(values, schema, chart)
    unset = {"global", "config"}
    assert schema["properties"].keys() - values.keys() <= unset


@pytest.mark.parametrize("chart", ["authz", "authz-sidecar", "authz-injection"])
def test_schema_says_what_every_value_is(chart: str) -> None:
    """Every value has a description, for editors and `helm show`; those that values.yaml has are its comments."""
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    assert list(undescribed(schema, chart)) == []
    comments = (CHARTS / chart / "values.yaml").read_text()
    for known in schema["properties"].values():
        if not known.keys() & {"properties"} and "`: " not in known["description"]:
            assert f"# -- {known['description']}\n" in comments


def undescribed(known: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of values without a description: mappings of others excepted, which have no meaning of their own."""
    if "properties" in known:
        for key, child in known["properties"].items():
            yield from undescribed(child, f"{path}.{key}")
    elif not known.get("description"):
        yield path
    if "properties" in known.get("items", {}):
        yield from undescribed(known["items"], f"{path}[]")


def test_every_version_is_the_same() -> None:
    """The charts, what they depend on and the sidecar itself carry one version."""
    for chart in ("authz", "authz-sidecar", "authz-injection"):
        about = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
        assert (about["version"], about["appVersion"]) == (__version__, __version__)
    for folder in (CHARTS / "authz", CHARTS / "authz-injection", DEPLOY / "examples/own-chart"):
        (dependency,) = yaml.safe_load((folder / "Chart.yaml").read_text())["dependencies"]
        assert (dependency["alias"], dependency["version"]) == ("authz", __version__)


def test_monitoring_asks_for_what_there_is() -> None:
    """Alerts and dashboard name metrics, labels and reasons that the sidecar has."""
    registry = Metrics(insecure_options=0, label_rules=True).registry
    KeyMetrics(registry)
    FactMetrics(registry)
    RevocationMetrics(registry).expect_shared("shared_state", lambda: 0)
    ClientMetrics(registry, throttled=lambda: 0)
    SigningMetrics(registry, lambda: None)
    registry.register(Workers([], restarts=[]))
    known = {sample for family in registry.collect() for sample in names_of(family.name, family.type)}
    asked = (LIBRARY / "files/alerts.yaml").read_text() + (LIBRARY / "files/dashboard.json").read_text()
    metrics = set(re.findall(r"\bauthz_[a-z_]+", asked)) - {"authz_sidecar_release"}  # a label of the monitors
    assert len(metrics) > 3
    assert metrics <= known
    reasons = {word for words in re.findall(r'\breason=~?\\?"([\w|]+)', asked) for word in words.split("|")}
    assert len(reasons) > 5
    assert reasons <= {reason.value for reason in Reason}


def names_of(family: str, kind: str) -> set[str]:
    """The names under which a family of metrics is scraped."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"], "gauge": [""]}
    return {f"{family}{ending}" for ending in endings[kind]}


def test_alerts_say_what_to_do() -> None:
    """Every alert has a severity, a summary, a description, and a runbook that says what to do."""
    (group,) = yaml.safe_load((LIBRARY / "files/alerts.yaml").read_text())["groups"]
    for alert in group["rules"]:
        assert alert.keys() - {"thresholds"} == {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["annotations"].keys() == {"summary", "description", "runbook"}


def test_files_of_values_say_what_they_show() -> None:
    """Each file in ci/ and each manifest begins with a comment."""
    for file in [*CHARTS.glob("*/ci/*.yaml"), *Path(DEPLOY / "istio").glob("*.yaml")]:
        assert file.read_text().startswith("# ") or file.name == "policy.yaml", file
