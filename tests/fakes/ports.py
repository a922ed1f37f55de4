"""Ports for servers that take one by number: no other test has them, whatever process of whatever run it is in.

They are none of those that the kernel gives to connections, and to servers that leave the choice to it: between a look
and a start, another one would now and then be faster.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Final

_FIRST: Final = 10_000
_PORTS: Final = 200  # of a process; they are used in turn
_REFUSED: Final = frozenset({10_080})  # by browsers, and by Node's fetch (WHATWG Fetch, section "port blocking")
_USUAL_EPHEMERAL: Final = 32_768  # where the kernel does not say what is its own


def free_address() -> str:
    """A loopback host:port on which nothing listens."""
    for port in (next(_own_ports()) for _ in range(_PORTS)):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"
    raise AssertionError(f"none of {_PORTS} ports is free")


@cache
def _own_ports() -> Iterator[int]:
    """The ports that this process has locked for as long as it lives."""
    folder = Path(tempfile.gettempdir()) / "authz-tests-ports"
    folder.mkdir(exist_ok=True)
    for first in range(_FIRST, _first_ephemeral_port() - _PORTS, _PORTS):
        lock = os.open(folder / str(first), os.O_WRONLY | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return cycle([port for port in range(first, first + _PORTS) if port not in _REFUSED])
    raise AssertionError(f"every range of ports is locked by a file of {folder}")


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except OSError:
        return _USUAL_EPHEMERAL
