"""The gRPC server on a real socket, and callers of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from authz.envoy.admission import METHOD
from authz.envoy.checker import Checker
from authz.envoy.server import AuthorizationServer
from authz.envoy.transport.choice import TransportFactory
from authz.envoy.transport.cygrpc import CygrpcTransport
from tests.fakes.waiting import HANG_SECONDS
from tests.unit.envoy.asking import make_checker

SECONDS: Final = HANG_SECONDS  # for one call: it only stops a hang


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder with a short name: a Unix socket has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder:
        yield Path(folder)


def make_server(checker: Checker | None = None) -> AuthorizationServer:
    """Build a server that listens nowhere yet."""
    return AuthorizationServer(checker or make_checker(), transport=CygrpcTransport, max_concurrent=64)


@contextmanager
def serving(
    checker: Checker,
    *,
    transport: TransportFactory = CygrpcTransport,
    max_concurrent: int = 64,
    on_abandoned: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """Serve *checker* on a Unix socket; give its address."""
    with short_folder() as folder:
        server = AuthorizationServer(
            checker,
            transport=transport,
            max_concurrent=max_concurrent,
            on_abandoned=on_abandoned,
        )
        server.listen_unix(folder / "authz.sock", mode=0o600)
        server.start()
        try:
            yield f"unix:{folder}/authz.sock"
        finally:
            server.stop(grace=0)


def method(channel: grpc.Channel, name: str = METHOD) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return a method that takes and gives bytes, like Envoy's."""
    return channel.unary_unary(name, request_serializer=bytes, response_deserializer=bytes)


def health_of(channel: grpc.Channel, service: str = "") -> str:
    """Ask the health service for one word."""
    question = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    answer = health_pb2.HealthCheckResponse.FromString(
        method(channel, "/grpc.health.v1.Health/Check")(question, timeout=SECONDS)
    )
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the status of a call that failed."""
    assert isinstance(error, grpc.Call), error
    return error.code()
