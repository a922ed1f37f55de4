"""Tell when a file was replaced, also by the folder swap of a mounted ConfigMap, and when it is gone.

A file that is being written in place is half of one for a while: half a configuration may ask for less than the whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

GONE: Final = 4  # looks in a row at nothing: whoever replaces a file may remove it first


class FileWatch:
    """Remembers what a file looked like. A change counts when two looks agree."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._seen = self._last = self._look()
        self._missed = 0

    def changed(self, *, asked: bool = False) -> bool:
        """Tell whether the file is another than at the last look. While it is gone, nothing has changed.

        Whoever was *asked* to read it does so anyway: what it is now counts as told.
        """
        before, self._last = self._last, self._look()
        now = self._last
        self._missed = self._missed + 1 if now is None else 0
        if self.gone():
            self._seen = None  # what comes back is another one, even if it was only moved away
        if not asked and (now is None or now == self._seen or now != before):
            return False
        self._seen = now
        return True

    def gone(self) -> bool:
        """Tell whether the last look was the one by which the file counts as gone."""
        return self._missed == GONE

    def _look(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()  # follows links: a swapped folder is another file
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size
