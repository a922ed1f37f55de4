"""Sockets and directories of the running processes, and stale ones of killed processes.

Rules of this file:
1. A socket is removed only if it refuses connections, a directory only if its lock is free: no process uses them.
2. A socket or directory that cannot be removed does not prevent a start.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from authz.config.address import MAX_SOCKET_PATH_BYTES, worker_addresses
from authz.files.sockets import remove_stale_socket

_LONGEST_NAME: Final = "/63.sock"  # in a private directory: there are at most 64 workers


def clear_sockets(listen: str, workers: int) -> None:
    """Remove stale sockets of an earlier number of workers on *listen*, which `authz health` would still probe.

    The sockets of the current *workers* stay, so that `authz health` detects a crashed worker.
    """
    path = _socket_of(listen)
    if path is None:
        return
    current = {_socket_of(address) for address in worker_addresses(listen, workers)}
    pattern = re.compile(rf"{re.escape(path.stem)}(-[0-9]+)?{re.escape(path.suffix)}")
    for candidate in _list_folder(path.parent):
        if pattern.fullmatch(candidate.name) and candidate not in current:
            with suppress(OSError):
                remove_stale_socket(candidate)


@contextmanager
def private_folder(listen: str) -> Iterator[Path]:
    """Create a private directory next to the socket *listen*, or in the temporary directory; remove it at the end.

    Stale directories of killed supervisors are removed too. Raises OSError if no directory can be created.
    """
    path = _socket_of(listen)
    if path is not None:
        _clear_folders(path)
    folder = _make_folder(path)
    with ExitStack() as parts:
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        with suppress(OSError):  # a file system without locks: stale directories are not removed there
            parts.enter_context(_hold(folder))
        yield folder


def _socket_of(listen: str) -> Path | None:
    return Path(listen.removeprefix("unix:")) if listen.startswith("unix:") else None


def _list_folder(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _prefix(path: Path) -> str:
    return f".{path.name}."


def _clear_folders(path: Path) -> None:
    for folder in _list_folder(path.parent):
        if folder.name.startswith(_prefix(path)):
            with suppress(OSError), _hold(folder):
                shutil.rmtree(folder)


def _make_folder(path: Path | None) -> Path:
    if path is not None:
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
            if len(os.fsencode(folder)) + len(_LONGEST_NAME) <= MAX_SOCKET_PATH_BYTES:
                return folder
            folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="authz-"))


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Hold the lock of *folder*; the kernel releases it when this process ends. Raises OSError if it is taken."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
