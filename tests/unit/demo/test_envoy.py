"""The real Envoy, launched, with no one to ask."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from authz.demo.bootstrap import Proxy
from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.process import PartFailed
from authz.demo.upstream import echo_server

pytestmark = pytest.mark.needs("envoy")


def test_an_envoy_without_a_sidecar_lets_nobody_pass(tmp_path: Path) -> None:
    """Fail closed: no sidecar, 503, and the upstream is not reached."""
    with echo_server() as upstream:
        proxy = Proxy(upstream=f"127.0.0.1:{upstream.port}", sidecars=(f"unix:{tmp_path}/nobody.sock",))
        envoy = Envoy(proxy, tmp_path)
        envoy.start()
        try:
            answer = send(f"{envoy.url}/healthz")
        finally:
            envoy.stop()

    assert (answer.status, answer.body) == (503, b"")
    assert not envoy.process.running


def test_several_envoys_run_side_by_side(tmp_path: Path) -> None:
    """Each chooses its own ports and shares nothing with the others."""
    folders = [tmp_path / "one", tmp_path / "two"]
    proxy = Proxy(upstream="127.0.0.1:1", sidecars=("127.0.0.1:1",))
    envoys = []
    try:
        for folder in folders:
            folder.mkdir()
            envoys.append(Envoy(proxy, folder))
            envoys[-1].start()
        assert len({envoy.url for envoy in envoys} | {envoy.admin_url for envoy in envoys}) == 4
    finally:
        for envoy in envoys:
            envoy.stop()


def test_an_envoy_that_cannot_bind_is_explained(tmp_path: Path) -> None:
    """A port that is taken ends in a failure that shows Envoy's own words."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        envoy = Envoy(Proxy(upstream="127.0.0.1:1", sidecars=("127.0.0.1:1",), listen=listen), tmp_path)
        with pytest.raises(PartFailed, match=r"(?s)Envoy ended with status 1.*Address already in use"):
            envoy.start()
