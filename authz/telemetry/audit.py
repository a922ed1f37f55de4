"""What is recorded of one decision: the same fields in a log line, on the console and for `authz tail`.

Rules of this file:
1. Text from a client is truncated when it is recorded, and escaped when it is shown.
2. Of a token, only its algorithm, key id and subject are recorded, and the thumbprint of the key that its sender proved
   to hold; issuer and audience only if they are the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from authz.core.decision import Decision, Deny, outcome
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.redaction import MAX_CHARS, printable

MAX_AUDIENCES: Final = 8  # that are named
MAX_BRIEF_CHARS: Final = 64  # of a short field in a brief entry, and of each audience
MAX_DETAIL_CHARS: Final = 112  # in a brief entry


class AuditEntry(NamedTuple):
    """The recorded values, truncated but not yet escaped. *at* is in Unix time."""

    at: float
    seconds: float
    decision: str
    reason: Reason
    decision_id: str
    detail: str
    rule: str | None
    issuer: str | None
    alg: str | None
    kid: str | None
    claimed_issuer: str | None
    audience: tuple[str, ...]
    expected_audience: tuple[str, ...]
    request_id: str | None
    method: str | None
    host: str | None
    path: str | None
    client: str | None
    subject: str | None
    brief: bool = False
    thumbprint: str | None = None

    def fields(self) -> dict[str, object]:
        """Return the recorded fields by name, escaped for output."""
        short = MAX_BRIEF_CHARS if self.brief else MAX_CHARS
        fields: dict[str, object] = {
            "decision": self.decision,
            "reason": self.reason.value,
            "detail": self.detail,
            "decision_id": self.decision_id,
            "rule": self.rule,
            "issuer": self.issuer,
            "alg": printable(self.alg, short),
            "kid": printable(self.kid, short),
            "duration_us": round(self.seconds * 1e6),
        }
        if self.claimed_issuer is not None:
            fields["claimed_issuer"] = printable(self.claimed_issuer)
        if self.reason is Reason.AUDIENCE_MISMATCH:
            fields["audience"] = [printable(text, MAX_BRIEF_CHARS) for text in self.audience]
            fields["expected_audience"] = list(self.expected_audience)
        if self.method is not None:
            fields |= {
                "request_id": printable(self.request_id, short),
                "method": printable(self.method, short),
                "host": printable(self.host, short),
                "path": printable(self.path),
            }
        if self.client is not None:
            fields |= {"client": printable(self.client, short), "subject": printable(self.subject)}
        if self.thumbprint is not None:
            fields["thumbprint"] = self.thumbprint  # a hash of our own making, which operators compare
        return fields


def audit_entry(record: CheckRecord, at: float, *, name_client: bool, brief: bool = False) -> AuditEntry:
    """Return what may be recorded of *record*, made *at* this Unix time; client and subject only if *name_client*.

    A *brief* entry has a bounded size: texts that are usually short have at most MAX_BRIEF_CHARS, all are ASCII, and
    there is no thumbprint.
    """
    decision, request = record.decision, record.request
    reason, trail = decision.reason, decision.trail
    cut, short = (_cut_to_ascii, MAX_BRIEF_CHARS) if brief else (_cut, MAX_CHARS)
    request_id = method = host = path = client = subject = None
    if request is not None:
        request_id = cut(request.headers.get("x-request-id"), short)
        method, host = cut(request.method, short), cut(request.host, short)
        path = cut(request.path.partition("?")[0], MAX_CHARS)
        if name_client:
            client, subject = cut(request.source_address, short), cut(trail.subject, MAX_CHARS)
    mismatch = reason is Reason.AUDIENCE_MISMATCH
    return AuditEntry(
        at,
        record.seconds,
        outcome(decision),
        reason,
        record.decision_id,
        decision.detail[:MAX_DETAIL_CHARS] if brief else decision.detail,
        trail.rule,
        trail.issuer,
        cut(trail.alg, short),
        cut(trail.kid, short),
        cut(trail.claimed_issuer, MAX_CHARS) if reason is Reason.ISSUER_UNKNOWN else None,
        tuple(_listed(trail.audience)) if mismatch else (),
        tuple(_listed(trail.expected_audience)) if mismatch else (),
        request_id,
        method,
        host,
        path,
        client,
        subject,
        brief,
        trail.thumbprint if name_client and not brief else None,
    )


def is_refused(decision: Decision) -> bool:
    """Return whether *decision* denies, or would deny if its rule were not in shadow."""
    return isinstance(decision, Deny) or decision.would_deny


def _cut(text: str | None, limit: int) -> str | None:
    """Truncate *text* to *limit* + 1 characters; the additional one shows that it was truncated."""
    return text if text is None else text[: limit + 1]


def _cut_to_ascii(text: str | None, limit: int) -> str | None:
    """Like `_cut`, but in ASCII: one octet of memory for each character instead of four."""
    if text is None or text.isascii():
        return _cut(text, limit)
    return text[: limit + 1].encode("ascii", "backslashreplace")[: limit + 1].decode()


def _listed(audience: object) -> Iterator[str]:
    """Yield at most MAX_AUDIENCES values of an audience, and the number of further ones."""
    match audience:
        case None:
            values: list[object] = []
        case frozenset():
            values = sorted(audience)
        case list() | tuple():
            values = list(audience)
        case _:
            values = [audience]
    for value in values[:MAX_AUDIENCES]:
        yield _cut_to_ascii(value if isinstance(value, str) else repr(value), MAX_BRIEF_CHARS) or ""
    if len(values) > MAX_AUDIENCES:
        yield f"and {len(values) - MAX_AUDIENCES} more"
