"""Read revocation entries in JSON: those of a list, of an operator, and of the file of past events.

An entry is an object: `iss`, one of `jti`, `sid`, `sub`, `email`, `client`, `key` and `digest`, and optionally `before`
and `until`, in seconds since the epoch. A document is `{"revoked": [...]}`, or the array alone. Other members of an
entry are refused: a misspelt `before` would revoke more than was meant, and a misspelt `sub` nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authz.core.numeric_date import is_numeric_date
from authz.core.revocation import MAX_VALUE_CHARS, RevocationEntry, RevokedBy
from authz.core.strictjson import parse_json

_TIMES: Final = ("before", "until")
_MEMBERS: Final = frozenset({"iss", *RevokedBy, *_TIMES})
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MAX_SHOWN: Final = 64  # characters of what was written


@dataclass(frozen=True, slots=True)
class RevocationList:
    """The valid *entries* of a document, and the *errors* of the others: the position, from 1, and a message."""

    entries: tuple[RevocationEntry, ...]
    errors: tuple[tuple[int, str], ...] = ()


def parse_revocation_list(document: bytes, *, max_entries: int) -> RevocationList:
    """Read a document of entries. Raises ValueError if it is not one, has too many entries, or only invalid ones."""
    content = parse_json(document, max_containers=max_entries + 2)
    listed = content.get("revoked") if isinstance(content, dict) else content
    if not isinstance(listed, list):
        raise ValueError('is neither {"revoked": [...]} nor an array')  # noqa: TRY004 - bad data, not a caller's type
    if len(listed) > max_entries:
        raise ValueError(f"has {len(listed)} entries, at most {max_entries}")
    entries, errors = [], []
    for index, members in enumerate(listed, 1):
        try:
            entries.append(parse_entry(members))
        except ValueError as error:
            errors.append((index, str(error)))
    if errors and not entries:
        raise ValueError(f"entry {errors[0][0]}: {errors[0][1]}")
    return RevocationList(tuple(entries), tuple(errors))


def parse_entry(members: object) -> RevocationEntry:
    """Read one entry. Raises ValueError."""
    if not isinstance(members, dict):
        raise ValueError("is not an object")  # noqa: TRY004 - as above
    if unknown := sorted(members.keys() - _MEMBERS):
        raise ValueError(f"{_show(unknown[0])} is not a member of an entry")
    names = [by for by in RevokedBy if by.value in members]
    if len(names) != 1:
        raise ValueError(f"must have one of {', '.join(RevokedBy)}" + (", and has several" if names else ""))
    by = names[0]
    issuer, value = _read_text(members, "iss"), _read_text(members, by.value)
    if by is RevokedBy.DIGEST and not _DIGEST.fullmatch(value):
        raise ValueError("digest is not SHA-256 in lower-case hexadecimal")
    if by is RevokedBy.EMAIL:
        value = value.lower()
    before, until = (_read_time(members, name) for name in _TIMES)
    return RevocationEntry(by, issuer, value, before, math.inf if until is None else until)


def write_entry(entry: RevocationEntry) -> str:
    """Return *entry* in JSON, on one line."""
    times = {"before": entry.before, "until": None if entry.until == math.inf else entry.until}
    members = {"iss": entry.issuer, entry.by.value: entry.value, **times}
    return json.dumps({name: value for name, value in members.items() if value is not None})


def _read_text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_VALUE_CHARS:
        raise ValueError(f"{name} is not a text of 1 to {MAX_VALUE_CHARS} characters")
    return value


def _read_time(members: Mapping[str, object], name: str) -> float | None:
    value = members.get(name)
    if value is None:
        return None
    if not is_numeric_date(value):
        raise ValueError(f"{name} is not a time in seconds since the epoch")
    return float(value)


def _show(text: str) -> str:
    return json.dumps(text[:_MAX_SHOWN])
