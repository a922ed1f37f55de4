"""Proves what ends a WebSocket at a real Envoy: max_stream_duration, which bounds how long it outlives its token."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from authz.demo.envoy import Envoy
from authz.tooling.envoy_config.bootstrap import bootstrap
from authz.tooling.envoy_config.derive import derive
from tests.fakes.waiting import wait_until
from tests.unit.tooling.envoy_samples import sample

pytestmark = pytest.mark.needs("envoy")

HANG_SECONDS = 300.0
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nhost: api.test\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"


@contextmanager
def upgrading_server() -> Iterator[int]:
    """A server that switches protocols once, and then keeps the connection open and silent until the client goes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(HANG_SECONDS)
                connection.recv(65_536)
                connection.sendall(SWITCHED)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(HANG_SECONDS)


def open_envoy(upstream: int, folder: Path, *, upgrades: bool = True, **common: object) -> Envoy:
    """The Envoy that `authz envoy-config` prints, with *upgrades* to WebSockets and *common*, and without the check."""
    data: Any = bootstrap(
        derive(sample("unix")), listen="127.0.0.1:0", upstream=f"127.0.0.1:{upstream}", admin="127.0.0.1:0"
    )
    manager = data["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"].pop(0)
    if upgrades:
        manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"] = "0.1s"
    manager["common_http_protocol_options"].update(common)
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return Envoy(file, folder)


def test_a_bound_of_streams_ends_a_websocket() -> None:
    """The client did nothing, the upstream did nothing, and the route's timeout is long over: the bound ends it."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, upgrading_server() as upstream:
        envoy = open_envoy(upstream, Path(folder), max_stream_duration="2s")
        envoy.start()
        try:
            address = urlsplit(envoy.url)
            with socket.create_connection((address.hostname, address.port), timeout=HANG_SECONDS) as client:
                client.sendall(UPGRADE)
                assert client.recv(4096).startswith(b"HTTP/1.1 101")
                assert client.recv(4096) == b""
            log = Path(folder, "envoy.log")
            # Envoy says why in its access log: not the timeout of the route, which does not count upgraded requests.
            wait_until(lambda: "max_duration_timeout" in log.read_text(encoding="utf-8"))
        finally:
            envoy.stop()
