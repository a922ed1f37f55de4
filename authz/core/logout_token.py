"""Read logout tokens (OpenID Connect Back-Channel Logout 1.0) as revocation entries.

Rules of this file:
1. A logout token is never accepted as an access token, nor the reverse: it has the logout event, no `nonce`, and an
   OAuth client as `aud`, from a separate list. Providers write `typ: logout+jwt`, `JWT` or none.
2. It is verified under the keys of its own issuer, as access tokens are (section 2.6).
3. It revokes tokens that were issued until its `iat`, or those of its session, so that applying it is idempotent: a
   repeated one is accepted, because its sender may have missed the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authz.core.authenticate import verify_signed
from authz.core.claims import LOGOUT_EVENT, normalize_type
from authz.core.decision import AuditTrail
from authz.core.issuer import Issuer, LogoutRules, LogoutScope
from authz.core.keys import check_algorithm
from authz.core.needs import Facts
from authz.core.numeric_date import is_numeric_date
from authz.core.reasons import Reason, Rejected
from authz.core.revocation import MAX_VALUE_CHARS, RevocationEntry, RevokedBy
from authz.core.snapshot import Snapshot
from authz.core.steps import ignore_step
from authz.core.token import parse_token

MAX_AGE: Final = 300.0  # seconds since iat, of a token without exp: earlier drafts did not require one
_TYPES: Final = frozenset({"logout+jwt", "jwt"})


@dataclass(frozen=True, slots=True)
class Logout:
    """A logout at the *issuer* with that configured name, and the *entries* that it causes."""

    issuer: str
    entries: tuple[RevocationEntry, ...]


def read_logout_token(text: str, snapshot: Snapshot, trail: AuditTrail, now: float, facts: Facts) -> Logout:
    """Verify the logout token *text* at *now*; *trail* names the need for a key that may be new.

    Raises Rejected.
    """
    token = parse_token(text, max_bytes=snapshot.token.max_bytes, cached=False)
    if normalize_type(token.typ) not in _TYPES:
        raise Rejected(Reason.TYP_NOT_ALLOWED, "typ is not logout+jwt")
    iss = token.members.get("iss")
    issuer = snapshot.issuers.get(iss) if isinstance(iss, str) else None
    if issuer is None or issuer.logout is None:
        raise Rejected(Reason.ISSUER_UNKNOWN, "iss is not an issuer with logout")
    trail.issuer = issuer.name
    _check_event(token.members)
    check_algorithm(token, issuer.algorithms)
    members = verify_signed(token, issuer, snapshot, trail, facts, ignore_step).members
    issued = _check_times(members, issuer, now)
    _check_audience(members, issuer.logout)
    return Logout(issuer.name, tuple(_read_entries(members, issuer, issuer.logout, issued)))


def _check_event(members: Mapping[str, object]) -> None:
    """Reject a token that is not a logout token, before its signature is verified."""
    events = members.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise _malformed("events has no logout event: not a logout token")
    if "nonce" in members:
        raise _malformed("nonce is prohibited in a logout token")
    jti = members.get("jti")
    if not isinstance(jti, str) or not jti:
        raise _malformed("jti is missing or not a string")


def _check_times(members: Mapping[str, object], issuer: Issuer, now: float) -> float:
    """Return `iat`. Raises Rejected."""
    issued, leeway = _read_time(members, "iat"), issuer.rules.leeway
    expires = _read_time(members, "exp") if "exp" in members else issued + MAX_AGE
    if issued > now + leeway:
        raise Rejected(Reason.TOKEN_NOT_YET_VALID, f"iat is {issued - now:.0f} s ahead")
    if expires <= now - leeway:
        raise Rejected(Reason.TOKEN_EXPIRED, f"expired {now - expires:.0f} s ago")
    return issued


def _check_audience(members: Mapping[str, object], rules: LogoutRules) -> None:
    audience = members.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(name, str) and name in rules.clients for name in audiences):
        raise Rejected(Reason.AUDIENCE_MISMATCH, "aud is none of logout.clients", audiences=rules.clients)


def _read_entries(
    members: Mapping[str, object], issuer: Issuer, rules: LogoutRules, issued: float
) -> list[RevocationEntry]:
    iss = issuer.rules.issuer
    sid, sub = _read_name(members, "sid"), _read_name(members, "sub")
    entries = [] if sid is None else [RevocationEntry(RevokedBy.SESSION, iss, sid)]
    if sub is not None and (sid is None or rules.scope is LogoutScope.SUBJECT):
        entries.append(RevocationEntry(RevokedBy.SUBJECT, iss, sub, before=issued))
    if not entries:
        raise _malformed("neither sid nor sub: it ends no session")
    return entries


def _read_name(members: Mapping[str, object], name: str) -> str | None:
    value = members.get(name)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= MAX_VALUE_CHARS):
        raise _malformed(f"{name} is not a text of 1 to {MAX_VALUE_CHARS} characters")
    return value


def _read_time(members: Mapping[str, object], name: str) -> float:
    value = members.get(name)
    if not is_numeric_date(value):
        raise _malformed(f"{name} is missing or not a time in seconds since the epoch")
    return float(value)


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.CLAIMS_MALFORMED, detail)
