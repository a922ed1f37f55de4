"""gRPC calls as bytes on a connection (RFC 9113), for callers that do what no library lets them do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7  # RFC 9113 section 6
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Write one frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS)


def begin_call(method: str, *, stream: int, timeout: str = "") -> bytes:
    """Write the headers of a call, as a client with an odd *stream* of its own, with a deadline such as `200m`."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "authz",
        "content-type": "application/grpc",
        "te": "trailers",
        **({"grpc-timeout": timeout} if timeout else {}),
    }
    # Each field is literal, not indexed and not compressed (RFC 7541 section 6.2.2).
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())
    return frame(HEADERS, block, flags=END_HEADERS, stream=stream)


def send_message(message: bytes, *, stream: int) -> bytes:
    """Write the only message of a call that was started."""
    return frame(DATA, b"\x00" + len(message).to_bytes(4, "big") + message, flags=END_STREAM, stream=stream)


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def greet(connection: socket.socket) -> Iterator[Frame]:
    """Begin on *connection*, once the server has sent its settings; return what comes after them.

    A server may end a connection if its settings are not acknowledged in time (RFC 9113 section 6.5.3). gRPC does so
    after a minute, which a busy machine may need for less than a test.
    """
    connection.sendall(PREFACE)
    frames = acknowledged(connection)
    assert next(frames).kind == SETTINGS
    return frames


def acknowledged(connection: socket.socket) -> Iterator[Frame]:
    """Read what comes, and acknowledge settings."""
    for came in read_frames(connection):
        if came.kind == SETTINGS and not came.flags & ACK:
            connection.sendall(frame(SETTINGS, flags=ACK))
        yield came


def read_frames(connection: socket.socket) -> Iterator[Frame]:
    """Read what comes, until the connection ends. Nothing stays open: the socket closes when its owner closes it."""
    data = b""
    while True:
        while len(data) < 9 or len(data) < 9 + int.from_bytes(data[:3], "big"):
            chunk = connection.recv(65_536)
            if not chunk:
                return
            data += chunk
        end = 9 + int.from_bytes(data[:3], "big")
        yield Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end])
        data = data[end:]
