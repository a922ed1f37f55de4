"""Events that revoke tokens: from the operator, logouts and other signals; in one table, and in a file that all share.

Rules of this file:
1. An event counts here before its sender gets an answer, and it is in the file, if there is one.
2. If there is no room, the sender is informed, and nothing that is known is forgotten.
3. An event is kept until every token that it is about has expired: `revocation.max_lifetime` after it came.
4. The processes of a pod share the file: each reads what the others wrote, on request and once a second.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final

from authz.core.revocation import Added, Entry, RevocationTable
from authz.core.revocation_entries import parse_entry, write_entry
from authz.core.strictjson import parse_object
from authz.feeds.ports import FeedEnv
from authz.files.journal import Journal
from authz.telemetry import revocations as results
from authz.telemetry.redaction import printable
from authz.telemetry.revocations import RevocationMetrics

log = logging.getLogger(__name__)

FOLLOW_INTERVAL: Final = 1.0  # seconds between two looks at the file
FORGET_INTERVAL: Final = 300.0  # seconds; entries end at whole hours
_MIN_REWRITE: Final = 1024  # lines
_MAX_REPORTED: Final = 8  # lines of the file that cannot be read, in the log


class FullError(Exception):
    """Raised for an event for which there is no room; its text is for the sender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long an event is kept, in seconds, and how many there may be."""

    seconds: float
    max_entries: int


class RevocationEvents:
    """The events of one process. *on_first* is called when the table gets its first entry."""

    name: Final = "events"

    def __init__(
        self,
        keeping: Keeping,
        *,
        journal: Journal | None,
        metrics: RevocationMetrics,
        env: FeedEnv,
        on_first: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the events in the *journal*. Raises OSError."""
        self.table: Final = RevocationTable(max_entries=keeping.max_entries)
        self._keeping = keeping
        self._journal: Final = journal
        self._metrics: Final = metrics
        self._env: Final = env
        self._on_first: Final = on_first
        self._lock: Final = Lock()  # for writers of table and journal
        self._unsaved: list[str] = []
        self._due = env.monotonic()
        self._forget_at = env.monotonic() + FORGET_INTERVAL
        self._looking = False
        if journal is not None:
            journal.append([])  # a file that cannot be written is found at the start
            self._read()
            self._tidy()

    def follow(self, keeping: Keeping) -> None:
        """Keep later events so, and as many."""
        with self._lock:
            self._keeping = keeping
            self.table.max_entries = keeping.max_entries

    def revoke(self, entries: Sequence[Entry], source: str) -> int:
        """Have *entries* of *source* count, and return how many are new.

        Raises FullError if not all have room, and OSError if they count but cannot be saved.
        """
        before = len(self.table)
        try:
            with self._lock:
                new = self._add(entries, source)
        finally:
            self._announce(before)
        if new:
            log.info("%d revocations of %s, the first by %s", new, source, entries[0].by.value)
        return new

    def _add(self, entries: Sequence[Entry], source: str) -> int:
        end, new, full = self._env.now() + self._keeping.seconds, [], False
        for entry in entries:
            kept = replace(entry, until=min(entry.until, end))
            added = self.table.add(kept)
            self._metrics.count_event(source, _RESULTS[added])
            full = full or added is Added.FULL
            if added is Added.NEW:
                new.append(_write(kept, source))
        try:
            self._save(new)
        except OSError as error:
            self._metrics.count_event(source, results.UNSAVED)
            log.error("revocations of %s count, but are not saved: %s", source, error)  # noqa: TRY400 - no traceback
            raise
        if full:
            log.error("no room for revocations of %s: raise revocation.max_entries", source)
            raise FullError(f"no room: there are {len(self.table)} revocations already")
        return len(new)

    def catch_up(self) -> None:
        """Read what other processes have written."""
        before = len(self.table)
        with self._lock:
            try:
                self._save([])
                self._read()
            except OSError as error:
                log.error("the file of revocations cannot be read: %s", error)  # noqa: TRY400
        self._announce(before)

    def due(self) -> float:
        """Return the monotonic time at which `step` must be called."""
        return self._due

    def step(self) -> None:
        """Look at the file and forget what is over, on another thread."""
        now = self._env.monotonic()
        if now < self._due:
            return
        self._due = now + (FOLLOW_INTERVAL if self._journal is not None else FORGET_INTERVAL)
        if self._looking:
            return
        self._looking = True
        try:
            self._env.spawn(self._look)
        except RuntimeError:
            self._looking = False
            raise

    def _look(self) -> None:
        try:
            self.catch_up()
            if self._env.monotonic() >= self._forget_at:
                self._forget_at = self._env.monotonic() + FORGET_INTERVAL
                with self._lock:
                    self.table.forget(self._env.now())
                    with suppress(OSError):  # it is tried again; the file is only longer
                        self._tidy()
        finally:
            self._looking = False

    def _announce(self, before: int) -> None:
        if not before and len(self.table):
            self._on_first()

    def _save(self, lines: list[str]) -> None:
        """Write *lines*, and those that could not be written before. Raises OSError."""
        self._unsaved += lines
        if self._journal is not None and self._unsaved:
            self._journal.append(self._unsaved)
        self._unsaved = []

    def _read(self) -> None:
        """Add what is new in the file. Raises OSError."""
        if self._journal is None:
            return
        bad, full, now = 0, 0, self._env.now()
        for line in self._journal.read():
            try:
                entry = _parse(line)
            except ValueError as error:
                bad += 1
                if bad <= _MAX_REPORTED:
                    log.error("a line of %s is ignored: %s", self._journal.path, printable(str(error)))  # noqa: TRY400
                continue
            if entry.until > now:
                full += self.table.add(entry) is Added.FULL
        if full:
            log.error("%d revocations of %s have no room: raise revocation.max_entries", full, self._journal.path)
            self._metrics.count_event(self.name, results.FULL)

    def _tidy(self) -> None:
        """Leave what is over, and what is there twice, out of a file that is mostly that. Raises OSError."""
        if self._journal is None or self._journal.lines < max(_MIN_REWRITE, 2 * len(self.table)):
            return
        now, seen = self._env.now(), set[bytes]()

        def keep(line: bytes) -> bool:
            with suppress(ValueError):
                if _parse(line).until > now and line not in seen:
                    seen.add(line)
                    return True
            return False

        self._journal.rewrite(keep)
        self._read()


_RESULTS: Final = {Added.NEW: results.ACCEPTED, Added.KNOWN: results.KNOWN, Added.FULL: results.FULL}


def _write(entry: Entry, source: str) -> str:
    return json.dumps({"source": source, "entry": json.loads(write_entry(entry))})


def _parse(line: bytes) -> Entry:
    return parse_entry(parse_object(line).get("entry"))
