"""Checks as Envoy sends them, a Checker with each of its parts in the test's hands, and answers read back."""

# ruff: noqa: ANN401 - parts of a Checker are of several types
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Event, Lock
from time import monotonic
from typing import Any

from authz.core.needs import Need
from authz.core.request import Request
from authz.core.snapshot import Snapshot
from authz.demo.signing import SigningKey
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer, Lane, Resume
from authz.telemetry.check_record import Metadata
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import A_RSA, DEFAULT_SNAPSHOT, T, ask, issuer_a, key_set, make_snapshot, mint

ID = "5ca1ab1e"  # of every decision
HANG = HANG_SECONDS


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
AFTER = make_snapshot(a=issuer_a(keys=key_set(A_RSA, NEW)))  # and has after a refresh


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


SEARCHED = "searched"  # the fact that a key was looked for


@dataclass
class FakeLane:
    """Answers needs for keys: from what is *known*, or with *fact* when asked, or *silent*ly never.

    *land* is what comes with an answer, as keys come with a snapshot. If it *queues*, the source is busy with others.
    """

    known: object | None = None
    fact: object | None = SEARCHED
    silent: bool = False
    queues: bool = False
    land: Callable[[], None] = lambda: None
    wait: float = 0.1
    max_waiting: int = 8
    found: list[Need] = field(default_factory=list)
    asked: list[Need] = field(default_factory=list)

    def find(self, need: Need) -> object | None:
        self.found.append(need)
        return self.known

    def ask(self, need: Need, done: Callable[[object | None], None]) -> bool | None:
        self.asked.append(need)
        if not self.silent:
            self.land()
            done(self.fact)
        return self.queues

    def max_wait(self, need: Need) -> float:
        return self.wait


class HeldLane(FakeLane):
    """Answers when it is *release*d; *waiting* is set once a check waits."""

    def __init__(self, land: Callable[[], None] = lambda: None) -> None:
        super().__init__(silent=True, wait=HANG, land=land, max_waiting=64)
        self.waiting = Event()
        self._open: list[Callable[[object | None], None]] = []
        self._lock = Lock()

    def ask(self, need: Need, done: Callable[[object | None], None]) -> bool | None:
        with self._lock:
            held = self.silent
            if held:
                self._open.append(done)
        queued = super().ask(need, done)
        self.waiting.set()
        return queued

    def release(self) -> None:
        """Answer whatever was asked, and from now on at once."""
        with self._lock:
            self.silent = False
        self.land()
        for done in self._open:
            done(self.fact)


class RecordingGatherer(Gatherer):
    """A gatherer that notes how many seconds each check may wait, in *waits*."""

    def __init__(self, lanes: Mapping[str, Lane], *, monotonic: Callable[[], float] = monotonic) -> None:
        super().__init__(lanes, monotonic=monotonic)
        self.waits: list[float] = []

    def gather(self, needs: Iterable[Need], seconds: float, resume: Resume) -> None:
        self.waits.append(seconds)
        super().gather(needs, seconds, resume)


class StillGatherer(RecordingGatherer):
    """A gatherer without its thread, whose time passes when the test says so."""

    def __init__(self, **lanes: Lane) -> None:
        super().__init__(lanes, monotonic=lambda: self.instant)
        self.instant = 0.0

    def work(self, *, until: Callable[[], bool]) -> None:
        """Handle what there is; where that is not enough *until* all is done, let one wait after another pass."""
        for _ in range(20):
            if until():
                return
            self.step(0)
        while not until():
            left = self._time_to_deadline()
            assert left is not None
            self.instant += left
            self.step(0)


class Current:
    """The current snapshot, which an answer may swap; *taken* counts how often it was asked for."""

    def __init__(self, snapshot: Snapshot = DEFAULT_SNAPSHOT) -> None:
        self.snapshot = snapshot
        self.taken = 0

    def __call__(self) -> Snapshot:
        self.taken += 1
        return self.snapshot

    def swap(self, snapshot: Snapshot = AFTER) -> None:
        self.snapshot = snapshot


def make_checker(*, lane: Lane | None = None, **parts: Any) -> Checker:
    """Build a Checker of the world of tests, at the instant T, with some *parts* replaced.

    *lane* answers needs for keys, on a thread that runs as long as the test does.
    """
    if lane is not None:
        parts["gatherer"] = Gatherer({"key": lane}, monotonic=monotonic)
        parts["gatherer"].start()
    usual: dict[str, Any] = {
        "snapshot": lambda: DEFAULT_SNAPSHOT,
        "gatherer": Gatherer({}, monotonic=monotonic),
        "report": lambda record: None,
        "now": lambda: float(T),
        "elapsed": lambda: 0.0,
        "new_id": lambda: ID,
    }
    return Checker(**{**usual, **parts})


def check(
    data: bytes = UNKNOWN,
    *,
    time_left: float | None = None,
    metadata: Metadata = (),
    lane: Lane | None = None,
    **parts: Any,
) -> bytes:
    """Return what a Checker with these *parts* answers to *data*, at once or when it was gathered.

    *lane* answers needs for keys.
    """
    gatherer: StillGatherer = parts.setdefault("gatherer", StillGatherer(key=lane or FakeLane()))
    answer = make_checker(**parts).check(data, received=0.0, time_left=time_left, metadata=metadata)
    if isinstance(answer, bytes):
        return answer
    answers: list[bytes] = []
    answer(answers.append)
    gatherer.work(until=lambda: bool(answers))
    (only,) = answers
    return only


def raiser(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises *error*, whatever it is called with."""

    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail
