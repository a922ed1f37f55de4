"""Token exchange (RFC 8693): an issuer issues a token for the upstream in exchange for the caller's.

Rules of this file:
1. A token is sent to a server only if its issuer is one of those whose tokens are for that server.
2. A need contains a digest of the token, of what is requested, and of the configured server and client: a cached answer
   is never used for another of these.
3. A server that refuses the caller's token denies the request; only a server that cannot answer is worth another try.
4. The expiry of an exchanged token is checked in each decision. One that is used shortly before it expires is renewed
   in the background, so that no caller waits for the next one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final

from authz.core.caller import Caller
from authz.core.minting import MIN_REMAINING_SECONDS, ScopeClaim, scopes_for, wanted_scopes
from authz.core.needs import Facts, Need
from authz.core.reasons import Reason, Rejected

EXCHANGED: Final = "exchanged token"  # the kind of a need for a token that an issuer issues for the caller's


class TokenType(StrEnum):
    """The type of token that is asked for (RFC 8693 section 3)."""

    ACCESS_TOKEN = "access_token"
    JWT = "jwt"

    @property
    def urn(self) -> str:
        """Its identifier."""
        return f"urn:ietf:params:oauth:token-type:{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """How tokens are exchanged at the issuer with the configured name *issuer*.

    *source* is a digest of the endpoint, the client and the type of token. *subjects* are the names of the issuers
    whose tokens are sent there.
    """

    issuer: str
    source: str
    subjects: frozenset[str]
    audiences: tuple[str, ...]
    scope: ScopeClaim = ScopeClaim.REQUIRED
    shadowed: bool = False


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A token for the upstream. It *expires*, if that is known, and is renewed from *renew* on; both in Unix time."""

    text: str = field(repr=False)
    expires: float | None
    renew: float | None = None


@dataclass(frozen=True, slots=True)
class ExchangeRefused:
    """The server issues no token: *why* is its error. *invalid* means that it rejects the caller's token."""

    why: str
    invalid: bool


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """What is requested: a token for *audiences* with *scope*, in exchange for the token *subject*."""

    subject: str = field(repr=False)
    audiences: tuple[str, ...]
    scope: str


def exchange(rules: Exchange, caller: Caller, now: float, facts: Facts) -> tuple[str | None, tuple[Need, ...]]:
    """Return the token for the upstream in place of the caller's, and the needs for a newer one.

    Without a token, the needs delay the decision.

    Raises Rejected: POLICY_DENIED, TOKEN_INACTIVE, UPSTREAM_TOKEN_REFUSED.
    """
    if caller.issuer.name not in rules.subjects:
        text = f"tokens of {caller.issuer.name} are not exchanged: see identity.token.exchange.subjects"
        raise Rejected(Reason.POLICY_DENIED, text)
    need = _make_need(rules, caller)
    match facts.get(need):
        case Exchanged(text, expires, renew) if expires is None or now + MIN_REMAINING_SECONDS < expires:
            return text, (replace(need, renews=True),) if renew is not None and now >= renew else ()
        case ExchangeRefused(why, invalid=True):
            raise Rejected(Reason.TOKEN_INACTIVE, f"the issuer exchanges no such token: {why}")
        case ExchangeRefused(why):
            raise Rejected(Reason.UPSTREAM_TOKEN_REFUSED, f"the issuer gives no token for the upstream: {why}")
        case _:
            return None, (need,)


def read_request(payload: str) -> ExchangeRequest:
    """Read the payload of a need for an exchanged token."""
    members: Mapping[str, object] = json.loads(payload)
    audiences = members["audiences"]
    names = tuple(map(str, audiences)) if isinstance(audiences, list) else ()
    return ExchangeRequest(str(members["subject"]), names, str(members["scope"]))


def _make_need(rules: Exchange, caller: Caller) -> Need:
    audiences = caller.rule.upstream_audiences or rules.audiences
    scope = scopes_for(rules.scope, caller.claims, wanted_scopes(caller.rule))
    digest = sha256(json.dumps([rules.source, audiences, scope, caller.issuer.name]).encode())
    digest.update(b"\0" + caller.token.encode())
    payload = json.dumps({"subject": caller.token, "audiences": audiences, "scope": scope})
    return Need(EXCHANGED, rules.issuer, digest.hexdigest(), Reason.UPSTREAM_TOKEN_UNAVAILABLE, payload)
