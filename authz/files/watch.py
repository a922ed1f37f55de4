"""Detect that a file was replaced, including the directory swap of a mounted ConfigMap, or removed.

A file that is being written in place is incomplete for a while, and half a configuration may be less strict. So a
change is reported only if two consecutive checks find the same state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from authz.files.stamp import FileStamp

GONE_AFTER: Final = 4  # consecutive checks without the file: some tools remove a file before they replace it


class FileWatch:
    """Watches one file by its stamp."""

    def __init__(self, path: Path, *, known: FileStamp | None = None) -> None:
        """Create it before the file is read, or pass as *known* the stamp that was taken before the read."""
        self._path: Final = path
        self._reported = self._last = known or FileStamp.of_any(path)
        self._missed = 0

    @property
    def stamp(self) -> FileStamp | None:
        """The stamp at the last reported change, initially that of the start."""
        return self._reported

    def changed(self, *, force: bool = False) -> bool:
        """Check the file; return whether it has changed since the last reported change. A missing file has not changed.

        With *force* the result is True, because the caller reads the file anyway: its current state counts as reported.
        """
        before, self._last = self._last, FileStamp.of_any(self._path)
        now = self._last
        self._missed = self._missed + 1 if now is None else 0
        if self.gone():
            self._reported = None  # its return is a change, even with the same stamp
        if not force and (now is None or now == self._reported or now != before):
            return False
        self._reported = now
        return True

    def gone(self) -> bool:
        """Return whether the last check found the file to be removed; true once for each removal."""
        return self._missed == GONE_AFTER
