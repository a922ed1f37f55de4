"""Which tokens were revoked before they expire: tables of entries, and the check of a token against them.

Rules of this file:
1. An entry is about the tokens of one issuer: one token, or those of a session, a subject, a client or a key.
2. An entry with `before` is about tokens issued until then, that second included; a token without `iat` counts as
   issued before. So neither a logout nor its repetition ends a session that began after it.
3. The digest of a JWT does not include the signature: anyone can derive a second valid ECDSA signature from the first.
4. Readers take no lock and never wait. Its owner lets one writer at a time change a table.
5. Nothing is evicted. A table that is full refuses an entry, and its sender must be informed.
6. An entry is stored as two numbers of 60 bits. The first is a hash that the interpreter seeds, so that no client can
   aim for a collision; the second includes seven bits of another hash. With a million entries, one token in 10^14
   collides with the entry of another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b, sha256
from typing import Final

from authz.core.claims import CLIENT_CLAIMS, Claims
from authz.core.issuer import Issuer
from authz.core.key import Key
from authz.core.reasons import Reason, Rejected
from authz.core.token import UnverifiedToken

MAX_VALUE_CHARS: Final = 1024  # of what an entry names

_HASH_MASK: Final = (1 << 60) - 1
_CHECK_BITS: Final = 7
_HOUR_BITS: Final = 20  # until the year 2089
_ALWAYS: Final = (1 << 33) - 1  # as an instant: no token was issued after it
_NO_END: Final = (1 << _HOUR_BITS) - 1
_HOUR: Final = 3600.0


class RevokedBy(StrEnum):
    """What an entry names, as the member of its JSON form."""

    TOKEN = "jti"
    DIGEST = "digest"
    SESSION = "sid"
    SUBJECT = "sub"
    CLIENT = "client"
    KEY = "key"
    EMAIL = "email"


class AddResult(StrEnum):
    """The result of adding an entry: it is new, already covered, or there is no room for it."""

    NEW = "new"
    KNOWN = "known"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class RevocationEntry:
    """Revokes the tokens of *issuer*, an `iss`, whose member *by* has the value *value*.

    *before* limits it to tokens issued until then. The entry expires at *until*. Both are seconds since the epoch,
    rounded up: *until* to a whole hour.
    """

    by: RevokedBy
    issuer: str
    value: str
    before: float | None = None
    until: float = math.inf


RevocableToken = UnverifiedToken | str
"""A JWT, or the text of an opaque token."""


def token_digest(token: RevocableToken) -> str:
    """Return the digest by which a token is revoked, SHA-256 in hexadecimal; of a JWT without its signature."""
    return sha256(token.encode()).hexdigest() if isinstance(token, str) else token.signing_digest


class RevocationTable:
    """At most *max_entries* entries in memory, about 105 octets each."""

    __slots__ = ("_by", "_count", "_used", "max_entries")

    def __init__(self, entries: Iterable[RevocationEntry] = (), *, max_entries: int) -> None:
        """Hold *entries*, as far as there is room."""
        self.max_entries = max_entries
        self._by: Final[dict[RevokedBy, dict[int, int]]] = {by: {} for by in RevokedBy}
        self._used: tuple[tuple[RevokedBy, _ValueReader, dict[int, int]], ...] = ()  # replaced, never changed
        self._count = 0
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._count

    def counts(self) -> dict[str, int]:
        """Return the number of entries by what they name."""
        return {by.value: len(entries) for by, entries in self._by.items()}

    def add(self, entry: RevocationEntry) -> AddResult:
        """Add *entry*, or extend the one that is there."""
        entries, key = self._by[entry.by], _hash(entry.issuer, entry.value)
        packed_before = entries.get(key)
        if packed_before is None and self._count >= self.max_entries:
            return AddResult.FULL
        packed = _pack(packed_before, entry)
        if packed == packed_before:
            return AddResult.KNOWN
        entries[key] = packed
        self._count += packed_before is None
        if len(entries) == 1:
            self._update_used()
        return AddResult.NEW

    def replace_target(self, removed: RevocationEntry, others: Iterable[RevocationEntry]) -> None:
        """Replace what is stored for the target of *removed* by *others*, entries with the same target, in one step."""
        entries, key = self._by[removed.by], _hash(removed.issuer, removed.value)
        packed: int | None = None
        for entry in others:
            packed = _pack(packed, entry)
        if packed is not None:
            self._count += key not in entries
            entries[key] = packed
        elif entries.pop(key, None) is not None:
            self._count -= 1
        self._update_used()

    def evict_expired(self, now: float) -> int:
        """Evict the entries that have expired at *now*; return how many."""
        evicted = 0
        for entries in self._by.values():
            ended = [key for key, packed in entries.items() if _ends(packed) <= now]
            for key in ended:
                del entries[key]
            evicted += len(ended)
        self._count -= evicted
        if evicted:
            self._update_used()
        return evicted

    def look_up(self, by: RevokedBy, issuer: str, value: str, now: float) -> tuple[float | None, float] | None:
        """Return `before` and `until` of the entry for this target; None if there is none at *now*."""
        packed = self._by[by].get(_hash(issuer, value))
        if packed is None or packed & _CHECK != _check_bits(by, issuer, value) or _ends(packed) <= now:
            return None
        before = packed >> _BEFORE_AT
        return (None if before == _ALWAYS else float(before)), _ends(packed)

    def find(
        self, iss: str, members: Mapping[str, object], token: RevocableToken, key: Key | None, now: float
    ) -> RevokedBy | None:
        """Return by what the *token* of the issuer *iss* is revoked at *now*; *key* signed it, if it is a JWT."""
        for by, read, entries in self._used:
            for value in read(members, token, key):
                packed = entries.get(hash((iss, value)) & _HASH_MASK)
                if packed is not None and _applies(packed, by, iss, value, members, now):
                    return by
        return None

    def _update_used(self) -> None:
        self._used = tuple((by, _VALUE_READERS[by], entries) for by, entries in self._by.items() if entries)


@dataclass(frozen=True, slots=True)
class RevocationSource:
    """The entries of the source configured as *name*; not *available* if they are missing or too old."""

    name: str
    table: RevocationTable
    available: bool = True


def check_revoked(
    sources: tuple[RevocationSource, ...],
    claims: Claims,
    issuer: Issuer,
    token: RevocableToken,
    key: Key | None,
    now: float,
) -> None:
    """Reject a revoked token, and any token while a source is not available.

    Raises Rejected: TOKEN_REVOKED, REVOCATIONS_UNAVAILABLE.
    """
    missing = ""
    for source in sources:
        if (by := source.table.find(issuer.rules.issuer, claims.members, token, key, now)) is not None:
            raise Rejected(Reason.TOKEN_REVOKED, f"revoked by its {by.value}, says {source.name}")
        missing = missing if source.available else source.name
    if missing:
        raise Rejected(Reason.REVOCATIONS_UNAVAILABLE, f"no list of {missing}, or none that is recent enough")


_BEFORE_AT: Final = _CHECK_BITS + _HOUR_BITS
_CHECK: Final = (1 << _CHECK_BITS) - 1


def _hash(issuer: str, value: str) -> int:
    return hash((issuer, value)) & _HASH_MASK


def _check_bits(by: RevokedBy, issuer: str, value: object) -> int:
    return blake2b(f"{by.value}\0{issuer}\0{value}".encode(), digest_size=1).digest()[0] & _CHECK


def _pack(stored: int | None, entry: RevocationEntry) -> int:
    """Return *entry* as one number, merged with *stored*, the number that is stored for the same target."""
    before = _ALWAYS if entry.before is None else min(max(math.ceil(entry.before), 0), _ALWAYS)
    hours = _NO_END if entry.until == math.inf else min(max(math.ceil(entry.until / _HOUR), 0), _NO_END)
    check = _check_bits(entry.by, entry.issuer, entry.value)
    if stored is not None and stored & _CHECK == check:
        before, hours = max(before, stored >> _BEFORE_AT), max(hours, stored >> _CHECK_BITS & _NO_END)
    return before << _BEFORE_AT | hours << _CHECK_BITS | check


def _ends(packed: int) -> float:
    hours = packed >> _CHECK_BITS & _NO_END
    return math.inf if hours == _NO_END else hours * _HOUR


def _applies(packed: int, by: RevokedBy, iss: str, value: object, members: Mapping[str, object], now: float) -> bool:
    """Return whether a found entry is in force and applies to the token: same target, issued before its limit."""
    before, issued = packed >> _BEFORE_AT, members.get("iat")
    if packed & _CHECK != _check_bits(by, iss, value) or _ends(packed) <= now:
        return False
    return before == _ALWAYS or not isinstance(issued, int | float) or issued <= before


_ValueReader = Callable[[Mapping[str, object], RevocableToken, Key | None], Iterable[object]]
"""Returns the values of a token that an entry may name: from its members, itself, and the key that signed it."""


def _read_clients(members: Mapping[str, object], _token: RevocableToken, _key: Key | None) -> Iterator[str]:
    for name in CLIENT_CLAIMS:
        if isinstance(client := members.get(name), str):
            yield client


def _read_keys(members: Mapping[str, object], _token: RevocableToken, key: Key | None) -> Iterator[str]:
    """Yield the id and thumbprint of the key that signed, and those of the keys that the token is bound to."""
    if key is not None:
        yield key.thumbprint
        if key.kid is not None:
            yield key.kid
    if isinstance(bound := members.get("cnf"), dict):
        yield from (value for value in (bound.get("jkt"), bound.get("x5t#S256")) if isinstance(value, str))


def _read_email(members: Mapping[str, object], _token: RevocableToken, _key: Key | None) -> tuple[str, ...]:
    """Return the email in lower case, as entries have it."""
    value = members.get("email")
    return (value.lower(),) if isinstance(value, str) else ()


def _read_member(name: str) -> _ValueReader:
    def read(members: Mapping[str, object], _token: RevocableToken, _key: Key | None) -> tuple[str, ...]:
        value = members.get(name)
        return (value,) if isinstance(value, str) else ()

    return read


_VALUE_READERS: Final[Mapping[RevokedBy, _ValueReader]] = {
    RevokedBy.TOKEN: _read_member("jti"),
    RevokedBy.DIGEST: lambda _members, token, _key: (token_digest(token),),
    RevokedBy.SESSION: _read_member("sid"),
    RevokedBy.SUBJECT: _read_member("sub"),
    RevokedBy.CLIENT: _read_clients,
    RevokedBy.KEY: _read_keys,
    RevokedBy.EMAIL: _read_email,
}
