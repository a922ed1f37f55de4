"""The entries of events in memory: those of issuers, and those of operators, which can be taken back.

Rules of this file:
1. Undoing takes back one entry of an operator, by its id: entries of issuers, and earlier or later ones of operators,
   stay in effect.
2. The last 10,000 entries of operators can be taken back. Older ones are kept as those of issuers are.
3. The order in which records arrive does not matter: a record that comes after its undo record has no effect.
4. Two entries with one id are both in force; only the first can be taken back.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Final

from authz.core.revocation import AddResult, RevocationEntry, RevocationTable, RevokedBy
from authz.feeds.revocation_records import Record, RevokeRecord, UndoRecord

MAX_UNDOABLE: Final = 10_000  # entries, of some 700 octets

RevocationTarget = tuple[RevokedBy, str, str]
"""The target of an entry: the kind of identifier, the issuer, and the identifier."""


class RevokedEntries:
    """Two tables with at most *max_entries* together. Readers of the tables take no lock; there is one writer."""

    def __init__(self, max_entries: int, *, max_undoable: int = MAX_UNDOABLE) -> None:
        self.max_entries = max_entries
        self._max_undoable: Final = max_undoable
        self.events: Final = RevocationTable(max_entries=max_entries)
        self.operator: Final = RevocationTable(max_entries=max_entries)
        self._targets: Final[dict[str, RevocationTarget]] = {}  # by id, in order of arrival
        self._entries: Final[dict[RevocationTarget, dict[str, RevocationEntry]]] = {}  # by target, then by id
        self._undone: Final[dict[str, float]] = {}  # by id, until when

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.events) + len(self.operator)

    def apply(self, record: Record) -> AddResult:
        """Apply *record*. FULL: there is no room, and nothing has changed."""
        if isinstance(record, UndoRecord):
            return self._undo(record)
        if record.id is None:
            return self._add(self.events, record.entry)
        if record.id in self._undone:
            return AddResult.KNOWN
        return self._add_undoable(record.id, record.entry)

    def is_live(self, record: Record, now: float) -> bool:
        """Return whether *record* concerns tokens that may be valid at *now*."""
        undone = isinstance(record, RevokeRecord) and record.id is not None and record.id in self._undone
        return record.until > now and not undone

    def find_ids(self, target: RevocationTarget) -> list[str]:
        """Return the ids of the entries for *target* that can be taken back."""
        return list(self._entries.get(target, ()))

    def repeats(self, entry: RevocationEntry) -> bool:
        """Return whether an operator's entry equals *entry*, apart from its expiry; on any thread."""
        others = list(self._entries.get((entry.by, entry.issuer, entry.value), {}).values())
        return any(other.before == entry.before for other in others)

    def list_undoable(self, limit: int) -> list[RevocationEntry]:
        """Return the entries that can be taken back, the newest first and at most *limit*; on any thread."""
        newest = islice(reversed(list(self._targets.copy().items())), limit)
        return [entry for id_, target in newest if (entry := self._entries.get(target, {}).get(id_)) is not None]

    def evict_expired(self, now: float) -> None:
        """Evict what has expired at *now*."""
        self.events.evict_expired(now)
        for id_ in [id_ for id_, target in self._targets.items() if self._entries[target][id_].until <= now]:
            self._remove(id_)
        self.operator.evict_expired(now)
        for id_ in [id_ for id_, until in self._undone.items() if until <= now]:
            del self._undone[id_]

    def _add(self, table: RevocationTable, entry: RevocationEntry) -> AddResult:
        table.max_entries = len(table) + max(self.max_entries - len(self), 0)
        return table.add(entry)

    def _add_undoable(self, id_: str, entry: RevocationEntry) -> AddResult:
        target = (entry.by, entry.issuer, entry.value)
        previous = self._entries.get(target, {}).get(id_)
        if (previous is None and id_ in self._targets) or (previous is not None and previous.before != entry.before):
            return self._add(self.events, entry)
        if previous is None and len(self._targets) >= self._max_undoable and not self._retire_oldest():
            return AddResult.FULL
        added = self._add(self.operator, entry)
        if added is not AddResult.FULL:
            extended = entry if previous is None else replace(entry, until=max(previous.until, entry.until))
            self._entries.setdefault(target, {})[id_] = extended
            self._targets[id_] = target
        return (
            AddResult.NEW if previous is None and added is AddResult.KNOWN else added
        )  # it stays in effect if another one is taken back

    def _retire_oldest(self) -> bool:
        """Keep the oldest entry as one that cannot be taken back; return whether there is room for it there."""
        oldest = next(iter(self._targets))
        entry = self._entries[self._targets[oldest]][oldest]
        self.events.max_entries = len(self.events) + max(self.max_entries - len(self), 0) + 1
        if self.events.add(entry) is AddResult.FULL:
            return False
        self._remove(oldest)
        return True

    def _undo(self, record: UndoRecord) -> AddResult:
        new = [id_ for id_ in record.ids if id_ not in self._undone]
        if len(self._undone) + len(new) > self._max_undoable:
            return AddResult.FULL
        for id_ in new:
            self._undone[id_] = record.until
            if id_ in self._targets:
                self._remove(id_)
        return AddResult.NEW if new else AddResult.KNOWN

    def _remove(self, id_: str) -> None:
        target = self._targets.pop(id_)
        remaining = self._entries[target]
        removed = remaining.pop(id_)
        if not remaining:
            del self._entries[target]
        self.operator.replace_target(removed, remaining.values())
