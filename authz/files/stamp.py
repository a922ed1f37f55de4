"""File stamps: the metadata that identifies one state of a file without reading it.

Rule of this file: take the stamp before reading the content. If the file is replaced in between, the next stamp
differs and the file is read again. A stamp taken after the read could belong to content that was never read.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStamp:
    """One state of a file; equal stamps mean that nothing has changed.

    It includes mode, owner and group: a file that could not be read is tried again after `chmod` or `chown`.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    mode: int
    owner: int
    group: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Self:
        """Return the stamp of the file at *path*, following symbolic links. Raises OSError."""
        status = Path(path).stat()
        return cls(
            device=status.st_dev,
            inode=status.st_ino,
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
            mode=status.st_mode,
            owner=status.st_uid,
            group=status.st_gid,
        )

    @classmethod
    def of_any(cls, path: str | os.PathLike[str]) -> Self | None:
        """Return the stamp, or None if the file is missing or cannot be examined."""
        try:
            return cls.of(path)
        except OSError:
            return None

    @property
    def is_regular(self) -> bool:
        """Whether it is a regular file. Reading a pipe could block."""
        return stat.S_ISREG(self.mode)
