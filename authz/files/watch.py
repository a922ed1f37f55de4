"""Notice that a file was replaced, also by the folder swap of a mounted ConfigMap, or removed.

A file that is being written in place is incomplete for a while: half a configuration may require less than the whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from authz.files.stamp import FileStamp

GONE: Final = 4  # consecutive checks without a file: a tool that replaces a file may remove it first


class FileWatch:
    """Remembers the stamp of a file. A change counts when two consecutive checks agree."""

    def __init__(self, path: Path, *, known: FileStamp | None = None) -> None:
        """Create it before the file is read, or pass as *known* the stamp that was taken before the read."""
        self._path: Final = path
        self._seen = self._last = known or FileStamp.of_any(path)
        self._missed = 0

    @property
    def stamp(self) -> FileStamp | None:
        """The stamp of the last reported change, at first that of the start."""
        return self._seen

    def changed(self, *, asked: bool = False) -> bool:
        """Check the file, and return whether it has changed since the last report. A missing file has not changed.

        With *asked* the caller reads the file in any case: its present state counts as reported.
        """
        before, self._last = self._last, FileStamp.of_any(self._path)
        now = self._last
        self._missed = self._missed + 1 if now is None else 0
        if self.gone():
            self._seen = None  # a file that comes back is a change, even if it was only moved away
        if not asked and (now is None or now == self._seen or now != before):
            return False
        self._seen = now
        return True

    def gone(self) -> bool:
        """Return whether the file counts as gone since the last check."""
        return self._missed == GONE
