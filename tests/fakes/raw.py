"""Servers below HTTP: one that sends configured bytes, or says nothing, and a proxy."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

Talk = Callable[[socket.socket, threading.Event], None]


class RawServer:
    """Serves *talk* on a loopback port, a thread for each connection; `heard` has what each connection said first."""

    def __init__(self, talk: Talk, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.heard: list[bytes] = []
        self._talk = talk
        self._over = threading.Event()
        self._listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for sock in (self._listener, *self._open):
            _hang_up(sock)

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._meet, args=(connection,), daemon=True).start()

    def _meet(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.heard.append(connection.recv(4096, socket.MSG_PEEK))
            self._talk(connection, self._over)
        _hang_up(connection)


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def say(*pieces: bytes) -> Talk:
    """Say this, then hang up."""
    return drip(pieces, seconds=0)


def drip(pieces: Iterator[bytes] | tuple[bytes, ...], *, seconds: float) -> Talk:
    """Say one piece in so many seconds."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(4096)
        for piece in pieces:
            connection.sendall(piece)
            if over.wait(seconds):
                return

    return talk


def be_silent(connection: socket.socket, over: threading.Event) -> None:
    """Say nothing at all."""
    over.wait()


def forward(*, status: bytes = b"200 OK", ports: Mapping[str, int] | None = None) -> Talk:
    """Be a proxy: answer CONNECT with *status*, then pass bytes to the named port of this host, or a plain request.

    *ports* says for a target, host and port, which port it is here.
    """

    def talk(connection: socket.socket, over: threading.Event) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        method, target, _ = head.split(b" ", 2)
        if method != b"CONNECT":
            port = int(target.split(b"/")[2].rpartition(b":")[2])
            with socket.create_connection(("127.0.0.1", port)) as far:
                far.sendall(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                _pump(far, connection)
            return
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nVia: 1.1 proxy\r\n\r\n")
        if not status.startswith(b"2"):
            return
        pass_on((ports or {}).get(target.decode("ascii"), int(target.rpartition(b":")[2])))(connection, over)

    return talk


def pass_on(port: int) -> Talk:
    """Pass bytes to and from a port of this host."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", port)) as far:
            threading.Thread(target=_pump, args=(far, connection), daemon=True).start()
            _pump(connection, far)

    return talk


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
