"""A service whose parts are in the test's hands, served by any transport, and callers that write frames."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, takewhile
from threading import Event, Lock, Thread, current_thread
from typing import Any, Final, Self

import grpc

from authz.envoy.transport.choice import Transport
from authz.envoy.transport.cygrpc import CygrpcTransport
from authz.envoy.transport.pool import PoolTransport
from authz.envoy.transport.port import Call, Deferred, Respond
from tests.fakes.http2 import DATA, PING, RST_STREAM, SETTINGS, begin_call, frame, greet, send_message
from tests.unit.envoy.serving import SECONDS, code_of

ASK: Final = "/test/Ask"
MAX_MESSAGE: Final = 1 << 20
OPTIONS: Final = (
    ("grpc.server.max_pending_requests", 1_000_000),  # or gRPC would end calls by itself if many come at one time
    ("grpc.server.max_pending_requests_hard_limit", 1_000_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.so_reuseport", 0),
)
NO_WINDOW: Final = frame(SETTINGS, b"\x00\x04" + bytes(4))  # SETTINGS_INITIAL_WINDOW_SIZE of 0
TRANSPORTS: Final = (CygrpcTransport, PoolTransport)
Kind = type[CygrpcTransport] | type[PoolTransport]


class StubService:
    """Echoes, unless a test replaces `admitting` or `handling`; the other attributes say what it did."""

    methods = frozenset([ASK.encode()])
    fallback_response = b"fallback"

    def __init__(self) -> None:
        self.admitting: Callable[[Call, int], bytes | None] = lambda _call, _in_flight: None
        self.handling: Callable[[Call], bytes | Deferred] = lambda call: b"re: " + call.message
        self.handled: list[bytes] = []
        self.abandoned = 0
        self.overlaps = 0  # calls into this service while it was busy with another
        self.threads: set[str] = set()
        self._busy: Final = Lock()

    def hold(self) -> tuple[Event, Event]:
        """Handle nothing until the second event; the first one is set when there is a call to handle."""
        reached, released = Event(), Event()

        def handle(_call: Call) -> bytes:
            reached.set()
            assert released.wait(SECONDS)
            return b"handled"

        self.handling = handle
        return reached, released

    def bound(self, most: int) -> None:
        """Admit at most so many calls."""
        self.admitting = lambda _call, in_flight: b"rejected" if in_flight >= most else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        alone = self._busy.acquire(blocking=False)
        self.overlaps += not alone
        try:
            yield
        finally:
            if alone:
                self._busy.release()

    def admit(self, call: Call, in_flight: int) -> bytes | None:
        with self._alone():
            return self.admitting(call, in_flight)

    def reject(self, call: Call) -> bytes:
        with self._alone():
            return b"no room"

    def on_abandoned(self, call: Call) -> None:
        with self._alone():
            self.abandoned += 1

    def handle(self, call: Call) -> bytes | Deferred:
        with self._alone():
            self.handled.append(call.message)
            self.threads.add(current_thread().name)
            return self.handling(call)


class Waiting:
    """Deferred answers: each that was asked for waits here until the test gives it."""

    def __init__(self) -> None:
        self.responds: Final[list[Respond]] = []

    def __call__(self, respond: Respond) -> None:
        self.responds.append(respond)

    def answer(self, answer: bytes) -> None:
        """Answer all that wait."""
        while self.responds:
            self.responds.pop()(answer)


@contextmanager
def serving(service: StubService, kind: Kind, **parts: Any) -> Iterator[tuple[Transport, grpc.Channel, int]]:  # noqa: ANN401 - of several types
    """Serve *service* on a port; give the transport, a channel to it, and the port."""
    transport = kind(service, OPTIONS, **parts)
    port = transport.bind("127.0.0.1:0")
    transport.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield transport, channel, port
    finally:
        transport.stop(grace=0)


@contextmanager
def spinning() -> Iterator[Callable[[], object]]:
    """What keeps the thread that calls it busy until the end: it never sleeps, and needs no interpreter."""
    libc, lock = ctypes.CDLL(None), ctypes.byref(ctypes.c_int())
    libc.pthread_spin_init(lock, 0)
    libc.pthread_spin_lock(lock)
    try:
        yield partial(libc.pthread_spin_lock, lock)
    finally:
        libc.pthread_spin_unlock(lock)


@contextmanager
def busy_thread() -> Iterator[Thread]:
    """A thread like those of gRPC's core while they have work."""
    with spinning() as spin:
        busy = Thread(target=spin)
        busy.start()
        yield busy
    busy.join()


class Caller:
    """A caller that writes frames as it likes, on a connection of its own."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.frames = greet(self._connection)
        self._answered: Final[set[int]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def say(self, *frames: bytes) -> None:
        """Send *frames* as they are."""
        self._connection.sendall(b"".join(frames))

    def await_reading(self) -> None:
        """Wait until the server has read everything that was sent: it answers a PING in turn (RFC 9113 section 6.7)."""
        mark = b"has read"
        self.say(frame(PING, mark))
        before = list(takewhile(lambda came: (came.kind, came.payload) != (PING, mark), self.frames))
        self.frames = chain(before, self.frames)

    def begin(self, *streams: int) -> None:
        """Begin a call on each stream."""
        self._connection.sendall(b"".join(begin_call(ASK, stream=stream) for stream in streams))

    def call(self, *streams: int) -> None:
        """Make a whole call on each stream."""
        self.say(*map(whole_call, streams))

    def end(self, *streams: int) -> None:
        """Send the messages of calls that were started."""
        self.say(*(send_message(b"%d" % stream, stream=stream) for stream in streams))

    def receive(self, number: int) -> dict[int, bytes]:
        """Return so many answers, by stream; b"" if the call was reset, or ended without an answer."""
        answers: dict[int, bytes] = {}
        while len(answers) < number:
            came = next(self.frames)
            if came.kind == DATA:
                answers[came.stream] = came.payload[5:]
            elif came.kind == RST_STREAM and came.stream not in self._answered:
                answers[came.stream] = b""
            self._answered.update(answers)
        return answers


def whole_call(stream: int) -> bytes:
    """Write a call whose message is the number of its stream."""
    return begin_call(ASK, stream=stream) + send_message(b"%d" % stream, stream=stream)


def end_of(call: grpc.Future[bytes]) -> grpc.StatusCode:
    """Return how a call failed."""
    error = call.exception(timeout=SECONDS)
    assert error is not None
    return code_of(error)
