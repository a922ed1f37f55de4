"""Proves how Envoy's end, and the end of its connections to the upstream, look to clients: no request is lost."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from authz.demo.client import send
from authz.demo.loopback import LoopbackServer, Request, Response, json_response
from tests.chart.harness import Stage, merge, set_stage
from tests.chart.helm import Charts, container, only
from tests.fakes.waiting import HANG_SECONDS, wait_until

pytestmark = [pytest.mark.needs("helm", "envoy"), pytest.mark.xdist_group("chart-stop")]

PUBLIC: Final[dict[str, Any]] = {
    "authz": {"config": {"rules": [{"name": "all", "match": {"paths": ["/**"]}, "allow": "public"}]}},
}


def accepts(stage: Stage) -> bool:
    """Whether Envoy still takes connections."""
    address = urlsplit(stage.front)
    try:
        socket.create_connection((address.hostname, address.port), timeout=HANG_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def test_requests_in_flight_get_their_answers_when_the_pod_stops(charts: Charts) -> None:
    """The hooks as the kubelet runs them: Envoy drains, accepts no more, and ends; the slow request is answered."""
    entered, release = threading.Event(), threading.Event()

    def answer(request: Request) -> Response:
        if request.path == "/slow":
            entered.set()
            release.wait(HANG_SECONDS)
        return json_response({"target": request.target})

    changes = merge(PUBLIC, {"proxy": {"preStopSleepSeconds": 1, "upstream": {"timeoutSeconds": 300}}})
    changes = merge(changes, {"terminationGracePeriodSeconds": 400})
    with (
        tempfile.TemporaryDirectory(prefix="authz-") as folder,
        LoopbackServer(answer) as upstream,
        set_stage(charts, Path(folder), changes, upstream=upstream) as stage,
        ThreadPoolExecutor(1) as client,
    ):
        slow = client.submit(stage.ask, "/slow", client="203.0.113.1")
        assert entered.wait(HANG_SECONDS)
        pod = only(stage.documents, "Deployment")["spec"]["template"]["spec"]
        hook = container(pod, "authz")["lifecycle"]["preStop"]["exec"]["command"]
        argv = [argument.replace(":9901", f":{stage.envoy_admin}") for argument in hook]
        with subprocess.Popen([sys.executable, *argv[1:]]) as drain:
            wait_until(lambda: not accepts(stage))
            assert send(f"http://127.0.0.1:{stage.envoy_admin}/ready").status == 200  # it has not ended
            release.set()
            answered = slow.result(HANG_SECONDS)
            assert (answered.status, answered.header("connection")) == (200, "close")
            stage.envoy.stop()
            assert drain.wait(HANG_SECONDS) == 0
    assert container(pod, "envoy")["lifecycle"]["preStop"]["sleep"]["seconds"] == 301
    assert pod["terminationGracePeriodSeconds"] > 301


def read_request(connection: socket.socket) -> bytes:
    """Read the head of one request; empty if the peer has closed the connection."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65_536)
        if not piece:
            return b""
        head += piece
    return head


@contextmanager
def closing_server() -> Iterator[tuple[int, list[str]]]:
    """A server that answers the first request of a connection, and closes it when the second one is there.

    That is the moment in which a server with a short keep-alive closes while a request is on its way. Yields its port,
    and what it saw: `opened`, the method of each request, and `closed` by the client while the connection was idle.
    """
    seen: list[str] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(HANG_SECONDS)
            seen.append("opened")
            seen.append(read_request(connection).partition(b" ")[0].decode())
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            seen.append(read_request(connection).partition(b" ")[0].decode() or "closed")

    with socket.create_server(("127.0.0.1", 0)) as server:
        stopping = threading.Event()

        def accept() -> None:
            while not stopping.is_set():
                connection, _ = server.accept()
                if stopping.is_set():
                    connection.close()
                else:
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], seen
        stopping.set()
        socket.create_connection(server.getsockname()).close()
        thread.join(HANG_SECONDS)


def test_a_connection_that_the_upstream_closes_costs_no_request(charts: Charts) -> None:
    """It closes just when the next request is sent: one that may be repeated is, another is not done twice."""
    with (
        tempfile.TemporaryDirectory(prefix="authz-") as folder,
        closing_server() as (port, seen),
        set_stage(charts, Path(folder), merge(PUBLIC, {"proxy": {"upstream": {"port": port}}})) as stage,
    ):
        assert [stage.ask("/", client="203.0.113.1").status for _ in range(2)] == [200, 200]
        assert seen == ["opened", "GET", "GET", "opened", "GET"]
        seen.clear()
        assert send(f"{stage.front}/", method="POST").status == 503
        assert seen == ["POST"]


def test_idle_connections_to_the_upstream_are_closed_first(charts: Charts) -> None:
    """Envoy closes before the upstream would: the next request, even one that cannot be repeated, has a new one."""
    changes = merge(PUBLIC, {"proxy": {"upstream": {"idleTimeoutSeconds": 1}}})
    with (
        tempfile.TemporaryDirectory(prefix="authz-") as folder,
        closing_server() as (port, seen),
        set_stage(charts, Path(folder), merge(changes, {"proxy": {"upstream": {"port": port}}})) as stage,
    ):
        assert send(f"{stage.front}/", method="POST").status == 200
        wait_until(lambda: "closed" in seen)
        assert send(f"{stage.front}/", method="POST").status == 200
        assert seen[:5] == ["opened", "POST", "closed", "opened", "POST"]


def test_without_a_word_idle_connections_end_before_those_of_common_servers(charts: Charts) -> None:
    """Node and Apache close after 5 s."""
    envoy = only(charts.with_values("proxy", {}), "ConfigMap", name="orders-authz-envoy")["data"]["envoy.yaml"]
    assert "common_http_protocol_options: {idle_timeout: 4s}" in envoy


def test_streams_are_given_time_and_http_2_repeats_only_what_was_not_processed(charts: Charts) -> None:
    """Without a timeout of the route, requests in flight have 30 s; a gRPC call is a POST, and may not be repeated."""
    stream = {"timeoutSeconds": 0, "protocol": "http2"}
    documents = charts.with_values("proxy", {"proxy": {"upstream": stream}})
    pod = only(documents, "Deployment")["spec"]["template"]["spec"]
    assert container(pod, "envoy")["lifecycle"]["preStop"]["sleep"]["seconds"] == 40
    envoy = only(documents, "ConfigMap", name="orders-authz-envoy")["data"]["envoy.yaml"]
    assert 'retry_policy: {retry_on: "refused-stream,reset-before-request", num_retries: 1}' in envoy
