"""The file of revocations: lines that wait to be written, and lines that other processes have written.

Rules of this file:
1. Queuing a line never waits for the disk.
2. A line that could not be written is written with the next ones, in their order; at most MAX_UNSAVED wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import Final

from authz.feeds.revocation_records import Record, parse_record
from authz.files.journal import Journal
from authz.telemetry.redaction import printable

log = logging.getLogger(__name__)

MAX_UNSAVED: Final = 10_000  # lines that wait for a disk; those beyond are in memory only
_MAX_REPORTED: Final = 8  # lines that cannot be read, in the log


class RevocationFile:
    """The file behind *journal*."""

    def __init__(self, journal: Journal) -> None:
        """Check that it can be written. Raises OSError."""
        self._journal: Final = journal
        self._disk: Final = Lock()  # for the journal and the next attribute; a slow disk may hold it for long
        self._unread = 0  # lines that this process has written since it last read
        self._queuing: Final = Lock()
        self._unsaved: list[str] = []
        journal.append([])

    def __str__(self) -> str:
        """Return its path."""
        return str(self._journal.path)

    @property
    def lines(self) -> int:
        """The number of lines, with those that wait to be written."""
        return self._journal.lines + self._unread + len(self._unsaved)

    def queue(self, lines: Sequence[str]) -> None:
        """Queue *lines* for the next `save`."""
        with self._queuing:
            self._unsaved = [*self._unsaved, *lines][-MAX_UNSAVED:]

    def save(self) -> None:
        """Write all queued lines, including those of other threads. Raises OSError."""
        with self._disk:
            with self._queuing:
                lines, self._unsaved = self._unsaved, []
            if not lines:
                return
            try:
                self._journal.append(lines)
            except OSError:
                with self._queuing:
                    self._unsaved = [*lines, *self._unsaved][-MAX_UNSAVED:]
                raise
            self._unread += len(lines)

    def read(self) -> Iterator[Record]:
        """Yield the records that were not read yet. Raises OSError."""
        with self._disk:
            unreadable = 0
            for line in self._journal.read():
                try:
                    yield parse_record(line)
                except ValueError as error:
                    unreadable += 1
                    if unreadable <= _MAX_REPORTED:
                        why = printable(str(error))
                        log.error("a line of %s is ignored: %s", self, why)  # noqa: TRY400 - no traceback
            self._unread = 0

    def read_all(self) -> Iterator[tuple[bytes, Record]]:
        """Yield every valid line with its record. Raises OSError."""
        for line in Journal(self._journal.path).read():
            with suppress(ValueError):
                yield line, parse_record(line)

    def rewrite(self, keep: Callable[[Record], bool]) -> None:
        """Rewrite the file without duplicates and records that *keep* rejects; it is read again. Raises OSError."""
        written = set[bytes]()

        def is_kept(line: bytes) -> bool:
            with suppress(ValueError):
                if line not in written and keep(parse_record(line)):
                    written.add(line)
                    return True
            return False

        with self._disk:
            self._journal.rewrite(is_kept)
