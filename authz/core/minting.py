"""The token that the sidecar mints for the upstream: its claims, and the need for its signature.

Rules of this file:
1. The claims are a function of the caller's claims, the request, the rule and the configuration. The time, `txn` and
   the signature are added by the lane that answers the need.
2. It never outlives the caller's token: a token that is accepted only by leeway gets none.
3. A token is used again only for the same caller's claims, rule, signing key and configuration, within half of its
   lifetime. A need contains a digest of all of that.
4. If there is no new token in time, the one before serves until it ends.
5. `scope` is what the rule asked for, of what the caller was granted: never more than either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Final, assert_never
from zlib import crc32

from authz.core.claims import ClaimPath, Claims
from authz.core.issuer import Issuer
from authz.core.needs import Facts, Need
from authz.core.policy import Rule, Scalar
from authz.core.reasons import Reason, Rejected
from authz.core.record import record
from authz.core.request import Request, Target

MINTED: Final = "minted token"  # kind of a need for a token that the sidecar signs
SIGNING: Final = "signing"  # the name of its source, in metrics
MAX_CLAIMS_BYTES: Final = 4096  # of the claims of a minted token, as JSON; with the largest signature 10 KB are sent
TRANSACTION_TYPE: Final = "txntoken+jwt"  # draft-ietf-oauth-transaction-tokens-10, JWT Header
MIN_REMAINING_SECONDS: Final = 2.0  # of a token that is sent again: one that ends sooner could end on its way


class TokenFormat(StrEnum):
    """The kind of token: a JWT (RFC 7519), or a transaction token (draft-ietf-oauth-transaction-tokens-10)."""

    JWT = "jwt"
    TRANSACTION = "transaction-token"


class ScopeClaim(StrEnum):
    """What `scope` says: what the rule asked for, all that the caller was granted, or nothing."""

    REQUIRED = "required"
    GRANTED = "granted"
    NONE = "none"


class RequestField(StrEnum):
    """What a claim may say of the request."""

    RULE = "rule"
    METHOD = "method"
    HOST = "host"
    PATH = "path"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class CopiedValue:
    """The value of the caller's claim *name* at *path*."""

    name: str
    path: ClaimPath


@dataclass(frozen=True, slots=True)
class FixedValue:
    """A value of the configuration."""

    value: Scalar


MintedValue = CopiedValue | FixedValue | RequestField


@dataclass(frozen=True, slots=True)
class MintedClaim:
    """A claim of the minted token, at *path*: a part of an object if it has several names."""

    path: ClaimPath
    value: MintedValue


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that signs at present, by its id and its algorithm."""

    kid: str
    algorithm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """How tokens for the upstream are minted, and under which *key*; None if there is none at the moment.

    *header* is the one that they are sent in, *lifetime* their longest life in seconds. *digest* identifies the
    configuration. *reused* tokens serve several requests. *workload* is ours (`req_wl` of transaction tokens).
    """

    header: str
    format: TokenFormat
    lifetime: float
    digest: str
    audiences: tuple[str, ...]
    issuer: str | None = None
    scope: ScopeClaim = ScopeClaim.REQUIRED
    claims: tuple[MintedClaim, ...] = ()
    workload: str = ""
    shadowed: bool = False
    reused: bool = True
    key: SigningKey | None = None

    @property
    def type(self) -> str:
        """The `typ` of tokens."""
        return TRANSACTION_TYPE if self.format is TokenFormat.TRANSACTION else "JWT"

    @property
    def reads_request(self) -> bool:
        """Whether a claim tells requests of one rule apart."""
        fields = (each.value for each in self.claims if isinstance(each.value, RequestField))
        return any(each is not RequestField.RULE for each in fields)


@dataclass(frozen=True, slots=True)
class Minted:
    """A signed token, its `txn`, and its end in seconds since the epoch."""

    text: str = field(repr=False)
    transaction: str
    expires: float


@record
class Caller:
    """The request that a token is for: what it asks, by which *rule*, and who asks, with which *token*."""

    request: Request
    target: Target
    rule: Rule
    issuer: Issuer
    claims: Claims
    token: str = field(default="", repr=False)


def mint(minting: Minting, caller: Caller, now: float, facts: Facts) -> tuple[Minted | None, tuple[Need, ...]]:
    """Return the token for *caller*, and the needs for a newer one; without a token, these delay the decision.

    Raises Rejected: CLAIMS_MALFORMED, TOKEN_EXPIRED, HEADER_UNSAFE, UPSTREAM_TOKEN_UNAVAILABLE.
    """
    key = minting.key
    if key is None:
        raise Rejected(Reason.UPSTREAM_TOKEN_UNAVAILABLE, "no key to sign the token for the upstream with")
    not_after = _caller_expiry(caller.claims, now)
    window = minting.lifetime / 2.0
    # Each caller's tokens are replaced at other moments, so that not all are at one.
    period = int((now + crc32(caller.claims.payload) % max(1, int(window))) / window)
    need = _need_for_period(minting, key, caller, period)
    if isinstance(known := facts.get(need), Minted):
        return known, ()
    sent = _with_signing_request(need, minting, key, caller, not_after)
    if isinstance(signed := facts.get(sent), Minted):  # a key in this process signs at once
        return signed, ()
    if minting.reused:
        before = facts.get(_need_for_period(minting, key, caller, period - 1))
        if isinstance(before, Minted) and now + MIN_REMAINING_SECONDS < before.expires:
            return before, (sent,)
    return None, (sent,)


def _caller_expiry(claims: Claims, now: float) -> float | None:
    """Return the `exp` of the caller's token. Raises Rejected(TOKEN_EXPIRED) in its leeway (rule 2)."""
    end = claims.members.get("exp")
    if not isinstance(end, int | float):
        return None
    if end < now + 1.0:
        raise Rejected(Reason.TOKEN_EXPIRED, "accepted by leeway only: no token for the upstream can outlive it")
    return float(end)


def _need_for_period(minting: Minting, key: SigningKey, caller: Caller, period: int) -> Need:
    """Return the need for the token of one period, without what is sent."""
    issuer, target = caller.issuer, caller.target
    parts: tuple[str, ...] = minting.digest, key.kid, caller.rule.name, issuer.name, issuer.rules.issuer, str(period)
    if minting.reads_request:
        parts += (target.method, target.host, target.path.text, caller.request.source_address)
    if not minting.reused:
        parts += (caller.request.headers.get("x-request-id", ""),)
    if minting.reads_request or not minting.reused:
        return _make_need(parts, caller.claims.payload)
    return _make_need_cached(parts, caller.claims.payload)


def _make_need(parts: tuple[str, ...], payload: bytes) -> Need:
    # No part has a NUL but the last, and the payload, which is JSON, begins with its first brace.
    digest = sha256("\0".join(parts).encode())
    digest.update(payload)
    return Need(MINTED, SIGNING, digest.hexdigest(), Reason.UPSTREAM_TOKEN_UNAVAILABLE)


# Of a caller who comes again: of a token that is kept, the payload is the same object, whose hash is known.
_make_need_cached: Final = lru_cache(maxsize=1024)(_make_need)


def _with_signing_request(
    need: Need, minting: Minting, key: SigningKey, caller: Caller, not_after: float | None
) -> Need:
    """Return *need* with what is to be signed, as `read_signing_request` reads it. Raises Rejected."""
    claims = _write_json(write_claims(minting, caller))
    if len(claims) > MAX_CLAIMS_BYTES:
        detail = f"{minting.header}: claims of {len(claims)} octets, at most {MAX_CLAIMS_BYTES}"
        raise Rejected(Reason.HEADER_UNSAFE, detail)
    jose_header = _write_jose_header(key.algorithm, minting.type, key.kid)
    reuse_for = minting.lifetime if minting.reused else 0.0
    end = "" if not_after is None else str(not_after)
    sent = "\n".join((jose_header, str(minting.lifetime), end, str(reuse_for), claims))  # JSON has no line break here
    return Need(need.kind, need.of, need.asked, need.unanswered, sent)


@lru_cache(maxsize=16)
def _write_jose_header(algorithm: str, token_type: str, kid: str) -> str:
    return _write_json({"alg": algorithm, "typ": token_type, "kid": kid})


_write_json: Final = json.JSONEncoder(separators=(",", ":")).encode


@record
class SigningRequest:
    """What is to be signed: a JOSE header and claims as JSON texts; times and `txn` are to be added to the latter.

    The token lives *lifetime* seconds and ends at *not_after* at the latest, in seconds since the epoch. It may be sent
    again for *reuse_for* seconds.
    """

    header_json: str
    claims_json: str = field(repr=False)
    lifetime: float
    not_after: float | None
    reuse_for: float

    @property
    def jose_header(self) -> Mapping[str, object]:
        """The JOSE header."""
        return _read_jose_header(self.header_json)

    @property
    def claims(self) -> dict[str, object]:
        """The claims."""
        members: dict[str, object] = json.loads(self.claims_json)
        return members


@lru_cache(maxsize=16)
def _read_jose_header(text: str) -> Mapping[str, object]:
    members: dict[str, object] = json.loads(text)
    return members


def read_signing_request(sent: str) -> SigningRequest:
    """Read what a need for a minted token sends."""
    jose_header, lifetime, end, reuse_for, claims = sent.split("\n")
    not_after = float(end) if end else None
    return SigningRequest(jose_header, claims, float(lifetime), not_after, float(reuse_for))


def write_claims(minting: Minting, caller: Caller) -> dict[str, object]:
    """Return the claims of the token for *caller*, without times and `txn`.

    Raises Rejected(CLAIMS_MALFORMED) if `sub` is not a string, or is absent where the format requires it.
    """
    claims = caller.claims
    written: dict[str, object] = {} if minting.issuer is None else {"iss": minting.issuer}
    claims.check_subject(_SUB)
    if claims.subject is not None:
        written["sub"] = claims.subject
    audiences = caller.rule.upstream_audiences or minting.audiences
    written["aud"] = audiences[0] if len(audiences) == 1 else list(audiences)
    if scope := _scope(minting, caller):
        written["scope"] = scope
    if isinstance(actor := claims.members.get("act"), dict):  # RFC 8693 section 4.1
        written["act"] = actor
    if minting.workload:
        written["req_wl"] = minting.workload
    for each in minting.claims:
        _put(written, each.path.names, _value(each.value, caller))
    if not isinstance(written.get("sub"), str) and ("sub" in written or minting.format is TokenFormat.TRANSACTION):
        raise Rejected(Reason.CLAIMS_MALFORMED, "sub of the token for the upstream is absent, or not a string")
    return written


_SUB: Final = ClaimPath(("sub",))


def _scope(minting: Minting, caller: Caller) -> str:
    """Return the scopes in a fixed order. A transaction token must have some: else the rule's name says its purpose."""
    scopes = scopes_for(minting.scope, caller)
    return caller.rule.name if not scopes and minting.format is TokenFormat.TRANSACTION else scopes


def scopes_for(scope: ScopeClaim, caller: Caller) -> str:
    """Return the scopes of a token for the upstream, in a fixed order: never more than the caller was granted."""
    granted, wanted = caller.claims.scopes, caller.rule.requirements
    match scope:
        case ScopeClaim.REQUIRED:
            return " ".join(each for each in dict.fromkeys((*wanted.scopes, *wanted.any_scope)) if each in granted)
        case ScopeClaim.GRANTED:
            return " ".join(sorted(granted))
        case ScopeClaim.NONE:
            return ""
        case _:
            assert_never(scope)


def _value(value: MintedValue, caller: Caller) -> object:
    match value:
        case CopiedValue():
            return caller.claims.find(value.name, value.path)
        case FixedValue():
            return value.value
        case RequestField.RULE:
            return caller.rule.name
        case RequestField.METHOD:
            return caller.target.method
        case RequestField.HOST:
            return caller.target.host
        case RequestField.PATH:
            return caller.target.path.text
        case RequestField.ADDRESS:
            return caller.request.source_address or None
        case _:
            assert_never(value)


def _put(members: dict[str, object], names: tuple[str, ...], value: object) -> None:
    """Set *value* at the path *names*; None removes what was there by default, such as `sub`.

    The configuration has no name that is both a value and an object.
    """
    *above, last = names
    inner = members
    for name in above:
        below = inner.setdefault(name, {}) if value is not None else inner.get(name)
        if not isinstance(below, dict):
            return
        inner = below
    if value is None:
        inner.pop(last, None)
    else:
        inner[last] = value
