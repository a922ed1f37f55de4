"""HTTP requests to the admin sockets of all workers, concurrently, with limits on time and size.

A worker whose response is incomplete or late is omitted, and does not delay the others.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Final

MAX_BYTES: Final = 64 * 1024 * 1024  # of one response
MAX_LIVENESS_BYTES: Final = 4096  # of one response to a probe

_CHUNK: Final = 65_536  # bytes


@dataclass(frozen=True, slots=True)
class WorkerResponse:
    """The response of one worker."""

    status: int
    body: bytes


class LivenessProbe:
    """Sends a liveness request to each worker, and keeps it open until it is answered. Never blocks.

    A worker with little CPU time answers late; one that hangs does not answer at all.
    """

    def __init__(self, sockets: Sequence[Path]) -> None:
        self._sockets: Final = sockets
        self._open: Final[dict[int, _Pending]] = {}

    def answered(self) -> frozenset[int]:
        """Return the workers that have answered since the last call, and send them the next request."""
        numbers = frozenset(
            number for number, pending in list(self._open.items()) if self._has_answered(number, pending)
        )
        for number, path in enumerate(self._sockets):
            if number not in self._open and (connection := _send_request(path, "/livez")) is not None:
                self._open[number] = _Pending(number, connection)
        return numbers

    def forget(self, number: int) -> None:
        """Drop the request to a worker that has ended: its response would not be from the next process."""
        if (pending := self._open.pop(number, None)) is not None:
            pending.connection.close()

    def close(self) -> None:
        """Drop all requests."""
        for number in list(self._open):
            self.forget(number)

    def _has_answered(self, number: int, pending: _Pending) -> bool:
        while not (ended := pending.read()):
            if ended is None:
                return False
            if len(pending.data) > MAX_LIVENESS_BYTES:
                self.forget(number)
                return False
        self.forget(number)
        return any(response.status == HTTPStatus.OK for _, response in pending.parse())


def request_all(
    sockets: Sequence[Path],
    target: str,
    *,
    seconds: float,
    accept: str = "*/*",
    method: str = "GET",
    body: bytes = b"",
    max_bytes: int = MAX_BYTES,
) -> dict[int, WorkerResponse]:
    """Request *target* from the server on each socket; return the complete responses that came within *seconds*."""
    deadline = time.monotonic() + seconds
    responses: dict[int, WorkerResponse] = {}
    with ExitStack() as connections, DefaultSelector() as selector:
        for number, path in enumerate(sockets):
            if (connection := _send_request(path, target, accept, method, body)) is None:
                continue
            connections.enter_context(connection)
            selector.register(connection, EVENT_READ, _Pending(number, connection))
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                pending: _Pending = key.data
                if pending.read() or len(pending.data) > max_bytes:
                    selector.unregister(pending.connection)
                    responses.update(pending.parse())
    return responses


def _send_request(
    path: Path, target: str, accept: str = "*/*", method: str = "GET", body: bytes = b""
) -> socket.socket | None:
    """Send a request for *target* to the server on a socket without blocking; None if no server accepts it whole."""
    length = f"content-length: {len(body)}\r\n" if body else ""
    request = f"{method} {target} HTTP/1.0\r\naccept: {accept}\r\n{length}\r\n".encode() + body
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(0)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(len(request), _CHUNK))
        connection.connect(str(path))
        if connection.send(request) < len(request):
            raise OSError("the socket has no room for the request")
    except OSError:
        connection.close()
        return None
    return connection


@dataclass(slots=True)
class _Pending:
    """A response that is being received."""

    number: int
    connection: socket.socket
    data: bytearray = field(default_factory=bytearray)

    def read(self) -> bool | None:
        """Read once. True: the response has ended; False: data was read; None: there is no data yet."""
        try:
            chunk = self.connection.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return True
        self.data += chunk
        return not chunk

    def parse(self) -> Iterator[tuple[int, WorkerResponse]]:
        """Yield the response with its worker, if it is complete."""
        head, _, body = bytes(self.data).partition(b"\r\n\r\n")
        status, *headers = head.decode("latin-1").split("\r\n")
        if f"content-length: {len(body)}" in headers:
            yield self.number, WorkerResponse(int(status.split(" ")[1]), body)
