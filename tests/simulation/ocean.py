"""An ocean between a sidecar and its issuer: a relay that lets every octet take its time."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 65_536


class Ocean:
    """Relays TCP to *port* of this host as over a way with this *round_trip*, in seconds; a context manager.

    Each direction takes half of it, and a connection takes one before its first octet, as TCP's handshake does.
    """

    def __init__(self, port: int, *, round_trip: float) -> None:
        self._port: Final = port
        self._round_trip: Final = round_trip
        self._listener: Final = socket.create_server(("127.0.0.1", 0))
        self.port: Final = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        Thread(target=self._accept, name="ocean", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        time.sleep(self._round_trip)
        far = socket.create_connection(("127.0.0.1", self._port))
        Thread(target=self._pump, args=(near, far), daemon=True).start()
        self._pump(far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK):
                time.sleep(self._round_trip / 2)
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
