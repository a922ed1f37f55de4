"""An append-only file of lines that several processes share: each reads the lines of the others once.

Rules of this file:
1. A line is on the disk before `append` returns. Appending and rewriting exclude each other between processes.
2. A line that a crash cut off is ended by the next `append`; readers must reject it.
3. After a rewrite, which removes lines, readers start again at the beginning.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from authz.files.replace import replace_file

_LOCK_SUFFIX: Final = ".lock"
_CHUNK: Final = 1 << 20  # octets


class Journal:
    """The file at *path*, which need not exist yet. An instance is used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.lines = 0  # of the file, as far as it was read
        self._offset = 0
        self._inode: int | None = None

    def read(self) -> Iterator[bytes]:
        """Yield the lines that were not read yet, without their ends. Raises OSError."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._offset:
                self._inode, self._offset, self.lines = status.st_ino, 0, 0
            file.seek(self._offset)
            rest = b""
            while chunk := file.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                self._offset += sum(map(len, lines)) + len(lines)
                self.lines += len(lines)
                yield from lines

    def append(self, lines: Sequence[str]) -> None:
        """Write *lines*, and wait until they are on the disk. Raises OSError."""
        with self._exclusive():
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "r+b", buffering=0) as file:  # noqa: PTH123 - a descriptor
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                data = b"\n" * torn + "".join(f"{line}\n" for line in lines).encode()
                while data:
                    data = data[file.write(data) :]
                os.fsync(descriptor)

    def rewrite(self, keep: Callable[[bytes], bool]) -> None:
        """Remove the lines for which *keep* is false. The others are read again. Raises OSError."""
        with self._exclusive():
            replace_file(self.path, (line + b"\n" for line in Journal(self.path).read() if keep(line)))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        descriptor = os.open(f"{self.path}{_LOCK_SUFFIX}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
