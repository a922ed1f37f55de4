"""Detect whether a server has read everything that had arrived at a given moment.

gRPC's core does not report this. The kernel does: the accepted connections and the listening sockets of a server are
file descriptors of this process, with the server's own address.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import termios
from contextlib import suppress
from pathlib import Path
from typing import Final

_DESCRIPTORS: Final = Path("/dev/fd")  # of this process, on Linux and macOS


class Arrivals:
    """The connections and bytes that had arrived at some addresses at the first call of `were_read`."""

    def __init__(self) -> None:
        self._paths: Final[set[str | bytes]] = set()
        self._ports: Final[set[int]] = set()
        self._read: Final[set[tuple[int, int]]] = set()  # sockets without unread data, by descriptor and inode

    def add(self, address: str, port: int) -> None:
        """Include *address* as gRPC writes it: `unix:/path`, or a host and its *port*."""
        scheme, _, path = address.partition(":")
        if scheme == "unix":
            self._paths.add(path)
        else:
            self._ports.add(port)

    def were_read(self) -> bool:
        """Return whether everything that had arrived at the first call was read; False if that is unknown.

        A socket that was found without unread data once is not checked again: later data does not delay the result.
        """
        try:
            descriptors = [int(entry.name) for entry in _DESCRIPTORS.iterdir()]
        except OSError:
            return False
        results = [self._was_read(descriptor) for descriptor in descriptors]  # no short-circuit: each one is checked
        return all(results)

    def _was_read(self, descriptor: int) -> bool:
        with suppress(OSError):  # it is closed, or is not a socket
            borrowed = socket.socket(fileno=descriptor)
            try:
                key = descriptor, os.fstat(descriptor).st_ino
                if key in self._read or not self._is_ours(borrowed):
                    return True
                is_listener = bool(borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                if _has_waiting(borrowed) if is_listener else _has_unread(borrowed):
                    return False
                self._read.add(key)
                return not is_listener  # connections that it has just accepted are not in the list of descriptors
            finally:
                borrowed.detach()
        return True

    def _is_ours(self, connection: socket.socket) -> bool:
        name = connection.getsockname()
        if connection.family == socket.AF_UNIX:
            return name in self._paths
        return connection.family in {socket.AF_INET, socket.AF_INET6} and name[1] in self._ports


def _has_waiting(listener: socket.socket) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def _has_unread(connection: socket.socket) -> bool:
    unread = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, unread)
    return unread[0] > 0
