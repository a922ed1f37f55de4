"""Proves authz.runtime.stale_sockets: what a killed process left is removed, and what is in use is not."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from authz.config.address import MAX_SOCKET_PATH_BYTES
from authz.runtime.stale_sockets import clear_sockets, private_folder
from tests.unit.envoy.serving import short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


def leave(path: Path) -> Path:
    """Leave a socket that no one listens on."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    return path


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {found.name for found in folder.iterdir()}


@pytest.mark.parametrize(
    ("workers", "stay"),
    [
        (1, {"authz.sock"}),
        (2, {"authz-0.sock", "authz-1.sock"}),
        (4, {"authz-0.sock", "authz-1.sock", "authz-2.sock", "authz-3.sock"}),
    ],
)
def test_stale_sockets_of_other_numbers_go(folder: Path, workers: int, stay: set[str]) -> None:
    """Of more, fewer or one: `authz health` asks all that are there. Our own go when they are bound, and not before."""
    for name in ("authz.sock", *(f"authz-{number}.sock" for number in range(4)), "authz-12.sock"):
        leave(folder / name)
    clear_sockets(f"unix:{folder}/authz.sock", workers)
    assert names(folder) == stay


def test_a_socket_that_somebody_listens_on_stays(folder: Path) -> None:
    """Also of one who is slow, or who speaks in another way."""
    with ExitStack() as open_:
        for number, kind in enumerate((socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_STREAM), 7):
            server = open_.enter_context(socket.socket(socket.AF_UNIX, kind))
            server.bind(str(folder / f"authz-{number}.sock"))
            if kind is socket.SOCK_STREAM:
                server.listen(0)
        waits = open_.enter_context(socket.socket(socket.AF_UNIX))
        waits.connect(str(folder / "authz-9.sock"))  # and there is no room for another
        clear_sockets(f"unix:{folder}/authz.sock", 2)
        assert names(folder) == {"authz-7.sock", "authz-8.sock", "authz-9.sock"}


def test_what_is_not_ours_stays(folder: Path) -> None:
    """A name of another shape, or what is no socket."""
    for name in ("other-7.sock", "authz-b.sock", "authz-7-b.sock", "authz-7", "xauthz-7.sock"):
        leave(folder / name)
    (folder / "authz-7.sock").write_text("a file")
    (folder / "authz-8.sock").mkdir()
    before = names(folder)
    clear_sockets(f"unix:{folder}/authz.sock", 2)
    assert names(folder) == before


def test_there_may_be_nothing_to_clear() -> None:
    """A port, or a folder that is not there: anyone who listens says so."""
    clear_sockets("127.0.0.1:9191", 2)
    clear_sockets("unix:/nowhere/authz.sock", 2)


def test_a_folder_beside_the_socket_is_ours_alone(folder: Path) -> None:
    """Where the root is read-only and there is no /tmp, the socket's folder is what can be written."""
    with private_folder(f"unix:{folder}/authz.sock") as made:
        assert made.parent == folder
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        leave(made / "0.sock")
    assert not made.exists()


@pytest.mark.parametrize("listen", ["127.0.0.1:9191", "unix:/nowhere/authz.sock"])
def test_elsewhere_it_is_a_temporary_folder(listen: str) -> None:
    """There is no socket, or nothing can be made beside it."""
    with private_folder(listen) as made:
        assert made.parent not in {Path("/nowhere"), Path()}
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert not made.exists()


def test_a_path_with_no_room_for_more_has_its_folder_elsewhere(folder: Path) -> None:
    """A Unix socket has room for 107 bytes, which the listener may need."""
    long = folder / ("a" * (MAX_SOCKET_PATH_BYTES - len(f"{folder}//authz-63.sock")))
    long.mkdir()
    with private_folder(f"unix:{long}/authz.sock") as made:
        assert made.parent != long
        leave(made / "63.sock")
        assert names(long) == set()


def test_the_folder_of_a_killed_supervisor_goes(folder: Path) -> None:
    """It holds no lock any more; who runs still, or is of another socket, keeps its own."""
    left = folder / ".authz.sock.killed00"
    left.mkdir()
    leave(left / "0.sock")
    with private_folder(f"unix:{folder}/authz.sock") as runs, private_folder(f"unix:{folder}/b.sock") as other:
        leave(runs / "0.sock")
        with private_folder(f"unix:{folder}/authz.sock") as second:
            assert names(folder) == {runs.name, other.name, second.name}
            assert names(runs) == {"0.sock"}


def test_what_only_looks_like_a_folder_of_ours_stays(folder: Path) -> None:
    """A file, or a link that leads elsewhere, is nothing that a supervisor made."""
    (folder / "elsewhere").mkdir()
    (folder / ".authz.sock.link").symlink_to(folder / "elsewhere")
    (folder / ".authz.sock.file").write_text("a file")
    with private_folder(f"unix:{folder}/authz.sock"):
        assert names(folder) > {"elsewhere", ".authz.sock.link", ".authz.sock.file"}
