"""Proves authz.envoy.transport.choice: the private layer is used only if it works; the fallback needs none of it."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import grpc
import pytest

from authz.config.model import TransportName
from authz.envoy.transport.choice import POOL as POOL_CHOICE
from authz.envoy.transport.choice import Choice, TransportError, TransportFactory, choose_transport
from authz.envoy.transport.cygrpc import CygrpcTransport
from authz.envoy.transport.pool import PoolTransport
from authz.envoy.transport.port import Call, Service
from tests.fixtures import ask, mint
from tests.unit.envoy.asking import make_checker, told, write_check
from tests.unit.envoy.serving import SECONDS, method, serving

AUTO, CYGRPC, POOL = TransportName


def test_the_private_layer_is_used_if_it_works() -> None:
    """By default, and if it is asked for."""
    assert choose_transport(AUTO) == choose_transport(CYGRPC) == Choice("cygrpc", CygrpcTransport)


def test_the_operator_may_prefer_the_public_api() -> None:
    """The private layer is not even imported then."""
    assert choose_transport(POOL, load=absent) == POOL_CHOICE


def absent() -> TransportFactory:
    """Fail as an import does if a name is gone."""
    raise ImportError("cannot import name 'cygrpc'")


class NoUnreadAnswers(CygrpcTransport):
    """Takes answers without a message for calls to be read."""

    def _accept(self, event: Any) -> None:  # noqa: ANN401 - as cygrpc has it
        self._service = Deaf(self._service)  # type: ignore[misc]
        super()._accept(event)


class Deaf:
    """A service that never answers unread."""

    def __init__(self, service: Service) -> None:
        self.methods, self.fallback_response = service.methods, service.fallback_response
        self.handle, self.reject, self.on_abandoned = service.handle, service.reject, service.on_abandoned

    def admit(self, call: Call, in_flight: int) -> bytes | None:
        """Admit all."""


class NoStart(CygrpcTransport):
    """Cannot even start."""

    def start(self) -> None:
        raise AttributeError("no attribute 'request_call'")


@pytest.mark.parametrize(
    "load", [absent, lambda: NoUnreadAnswers, lambda: NoStart], ids=["absent", "changed", "broken"]
)
def test_the_public_api_is_used_if_the_private_layer_does_not_do_what_it_did(
    load: Any,  # noqa: ANN401 - of several types
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says why; an operator who insists on the private layer gets no other."""
    with caplog.at_level(logging.WARNING, "authz"):
        assert choose_transport(AUTO, load=load) == POOL_CHOICE
    (record,) = caplog.records
    assert f"transport cygrpc does not work with grpcio {grpc.__version__}, pool is used instead: " in record.message
    with pytest.raises(TransportError, match=r"server\.transport: cygrpc does not work with grpcio "):
        choose_transport(CYGRPC, load=load)


def test_the_fallback_needs_no_name_of_the_private_layer() -> None:
    """If a name that it imports is gone, all else is imported as ever, and the public API is chosen."""
    script = """
import sys
sys.modules["authz.envoy.transport.cygrpc_call"] = None  # its import fails, as if a name were gone
import authz.runtime.app
from authz.config.model import TransportName
from authz.envoy.transport.choice import choose_transport
print(choose_transport(TransportName.AUTO).name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "pool\n"


@pytest.mark.parametrize("transport", [CygrpcTransport, PoolTransport], ids=lambda transport: transport.name)
def test_checks_are_answered_by_each(transport: TransportFactory) -> None:
    """The whole server, on a Unix socket."""
    with serving(make_checker(), transport=transport) as address, grpc.insecure_channel(address) as channel:
        assert told(method(channel)(write_check(ask(mint())), timeout=SECONDS)) == "authenticated"
        assert told(method(channel)(write_check(), timeout=SECONDS)) == "token_missing"
