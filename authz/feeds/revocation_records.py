"""The records of revocations that replicas and processes exchange: one line of JSON each.

Rules of this file:
1. A line is untrusted data: its size is bounded, it is parsed strictly, and anything but a record is refused.
2. A record revokes, or takes back what records with certain ids have revoked. Each command of an operator has an id of
   its own: a repeated undo record never takes back a later revocation.
3. An entry of the shared state that would never expire, or too late, is stored as a line with an expiry and the digest
   of the original line: if that is read again after a restart, it gets the same expiry.
4. In the shared state, an undo record is valid only with a seal, an HMAC under a secret that the server of that state
   does not have. A revoke record needs no seal: anyone who can write there can deny, as the security model says.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from typing import Final

from authz.core.numeric_date import is_numeric_date
from authz.core.revocation import RevocationEntry
from authz.core.revocation_entries import parse_entry, write_entry
from authz.core.strictjson import parse_object

MAX_LINE: Final = 16_384  # octets; two texts of 1024 characters, each of six octets in JSON, need 12,400
MAX_UNDONE: Final = 64  # ids in one record
_ID: Final = re.compile(r"[0-9a-f]{16}")
_SEAL: Final = re.compile(r"[0-9a-f]{64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{32}")
_PURPOSE: Final = b"authz revocations taken back\n"


@dataclass(frozen=True, slots=True)
class RevokeRecord:
    """Revokes what *entry* names; with an *id*, it can be taken back.

    *source_line* is the digest of the line in the shared state to which this record gives an expiry.
    """

    entry: RevocationEntry
    id: str | None = None
    source_line: str | None = None

    @property
    def until(self) -> float:
        """When it expires, in Unix time."""
        return self.entry.until


@dataclass(frozen=True, slots=True)
class UndoRecord:
    """Takes back the records with these *ids*, which expire at *until* at the latest."""

    ids: tuple[str, ...]
    until: float
    seal: str = ""


Record = RevokeRecord | UndoRecord


def new_id() -> str:
    """Return the id of a new record."""
    return secrets.token_hex(8)


def digest_line(line: bytes) -> str:
    """Return the digest by which a line is recognized."""
    return blake2b(line, digest_size=16).hexdigest()


def write_record(record: Record, source: str) -> str:
    """Return *record* as a line, without its end; *source* is for people."""
    match record:
        case RevokeRecord():
            members = {name: text for name, text in (("id", record.id), ("of", record.source_line)) if text is not None}
            return json.dumps({"source": source, **members, "entry": json.loads(write_entry(record.entry))})
        case UndoRecord():
            sealed = {"seal": record.seal} if record.seal else {}
            return json.dumps({"source": source, "undo": record.ids, "until": record.until, **sealed})


def parse_record(line: bytes) -> Record:
    """Read a line. Raises ValueError."""
    if len(line) > MAX_LINE:
        raise ValueError(f"has more than {MAX_LINE} octets")
    if b"\n" in line:  # it would be several in a file, whose lines need no seal
        raise ValueError("has a line break")
    members = parse_object(line)
    if "undo" not in members:
        name, of = members.get("id"), members.get("of")
        return RevokeRecord(
            parse_entry(members.get("entry")),
            None if name is None else _read(_ID, name, "id"),
            None if of is None else _read(_DIGEST, of, "of"),
        )
    ids, until, seal = members["undo"], members.get("until"), members.get("seal", "")
    if not isinstance(ids, list) or not 0 < len(ids) <= MAX_UNDONE:
        raise ValueError(f"undo is not a list of 1 to {MAX_UNDONE} ids")
    if not is_numeric_date(until):
        raise ValueError("until is not a time in seconds since the epoch")
    return UndoRecord(
        tuple(_read(_ID, id_, "undo") for id_ in ids), float(until), _read(_SEAL, seal, "seal") if seal else ""
    )


class HmacSeal:
    """Seals undo records with HMAC-SHA-256, under a *secret* that all replicas have."""

    def __init__(self, secret: bytes) -> None:
        self._secret: Final = secret

    def seal(self, record: UndoRecord) -> UndoRecord:
        """Return *record* with its seal."""
        return replace(record, seal=self._compute(record.ids, record.until))

    def matches(self, record: UndoRecord) -> bool:
        """Whether a replica has sealed *record*."""
        return hmac.compare_digest(record.seal, self._compute(record.ids, record.until))

    def _compute(self, ids: Sequence[str], until: float) -> str:
        text = f"{','.join(ids)}\n{until!r}".encode()
        return hmac.new(self._secret, _PURPOSE + text, sha256).hexdigest()


def _read(pattern: re.Pattern[str], value: object, name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{name} has the wrong form")
    return value
