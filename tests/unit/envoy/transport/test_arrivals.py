"""Proves authz.envoy.transport.arrivals: what had arrived counts until it was read, what arrives later does not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from authz.envoy.transport.arrivals import Arrivals
from tests.unit.envoy.serving import short_folder


class Listener:
    """A listening socket, and clients of it."""

    def __init__(self, family: socket.AddressFamily, parts: ExitStack) -> None:
        self._parts = parts
        self._socket = parts.enter_context(socket.socket(family))
        if family == socket.AF_UNIX:
            self.address = f"unix:{parts.enter_context(short_folder())}/s"
            self._where: str | tuple[str, int] = self.address.removeprefix("unix:")
        else:
            self.address, self._where = "127.0.0.1:0", ("127.0.0.1", 0)
        self._socket.bind(self._where)
        self._socket.listen()
        if family != socket.AF_UNIX:
            self._where = self._socket.getsockname()
        self.arrivals = Arrivals()
        self.arrivals.add(self.address, 0 if family == socket.AF_UNIX else self._where[1])  # type: ignore[arg-type]

    def connect(self) -> socket.socket:
        """Return a client's end."""
        client = self._parts.enter_context(socket.socket(self._socket.family))
        client.connect(self._where)
        return client

    def accept(self) -> socket.socket:
        """Return the server's end."""
        return self._parts.enter_context(self._socket.accept()[0])


@pytest.fixture(params=[socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """A listener of each family."""
    with ExitStack() as parts:
        yield Listener(request.param, parts)


def were_read(arrivals: Arrivals) -> bool:
    """Ask twice: a connection that was accepted during the first time is seen the second time."""
    return arrivals.were_read() or arrivals.were_read()


def test_bytes_count_until_they_are_read(listener: Listener) -> None:
    """Those of every connection; and connections in silence do not."""
    clients = [listener.connect() for _ in range(3)]
    ends = [listener.accept() for _ in range(3)]
    for client in clients[:2]:
        client.sendall(b"x")
    for end in ends[:2]:
        assert not were_read(listener.arrivals)
        end.recv(10)
    assert were_read(listener.arrivals)


def test_a_connection_counts_until_it_is_accepted_and_read(listener: Listener) -> None:
    """A connection in the backlog may have brought a call."""
    client = listener.connect()
    client.sendall(b"x")
    assert not were_read(listener.arrivals)
    end = listener.accept()
    assert not were_read(listener.arrivals)
    end.recv(10)
    assert were_read(listener.arrivals)


def test_what_arrives_later_does_not_count(listener: Listener) -> None:
    """Or one that never stops sending would hold up the stop for as long as may be."""
    busy, other = listener.connect(), listener.connect()
    end, other_end = listener.accept(), listener.accept()
    other.sendall(b"x")
    assert not were_read(listener.arrivals)
    busy.sendall(b"x")
    listener.connect()
    assert not were_read(listener.arrivals)
    other_end.recv(10)
    assert were_read(listener.arrivals)
    assert end.recv(10) == b"x"


def test_sockets_of_others_do_not_count(listener: Listener) -> None:
    """Of the process are many more: of clients, of other servers, and what is no socket."""
    left, right = socket.socketpair()
    with left, right, socket.create_server(("127.0.0.1", 0)) as other:
        left.sendall(b"x")
        with socket.create_connection(other.getsockname()[:2]):
            assert were_read(listener.arrivals)
