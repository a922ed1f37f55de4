"""What the chart renders with `authz.ipv6`, running: Envoy and the sidecar are reached by both kinds of addresses."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from authz.demo.client import send
from tests.chart.harness import Stage, set_stage
from tests.chart.helm import Charts

pytestmark = [
    pytest.mark.needs("helm", "envoy"),
    pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6"),
    pytest.mark.xdist_group("chart-ipv6"),
]


@pytest.fixture(scope="module")
def stage(charts: Charts) -> Iterator[Stage]:
    """Mode proxy on `::`."""
    changes = {"authz": {"ipv6": True}}
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), changes) as made:
        yield made


@pytest.mark.parametrize(("host", "client"), [("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")])
def test_both_kinds_of_addresses_are_served(stage: Stage, host: str, client: str) -> None:
    """And each client is known by its own address: an IPv4 one does not look like an IPv6 one to limits and rules."""
    answer = send(stage.front.replace("127.0.0.1", host) + f"/{client}")
    assert answer.status in {401, 403}
    assert stage.access_log(path=f"/{client}")["client"] == client
    for url in (f"{stage.telemetry}/ready", f"{stage.admin}/readyz"):
        assert send(url.replace("127.0.0.1", host)).status == 200
