"""Callers that speak gRPC through Envoy get a gRPC answer: trailers only, a status and a short message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest

from authz.demo.client import send
from tests.e2e.harness import Stage
from tests.fakes.waiting import HANG_SECONDS

METHOD = "/orders.v1.Orders/Get"


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call ended."""

    code: grpc.StatusCode
    message: str
    challenge: str | None


@pytest.fixture
def channel(stage: Stage) -> Iterator[grpc.Channel]:
    """A gRPC channel to Envoy."""
    with grpc.insecure_channel(stage.envoy.url.removeprefix("http://")) as channel:
        yield channel


def refusal(channel: grpc.Channel, method: str = METHOD, *, token: str | None = None) -> Refusal:
    """Call a method that must be refused."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as raised:
        call(b"", metadata=metadata, timeout=HANG_SECONDS)
    error = raised.value
    assert isinstance(error, grpc.Call)
    trailers = {entry.key: str(entry.value) for entry in error.trailing_metadata() or ()}
    return Refusal(error.code(), error.details() or "", trailers.get("www-authenticate"))


def test_a_missing_token_is_unauthenticated(channel: grpc.Channel) -> None:
    """401 becomes UNAUTHENTICATED, with short plain text and the challenge among the trailers."""
    refused = refusal(channel)

    assert (refused.code, refused.challenge) == (grpc.StatusCode.UNAUTHENTICATED, 'Bearer realm="api"')
    assert 0 < len(refused.message) < 100
    assert "{" not in refused.message


def test_a_missing_scope_is_permission_denied(channel: grpc.Channel, stage: Stage) -> None:
    """403 becomes PERMISSION_DENIED, with the scope that would do."""
    refused = refusal(channel, token=stage.alpha.mint())

    assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    assert refused.challenge == 'Bearer realm="api", error="insufficient_scope", scope="orders:rpc"'


def test_an_ambiguous_path_is_an_invalid_argument(channel: grpc.Channel) -> None:
    """400 becomes INVALID_ARGUMENT, where Envoy by itself would make it INTERNAL."""
    assert refusal(channel, "/orders.v1.Orders//Get").code is grpc.StatusCode.INVALID_ARGUMENT


def test_missing_keys_are_unavailable(channel: grpc.Channel, stage: Stage) -> None:
    """503 becomes UNAVAILABLE, which a gRPC client may try again."""
    assert refusal(channel, token=stage.gone.mint()).code is grpc.StatusCode.UNAVAILABLE


def test_envoy_shows_nothing_of_the_message_of_the_status(stage: Stage) -> None:
    """`status.message` is for gRPC servers that ask for themselves: Envoy puts it into no header and no body."""
    answer = send(f"{stage.envoy.url}/orders/1")

    assert answer.status == 401
    assert "Unauthorized, decision" not in f"{answer.headers} {answer.body.decode()}"
    assert answer.json()["decision_id"]
