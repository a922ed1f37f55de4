"""The last decisions of this process in memory of fixed size, for the console and `authz tail`.

Rules of this file:
1. Storing a decision takes no lock and does not block: it is one store into a preallocated list.
2. Denials and allows have separate ring buffers: otherwise allows would displace a denial within a second.
3. Only what the decision log may contain is stored: see `audit`.
4. Of allows, at most as many are stored in a second as there are places: further ones would be overwritten before
   anyone could read them, and to store each costs 3 % of a check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from authz.core.decision import Allow
from authz.core.reasons import Reason
from authz.telemetry.audit import AuditEntry, audit_entry
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.redaction import printable

MAX_REFUSED: Final = 750  # denials, and what a shadow rule would deny
MAX_ALLOWED: Final = 250
_MAX_UNCUT_CHARS: Final = 300  # of all texts of a decision together; with more, or with claims, each text is truncated
_NEED_CLAIMS: Final = frozenset({Reason.ISSUER_UNKNOWN, Reason.AUDIENCE_MISMATCH})

_Kept = tuple[object, ...]
"""The values of an AuditEntry in order. Creating a plain tuple is five times faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFilter:
    """A filter for decisions by all of the given values; at most *limit* of them, the newest ones.

    *subject* is either the value in the token or the form in which it is shown. *after* and *before* are in Unix time,
    both exclusive. *outcome* is allow, deny or would_deny.
    """

    reason: str = ""
    outcome: str = ""
    rule: str = ""
    issuer: str = ""
    subject: str = ""
    client: str = ""
    decision_id: str = ""
    after: float = 0.0
    before: float = float("inf")
    limit: int = MAX_REFUSED + MAX_ALLOWED

    def admits(self, entry: AuditEntry) -> bool:
        """Return whether *entry* passes the filter."""
        return (
            self.after < entry.at < self.before
            and self.reason in {"", entry.reason.value}
            and self.outcome in {"", entry.decision}
            and self.rule in {"", entry.rule}
            and self.issuer in {"", entry.issuer}
            and (not self.subject or self.subject in {entry.subject, printable(entry.subject)})
            and self.client in {"", entry.client}
            and self.decision_id in {"", entry.decision_id}
        )


class RecentDecisions:
    """Stores the last MAX_REFUSED denials and MAX_ALLOWED allows. *now* returns Unix time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now: Final = now
        self._refused: Final = _Ring(MAX_REFUSED)
        self._allowed: Final = _BoundedRing(MAX_ALLOWED)

    def recorder(self, *, name_client: bool) -> Callable[[CheckRecord], None]:
        """Return the function that stores a decision and overwrites the oldest of its kind.

        Client and subject are stored only if *name_client*.
        """
        now, refused, allowed = self._now, self._refused, self._allowed
        next_refused, next_allowed = refused.positions.__next__, allowed.positions.__next__

        def keep(record: CheckRecord) -> None:
            decision, at = record.decision, now()
            if type(decision) is Allow and not decision.would_deny and allowed.is_exhausted(at):
                return
            request, trail, reason, detail = record.request, decision.trail, decision.reason, decision.detail
            outcome = ("would_deny" if decision.would_deny else "allow") if type(decision) is Allow else "deny"
            entry: _Kept | None = None
            if request is not None and reason not in _NEED_CLAIMS:
                path, kid, alg, request_id = request.path, trail.kid, trail.alg, request.headers.get("x-request-id")
                client, subject = (request.source_address, trail.subject) if name_client else (None, None)
                if "?" in path:
                    path = path.partition("?")[0]
                chars = len(path) + len(request.host) + len(request.method) + len(detail) + len(alg or "")
                chars += len(kid or "") + len(request_id or "") + len(client or "") + len(subject or "")
                if chars <= _MAX_UNCUT_CHARS:
                    entry = (
                        at,
                        record.seconds,
                        outcome,
                        reason,
                        record.decision_id,
                        detail,
                        trail.rule,
                        trail.issuer,
                        alg,
                        kid,
                        None,
                        (),
                        (),
                        request_id,
                        request.method,
                        request.host,
                        path,
                        client,
                        subject,
                        False,
                        trail.thumbprint if name_client else None,
                    )
            if entry is None:
                entry = audit_entry(record, at, name_client=name_client, brief=True)
            if outcome == "allow":
                allowed.slots[next_allowed() % MAX_ALLOWED] = entry
            else:
                refused.slots[next_refused() % MAX_REFUSED] = entry

        return keep

    def find(self, wanted: DecisionFilter) -> list[AuditEntry]:
        """Return the decisions that are *wanted*, the newest first."""
        entries = sorted(
            filter(wanted.admits, (*self._refused.entries(), *self._allowed.entries())), key=_at, reverse=True
        )
        return entries[: wanted.limit]

    def complete_since(self) -> float:
        """Return the Unix time since which all decisions are stored; 0 if all are."""
        return max(ring.complete_since() for ring in (self._refused, self._allowed))

    def describe(self, wanted: DecisionFilter) -> dict[str, object]:
        """Return what is *wanted* as JSON data, made printable."""
        return {
            "decisions": [{"at": entry.at, **entry.fields()} for entry in self.find(wanted)],
            "complete_since": self.complete_since(),
        }


class _Ring:
    """A ring buffer; *positions* is an atomic counter of the stored entries."""

    __slots__ = ("positions", "slots")

    def __init__(self, size: int) -> None:
        self.slots: Final[list[_Kept | None]] = [None] * size
        self.positions: Final = count()

    def entries(self) -> list[AuditEntry]:
        return [AuditEntry._make(entry) for entry in self.slots[:] if entry is not None]

    def complete_since(self) -> float:
        entries = self.entries()
        return 0.0 if len(entries) < len(self.slots) else min(map(_at, entries))


class _BoundedRing(_Ring):
    """A ring buffer that takes at most as many entries in a second as it has places; threads may add a few."""

    __slots__ = ("last_refused", "second", "taken")

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.second = 0
        self.taken = 0
        self.last_refused = 0.0

    def is_exhausted(self, at: float) -> bool:
        """Take a place for an entry made *at* a Unix time, or return True if this second has had its share."""
        second = int(at)
        if second != self.second:
            self.second, self.taken = second, 0
        if self.taken >= len(self.slots):
            self.last_refused = at
            return True
        self.taken += 1
        return False

    def complete_since(self) -> float:
        return max(super().complete_since(), self.last_refused)


def _at(entry: AuditEntry) -> float:
    return entry.at
