"""Proves authz.files.sockets: a socket is removed only if no process listens on it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authz.files.sockets import remove_stale_socket
from tests.unit.envoy.serving import short_folder


@pytest.fixture
def path() -> Iterator[Path]:
    """A short path at which there is nothing yet."""
    with short_folder() as folder:
        yield folder / "authz.sock"


def test_a_socket_that_was_left_behind_goes(path: Path) -> None:
    """Also when there is none any more."""
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    for _ in range(2):
        remove_stale_socket(path)
        assert not path.exists()


def test_a_socket_that_is_served_stays(path: Path) -> None:
    """The message names it."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(OSError, match=f"another process serves {path}"):
            remove_stale_socket(path)
        assert path.is_socket()


def test_a_server_without_room_for_another_caller_is_one(path: Path) -> None:
    """It is slow to accept, or it speaks in datagrams."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as waits:
        server.bind(str(path))
        server.listen(0)
        waits.connect(str(path))
        with pytest.raises(OSError, match=f"{path} may be served by another process: "):
            remove_stale_socket(path)
        assert path.is_socket()
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        with pytest.raises(OSError, match=f"{path} may be served by another process: "):
            remove_stale_socket(path)
        assert path.is_socket()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_is_no_socket_stays(path: Path, make: Callable[[Path], None]) -> None:
    """Whatever it is, it was not left by a server."""
    make(path)
    with pytest.raises(OSError, match="exists and is not a socket"):
        remove_stale_socket(path)
    assert path.exists()
