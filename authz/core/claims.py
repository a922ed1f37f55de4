"""Validate the claims of a signed payload at a given time, by the rules of its issuer.

Rules of this file:
1. Types are strict (RFC 7519 sections 2 and 4.1): a NumericDate is a finite number from 0 to MAX_NUMERIC_DATE, never a
   string or a bool. A `sub` that is not a string is rejected only if something needs it.
2. Order: form, exp, nbf, iat, audience, and later the binding; the first failure is the reason.
3. `exp` is the first instant at which a token is not valid (RFC 7519 section 4.1.4: "on or after").
4. Only `check` and `check_introspection_response` make `Claims`; policy and identity accept nothing else.
5. `iss` names the issuer; without one, it is the trust domain of `sub` (SPIFFE JWT-SVID), if that is an issuer here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final

from authz.core.introspection import IntrospectionResponse
from authz.core.keys import SignedPayload
from authz.core.numeric_date import MAX_NUMERIC_DATE
from authz.core.reasons import Reason, Rejected
from authz.core.record import record
from authz.core.spiffe import SCHEME, claimed_issuer, trust_domain
from authz.core.token import UnverifiedToken

LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_MEDIA_PREFIX: Final = "application/"


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """The path of a claim: the member names to follow from the top of the payload."""

    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> ClaimPath:
        """Read `sub`, `realm_access.roles`, or `["https://example.com/tenant"].id` for names with dots.

        Raises ValueError.
        """
        names, position = [], 0
        while position < len(text):
            match = _PATH_SEGMENT.match(text, position)
            bare = match["bare"] if match else None
            if match is None or bool(match["dot"]) != (position > 0 and bare is not None) or "://" in (bare or ""):
                raise ValueError(f'claim path cannot be read at "{text[position:]}"; write a name with dots as ["a.b"]')
            names.append(json.loads(match["quoted"]) if bare is None else bare)
            position = match.end()
        if not names or "" in names:
            raise ValueError("claim path is empty")
        return cls(tuple(names))

    def __str__(self) -> str:
        """Return the text that `parse` reads as this path."""
        text = ""
        for name in self.names:
            match = _PATH_SEGMENT.fullmatch(name)
            bare = match is not None and match["bare"] == name and "://" not in name
            text += f"{'.' if text and bare else ''}{name if bare else f'[{json.dumps(name, ensure_ascii=False)}]'}"
        return text

    def find(self, members: Mapping[str, object]) -> object:
        """Return the value at this path, or None if it is absent or JSON null."""
        value: object = members
        for name in self.names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value


_PATH_SEGMENT: Final = re.compile(r'(?P<dot>\.?)(?:(?P<bare>[^.\[\]"\s]+)|\[(?P<quoted>"(?:[^"\\]|\\["\\])*")\])')


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """What one issuer's tokens must contain. Durations are in seconds.

    An empty *audiences* denies unless *any_audience* is set. *aliases* are the issuer's own names for claim paths.
    """

    issuer: str
    audiences: frozenset[str]
    audience_claim: str = "aud"
    token_types: frozenset[str] = frozenset({"jwt", "at+jwt"})
    required: tuple[str, ...] = ("exp", "sub")
    leeway: float = 30.0
    max_lifetime: float | None = None
    aliases: Mapping[str, ClaimPath] = field(default_factory=dict)
    any_audience: bool = False
    no_expiry: bool = False


@record
class Claims:
    """Verified claims: signed or returned by their issuer, valid at this time, and for our audience.

    *token_digest* is the digest of the signed token, if it was computed.
    *rendered_identity* is cached here by `Identity`, *minting_need* by `mint`: the last results for these claims.
    """

    members: Mapping[str, object] = field(repr=False)
    payload: bytes = field(repr=False)
    audience: frozenset[str] = field(repr=False)
    aliases: Mapping[str, ClaimPath] = field(repr=False)
    token_digest: bytes | None = field(default=None, repr=False, compare=False)
    rendered_identity: object = field(default=None, init=False, repr=False, compare=False)
    minting_need: object = field(default=None, init=False, repr=False, compare=False)
    _scopes: frozenset[str] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def subject(self) -> str | None:
        """The `sub` claim."""
        sub = self.members.get("sub")
        return sub if isinstance(sub, str) else None

    @property
    def client(self) -> str | None:
        """The client that a token speaks for, if it speaks for no person, as by client credentials; else None.

        Its `sub` is the client then (RFC 9068 section 2.2), as Auth0 and Keycloak write it; Entra says `idtyp: app`.
        """
        members = self.members
        for name in CLIENT_CLAIMS:
            client = members.get(name)
            if isinstance(client, str) and client:
                break
        else:
            return None
        subject = members.get("sub")
        if subject == client or subject == f"{client}@clients" or members.get("idtyp") == "app":  # noqa: PLR1714 - once per request: no set
            return client
        return client if members.get("preferred_username") == f"service-account-{client.lower()}" else None

    @property
    def scopes(self) -> frozenset[str]:
        """The granted scopes: `scope` (RFC 8693 section 4.2, or a list, as some providers write it), else `scp`.

        `scp` counts only if `scope` is absent, null or empty. A `scope` of another type grants nothing.
        """
        if self._scopes is None:
            object.__setattr__(self, "_scopes", self._read_scopes())
        return self._scopes or frozenset()

    def _read_scopes(self) -> frozenset[str]:
        granted = self.members.get("scope")
        if granted is None or granted == [] or (isinstance(granted, str) and not granted.strip(" ")):
            granted = self.members.get("scp")
        if isinstance(granted, str):
            return frozenset(granted.split(" ")) - {""}
        return frozenset(_strings(granted) or ())

    def locate(self, name: str, path: ClaimPath) -> ClaimPath:
        """Return the path of the claim *name* for this issuer: its alias of that name, else *path*."""
        return self.aliases.get(name, path)

    def find(self, name: str, path: ClaimPath) -> object:
        """Return the value of the claim *name*, at its path for this issuer; None if absent."""
        path = self.aliases.get(name, path)
        return self.members.get(path.names[0]) if len(path.names) == 1 else path.find(self.members)

    def check_subject(self, path: ClaimPath) -> None:
        """Reject a `sub` that is not a string (RFC 7519 section 4.1.2) if *path* is `sub`.

        Raises Rejected(CLAIMS_MALFORMED).
        """
        if path.names == _SUB and not isinstance(self.members.get("sub"), str | None):
            raise _malformed("sub is not a string")


_SUB: Final = ("sub",)
CLIENT_CLAIMS: Final = ("client_id", "azp", "cid", "appid")  # RFC 9068, OpenID Connect, Okta, Entra v1


def normalize_type(typ: str | None) -> str:
    """Return `typ` in lower case without `application/` (RFC 7515 section 4.1.9); absent counts as jwt."""
    if typ is None:
        return "jwt"
    lowered = typ.lower()
    bare = lowered.removeprefix(_MEDIA_PREFIX)
    return lowered if "/" in bare else bare


def check_type(token: UnverifiedToken, allowed: frozenset[str]) -> None:
    """Reject a normalized `typ` that is not in *allowed*. Raises Rejected(TYP_NOT_ALLOWED)."""
    if token.typ not in allowed and normalize_type(token.typ) not in allowed:
        raise Rejected(Reason.TYP_NOT_ALLOWED, f"typ is not one of {', '.join(sorted(allowed))}")


def read_issuer(token: UnverifiedToken, configured: Container[str] = ()) -> str:
    """Return the unverified issuer of *token* (rule 5), which selects the keys to verify it with.

    Only one of the *configured* issuers may stand for an absent `iss`. A logout token is rejected here, before its
    `typ` is read: it is never an access token, even with the `typ` of one.

    Raises Rejected(CLAIMS_MALFORMED).
    """
    issuer, events = claimed_issuer(token.members), token.members.get("events")
    if not isinstance(issuer, str) or not issuer or ("iss" not in token.members and issuer not in configured):
        raise _malformed("iss is missing or not a string")
    if isinstance(events, dict) and LOGOUT_EVENT in events:
        raise _malformed("a logout token (OpenID Connect Back-Channel Logout section 2.4)")
    return issuer


def check(signed: SignedPayload, rules: ClaimRules, now: float) -> Claims:
    """Check the claims of *signed* at *now*, seconds since the epoch.

    What does not depend on the time is cached with the token: a token that is used again is parsed once.

    Raises Rejected: CLAIMS_MALFORMED, TOKEN_EXPIRED, TOKEN_NOT_YET_VALID, AUDIENCE_MISMATCH.
    """
    parsed = signed.token.parsed_claims
    if not isinstance(parsed, ParsedClaims) or parsed.rules is not rules:
        parsed = _parse_claims(signed.members, signed.payload, rules, signed.token.known_digest)
        object.__setattr__(signed.token, "parsed_claims", parsed)
    return _check_parsed(parsed, now)


def check_introspection_response(response: IntrospectionResponse, rules: ClaimRules, now: float) -> Claims:
    """Check the claims of an introspection response at *now*, in Unix time, as if the issuer had signed them.

    `iss` is optional in a response (RFC 7662 section 2.2): the issuer itself was asked. Raises Rejected as `check`.
    """
    parsed = response.parsed_claims
    if not isinstance(parsed, ParsedClaims) or parsed.rules is not rules:
        members = response.members if "iss" in response.members else {**response.members, "iss": rules.issuer}
        if members["iss"] != rules.issuer:
            raise Rejected(Reason.ISSUER_UNKNOWN, "iss is not the issuer that was asked")
        parsed = _parse_claims(members, response.payload, rules)
        object.__setattr__(response, "parsed_claims", parsed)
    return _check_parsed(parsed, now)


def check_agreement(response: IntrospectionResponse, claims: Claims) -> None:
    """Reject a JWT if the introspection response is about another token, or binds it to another sender.

    Raises Rejected(TOKEN_INACTIVE).
    """
    for name in ("iss", "sub", "cnf"):
        if name in response.members and response.members[name] != claims.members.get(name):
            raise Rejected(Reason.TOKEN_INACTIVE, f"the issuer answers with another {name} than the token's")


def _parse_claims(
    members: Mapping[str, object], payload: bytes, rules: ClaimRules, token_digest: bytes | None = None
) -> ParsedClaims:
    """Parse the claims, which must be well-formed by the *rules* of their issuer.

    Raises Rejected: CLAIMS_MALFORMED, ISSUER_UNKNOWN.
    """
    _check_form(members, rules)
    times = _read_times(members)
    audience = _read_audience(members, rules.audience_claim)
    _check_lifetime(times, rules)
    return ParsedClaims(rules, times, Claims(members, payload, audience, rules.aliases, token_digest))


def _check_parsed(parsed: ParsedClaims, now: float) -> Claims:
    """Return the claims if they are valid at *now* and for us. Raises Rejected."""
    rules, claims = parsed.rules, parsed._claims  # noqa: SLF001 - same file
    _check_time(parsed.times, rules.leeway, now)
    if not rules.any_audience and rules.audiences.isdisjoint(claims.audience):
        absent = claims.members.get(rules.audience_claim) is None
        problem = "is absent: it must name one of" if absent else "has none of"
        detail = f"{rules.audience_claim} {problem} the issuer's audiences"
        raise Rejected(Reason.AUDIENCE_MISMATCH, detail, audiences=rules.audiences)
    return claims


def _check_form(members: Mapping[str, object], rules: ClaimRules) -> None:
    if claimed_issuer(members) != rules.issuer:
        raise Rejected(Reason.ISSUER_UNKNOWN, "iss is not the issuer of the key that signed")
    if rules.issuer.startswith(SCHEME) and trust_domain(members.get("sub")) != rules.issuer:
        raise _malformed("sub is not a SPIFFE ID of the issuer's trust domain")
    if "jti" in members and not isinstance(members["jti"], str):
        raise _malformed("jti is not a string")
    for name in rules.required:
        required = members.get(name)
        if required in (None, "") and not _exists_nested(members, name):
            raise _malformed(f"{name} is missing")
        if name == "sub" and not isinstance(required, str):
            raise _malformed("sub is not a string")


def _exists_nested(members: Mapping[str, object], name: str) -> bool:
    """Return whether *name* is the path of a nested value: each dot may separate two names, or be part of one.

    `kubernetes.io.pod` is the member `pod` of `kubernetes.io`. The value itself is not checked.
    """
    for dot in _DOT.finditer(name):
        inner, rest = members.get(name[: dot.start()]), name[dot.end() :]
        if isinstance(inner, dict) and (inner.get(rest) not in (None, "") or _exists_nested(inner, rest)):
            return True
    return False


_DOT: Final = re.compile(r"\.")


@record
class _Times:
    """The NumericDates of a token, None where absent."""

    exp: float | None
    nbf: float | None
    iat: float | None


@record
class ParsedClaims:
    """The claims of a payload under the *rules* of its issuer, at any time. They are not yet checked: see `check`."""

    rules: ClaimRules
    times: _Times
    _claims: Claims = field(repr=False)


def _read_times(members: Mapping[str, object]) -> _Times:
    return _Times(_numeric_date(members, "exp"), _numeric_date(members, "nbf"), _numeric_date(members, "iat"))


def _check_lifetime(times: _Times, rules: ClaimRules) -> None:
    """Reject a token without `exp`, with `nbf` after `exp`, or with a lifetime longer than the issuer's limit."""
    if times.exp is None and not rules.no_expiry:
        raise _malformed("exp is missing")
    if times.exp is not None and times.nbf is not None and times.nbf > times.exp:
        raise _malformed("nbf is after exp")
    if rules.max_lifetime is not None:
        if times.iat is None or times.exp is None:
            raise _malformed("a bounded lifetime needs iat and exp")
        if times.exp - times.iat > rules.max_lifetime:
            raise _malformed(f"lifetime of {times.exp - times.iat:.0f} s, at most {rules.max_lifetime:.0f} s")


def _check_time(times: _Times, leeway: float, now: float) -> None:
    if times.exp is not None and now - leeway >= times.exp:
        raise Rejected(Reason.TOKEN_EXPIRED, f"expired {now - times.exp:.0f} s ago, leeway {leeway:.0f} s")
    for name, instant in (("nbf", times.nbf), ("iat", times.iat)):
        if instant is not None and instant > now + leeway:
            raise Rejected(Reason.TOKEN_NOT_YET_VALID, f"{name} is {instant - now:.0f} s ahead")


def _numeric_date(members: Mapping[str, object], name: str) -> float | None:
    date = members.get(name, _ABSENT)
    if date is _ABSENT:
        return None
    if isinstance(date, bool) or not isinstance(date, _NUMBER) or date < 0:
        raise _malformed(f"{name} is not a NumericDate")
    check_unit(name, date)
    return date


_NUMBER: Final = (int, float)  # `int | float` would be evaluated on each call, which takes longer than the check


def check_unit(name: str, date: float) -> None:
    """Reject a NumericDate that is too large for seconds (RFC 7519 section 2): milliseconds, most likely.

    Raises Rejected(CLAIMS_MALFORMED).
    """
    if date > MAX_NUMERIC_DATE:
        raise _malformed(f"{name} is above 10^11: milliseconds? A NumericDate is in seconds")


def _read_audience(members: Mapping[str, object], claim: str) -> frozenset[str]:
    """Return the audience, empty if absent. The form of `aud` is checked even if *claim* is another claim."""
    audience: tuple[str, ...] = ()
    for name in ("aud",) if claim == "aud" else ("aud", claim):
        absent = name not in members or (name != claim and members[name] is None)
        values = () if absent else _strings(members[name])
        if values is None:
            raise _malformed(f"{name} is not a string or a list of strings")
        audience = values
    return frozenset(audience)


def _strings(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.CLAIMS_MALFORMED, detail)


_ABSENT: Final = object()
