"""What is revoked, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from authz.telemetry.redaction import escaped

_TIMES: Final = frozenset({"before", "until"})


def describe_sources(document: Mapping[str, Any]) -> Iterator[str]:
    """Describe the sources, what can be taken back, and whether replicas share it."""
    for source in document["sources"]:
        by = ", ".join(f"{count} by {name}" for name, count in source.get("by", {}).items() if count)
        state = "" if source.get("available", True) else ", not available"
        error = f", last error: {source['last_error']}" if source.get("last_error") else ""
        yield escaped(f"{source['source']}: {source['entries']} entries{f' ({by})' if by else ''}{state}{error}") or ""
    if not document["sources"]:
        yield "nothing is revoked, and there is no list"
    if document.get("undoable"):
        yield "can be taken back by --undo, the newest first:"
    for entry in document.get("undoable", []):
        yield f"  {_describe(entry)}{_describe_times(entry)}"
    if (shared := document.get("shared")) is not None:
        age = "never" if shared["age"] is None else f"{shared['age']:.0f} s ago"
        waiting = f", {shared['pending']} entries wait to be sent" if shared["pending"] else ""
        failure = f", last error: {shared['failure']}" if shared["failure"] else ""
        yield escaped(f"shared state: read {age}{waiting}{failure}") or ""


def describe_found(
    entries: Sequence[Mapping[str, Any]], sources_of_entries: Sequence[Mapping[str, Mapping[str, Any]]]
) -> Iterator[str]:
    """Describe what revokes each of *entries*."""
    for entry, sources in zip(entries, sources_of_entries, strict=True):
        if not sources:
            yield f"{_describe(entry)}: not revoked"
        for source, times in sources.items():
            yield f"{_describe(entry)}: revoked by {escaped(source)}{_describe_times(times)}"


def _describe(entry: Mapping[str, Any]) -> str:
    name, value = next((name, value) for name, value in entry.items() if name not in {"iss", *_TIMES})
    return escaped(f"{name} {value} of {entry['iss']}") or ""


def _describe_times(times: Mapping[str, Any]) -> str:
    before, until = times.get("before"), times.get("until")
    issued = "" if before is None else f", if issued until {_format(before)}"
    return f"{issued}, {'for ever' if until is None else f'until {_format(until)}'}"


def _format(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
