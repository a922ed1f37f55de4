"""Read security event tokens (SET, RFC 8417) of Shared Signals (SSF 1.0, CAEP, RISC) as revocation entries.

Rules of this file:
1. A SET has `typ: secevent+jwt`, the `iss` of its transmitter, one of our audiences, and a signature by the
   transmitter's own keys. That `typ` keeps SETs and access tokens apart.
2. A transmitter may revoke tokens of the issuers that are configured for it, and of no others.
3. An event that ends sessions revokes the tokens that were issued before it. Events that end none are acknowledged, so
   that they are not sent again: verification, a new credential, and those that are not about tokens.
4. A subject is matched as its format says (RFC 9493). If none of its identifiers can be matched with a token, the event
   is refused: otherwise its transmitter would assume that it is in effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from authz.core.authenticate import verify_signed
from authz.core.claims import normalize_type
from authz.core.decision import AuditTrail
from authz.core.issuer import Issuer, LogoutScope
from authz.core.keys import check_algorithm
from authz.core.needs import Facts
from authz.core.numeric_date import is_numeric_date
from authz.core.reasons import Reason, Rejected
from authz.core.revocation import MAX_VALUE_CHARS, RevocationEntry, RevokedBy
from authz.core.snapshot import Snapshot
from authz.core.steps import ignore_step
from authz.core.token import parse_token

MAX_EVENT_BYTES: Final = 65_536
_MAX_DEPTH: Final = 3  # of subjects within subjects
_TYPE: Final = "secevent+jwt"
_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
_CREDENTIAL_CHANGE: Final = f"{_CAEP}credential-change"
_REVOKING_EVENTS: Final = frozenset(
    {
        f"{_CAEP}session-revoked",
        f"{_CAEP}token-claims-change",
        f"{_RISC}account-disabled",
        f"{_RISC}account-purged",
        f"{_RISC}sessions-revoked",
    }
)
_NEW_CREDENTIAL: Final = "create"


@dataclass(frozen=True, slots=True)
class Transmitter:
    """A transmitter as the *issuer* of its SETs, whose audiences are those of SETs.

    *issuers* are the values of `iss` whose tokens it may revoke; *scope* says what an event about a session ends.
    """

    issuer: Issuer
    issuers: tuple[str, ...]
    scope: LogoutScope = LogoutScope.SESSION


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """A SET with its *jti*, and the *entries* that it causes: none, if it ends no session."""

    jti: str
    entries: tuple[RevocationEntry, ...]


def read_security_event(
    text: str, transmitters: Mapping[str, Transmitter], snapshot: Snapshot, trail: AuditTrail, now: float, facts: Facts
) -> SecurityEvent:
    """Verify the SET *text* at *now*, of one of the *transmitters* by `iss`; *trail* names a need for a new key.

    Raises Rejected.
    """
    token = parse_token(text, max_bytes=MAX_EVENT_BYTES, cached=False)
    if normalize_type(token.typ) != _TYPE:
        raise Rejected(Reason.TYP_NOT_ALLOWED, f"typ is not {_TYPE}")
    iss = token.members.get("iss")
    transmitter = transmitters.get(iss) if isinstance(iss, str) else None
    if transmitter is None:
        raise Rejected(Reason.ISSUER_UNKNOWN, "iss is not a transmitter")
    issuer = transmitter.issuer
    trail.issuer = issuer.name
    check_algorithm(token, issuer.algorithms)
    members = verify_signed(token, issuer, snapshot, trail, facts, ignore_step).members
    audience = members.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(name, str) and name in issuer.rules.audiences for name in audiences):
        raise Rejected(Reason.AUDIENCE_MISMATCH, "aud is none of audiences", audiences=issuer.rules.audiences)
    issued, jti, events = members.get("iat"), members.get("jti"), members.get("events")
    if not is_numeric_date(issued):
        raise _malformed("iat is missing or not a time in seconds since the epoch")
    if issued > now + issuer.rules.leeway:
        raise Rejected(Reason.TOKEN_NOT_YET_VALID, f"iat is {issued - now:.0f} s ahead")
    if not isinstance(jti, str) or not jti:
        raise _malformed("jti is missing or not a string")
    if not isinstance(events, dict) or not events:
        raise _malformed("events is missing or empty")
    entries = [
        entry for name, event in events.items() for entry in _read_event(name, event, members, transmitter, issued)
    ]
    return SecurityEvent(jti, tuple(dict.fromkeys(entries)))


def _read_event(
    name: str, event: object, members: Mapping[str, object], transmitter: Transmitter, issued: float
) -> list[RevocationEntry]:
    if not isinstance(event, dict):
        raise _malformed("an event is not an object")
    ends = name in _REVOKING_EVENTS or (name == _CREDENTIAL_CHANGE and event.get("change_type") != _NEW_CREDENTIAL)
    if not ends:
        return []
    happened = next(
        (time for time in (event.get("event_timestamp"), members.get("toe")) if is_numeric_date(time)), issued
    )
    subject = members.get("sub_id", event.get("subject"))  # in the event until SSF 1.0
    entries = list(_read_subject(subject, transmitter, min(happened, issued)))
    if not entries:
        raise _malformed("the subject cannot be matched with tokens")
    return entries


def _read_subject(
    subject: object, transmitter: Transmitter, before: float, depth: int = 0
) -> Iterator[RevocationEntry]:
    """Yield the entries about a subject: an identifier (RFC 9493 section 3.2), or a complex one (SSF 1.0)."""
    if not isinstance(subject, dict) or depth == _MAX_DEPTH:
        return
    match subject.get("format"):
        case "iss_sub":
            yield from _make_entries(transmitter, RevokedBy.SUBJECT, subject.get("sub"), before, subject.get("iss"))
        case "jwt_id":
            yield from _make_entries(transmitter, RevokedBy.TOKEN, subject.get("jti"), None, subject.get("iss"))
        case "opaque":
            yield from _make_entries(transmitter, RevokedBy.SUBJECT, subject.get("id"), before)
        case "email":
            yield from _make_entries(transmitter, RevokedBy.EMAIL, _lower(subject.get("email")), before)
        case "account":
            uri = subject.get("uri")
            yield from _make_entries(transmitter, RevokedBy.SUBJECT, uri, before)
            if isinstance(uri, str):
                yield from _make_entries(transmitter, RevokedBy.EMAIL, uri.removeprefix("acct:").lower(), before)
        case "did" | "uri":
            yield from _make_entries(transmitter, RevokedBy.SUBJECT, subject.get("url", subject.get("uri")), before)
        case "aliases":
            identifiers = subject.get("identifiers")
            for identifier in identifiers if isinstance(identifiers, list) else ():
                yield from _read_subject(identifier, transmitter, before, depth + 1)
        case _ if "user" in subject or "session" in subject:  # complex; its format was not written until SSF 1.0
            yield from _read_complex_subject(subject, transmitter, before, depth)
        case _:
            return


def _read_complex_subject(
    subject: Mapping[str, object], transmitter: Transmitter, before: float, depth: int
) -> Iterator[RevocationEntry]:
    session = subject.get("session")
    sid = session.get("id") if isinstance(session, dict) else None
    entries = list(_make_entries(transmitter, RevokedBy.SESSION, sid, None))
    yield from entries
    if not entries or transmitter.scope is LogoutScope.SUBJECT:
        yield from _read_subject(subject.get("user"), transmitter, before, depth + 1)


def _make_entries(
    transmitter: Transmitter, by: RevokedBy, value: object, before: float | None, iss: object = None
) -> Iterator[RevocationEntry]:
    """Yield an entry for each issuer whose tokens may be meant. Raises Rejected for another than the transmitter's."""
    if iss is not None and iss not in transmitter.issuers:
        raise Rejected(Reason.POLICY_DENIED, "the subject is of an issuer that this transmitter may not speak for")
    if isinstance(value, str) and 0 < len(value) <= MAX_VALUE_CHARS:
        for issuer in transmitter.issuers if iss is None else (str(iss),):
            yield RevocationEntry(by, issuer, value, before)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.CLAIMS_MALFORMED, detail)
