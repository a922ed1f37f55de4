"""The line of a decision in JSON, written in parts: a general encoder takes three times as long.

Most texts of most lines are the same: those are escaped and quoted once. A test compares every line with that of the
general encoder.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import Final

from authz.core.reasons import Reason
from authz.telemetry.audit import AuditEntry
from authz.telemetry.redaction import printable

LOGGER: Final = "authz.decisions"
SECOND: Final = "%Y-%m-%dT%H:%M:%S"  # RFC 3339, in UTC
_RARE: Final = frozenset({Reason.ISSUER_UNKNOWN, Reason.AUDIENCE_MISMATCH})
_TEXTS: Final = 512  # of at most 201 characters
_PHRASES: Final = 1024  # of at most 1 KB: what many decisions have in common


def can_write(entry: AuditEntry) -> bool:
    """Return whether `write_line` knows all fields of *entry*."""
    return not entry.brief and entry.reason not in _RARE


def write_line(entry: AuditEntry, created: float, more: Iterable[tuple[str, str]], worker: int | None) -> str:
    """Return the line of *entry*, made at *created*, in Unix time; *more* are further names and values, ours alone."""
    second, rest = divmod(created, 1)
    line = (
        f'{{"time": "{format_second(second)}.{int(rest * 1000):03d}Z", '
        f"{_outcome(entry.decision, entry.reason, entry.detail)}, "
        f'"decision_id": {quote(entry.decision_id)}, '
        f"{_token(entry.rule, entry.issuer, entry.alg, entry.kid)}, "
        f'"duration_us": {round(entry.seconds * 1e6)}'
    )
    if (method := entry.method) is not None:
        line += (
            f', "request_id": {_text(entry.request_id)}, "method": {_known(method)}, "host": {_known(entry.host)}, '
            f'"path": {_text(entry.path)}'
        )
    if (client := entry.client) is not None:
        line += f', "client": {_known(client)}, "subject": {_text(entry.subject)}'
    if entry.thumbprint is not None:
        line += f', "thumbprint": {quote(entry.thumbprint)}'
    for name, value in more:
        line += f', "{name}": {quote(value)}'
    return f"{line}}}" if worker is None else f'{line}, "worker": {worker}}}'


@lru_cache(maxsize=4)
def format_second(second: float) -> str:
    """Write a second, in Unix time."""
    return time.strftime(SECOND, time.gmtime(second))


def _text(text: str | None) -> str:
    """Write a text of a client."""
    shown = printable(text)
    return "null" if shown is None else quote(shown)


_known: Final = lru_cache(maxsize=_TEXTS)(_text)  # for texts that come again


@lru_cache(maxsize=_PHRASES)
def _outcome(decision: str, reason: Reason, detail: str) -> str:
    return (
        f'"level": "INFO", "logger": "{LOGGER}", "message": "{decision} {reason.value}", '
        f'"decision": "{decision}", "reason": "{reason.value}", "detail": {quote(detail)}'
    )


@lru_cache(maxsize=_PHRASES)
def _token(rule: str | None, issuer: str | None, alg: str | None, kid: str | None) -> str:
    configured = (
        f'"{name}": {"null" if text is None else quote(text)}' for name, text in (("rule", rule), ("issuer", issuer))
    )
    return f'{", ".join(configured)}, "alg": {_text(alg)}, "kid": {_text(kid)}'
