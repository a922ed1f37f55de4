"""Events that revoke tokens: from the operator, logouts and other signals; in memory, in a file, and shared.

Rules of this file:
1. An event takes effect, and is sent to other replicas, before it is saved: a slow disk delays no revocation. When its
   sender gets an answer, it is in the file, if there is one, and in the shared state, if there is one. The sender is
   informed if it is not.
2. If the limit of entries is reached, the sender is informed, and no other entry is evicted.
3. An event is kept until every token that it is about has expired: `revocation.max_lifetime` after it came.
4. The processes of a pod share the file: each reads what the others wrote, on request and once a second.
5. Lines of the shared state are checked one by one. A line that takes back must have the seal of a replica. An entry
   without an expiry, or with one that is more than an hour too late, gets the expiry of any event. That is written to
   the file when the line is first read: neither a restart nor reading the line again extends it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final

from authz.core.revocation import AddResult, RevocationEntry
from authz.feeds.ports import FeedEnv
from authz.feeds.refusals import RefusalLog
from authz.feeds.revocation_file import RevocationFile
from authz.feeds.revocation_records import (
    MAX_UNDONE,
    HmacSeal,
    Record,
    RevokeRecord,
    UndoRecord,
    digest_line,
    new_id,
    parse_record,
    write_record,
)
from authz.feeds.revocation_sharing import NAME as SHARED
from authz.feeds.revocation_sharing import NotSharedError, SharedRevocations, StoredLine
from authz.feeds.revoked_entries import RevocationTarget, RevokedEntries
from authz.files.journal import Journal
from authz.telemetry import revocations as results
from authz.telemetry.redaction import printable
from authz.telemetry.revocations import RevocationMetrics

log = logging.getLogger(__name__)

FILE_POLL_INTERVAL: Final = 1.0  # seconds between two reads of the file
EVICTION_INTERVAL: Final = 300.0  # seconds; entries expire at whole hours
_MIN_REWRITE: Final = 1024  # lines
_BATCH_SIZE: Final = 1000  # records, after which other writers get the lock
_MAX_LINES: Final = 4  # of the file, for each of max_entries: who writes to the shared state fills no disk
_CLOCK_MARGIN: Final = 3600.0  # seconds by which clocks of replicas may differ
_TRIM_MARGIN: Final = 7200.0  # seconds after which the shared state has surely removed what it need not keep
_MAX_REPORTED: Final = 8  # entries of one command, in the log


class FullError(Exception):
    """Raised for an event for which there is no room; its text is for the sender."""


class NoSealError(Exception):
    """Raised if nothing can be taken back, because other replicas could not verify it; its text is for the sender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long an event is kept, in seconds, and how many there may be."""

    seconds: float
    max_entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSharing:
    """How events are shared: by *sharing*; with a *seal* they can be taken back.

    The one process of a pod that *saves* writes what comes from other replicas to the file.
    """

    sharing: SharedRevocations
    seal: HmacSeal | None
    saves: bool


class RevocationEvents:
    """The events of one process. *on_change* is called when a table gets its first entry, or loses its last one."""

    name: Final = "events"

    def __init__(
        self,
        retention: Retention,
        *,
        journal: Journal | None,
        metrics: RevocationMetrics,
        env: FeedEnv,
        shared: EventSharing | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the events in the *journal*. Raises OSError."""
        self.entries: Final = RevokedEntries(retention.max_entries)
        self._retention = retention
        self._shared: Final = shared
        self._metrics: Final = metrics
        self._env: Final = env
        self._on_change: Callable[[], None] = lambda: None
        self._refusals: Final = RefusalLog(log, monotonic=env.monotonic)
        self._lock: Final = Lock()  # for writers of the entries and of the next attribute
        self._line_expiries: dict[str, float] = {}  # of lines in the shared state by their digest, from the file
        self._due = env.monotonic()
        self._evict_at = env.monotonic() + EVICTION_INTERVAL
        self._catching_up = False
        self._file: Final = RevocationFile(journal) if journal is not None else None
        self._read()
        self._compact()
        self._on_change = on_change

    def reconfigure(self, retention: Retention) -> None:
        """Use *retention* for later events."""
        with self._lock:
            self._retention = retention
            self.entries.max_entries = retention.max_entries

    def revoke(self, entries: Sequence[RevocationEntry], source: str, *, undoable: bool = False) -> int:
        """Apply *entries* of *source*, and return how many are new; *undoable* ones can be taken back.

        Raises FullError if not all have room; NotSharedError or OSError if they are in effect, but not shared or saved.
        """
        repeated = [undoable and self.entries.repeats(entry) for entry in entries]
        # Each has an id of its own: another replica may have taken back the previous one, which is not known here yet.
        records: list[Record] = [
            RevokeRecord(self._limit_expiry(entry), new_id() if undoable else None) for entry in entries
        ]
        added = self._apply(records, source)
        new = sum(result is AddResult.NEW and not again for result, again in zip(added, repeated, strict=True))
        if new:
            log.info("%d revocations of %s, the first by %s", new, source, entries[0].by.value)
        if AddResult.FULL in added:
            log.error("no room for revocations of %s: raise revocation.max_entries", source)
            raise FullError(f"no room: there are {len(self.entries)} revocations already")
        return new

    def undo(self, targets: Sequence[RevocationTarget], source: str) -> int:
        """Take back what operators have revoked by each of *targets*; return the number of entries.

        Raises NoSealError, FullError, NotSharedError and OSError; after the last two they are taken back here.
        """
        seal = self._shared.seal if self._shared is not None else None
        if self._shared is not None and seal is None:
            raise NoSealError("needs revocation.shared.secret_file, by which replicas know each other")
        with self._lock:
            ids = [id_ for target in targets for id_ in self.entries.find_ids(target)]
        parts = [ids[start : start + MAX_UNDONE] for start in range(0, len(ids), MAX_UNDONE)]
        until = self._env.now() + self._retention.seconds
        records = [UndoRecord(tuple(part), until) for part in parts]
        if AddResult.FULL in self._apply(
            [seal.seal(record) if seal is not None else record for record in records], source
        ):
            raise FullError("too many revocations were taken back lately")
        for _, issuer, value in targets[:_MAX_REPORTED]:
            log.warning("revocations of %s of %s are taken back by %s", printable(value), printable(issuer), source)
        return len(ids)

    def apply_shared(self, lines: Sequence[bytes]) -> None:
        """Apply the valid ones of the *lines* that other replicas wrote."""
        counted: Counter[str] = Counter()
        saved: list[str] = []
        with self._exclusive_change():
            for line in lines:
                result, text = self._apply_line(line)
                counted[result] += 1
                if result == results.ACCEPTED and self._shared is not None and self._shared.saves:
                    saved.append(text)
            room = self._remaining_lines()
            self._queue(saved[:room])
        if len(saved) > room:
            self._metrics.count_event(SHARED, results.UNSAVED, len(saved) - room)
            self._refusals.write("a place in the file", SHARED, "it is full; what was read is in effect all the same")
        try:
            self._save()
        except OSError as error:
            self._metrics.count_event(SHARED, results.UNSAVED)
            log.error("shared revocations are in effect, but not saved: %s", error)  # noqa: TRY400 - no traceback
        for result, count in counted.items():
            self._metrics.count_event(SHARED, result, count)

    def live_lines(self) -> Iterator[StoredLine]:
        """Yield the lines of the file that concern tokens which may still be valid. Raises OSError."""
        for line, record in self._file.read_all() if self._file is not None else ():
            if self.entries.is_live(record, self._env.now()):
                yield StoredLine(line, record.source_line if isinstance(record, RevokeRecord) else None)

    def catch_up(self) -> None:
        """Read what other processes have written, also while nothing can be written here."""
        try:
            self._save()
        except OSError as error:
            log.error("revocations are in effect, but not saved yet: %s", error)  # noqa: TRY400 - no traceback
        try:
            self._read()
        except OSError as error:
            log.error("the file of revocations cannot be read: %s", error)  # noqa: TRY400 - no traceback

    def due(self) -> float:
        """Return the monotonic time at which `step` must be called."""
        return self._due

    def step(self) -> None:
        """Read new lines of the file and evict expired entries, on another thread."""
        now = self._env.monotonic()
        if now < self._due:
            return
        self._due = now + (FILE_POLL_INTERVAL if self._file is not None else EVICTION_INTERVAL)
        if self._catching_up:
            return
        self._catching_up = True
        try:
            self._env.spawn(self._catch_up_and_evict)
        except RuntimeError:
            self._catching_up = False
            raise

    def _catch_up_and_evict(self) -> None:
        try:
            self.catch_up()
            if self._env.monotonic() >= self._evict_at:
                self._evict_at = self._env.monotonic() + EVICTION_INTERVAL
                with self._exclusive_change():
                    self.entries.evict_expired(self._env.now())
                    self._line_expiries = {
                        line: end for line, end in self._line_expiries.items() if self._may_be_shared(end)
                    }
                with suppress(OSError):  # it is tried again; the file is only longer
                    self._compact()
        finally:
            self._catching_up = False

    def _apply(self, records: Sequence[Record], source: str) -> list[AddResult]:
        """Apply *records*, save and share them. Raises OSError, including NotSharedError."""
        with self._exclusive_change():
            added = [self.entries.apply(record) for record in records]
            for result in added:
                self._metrics.count_event(source, _RESULTS[result])
            lines: dict[AddResult, list[str]] = {result: [] for result in AddResult}
            for record, result in zip(records, added, strict=True):
                lines[result].append(write_record(record, source))
            self._queue(lines[AddResult.NEW])
        failure: OSError | None = None
        wait_until_shared: Callable[[], None] = lambda: None  # noqa: E731 - if there is nothing to wait for
        if self._shared is not None:
            again = lines[AddResult.KNOWN] if self._shared.sharing.incomplete else []
            wait_until_shared = self._shared.sharing.publish([*lines[AddResult.NEW], *again])
        try:
            self._save()
        except OSError as error:
            self._metrics.count_event(source, results.UNSAVED)
            log.error("revocations of %s are in effect, but not saved: %s", source, error)  # noqa: TRY400 - no traceback
            failure = error
        try:
            wait_until_shared()
        except NotSharedError as error:
            self._metrics.count_event(source, results.UNSHARED)
            failure = failure or error
        if failure is not None:
            raise failure
        return added

    def _apply_line(self, line: bytes) -> tuple[str, str]:
        """Apply a line of the shared state; return the result, and the line to write to the file."""
        try:
            record = parse_record(line)
            if isinstance(record, UndoRecord) and not self._is_sealed(record):
                raise ValueError("is not sealed by a replica: nothing is taken back")
        except ValueError as error:
            self._refusals.write("an entry", SHARED, printable(str(error)) or "")
            return results.INVALID, ""
        text = line.decode()
        latest = self._env.now() + self._retention.seconds
        if isinstance(record, RevokeRecord) and (
            record.source_line is not None or record.until > latest + _CLOCK_MARGIN
        ):
            source_line = digest_line(line)
            until = min(record.until, latest, self._line_expiries.get(source_line, latest))
            record = RevokeRecord(replace(record.entry, until=until), record.id, source_line)
            text = write_record(record, SHARED)
        if record.until <= self._env.now():
            return results.KNOWN, ""
        added = self.entries.apply(record)
        if added is AddResult.FULL:
            self._refusals.write("an entry", SHARED, "no room: raise revocation.max_entries")
        return _RESULTS[added], text

    def _is_sealed(self, record: UndoRecord) -> bool:
        seal = self._shared.seal if self._shared is not None else None
        return seal is not None and seal.matches(record)

    def _limit_expiry(self, entry: RevocationEntry) -> RevocationEntry:
        """Let *entry* expire when every token that it is about has expired."""
        return replace(entry, until=min(entry.until, self._env.now() + self._retention.seconds))

    @contextmanager
    def _exclusive_change(self) -> Iterator[None]:
        """Hold the lock for a change of entries; then report it if a table got its first entry, or lost its last."""
        with self._lock:
            before = self._used()
            try:
                yield
            finally:
                after = self._used()
        if before != after:
            self._on_change()

    def _used(self) -> tuple[bool, bool]:
        return bool(len(self.entries.events)), bool(len(self.entries.operator))

    def _queue(self, lines: Sequence[str]) -> None:
        if self._file is not None:
            self._file.queue(lines)

    def _save(self) -> None:
        """Write what is queued. Raises OSError."""
        if self._file is not None:
            self._file.save()

    def _remaining_lines(self) -> int:
        """Return how many more lines of the shared state the file may hold: they may repeat each other without end."""
        lines = 0 if self._file is None else self._file.lines
        return max(_MAX_LINES * self._retention.max_entries - lines, 0)

    def _read(self) -> None:
        """Apply the new lines of the file. Raises OSError."""
        if self._file is None:
            return
        full, batch = 0, list[Record]()
        try:
            for record in self._file.read():
                batch.append(record)
                if len(batch) == _BATCH_SIZE:
                    full += self._apply_read(batch)
                    batch = []
        finally:  # after an error of the disk, lines that were read are not read again
            full += self._apply_read(batch)
            if full:
                log.error("%d revocations of %s have no room: raise revocation.max_entries", full, self._file)
                self._metrics.count_event(self.name, results.FULL)

    def _apply_read(self, records: Sequence[Record]) -> int:
        """Apply *records* of the file; return how many have no room."""
        full, now = 0, self._env.now()
        with self._exclusive_change():
            for record in records:
                if isinstance(record, RevokeRecord) and record.source_line is not None:
                    self._line_expiries[record.source_line] = min(
                        record.until, self._line_expiries.get(record.source_line, record.until)
                    )
                if record.until > now:
                    full += self.entries.apply(record) is AddResult.FULL
        return full

    def _compact(self) -> None:
        """Rewrite the file without lines that are not needed, if they are most of it. Raises OSError."""
        if self._file is not None and self._file.lines >= max(_MIN_REWRITE, 2 * len(self.entries)):
            self._file.rewrite(self._is_kept)
            self._read()

    def _is_kept(self, record: Record) -> bool:
        if isinstance(record, RevokeRecord) and record.source_line is not None and self._may_be_shared(record.until):
            return True
        return self.entries.is_live(record, self._env.now())

    def _may_be_shared(self, end: float) -> bool:
        """Return whether the line that this expiry belongs to may still be in the shared state."""
        return end + self._retention.seconds + _TRIM_MARGIN > self._env.now()


_RESULTS: Final = {AddResult.NEW: results.ACCEPTED, AddResult.KNOWN: results.KNOWN, AddResult.FULL: results.FULL}
