"""Say which thread reads a Unix socket: the one that polls, or gRPC's own. A program for a process of its own.

    python -m tests.unit.envoy.reading

It serves as `authz serve` would on a Unix socket, and is its own only client, which writes HTTP/2 frames by hand.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from authz.cli.serve import _set_up_grpc

_FRAME: Final = 9  # bytes before what a frame holds: length, type, flags, stream
_HELLO: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")  # preface, SETTINGS
_SETTINGS_READ: Final = bytes.fromhex("000000040100000000")
_PING: Final = bytes.fromhex("000008060000000000") + b"who-read"
_PING_READ: Final = bytes.fromhex("000008060100000000") + b"who-read"
_TURNS: Final = 20  # times that gRPC's threads run, after which they would have read what lies there
_LOOK: Final = 0.01  # seconds between two looks
_HANG: Final = 120.0  # seconds, after which there is no answer


class Client:
    """A connection, and whether it was answered."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.settimeout(0)
        self._got = b""

    def send(self, frame: bytes) -> None:
        """Write bytes, for which there is room."""
        self._socket.sendall(frame)

    def has(self, answer: bytes) -> bool:
        """Tell whether *answer* has come."""
        with suppress(BlockingIOError):
            self._got += self._socket.recv(65536)
        return answer in self._got

    def wait(self) -> None:
        """Wait for the next bytes, but not for long."""
        select.select([self._socket], [], [], _LOOK)


def turns() -> int:
    """Return how often the other threads of this process have run, so far: each time ends by waiting again."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != os.getpid():  # the main thread
            lines = (task / "status").read_text().splitlines()
            count += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return count


def until(condition: Callable[[], bool], step: Callable[[], Any]) -> None:
    """Take steps until *condition* holds."""
    end = time.monotonic() + _HANG
    while not condition():
        if time.monotonic() > end:
            sys.exit("nobody reads, and nobody runs")
        step()


def main() -> None:
    """Print `poller` or `others`."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder:
        path = Path(folder) / "socket"
        _set_up_grpc(f"unix:{path}")
        from grpc._cython import cygrpc  # type: ignore[attr-defined]  # noqa: PLC0415 - it reads its settings once

        queue, server = cygrpc.CompletionQueue(), cygrpc.Server((), False)  # noqa: FBT003 - no xDS
        server.register_completion_queue(queue)
        server.add_http2_port(f"unix:{path}".encode())
        server.start()
        client = Client(path)
        client.send(_HELLO)
        until(lambda: client.has(_SETTINGS_READ), lambda: queue.poll(time.time() + _LOOK))
        client.send(_PING)
        before = turns()
        # No one polls now: either another thread reads the ping, or all of them have had their turn and left it there.
        until(lambda: client.has(_PING_READ) or turns() - before > _TURNS, client.wait)
        reader = "others" if client.has(_PING_READ) else "poller"
        until(lambda: client.has(_PING_READ), lambda: queue.poll(time.time() + _LOOK))
        print(reader, flush=True)
        os._exit(0)  # what gRPC's threads do at the end is not the question


if __name__ == "__main__":
    main()
