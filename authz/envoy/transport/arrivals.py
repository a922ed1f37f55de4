"""Whether the kernel holds anything for a server that the server has not read.

gRPC's core does not tell. The kernel does: the accepted connections and the listening sockets of a server are file
descriptors of this process, with the server's own address.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import termios
from contextlib import suppress
from typing import Final

_DESCRIPTORS: Final = "/dev/fd"  # of this process, on Linux and macOS


class Arrivals:
    """Connections and bytes that have arrived at some addresses and are not yet read."""

    def __init__(self) -> None:
        self._paths: Final[set[str | bytes]] = set()
        self._ports: Final[set[int]] = set()

    def add(self, address: str, port: int) -> None:
        """Include *address* as gRPC writes it: `unix:/path`, or a host and its *port*."""
        scheme, _, path = address.partition(":")
        if scheme == "unix":
            self._paths.add(path)
        elif scheme == "unix-abstract":
            self._paths.add(b"\0" + path.encode())
        else:
            self._ports.add(port)

    def are_unread(self) -> bool:
        """Return whether a connection is not accepted, or a byte not read; true as well if that cannot be known."""
        try:
            descriptors = [int(name) for name in os.listdir(_DESCRIPTORS)]
        except OSError:
            return True
        return any(map(self._is_unread, descriptors))

    def _is_unread(self, descriptor: int) -> bool:
        with suppress(OSError):  # it is closed, or no socket
            borrowed = socket.socket(fileno=descriptor)
            try:
                return self._is_ours(borrowed) and _has_unread(borrowed)
            finally:
                borrowed.detach()
        return False

    def _is_ours(self, found: socket.socket) -> bool:
        name = found.getsockname()
        if found.family == socket.AF_UNIX:
            return name in self._paths
        return found.family in {socket.AF_INET, socket.AF_INET6} and name[1] in self._ports


def _has_unread(found: socket.socket) -> bool:
    if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        poll = select.poll()
        poll.register(found, select.POLLIN)
        return bool(poll.poll(0))
    unread = array.array("i", [0])
    fcntl.ioctl(found, termios.FIONREAD, unread)
    return unread[0] > 0
