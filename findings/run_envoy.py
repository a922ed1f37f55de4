"""Envoy between Unix sockets of the current folder, in front of an upstream that answers with what it received.

Used by the scripts beside this file, with the Envoy that the variable ENVOY names. Nothing of the sidecar is in it.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_TYPE = "type.googleapis.com/envoy.extensions."
_HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": _TYPE + "upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}
# Written by Envoy itself on every request, and of no interest here.
_OWN_HEADERS = ("x-forwarded-proto:", "x-envoy-expected-rq-timeout-ms:", "x-request-id:")


class NotStartedError(Exception):
    """Raised if Envoy refuses its configuration; its text is Envoy's log."""


class _Upstream(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        lines: list[bytes] = []
        while line := self.rfile.readline().rstrip(b"\r\n"):
            lines.append(line)
        body = b"\n".join(lines)
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body))


def http_filter(name: str, kind: str, **settings: Any) -> dict[str, Any]:  # noqa: ANN401 - a configuration of Envoy
    """One HTTP filter of the extension *kind*, such as `jwt_authn.v3.JwtAuthentication`."""
    return {"name": name, "typed_config": {"@type": f"{_TYPE}filters.http.{kind}", **settings}}


def jwt_authn(**providers: dict[str, Any]) -> dict[str, Any]:
    """Build the filter that requires the provider NAME below the path /NAME."""
    rules = [{"match": {"prefix": f"/{name}"}, "requires": {"provider_name": name}} for name in providers]
    return http_filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", providers=providers, rules=rules)


def ext_authz(path: str = "authz.sock") -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the filter that asks a gRPC service on the Unix socket *path*, and the cluster of that service."""
    service = {"envoy_grpc": {"cluster_name": "authz"}, "timeout": "60s"}
    settings = {"transport_api_version": "V3", "grpc_service": service}
    return http_filter("ext_authz", "ext_authz.v3.ExtAuthz", **settings), _cluster("authz", path, http2=True)


def _cluster(name: str, path: str, *, http2: bool = False) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": path}}}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    options = {"typed_extension_protocol_options": _HTTP2} if http2 else {}
    return {"name": name, "type": "STATIC", "load_assignment": assignment, **options}


class Envoy:
    """A running Envoy with the given HTTP filters; `with Envoy(...) as envoy` starts and ends it.

    Raises NotStartedError if Envoy refuses the configuration.
    """

    def __init__(self, *filters: dict[str, Any], clusters: Sequence[dict[str, Any]] = ()) -> None:
        router = http_filter("router", "router.v3.Router")
        route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
        manager = {
            "@type": _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "http_filters": [*filters, router],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        resources = {
            "listeners": [{"name": "in", "address": {"pipe": {"path": "in.sock"}}, "filter_chains": [chain]}],
            "clusters": [_cluster("upstream", "upstream.sock"), *clusters],
        }
        admin = {"address": {"pipe": {"path": "admin.sock"}}}
        Path("envoy.json").write_text(json.dumps({"admin": admin, "static_resources": resources}))

    def __enter__(self) -> Self:
        for name in ("in", "admin", "upstream"):
            Path(f"{name}.sock").unlink(missing_ok=True)
        self.upstream = _Upstream("upstream.sock", _Echo)
        threading.Thread(target=self.upstream.serve_forever, daemon=True).start()
        command = [os.environ["ENVOY"], "-c", "envoy.json", "--disable-hot-restart", "--concurrency", "1"]
        with Path("envoy.log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while not self._is_ready():
            if self.process.poll() is not None:
                self._close()
                raise NotStartedError(Path("envoy.log").read_text())
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self.upstream.shutdown()
        self.upstream.server_close()

    def _is_ready(self) -> bool:
        try:
            return "LIVE" in _exchange("admin.sock", "GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        except OSError:
            return False

    def get(self, target: str, *headers: str, method: str = "GET") -> tuple[int, list[str], list[str]]:
        """Send a request; return the status, the header lines and the lines of the body of the answer.

        From upstream, the body is the request as the upstream received it.
        """
        lines = (f"{method} {target} HTTP/1.1", "host: orders.example", "connection: close", *headers)
        head, _, body = _exchange("in.sock", "\r\n".join(lines) + "\r\n\r\n").partition("\r\n\r\n")
        status, *answer = head.split("\r\n")
        return int(status.split()[1]), answer, [x for x in body.split("\n") if not x.startswith(_OWN_HEADERS)]


def _exchange(path: str, text: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(text.encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
