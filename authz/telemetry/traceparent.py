"""The trace that a call belongs to, from the header `traceparent` of W3C Trace Context.

Only `traceparent` is read. `tracestate` is neither read nor written: it may be empty, Envoy may copy it from the
client, and the sidecar calls no further service that would need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_HEADER: Final = "traceparent"
_MAX_CHARS: Final = 8192
# version-trace-parent-flags; later versions may add more after a further dash. Not all zeros, not version ff.
_FORM: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1


@dataclass(frozen=True, slots=True)
class TraceParent:
    """The caller's span: ids in lower-case hex, and whether the caller samples it."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(text: str) -> TraceParent | None:
    """Parse the value of a traceparent header; return None if it is invalid (W3C Trace Context, section 3.2)."""
    match = _FORM.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "00" and more is not None:
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def find_parent(metadata: Iterable[tuple[str, str | bytes]], client: Mapping[str, str]) -> TraceParent | None:
    """Return the span of the caller, Envoy, from the call's *metadata*; else that in the *client*'s headers.

    If clients are not trusted, *client* is empty. Two headers count as none (W3C Trace Context, section 3.2).
    """
    values = [value for key, value in metadata if key == _HEADER]
    if not values:
        return parse_traceparent(client.get(_HEADER, ""))
    value = values[0]
    return parse_traceparent(value) if len(values) == 1 and isinstance(value, str) else None
