"""Many requests over few connections, byte for byte as they are written: HTTP/1.1 in a pipeline, HTTP/2 in streams.

A request that may be why the peer closed the connection is asked again on one of its own; if that is closed too, it
counts as refused.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from typing import Final

from hpack import Decoder, Encoder

from tests.fakes.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    frame,
    read_frames,
)
from tests.fakes.waiting import HANG_SECONDS

_AT_ONCE: Final = 50  # requests in flight on a connection; Envoy allows 100 streams
_WINDOW_UPDATE: Final = 0x8
_PREFACE: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(SETTINGS, b"\x00\x04" + (2**31 - 1).to_bytes(4, "big"))  # SETTINGS_INITIAL_WINDOW_SIZE
    + frame(_WINDOW_UPDATE, (2**31 - 2**16).to_bytes(4, "big"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, without a token. Each character of *path* and *host* is a byte."""

    method: str
    path: str
    host: str = "public.test"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Got:
    """What came back: status 0 is a closed connection or stream; *route* names the handler that served, if one did.

    *passed* says that Envoy sent the request to the upstream, and *reset* that this ended the connection on it.
    """

    status: int
    route: str = ""
    passed: bool = False
    reset: bool = False


_REFUSED: Final = Got(0)
_Answers = Iterator[tuple[int, Got]]
_Send = Callable[[socket.socket, Sequence[Ask]], _Answers]


def ask_all(address: str, asks: Sequence[Ask], protocol: str) -> list[Got]:
    """Send all requests to `host:port`, by `HTTP/1.1` or `HTTP/2`; return the answers in the same order."""
    send, blamed = {"HTTP/1.1": (_send_http1, 1), "HTTP/2": (_send_http2, _AT_ONCE)}[protocol]
    found: dict[int, Got] = {}
    waiting = list(range(len(asks)))
    while waiting:
        found |= _try(send, address, asks, waiting)
        waiting = [place for place in waiting if place not in found]
        if waiting:  # at once, for Envoy takes a second to close a connection
            alone = [[place] for place in waiting[:blamed]]
            with ThreadPoolExecutor(blamed) as threads:
                for again in threads.map(partial(_try, send, address, asks), alone):
                    found |= again
            found |= {place: _REFUSED for (place,) in alone if place not in found}
            del waiting[:blamed]
    return [found[place] for place in range(len(asks))]


def _try(send: _Send, address: str, asks: Sequence[Ask], places: Sequence[int]) -> dict[int, Got]:
    """Send the requests at *places* over one connection, and return those answers that came."""
    host, _, port = address.rpartition(":")
    found: dict[int, Got] = {}
    with socket.create_connection((host, int(port)), timeout=HANG_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            for place, got in send(connection, [asks[place] for place in places]):
                found[places[place]] = got
    return found


def _read(headers: Mapping[str, str], body: bytes) -> Got:
    reset = body.startswith(b"upstream connect error") and body.endswith((b"connection termination", b"protocol error"))
    passed = reset or "x-envoy-upstream-service-time" in headers
    return Got(int(headers[":status"]), headers.get("x-route", ""), passed, reset)


def _send_http1(connection: socket.socket, asks: Sequence[Ask]) -> _Answers:
    with connection.makefile("rb") as stream:
        for start in range(0, len(asks), _AT_ONCE):
            batch = asks[start : start + _AT_ONCE]
            connection.sendall(b"".join(map(_write, batch)))
            for place, ask in enumerate(batch, start):
                answer = _read_answer(stream, ask.method)
                if answer is None:
                    return
                headers, body = answer
                yield place, _read(headers, body)
                if "close" in headers.get("connection", ""):
                    return


def _write(ask: Ask) -> bytes:
    length = [("content-length", str(len(ask.body)))] if ask.body or ask.method in {"POST", "PUT", "PATCH"} else []
    lines = [f"{ask.method} {ask.path} HTTP/1.1", f"host: {ask.host}"]
    lines += [f"{name}: {value}" for name, value in (*ask.headers, *length)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + ask.body


def _read_answer(stream: BufferedReader, method: str) -> tuple[dict[str, str], bytes] | None:
    """Return the next answer: its headers, `:status` among them, and its body; None if the connection ended before."""
    line = stream.readline().split()
    if len(line) < 2:
        return None
    headers = {":status": line[1].decode("ascii")}
    while (field := stream.readline().strip()) != b"":
        name, _, value = field.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if method == "HEAD" or headers[":status"] in {"204", "304"}:
        return headers, b""
    if headers.get("transfer-encoding") != "chunked":
        return headers, stream.read(int(headers.get("content-length", "0")))
    body = b""
    while (size := int(stream.readline(), 16)) > 0:
        body += stream.read(size + 2)
    stream.readline()
    return headers, body


def _send_http2(connection: socket.socket, asks: Sequence[Ask]) -> _Answers:
    encoder, decoder = Encoder(), Decoder()
    frames = read_frames(connection)
    connection.sendall(_PREFACE)
    for start in range(0, len(asks), _AT_ONCE):
        batch = asks[start : start + _AT_ONCE]
        open_streams = {2 * place + 1: place for place in range(start, start + len(batch))}
        connection.sendall(b"".join(_begin(encoder, asks[place], stream) for stream, place in open_streams.items()))
        heads: dict[int, dict[str, str]] = {}
        bodies: dict[int, bytes] = {}
        while open_streams:
            got = next(frames, None)
            if got is None:
                return
            if got.kind in {SETTINGS, PING} and not got.flags & ACK:
                connection.sendall(frame(got.kind, got.payload if got.kind == PING else b"", flags=ACK))
            elif got.kind == HEADERS:
                assert got.flags & END_HEADERS
                heads[got.stream] = {str(name): str(value) for name, value in decoder.decode(got.payload)}
            elif got.kind == DATA:
                bodies[got.stream] = bodies.get(got.stream, b"") + got.payload
            if got.kind == RST_STREAM or (got.kind in {HEADERS, DATA} and got.flags & END_STREAM):
                place = open_streams.pop(got.stream, None)
                if place is not None:
                    head = heads.get(got.stream)
                    yield place, _read(head, bodies.get(got.stream, b"")) if head else _REFUSED


def _begin(encoder: Encoder, ask: Ask, stream: int) -> bytes:
    pseudo = ((":method", ask.method), (":scheme", "http"), (":authority", ask.host), (":path", ask.path))
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*pseudo, *ask.headers)]
    end = END_HEADERS if ask.body else END_HEADERS | END_STREAM
    head = frame(HEADERS, encoder.encode(fields), flags=end, stream=stream)
    return head + (frame(DATA, ask.body, flags=END_STREAM, stream=stream) if ask.body else b"")
