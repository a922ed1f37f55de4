"""Checks as Envoy sends them, a Checker with each of its parts in the test's hands, and answers read back."""

# ruff: noqa: ANN401 - parts of a Checker are of several types
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from authz.core.request import Request
from authz.core.snapshot import Snapshot
from authz.demo.signing import SigningKey
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.check import Checker, Flight
from authz.telemetry.judged import Metadata
from tests.fakes.waiting import HANG_SECONDS
from tests.world import A_RSA, WORLD, T, ask, issuer_a, key_set, mint, world

ID = "5ca1ab1e"  # of every decision


def write_check(request: Request | None = None) -> bytes:
    """Write *request*, or one for /items/1 without a token, as Envoy puts it."""
    request = request or ask()
    http = wire.AttributeContext.HttpRequest(
        method=request.method,
        host=request.host,
        path=request.path,
        scheme=request.scheme,
        protocol=request.protocol,
        headers=dict(request.headers),
    )
    address = wire.Address(socket_address=wire.SocketAddress(address=request.source_address))
    attributes = wire.AttributeContext(
        source=wire.AttributeContext.Peer(address=address, certificate=request.certificate),
        request=wire.AttributeContext.Request(http=http),
        context_extensions=dict(request.context),
    )
    return wire.CheckRequest(attributes=attributes).SerializeToString()


NEW = SigningKey.create("ES256", kid="new")
UNKNOWN = write_check(ask(mint(NEW)))  # by a key that the world does not have yet
AFTER = world(a=issuer_a(keys=key_set(A_RSA, NEW)))  # and has after a refresh


def read(answer: bytes) -> wire.CheckResponse:
    """Read an answer as Envoy does."""
    return wire.CheckResponse.FromString(answer)


def told(answer: bytes | wire.CheckResponse, name: str = "reason") -> Any:
    """Return a value of the dynamic metadata, or None where it is absent."""
    message = read(answer) if isinstance(answer, bytes) else answer
    metadata = message.dynamic_metadata
    return metadata[name] if name in metadata.fields else None


def headers_of(message: wire.CheckResponse) -> dict[str, str]:
    """Return the headers of a denial, denied or error, each of which must be there once."""
    refusal = message.error_response if message.HasField("error_response") else message.denied_response
    named = [(option.header.key, option.header.value) for option in refusal.headers]
    assert len(dict(named)) == len(named)
    return dict(named)


@dataclass
class FakeFlight:
    """A refresh that ends when somebody waits for it at all, or never; *land* is what its end brings about."""

    ends: bool = True
    land: Callable[[], None] = lambda: None
    waits: list[float] = field(default_factory=list)

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        if self.ends and timeout > 0:
            self.land()
        return self.ends and timeout > 0


class HeldFlight:
    """A refresh that lasts until *landed* is set; *waiting* is set once somebody waits."""

    def __init__(self, land: Callable[[], None] = lambda: None) -> None:
        self.landed = Event()
        self.waiting = Event()
        self._land = land
        self.waits: list[float] = []

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        if timeout <= 0:
            return False
        self.waiting.set()
        assert self.landed.wait(HANG_SECONDS)
        self._land()
        return True


class Current:
    """The current snapshot, which a flight may swap; *taken* counts how often it was asked for."""

    def __init__(self, snapshot: Snapshot = WORLD) -> None:
        self.snapshot = snapshot
        self.taken = 0

    def __call__(self) -> Snapshot:
        self.taken += 1
        return self.snapshot

    def swap(self, snapshot: Snapshot = AFTER) -> None:
        self.snapshot = snapshot


class FakeFeeds:
    """Feeds with one *flight* to share, or none; *asked* has the issuers that were asked for."""

    def __init__(self, flight: Flight | None = None, *, max_wait: float = 0.1) -> None:
        self._flight = flight
        self._max_wait = max_wait
        self.asked: list[str] = []

    def find_unknown_key(self, issuer: str) -> Flight | None:
        self.asked.append(issuer)
        return self._flight

    def max_wait(self, issuer: str) -> float:
        return self._max_wait


def make_checker(**parts: Any) -> Checker:
    """Build a Checker of the world of tests, at the instant T, with some *parts* replaced."""
    usual: dict[str, Any] = {
        "snapshot": lambda: WORLD,
        "feeds": FakeFeeds(),
        "report": lambda judged: None,
        "now": lambda: float(T),
        "elapsed": lambda: 0.0,
        "new_id": lambda: ID,
        "max_waiters": 1,
    }
    return Checker(**{**usual, **parts})


def check(data: bytes = UNKNOWN, *, time_left: float | None = None, **parts: Any) -> bytes:
    """Let a Checker with these *parts* answer *data*."""
    return answered(make_checker(**parts), data, time_left=time_left)


def answered(checker: Checker, data: bytes, *, time_left: float | None = None, metadata: Metadata = ()) -> bytes:
    """Return what *checker* answers, at once or after waiting."""
    answer = checker.check(data, received=0.0, time_left=time_left, metadata=metadata)
    return answer if isinstance(answer, bytes) else answer()


def raiser(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises *error*, whatever it is called with."""

    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail
