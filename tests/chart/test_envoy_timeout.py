"""Proves that Envoy waits as long as the chart's configuration lets a check wait, as `authz envoy-config` has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from authz.config.load import parse
from authz.tooling.envoy_config.derive import derive
from tests.chart.helm import Charts

pytestmark = pytest.mark.needs("helm")

FILES: Final = "/etc/files"
CLIENT: Final = {"id": "orders", "secret_file": f"{FILES}/secret"}
ISSUER: Final[dict[str, Any]] = {"issuer": "https://login.example.com/", "audiences": ["orders"]}
URL: Final = "https://203.0.113.5/ask"
SMALL: Final[dict[str, Any]] = {
    "version": 1,
    "issuers": {"corporate": ISSUER},
    "rules": [{"name": "all", "match": {"paths": ["/**"]}}],
}
EXCHANGE: Final = {"issuer": "corporate", "url": URL, "client": CLIENT, "subjects": ["corporate"]}


def issuer(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 - settings of any type
    """The configuration with *settings* at its issuer, and another issuer without them."""
    other = {**ISSUER, "issuer": "https://other.example.com/"}
    return {**SMALL, "issuers": {"corporate": {**ISSUER, **settings}, "other": other}}


CONFIGS: Final[dict[str, dict[str, Any]]] = {
    "a key alone": SMALL,
    "a slow issuer": issuer(fetch={"max_wait": "3s"}),
    "introspection": issuer(introspection={"client": CLIENT}),
    "a status list": issuer(status_list={"uris": ["https://status.example.com/lists/"], "max_wait": "2500ms"}),
    "two PDPs": {**SMALL, "pdps": {"fast": {"url": URL, "max_wait": "200ms"}, "slow": {"url": URL, "max_wait": "2s"}}},
    "risk": {**SMALL, "risk": {"url": URL}},
    "proofs": {**issuer(dpop="required"), "shared_state": {"url": "redis://127.0.0.1:6379", "timeout": "700ms"}},
    "shared state without proofs": {**SMALL, "shared_state": {"url": "redis://127.0.0.1:6379"}},
    "an exchange": {**SMALL, "identity": {"token": {"audience": ["orders"], "exchange": EXCHANGE}}},
    "a remote key": {
        **SMALL,
        "identity": {"token": {"audience": ["orders"], "issuer": "https://gateway.example.com"}},
        "signing": {"keys": {"aws": {"kind": "aws_kms", "key": "alias/a", "region": "eu-central-1", "max_wait": "2s"}}},
    },
    "several kinds": {**issuer(introspection={"client": CLIENT, "max_wait": "2s"}), "pdps": {"one": {"url": URL}}},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_envoy_waits_longer_than_the_sidecar(charts: Charts, tmp_path: Path, config: dict[str, Any]) -> None:
    """The rendered timeout is the derived one, and never below the chart's value."""
    derived = derive(parse(json.dumps(config), file="authz.yaml")).timeout_ms
    assert timeout_ms(charts, tmp_path, config) == max(1400, derived)


def test_a_longer_timeout_stays(charts: Charts, tmp_path: Path) -> None:
    """What the operator sets is not lowered."""
    assert timeout_ms(charts, tmp_path, SMALL, timeoutMilliseconds=5000) == 5000


def timeout_ms(charts: Charts, folder: Path, config: dict[str, Any], **envoy: int) -> int:
    """The timeout of ext_authz in the fragments that the chart renders."""
    volume = {"name": "files", "emptyDir": {}}
    values = {
        "mode": "config-only",
        "authz": {
            "image": {"repository": "platform/authz"},
            "config": config,
            "envoy": envoy,
            "extraVolumes": [volume],
            "extraVolumeMounts": [{"name": "files", "mountPath": FILES}],
        },
    }
    file = folder / "values.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")
    made = charts.render(charts.app, "--values", file)
    (fragment,) = (one["data"]["http_filters.yaml"] for one in made if "http_filters.yaml" in one.get("data", {}))
    (timeout,) = find(yaml.safe_load(fragment))
    return round(1000 * float(timeout.removesuffix("s")))


def find(node: object) -> list[str]:
    """The timeouts of all services that a filter asks."""
    if isinstance(node, list):
        return [found for child in node for found in find(child)]
    if not isinstance(node, dict):
        return []
    here = [node["grpc_service"]["timeout"]] if "grpc_service" in node else []
    return here + [found for child in node.values() for found in find(child)]
