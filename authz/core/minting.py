"""The token that the sidecar mints for the upstream: its claims, and the need for its signature.

Rules of this file:
1. The claims are a function of the caller's claims, the request, the rule and the configuration. The time, `txn` and
   the signature are added by the lane that answers the need.
2. It never outlives the caller's token: none is minted for a token that is accepted only by leeway.
3. A minted token is reused only for the same caller's token (if that is opaque: the same introspection response), rule,
   signing key and configuration, within half of its lifetime. A need contains a digest of all of these. If it is not
   reused, as that of a transaction, each request has its own: `txn` is unique.
4. If a new token is not available in time, the previous one is used until it expires.
5. `scope` never has a scope that the caller was not granted; by default it has those of them that the rule requires.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
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
from authz.core.signing_request import write_json, write_signing_request, write_signing_terms, write_string

MINTED: Final = "minted token"  # kind of a need for a token that the sidecar signs
SIGNING: Final = "signing"  # the name of its source, in metrics
MAX_CLAIMS_BYTES: Final = 4096  # of the claims of a minted token, as JSON; with the largest signature 10 KB are sent
TRANSACTION_TYPE: Final = "txntoken+jwt"  # draft-ietf-oauth-transaction-tokens-10, JWT Header
MIN_REMAINING_SECONDS: Final = 2.0  # of a token that is reused: it could expire before the upstream checks it
_MAX_PLANS: Final = 1024  # one for each pair of a rule and an issuer


class TokenFormat(StrEnum):
    """The kind of token: a JWT (RFC 7519), or a transaction token (draft-ietf-oauth-transaction-tokens-10)."""

    JWT = "jwt"
    TRANSACTION = "transaction-token"


class ScopeClaim(StrEnum):
    """What `scope` has: the scopes that the rule requires, all that the caller was granted, or none."""

    REQUIRED = "required"
    GRANTED = "granted"
    NONE = "none"


class RequestField(StrEnum):
    """A property of the request that a claim may contain."""

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
    """The current signing key, by its id and its algorithm."""

    kid: str
    algorithm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """How tokens for the upstream are minted, and under which *key*; None if there is none at the moment.

    *header* is the one that they are sent in, *lifetime* their longest life in seconds. *digest* identifies the
    configuration. *reused* tokens are sent with several requests. *workload* is ours (`req_wl` of transaction tokens).
    *reads_request* means that a claim depends on the request, not only on its rule. *signing_terms* are what
    `write_signing_terms` writes. A token is used for one *period*, in seconds; *plans* is a cache, by the names of rule
    and issuer.
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
    period: float = field(default=0.0, init=False)
    plans: dict[tuple[str, str], _Plan] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive what is the same for all tokens."""
        object.__setattr__(self, "period", self.lifetime / 2.0)
        object.__setattr__(self, "plans", {})
        fields = [claim.value for claim in self.claims if isinstance(claim.value, RequestField)]
        object.__setattr__(self, "reads_request", any(value is not RequestField.RULE for value in fields))
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


@record
class _Plan:
    """What the tokens for callers of one *issuer* under one *rule* have in common.

    The identifiers of their needs begin with *prefix*, their claims with *head*; *scopes* are the `wanted_scopes`.
    """

    rule: Rule
    issuer: Issuer
    prefix: str
    head: str
    scopes: tuple[str, ...]


def mint(minting: Minting, caller: Caller, now: float, facts: Facts) -> tuple[Minted | None, tuple[Need, ...]]:
    """Return the token for *caller*, and the needs for a newer one; without a token, these delay the decision.

    Raises Rejected: CLAIMS_MALFORMED, TOKEN_EXPIRED, HEADER_UNSAFE, UPSTREAM_TOKEN_UNAVAILABLE.
    """
    key = minting.key
    if key is None:
        raise Rejected(Reason.UPSTREAM_TOKEN_UNAVAILABLE, "no key to sign the token for the upstream with")
    not_after = _caller_expiry(caller.claims, now)
    if not caller.is_new:
        need = _need(minting, key, caller, now)
        if isinstance(minted := facts.get(need), Minted):
            return minted, ()
    # For a token never seen before, no minted one is cached, and its claims may not come again.
    plan, period = _find_plan(minting, key, caller), _period(minting, _offset(minting, caller.claims), now)
    request = write_signing_request(minting.signing_terms, _write_claims(minting, plan, caller), not_after)
    identifier = _identify(minting, plan, caller, period)
    unanswered, single_use = Reason.UPSTREAM_TOKEN_UNAVAILABLE, not minting.reused
    signing = Need(MINTED, SIGNING, identifier, unanswered, request, single_use=single_use)
    if isinstance(signed := facts.get(signing), Minted):  # a key in this process signs at once
        return signed, ()
    if minting.reused:
        previous = facts.get(replace(signing, identifier=_identify(minting, plan, caller, period - 1), payload=""))
        if isinstance(previous, Minted) and now + MIN_REMAINING_SECONDS < previous.expires:
            return previous, (signing,)
    return None, (signing,)


def _caller_expiry(claims: Claims, now: float) -> int | None:
    """Return the `exp` of the caller's token, in whole seconds.

    Raises Rejected(TOKEN_EXPIRED) in its leeway (rule 2).
    """
    end = claims.members.get("exp")
    if not isinstance(end, _NUMBER):
        return None
    if end < now + 1.0:
        raise Rejected(Reason.TOKEN_EXPIRED, "accepted by leeway only: no token for the upstream can outlive it")
    return int(end)


_NUMBER: Final = (int, float)  # `int | float` would be evaluated on each call, which takes longer than the check


@record
class _CachedNeed:
    """The *need* of a period, and what else it depends on besides the claims that it is cached with."""

    minting: Minting
    rule: Rule
    issuer: Issuer
    offset: int
    period: int
    need: Need


def _need(minting: Minting, key: SigningKey, caller: Caller, now: float) -> Need:
    """Return the need for the token of the current period, without its payload.

    A cached token of a caller has the same claims object each time, so the need is cached with the claims.
    """
    claims, cached = caller.claims, caller.claims.minting_need
    if isinstance(cached, _CachedNeed) and cached.minting is minting:
        period = _period(minting, cached.offset, now)
        if cached.period == period and cached.rule is caller.rule and cached.issuer is caller.issuer:
            return cached.need
    offset = _offset(minting, claims)
    period = _period(minting, offset, now)
    identifier = _identify(minting, _find_plan(minting, key, caller), caller, period)
    need = Need(MINTED, SIGNING, identifier, Reason.UPSTREAM_TOKEN_UNAVAILABLE)
    if minting.reused and not minting.reads_request:
        object.__setattr__(
            claims, "minting_need", _CachedNeed(minting, caller.rule, caller.issuer, offset, period, need)
        )
    return need


def _offset(minting: Minting, claims: Claims) -> int:
    """Return by how many seconds the periods of a caller are shifted, so that not all tokens are renewed at once."""
    return crc32(claims.payload) % (int(minting.period) or 1)


def _period(minting: Minting, offset: int, now: float) -> int:
    return int((now + offset) / minting.period)


def _identify(minting: Minting, plan: _Plan, caller: Caller, period: int) -> str:
    """Return a digest of everything that decides the claims of the token of one period."""
    claims, target = caller.claims, caller.target
    digest = claims.token_digest or sha256(claims.payload).digest()
    identifier = f"{plan.prefix}{period}.{digest.hex()}"
    if not minting.reads_request:
        return identifier
    return f"{identifier}.{_digest(target.method, target.host, caller.request.source_address, target.path.text)}"


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()  # only the last part can have a NUL, so it is unambiguous


def _find_plan(minting: Minting, key: SigningKey, caller: Caller) -> _Plan:
    """Return the plan for tokens of *caller*, made once for a rule and an issuer of a snapshot."""
    rule, issuer, plans = caller.rule, caller.issuer, minting.plans
    plan = plans.get((rule.name, issuer.name))
    if plan is None or plan.rule is not rule or plan.issuer is not issuer:
        digest = _digest(minting.digest, key.kid, rule.name, issuer.name, issuer.rules.issuer)
        plan = _Plan(rule, issuer, f"{digest}.", _write_head(minting, rule), wanted_scopes(rule))
        if len(plans) >= _MAX_PLANS:
            plans.clear()
        plans[rule.name, issuer.name] = plan
    return plan


def _write_head(minting: Minting, rule: Rule) -> str:
    """Return the claims that do not depend on the caller, as a JSON object without its end."""
    audiences = rule.upstream_audiences or minting.audiences
    members: dict[str, object] = {} if minting.issuer is None else {"iss": minting.issuer}
    members["aud"] = audiences[0] if len(audiences) == 1 else audiences
    if minting.workload:
        members["req_wl"] = minting.workload
    return write_json(members)[:-1]


def _write_claims(minting: Minting, plan: _Plan, caller: Caller) -> str:
    """Return the claims of the token for *caller*, as a JSON object without times and `txn`.

    Raises Rejected: CLAIMS_MALFORMED if `sub` is not a string, or is absent although the format requires it;
    HEADER_UNSAFE.
    """
    claims, members = caller.claims, caller.claims.members
    text = plan.head
    subject = members.get("sub")
    if subject is not None:
        if not isinstance(subject, str):
            raise Rejected(Reason.CLAIMS_MALFORMED, "sub is not a string")
        text = f'{text},"sub":{write_string(subject)}'
    scopes = scopes_for(minting.scope, claims, plan.scopes)
    if not scopes and minting.format is TokenFormat.TRANSACTION:  # `scope` is required: it names the purpose
        scopes = plan.rule.name
    if scopes:
        text = f'{text},"scope":{write_string(scopes)}'
    if isinstance(actor := members.get("act"), dict):  # RFC 8693 section 4.1
        text = f'{text},"act":{write_json(actor)}'
    text = f"{text}}}"
    if minting.claims:
        text, subject = _add_claims(text, minting, caller)
    if subject is None and minting.format is TokenFormat.TRANSACTION:
        raise Rejected(Reason.CLAIMS_MALFORMED, "sub of the token for the upstream is absent")
    if len(text) > MAX_CLAIMS_BYTES:
        detail = f"{minting.header}: claims of {len(text)} octets, at most {MAX_CLAIMS_BYTES}"
        raise Rejected(Reason.HEADER_UNSAFE, detail)
    return text


def _add_claims(text: str, minting: Minting, caller: Caller) -> tuple[str, object]:
    """Return the claims *text* with the configured ones, and `sub`. Raises Rejected(CLAIMS_MALFORMED)."""
    members: dict[str, object] = json.loads(text)  # a copy: `act` belongs to the caller's claims
    for claim in minting.claims:
        _set_claim(members, claim.path.names, _value(claim.value, caller))
    subject = members.get("sub")
    if not isinstance(subject, str | None):
        raise Rejected(Reason.CLAIMS_MALFORMED, "sub of the token for the upstream is not a string")
    return write_json(members), subject


def wanted_scopes(rule: Rule) -> tuple[str, ...]:
    """Return the scopes that *rule* requires, each once, in a fixed order."""
    return tuple(dict.fromkeys(rule.requirements.scopes + rule.requirements.any_scope))


def scopes_for(scope: ScopeClaim, claims: Claims, wanted: Iterable[str]) -> str:
    """Return the scopes of a token for the upstream, in a fixed order: never more than *claims* grant.

    *wanted* are the `wanted_scopes` of the rule.
    """
    match scope:
        case ScopeClaim.REQUIRED:
            return " ".join(filter(claims.scopes.__contains__, wanted))
        case ScopeClaim.GRANTED:
            return " ".join(sorted(claims.scopes))
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


def _set_claim(members: dict[str, object], names: tuple[str, ...], value: object) -> None:
    """Set *value* at the path *names*; None removes a default, such as `sub`.

    The configuration never uses one name for both a value and an object.
    """
    *parents, last = names
    inner = members
    for name in parents:
        child = inner.setdefault(name, {}) if value is not None else inner.get(name)
        if not isinstance(child, dict):
            return
        inner = child
    if value is None:
        inner.pop(last, None)
    else:
        inner[last] = value
