"""Log lines in the Elastic Common Schema, which a SIEM reads without a parser; what it has no name for is `authz.*`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from authz import __version__

VERSION: Final = "9.4.0"
"""The version of the schema."""

_NAMES: Final[Mapping[str, str]] = {
    "reason": "event.code",
    "detail": "event.reason",
    "decision_id": "event.id",
    "rule": "rule.name",
    "subject": "user.id",
    "client": "client.address",
    "method": "http.request.method",
    "request_id": "http.request.id",
    "host": "url.domain",
    "path": "url.path",
    "trace_id": "trace.id",
    "span_id": "span.id",
    "alg": "authz.token.alg",
    "kid": "authz.token.kid",
    "thumbprint": "authz.proof.thumbprint",
    "audience": "authz.token.audience",
    "claimed_issuer": "authz.token.issuer",
}
_OUTCOMES: Final = {
    "allow": ("allowed", "success"),
    "would_deny": ("allowed", "success"),
    "deny": ("denied", "failure"),
}
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NANOSECONDS: Final = 1000  # in a microsecond


class EcsFormatter(logging.Formatter):
    """Formats one line as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        fields: dict[str, object] = {
            "@timestamp": _instant(record.created),
            "ecs.version": VERSION,
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage(),
            "service.name": "authz",
            "service.version": __version__,
            **describe(extra),
        }
        if record.exc_info:
            fields["error.stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(nest(fields.items()), default=str)


def describe(extra: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a line under their names in the schema, those without a value left out."""
    fields = {_NAMES.get(name, f"authz.{name}"): value for name, value in extra.items() if value is not None}
    if isinstance(duration := fields.pop("authz.duration_us", None), int):
        fields["event.duration"] = duration * _NANOSECONDS
    if (decision := extra.get("decision")) in _OUTCOMES and "decision_id" in extra:
        kind, outcome = _OUTCOMES[str(decision)]
        fields |= {
            "event.kind": "event",
            "event.category": ["api"],
            "event.type": [kind],
            "event.action": "authorize",
            "event.outcome": outcome,
        }
    if isinstance(client := extra.get("client"), str) and (address := _address(client)) is not None:
        fields["client.ip"] = address
    return fields


def nest(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Return fields with dots in their names as objects within objects."""
    nested: dict[str, object] = {}
    for name, value in fields:
        *above, last = name.split(".")
        into = nested
        for step in above:
            inner = into.setdefault(step, {})
            assert isinstance(inner, dict)  # noqa: S101 - no name is the beginning of another
            into = inner
        into[last] = value
    return nested


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None
