"""Choose the transport: the one on gRPC's private layer if it works, else the one on the public API.

The private layer may change with any release of grpcio. It is tested at start with real calls over a private socket;
that its names still exist would prove little.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import grpc

from authz.config.model import TransportName
from authz.envoy.transport.pool import MAX_THREADS, PoolTransport
from authz.envoy.transport.port import Call, Deferred, Respond, Service

log = logging.getLogger(__name__)

_OPTIONS: Final = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 4096))
_SECONDS: Final = 5.0  # for one call of the self-test, which takes a millisecond
_NOW, _LATER, _UNREAD, _UNKNOWN = (f"/authz.SelfTest/{name}" for name in ("Now", "Later", "Unread", "Unknown"))
_EXPECTED: Final = {
    _NOW: b"hello there",
    _LATER: b"hello there",
    _UNREAD: b"unread",
    _UNKNOWN: grpc.StatusCode.UNIMPLEMENTED,
}


class Transport(Protocol):
    """Passes calls to a Service. It is bound, started and stopped once."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def in_flight(self) -> int:
        """The number of admitted calls that are not answered."""

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on *address*, as gRPC writes it; return its port. Raises RuntimeError."""

    def start(self) -> None:
        """Begin to accept calls."""

    def stop(self, *, grace: float) -> None:
        """Answer the calls that have arrived, accept no more, and cancel calls in flight after *grace* seconds."""


TransportFactory = Callable[[Service, Iterable[tuple[str, int]]], Transport]


class TransportError(OSError):
    """Raised if the configured transport does not work with the installed grpcio."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A transport and its name; *max_deferred* answers can be outstanding at once, None if it sets no bound."""

    name: str
    make: TransportFactory
    max_deferred: int | None = None


POOL: Final = Choice(PoolTransport.name, PoolTransport, MAX_THREADS)


def load_cygrpc() -> TransportFactory:
    """Import the transport on the private layer. Raises ImportError or AttributeError if that layer has changed."""
    from authz.envoy.transport.cygrpc import CygrpcTransport  # noqa: PLC0415 - it may fail

    return CygrpcTransport


def choose_transport(wanted: TransportName, load: Callable[[], TransportFactory] = load_cygrpc) -> Choice:
    """Return the transport that `server.transport` names. Raises TransportError if only the fallback works."""
    if wanted == TransportName.POOL:
        return POOL
    try:
        preferred = load()
        run_self_test(preferred)
    except Exception as error:
        if wanted == TransportName.CYGRPC:
            message = f"server.transport: cygrpc does not work with grpcio {grpc.__version__}: {error}"
            raise TransportError(message) from error
        log.warning("transport cygrpc does not work with grpcio %s, pool is used instead: %s", grpc.__version__, error)
        return POOL
    return Choice("cygrpc", preferred)


class _Echo:
    """Answers at once, later on another thread, or unread, depending on the method; *later* has one thread."""

    methods: Final = frozenset(name.encode() for name in (_NOW, _LATER, _UNREAD))
    fallback_response: Final = b"fallback"

    def __init__(self, later: ThreadPoolExecutor) -> None:
        self._later: Final = later

    def admit(self, call: Call, in_flight: int) -> bytes | None:  # noqa: ARG002 - there is always room
        return b"unread" if call.method == _UNREAD.encode() else None

    def handle(self, call: Call) -> bytes | Deferred:
        answer = b"%s %s" % (call.message, str(dict(call.metadata)["authz"]).encode())
        if call.method == _NOW.encode():
            return answer

        def defer(respond: Respond) -> None:
            self._later.submit(respond, answer)

        return defer

    def reject(self, call: Call) -> bytes:  # noqa: ARG002 - there is always room
        return self.fallback_response

    def on_abandoned(self, call: Call) -> None:
        """Do nothing: no caller of the self-test leaves."""


def run_self_test(make: TransportFactory) -> None:
    """Serve a few calls over a private socket. Raises any exception if an answer is not the expected one."""
    with ThreadPoolExecutor(1) as later:
        transport = make(_Echo(later), _OPTIONS)
        port = transport.bind("127.0.0.1:0")
        transport.start()
        try:
            _call_all(f"127.0.0.1:{port}")
        finally:
            transport.stop(grace=0)


def _call_all(address: str) -> None:
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as channel:
        for name, expected in _EXPECTED.items():
            method = channel.unary_unary(name, request_serializer=bytes, response_deserializer=bytes)
            answer: object
            try:
                answer = method(b"hello", timeout=_SECONDS, metadata=(("authz", "there"),))
            except grpc.RpcError as error:
                answer = error.code()
            if answer != expected:
                raise RuntimeError(f"a call to {name} gave {answer!r}, not {expected!r}")
