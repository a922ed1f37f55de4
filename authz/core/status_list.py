"""Token Status Lists (draft-ietf-oauth-status-list-21): the reference in a token, the list, and what its status means.

Rules of this file:
1. A list is a JWT of the type `statuslist+jwt`, signed by a key of the token's own issuer, or of keys that are for its
   lists only; its `sub` is the URI that the token names (section 8.3). It is verified in each decision, because keys
   may be withdrawn; a list caches which key has signed it.
2. A list that is unavailable or unusable says nothing about a token: the request is denied as retryable.
3. The token chooses the URI, among those that are configured.
4. An index beyond the list is an error, never VALID. Lists are inflated up to a bound: a few octets may become many.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from authz.core import base64url
from authz.core.claims import Claims, normalize_type
from authz.core.key import Key
from authz.core.keys import KeySet, Verified, verify_by_keys
from authz.core.needs import Need
from authz.core.numeric_date import is_numeric_date
from authz.core.reasons import Reason, Rejected
from authz.core.token import UnverifiedToken, parse_token

STATUS_LIST: Final = "status_list"  # the kind of a need for a list; `payload` is its URI
STALE_STATUS_LIST: Final = "stale_status_list"  # the kind of a need for a list that may be due for a refresh
TYPE: Final = "statuslist+jwt"
MAX_URI_CHARS: Final = 2048
MAX_INDEX: Final = 1 << 32
VALID, INVALID, SUSPENDED = 0, 1, 2
_BITS: Final = (1, 2, 4, 8)
_NAMES: Final = {VALID: "VALID", INVALID: "INVALID", SUSPENDED: "SUSPENDED"}  # section 7.1
_MAX_CACHED_SIGNERS: Final = 16  # of one list


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRules:
    """Whose lists count, and which statuses pass. A URI is allowed if it is one of *uris*, or below one that ends in /.

    *required* refuses a token without a reference to a list. With *own_keys*, lists are signed by keys of their own,
    and by none of the issuer's.
    """

    uris: tuple[str, ...]
    accepted: frozenset[int] = frozenset({VALID})
    required: bool = True
    own_keys: bool = False

    def allows(self, uri: str) -> bool:
        """Return whether a list at *uri* counts."""
        if uri in self.uris:
            return True
        if not any(allowed.endswith("/") and uri.startswith(allowed) for allowed in self.uris):
            return False
        path = urlsplit(uri).path
        return "%" not in path and "\\" not in path and not {".", ".."}.intersection(path.split("/"))


@dataclass(frozen=True, slots=True)
class StatusReference:
    """The entry *index* of the list at *uri*."""

    index: int
    uri: str


@dataclass(frozen=True, slots=True, eq=False)
class StatusList:
    """A list as its server sent it: neither the signature of *token* nor its *subject* is verified yet.

    *issued* and *expires* are seconds since the epoch; *lifetime* (`ttl`) is the age in seconds at which a copy should
    be refreshed. *statuses* are packed, *bits* for each, the lowest first. *keys* are those for lists only, as they
    were when the list was fetched.
    """

    token: UnverifiedToken = field(repr=False)
    subject: object
    issued: float
    expires: float | None
    lifetime: float | None
    bits: int
    statuses: bytes = field(repr=False)
    keys: KeySet | None = field(default=None, repr=False)
    _signers: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.statuses) * 8 // self.bits

    def __getitem__(self, index: int) -> int:
        """Return the status at *index* (section 4.1). Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        octet, bit = divmod(index * self.bits, 8)
        return self.statuses[octet] >> bit & (1 << self.bits) - 1

    def verify(self, issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
        """Return the key that signed this list, whose *token* is passed again, among *keys* of the issuer *issuer*.

        Raises Rejected(SIGNATURE_INVALID).
        """
        for key in keys:
            if (issuer, key.thumbprint) in self._signers:
                return key, Verified.CACHED
        key, verified = verify_by_keys(issuer, keys, token)
        if len(self._signers) < _MAX_CACHED_SIGNERS:
            self._signers.add((issuer, key.thumbprint))
        return key, verified


def read_status_list(text: str, *, max_bytes: int, max_inflated: int) -> StatusList:
    """Read a list of at most *max_bytes*, whose entries take at most *max_inflated* octets.

    Raises Rejected(REVOCATIONS_UNAVAILABLE).
    """
    try:
        token = parse_token(text, max_bytes=max_bytes, cached=False)
        members = token.members
    except Rejected as rejected:
        raise unavailable(rejected.detail) from None
    if normalize_type(token.typ) != TYPE:
        raise unavailable(f"its typ is not {TYPE}")
    issued = _read_seconds(members, "iat")
    if issued is None:
        raise unavailable("it has no iat")
    written = members.get("status_list")
    if not isinstance(written, dict):
        raise unavailable("it has no status_list")
    bits, lst = written.get("bits"), written.get("lst")
    if isinstance(bits, bool) or not isinstance(bits, int) or bits not in _BITS:
        raise unavailable("its bits are none of 1, 2, 4 and 8")
    if not isinstance(lst, str):
        raise unavailable("its lst is not a string")
    expires, lifetime = _read_seconds(members, "exp"), _read_seconds(members, "ttl")
    statuses = _inflate(lst, max_inflated)
    return StatusList(token, members.get("sub"), issued, expires, lifetime or None, bits, statuses)


def _inflate(lst: str, max_inflated: int) -> bytes:
    """Return the entries: zlib data of RFC 1950 (section 4.1). Raises Rejected."""
    inflating = zlib.decompressobj()
    try:
        inflated = inflating.decompress(base64url.decode(lst.encode("ascii", "replace")), max_inflated + 1)
    except (zlib.error, ValueError):
        raise unavailable("its lst is not zlib data in base64url") from None
    if len(inflated) > max_inflated:
        raise unavailable(f"its entries take more than {max_inflated} octets")
    if not inflating.eof or inflating.unused_data:
        raise unavailable("its lst is cut short, or has more than zlib data")
    return inflated


def _read_seconds(members: dict[str, object], name: str) -> float | None:
    value = members.get(name)
    if value is None:
        return None
    if not is_numeric_date(value):
        raise unavailable(f"its {name} is not a number of seconds")
    return value


def read_reference(claims: Claims, rules: StatusRules) -> StatusReference | None:
    """Return the reference of a token (section 6.2); None if it has none and needs none.

    Raises Rejected: CLAIMS_MALFORMED, REVOCATIONS_UNAVAILABLE.
    """
    status = claims.members.get("status")
    if status is not None and not isinstance(status, dict):
        raise Rejected(Reason.CLAIMS_MALFORMED, "status is not an object")
    reference = None if status is None else status.get("status_list")
    if reference is None:
        if rules.required:
            raise Rejected(Reason.CLAIMS_MALFORMED, "status.status_list is required for tokens of this issuer")
        return None
    if not isinstance(reference, dict):
        raise Rejected(Reason.CLAIMS_MALFORMED, "status.status_list is not an object")
    index, uri = reference.get("idx"), reference.get("uri")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < MAX_INDEX:
        raise Rejected(Reason.CLAIMS_MALFORMED, "status.status_list.idx is not an index")
    if not isinstance(uri, str) or len(uri) > MAX_URI_CHARS:
        raise Rejected(Reason.CLAIMS_MALFORMED, "status.status_list.uri is not a URI")
    if not rules.allows(uri):
        raise unavailable("its URI is not one of status_list.uris")
    return StatusReference(index, uri)


def status_list_need(reference: StatusReference, issuer: str, kind: str = STATUS_LIST) -> Need:
    """Return the need for the list of *reference*, of *issuer*, a configured name."""
    return Need(kind, issuer, reference.uri, Reason.REVOCATIONS_UNAVAILABLE, reference.uri)


def check_entry(listing: StatusList, reference: StatusReference, rules: StatusRules, now: float, leeway: float) -> None:
    """Reject a token by its entry in a verified list. Raises Rejected: TOKEN_REVOKED, REVOCATIONS_UNAVAILABLE."""
    if listing.subject != reference.uri:
        raise unavailable("its sub is not the URI that the token names")
    if listing.issued > now + leeway:
        raise unavailable(f"its iat is {listing.issued - now:.0f} s ahead")
    if listing.expires is not None and now - leeway >= listing.expires:
        raise unavailable(f"it expired {now - listing.expires:.0f} s ago")
    try:
        status = listing[reference.index]
    except IndexError:
        raise unavailable(f"it has {len(listing)} entries, and none for this token") from None
    if status not in rules.accepted:
        raise Rejected(Reason.TOKEN_REVOKED, f"its status is {_NAMES.get(status, status)} in the issuer's status list")


def unavailable(why: str) -> Rejected:
    """Return the denial for a list that is unavailable or unusable."""
    return Rejected(Reason.REVOCATIONS_UNAVAILABLE, f"the status list of the token cannot be used: {why}")
