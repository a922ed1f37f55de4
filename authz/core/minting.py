"""The token that the sidecar mints for the upstream: its claims, and the need for its signature.

Rules of this file:
1. The claims are a function of the caller's claims, the request, the rule and the configuration. The time, `txn` and
   the signature are added by the lane that answers the need.
2. It never outlives the caller's token: a token that is accepted only by leeway gets none.
3. A token is used again only for the same token of the caller (if it is no JWT: for the same answer about it), rule,
   signing key and configuration, within half of its lifetime. A need contains a digest of all of that.
4. If there is no new token in time, the one before serves until it ends.
5. `scope` is what the rule asked for, of what the caller was granted: never more than either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Final, assert_never
from zlib import crc32

from authz.core.caller import Caller
from authz.core.claims import ClaimPath, Claims
from authz.core.issuer import Issuer
from authz.core.needs import Facts, Need
from authz.core.policy import Rule
from authz.core.reasons import Reason, Rejected
from authz.core.record import record
from authz.core.requirements import Scalar
from authz.core.signing_request import write_json, write_signing_request, write_signing_terms

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
    *reads_request*: a claim tells requests of one rule apart. *signing_terms* are what `write_signing_terms` writes.
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
    reads_request: bool = field(default=False, init=False)
    signing_terms: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Derive what is the same for all tokens."""
        fields = [each.value for each in self.claims if isinstance(each.value, RequestField)]
        object.__setattr__(self, "reads_request", any(each is not RequestField.RULE for each in fields))
        if self.key is not None:
            terms = write_signing_terms(
                algorithm=self.key.algorithm,
                token_type=self.type,
                kid=self.key.kid,
                lifetime=self.lifetime,
                reuse_for=self.lifetime if self.reused else 0.0,
            )
            object.__setattr__(self, "signing_terms", terms)

    @property
    def type(self) -> str:
        """The `typ` of tokens."""
        return TRANSACTION_TYPE if self.format is TokenFormat.TRANSACTION else "JWT"


@record
class Minted:
    """A signed token, its `txn`, and its end in seconds since the epoch."""

    text: str = field(repr=False)
    transaction: str
    expires: float


def mint(minting: Minting, caller: Caller, now: float, facts: Facts) -> tuple[Minted | None, tuple[Need, ...]]:
    """Return the token for *caller*, and the needs for a newer one; without a token, these delay the decision.

    Raises Rejected: CLAIMS_MALFORMED, TOKEN_EXPIRED, HEADER_UNSAFE, UPSTREAM_TOKEN_UNAVAILABLE.
    """
    key = minting.key
    if key is None:
        raise Rejected(Reason.UPSTREAM_TOKEN_UNAVAILABLE, "no key to sign the token for the upstream with")
    not_after = _caller_expiry(caller.claims, now)
    if caller.is_new:  # no minted token is cached for it, and its claims may not come again
        asked: str | None = _identify(minting, key, caller, _period(minting, _offset(minting, caller.claims), now))
    else:
        need = _need(minting, key, caller, now)
        if isinstance(known := facts.get(need), Minted):
            return known, ()
        asked = need.asked
    sent = Need(MINTED, SIGNING, asked, Reason.UPSTREAM_TOKEN_UNAVAILABLE, _write_request(minting, caller, not_after))
    if isinstance(signed := facts.get(sent), Minted):  # a key in this process signs at once
        return signed, ()
    if minting.reused:
        period = _period(minting, _offset(minting, caller.claims), now) - 1
        before = facts.get(replace(sent, asked=_identify(minting, key, caller, period), sent=""))
        if isinstance(before, Minted) and now + MIN_REMAINING_SECONDS < before.expires:
            return before, (sent,)
    return None, (sent,)


def _caller_expiry(claims: Claims, now: float) -> int | None:
    """Return the `exp` of the caller's token, in whole seconds.

    Raises Rejected(TOKEN_EXPIRED) in its leeway (rule 2).
    """
    end = claims.members.get("exp")
    if not isinstance(end, int | float):
        return None
    if end < now + 1.0:
        raise Rejected(Reason.TOKEN_EXPIRED, "accepted by leeway only: no token for the upstream can outlive it")
    return int(end)


@record
class _CachedNeed:
    """The *need* of a period, and all that it depends on besides the claims that it is cached with."""

    minting: Minting
    rule: Rule
    issuer: Issuer
    offset: int
    period: int
    need: Need


def _need(minting: Minting, key: SigningKey, caller: Caller, now: float) -> Need:
    """Return the need for the token of now, without what is sent.

    A cached token of a caller has the same claims object: their need is cached with them.
    """
    claims, cached = caller.claims, caller.claims.minting_need
    if isinstance(cached, _CachedNeed) and cached.minting is minting:
        period = _period(minting, cached.offset, now)
        if cached.period == period and cached.rule is caller.rule and cached.issuer is caller.issuer:
            return cached.need
    offset = _offset(minting, claims)
    period = _period(minting, offset, now)
    need = Need(MINTED, SIGNING, _identify(minting, key, caller, period), Reason.UPSTREAM_TOKEN_UNAVAILABLE)
    if minting.reused and not minting.reads_request:
        object.__setattr__(
            claims, "minting_need", _CachedNeed(minting, caller.rule, caller.issuer, offset, period, need)
        )
    return need


def _offset(minting: Minting, claims: Claims) -> int:
    """Return a number of seconds by which a caller's tokens are replaced at other moments than those of others."""
    return crc32(claims.payload) % max(1, int(minting.lifetime / 2.0))


def _period(minting: Minting, offset: int, now: float) -> int:
    return int((now + offset) / (minting.lifetime / 2.0))


def _identify(minting: Minting, key: SigningKey, caller: Caller, period: int) -> str:
    """Return a digest of all that decides what the token of one period says."""
    claims, issuer, target = caller.claims, caller.issuer, caller.target
    configured = _digest_configured(minting.digest, key.kid, caller.rule.name, issuer.name, issuer.rules.issuer)
    digest = claims.token_digest or sha256(claims.payload).digest()
    identifier = f"{configured}.{period}.{digest.hex()}"
    if not minting.reads_request and minting.reused:
        return identifier
    read = (target.method, target.host, target.path.text, caller.request.source_address)
    own = "" if minting.reused else caller.request.headers.get("x-request-id", "")
    return f"{identifier}.{_digest(*(read if minting.reads_request else ()), own)}"


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()  # none has a NUL but the last


_digest_configured: Final = lru_cache(maxsize=1024)(_digest)


def _write_request(minting: Minting, caller: Caller, not_after: int | None) -> str:
    """Write what is to be signed. Raises Rejected."""
    claims = write_claims(minting, caller)
    if len(claims) > MAX_CLAIMS_BYTES:
        detail = f"{minting.header}: claims of {len(claims)} octets, at most {MAX_CLAIMS_BYTES}"
        raise Rejected(Reason.HEADER_UNSAFE, detail)
    return write_signing_request(minting.signing_terms, claims, not_after)


def write_claims(minting: Minting, caller: Caller) -> str:
    """Return the claims of the token for *caller*, as a JSON object without times and `txn`.

    Raises Rejected(CLAIMS_MALFORMED) if `sub` is not a string, or is absent where the format requires it.
    """
    claims, members = caller.claims, caller.claims.members
    written = [] if minting.issuer is None else [_write_member("iss", minting.issuer)]
    subject = members.get("sub")
    if subject is not None:
        claims.check_subject(_SUB)
        written.append(f'"sub":{write_json(subject)}')
    written.append(_write_member("aud", caller.rule.upstream_audiences or minting.audiences))
    if scope := _scope(minting, caller):
        written.append(f'"scope":{write_json(scope)}')
    if isinstance(actor := members.get("act"), dict):  # RFC 8693 section 4.1
        written.append(f'"act":{write_json(actor)}')
    if minting.workload:
        written.append(_write_member("req_wl", minting.workload))
    text = f"{{{','.join(written)}}}"
    if minting.claims:
        text, subject = _add_claims(text, minting, caller)
    if subject is None and minting.format is TokenFormat.TRANSACTION:
        raise Rejected(Reason.CLAIMS_MALFORMED, "sub of the token for the upstream is absent")
    return text


def _add_claims(text: str, minting: Minting, caller: Caller) -> tuple[str, object]:
    """Return the claims *text* with the configured ones, and `sub`. Raises Rejected(CLAIMS_MALFORMED)."""
    members: dict[str, object] = json.loads(text)  # a copy: `act` is of the caller's claims, which do not change
    for each in minting.claims:
        _put(members, each.path.names, _value(each.value, caller))
    subject = members.get("sub")
    if not isinstance(subject, str | None):
        raise Rejected(Reason.CLAIMS_MALFORMED, "sub of the token for the upstream is not a string")
    return write_json(members), subject


@lru_cache(maxsize=1024)
def _write_member(name: str, value: str | tuple[str, ...]) -> str:
    """Return a member whose value is configured; a list of one is that one."""
    return f'"{name}":{write_json(value[0] if isinstance(value, tuple) and len(value) == 1 else value)}'


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
            return " ".join([each for each in dict.fromkeys(wanted.scopes + wanted.any_scope) if each in granted])
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
