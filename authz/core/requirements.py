"""What a rule requires of an authenticated caller, and the check of it.

Rules of this file:
1. All parts must hold. The configuration rejects empty requirements.
2. Order of denials: step-up, scopes, issuer, claims, condition, audience. What must be looked up elsewhere is checked
   after them: risk.py, pdp.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from authz.core.claims import ClaimPath, Claims, check_unit
from authz.core.issuer import Issuer
from authz.core.mismatch import describe, explain_claim, explain_scopes
from authz.core.pdp import ExternalDecision
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request

Scalar = str | int | float | bool
Params = dict[str, str]


class NoResultError(ValueError):
    """Raised by a condition that has no result; the message contains no text from the request."""


class Condition(Protocol):
    """A compiled expression over the request and its claims."""

    def holds(self, request: Request, params: Params, claims: Claims) -> bool:
        """Evaluate the expression. Any exception is a denial; the message of a NoResultError becomes its detail."""


@dataclass(frozen=True, slots=True)
class ClaimRequirement:
    """Values that the claim *name*, by default at *path*, must have: one of them, or *every* one."""

    name: str
    path: ClaimPath
    values: tuple[Scalar, ...]
    every: bool = False

    def is_met(self, claims: Claims) -> bool:
        """Compare values and types: `1`, `"1"` and `true` differ. In a list claim, any element may match."""
        claim = claims.find(self.name, self.path)
        held = [json_typed(item) for item in (claim if isinstance(claim, list) else [claim])]
        wanted = [json_typed(value) for value in self.values]
        return bool(wanted) and (all if self.every else any)(value in held for value in wanted)


def json_typed(value: object) -> tuple[str, object]:
    """Return a value with its JSON type, because in Python True == 1 == 1.0."""
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int | float):
        return "number", value
    return ("string", value) if isinstance(value, str) else ("other", None)


class RiskCondition(Protocol):
    """A compiled expression over the request, its claims and the values of the risk."""

    def holds(self, request: Request, params: Params, claims: Claims, risk: Mapping[str, object], /) -> bool:
        """Evaluate the expression, as `Condition` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRequirement:
    """What a rule requires of the risk: upper bounds of failures and, with *known_network*, no new network.

    The engine's score is at most *max_score*, and its level one of *levels*. If these are not met, the authentication
    in *step_up* is required; without *step_up* the request is denied. A *condition* that reads the risk is evaluated
    here. *asks_engine* means that the rule reads the engine's assessment.
    """

    max_failures_1m: int | None = None
    max_failures_1h: int | None = None
    max_subject_failures_1m: int | None = None
    max_subject_failures_1h: int | None = None
    known_network: bool = False
    max_score: float | None = None
    levels: tuple[str, ...] = ()
    asks_engine: bool = False
    step_up: Requirements | None = None
    condition: RiskCondition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a rule requires of an authenticated caller; all parts must hold. *max_age* is in seconds since `auth_time`.

    *bound* requires a token that is bound to its sender; `check_binding` has verified the binding.
    *condition_reads* are claims that the *condition* reads and whose type is checked first: `sub` must be a string.
    *risk* is checked after all of these; a *condition* that reads the risk is part of it. *external* is last: a policy
    decision point must allow the request.
    """

    issuers: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()
    scopes: tuple[str, ...] = ()
    any_scope: tuple[str, ...] = ()
    claims: tuple[ClaimRequirement, ...] = ()
    acr: tuple[str, ...] = ()
    amr: tuple[str, ...] = ()
    max_age: float | None = None
    bound: bool = False
    condition: Condition | None = None
    condition_reads: tuple[ClaimPath, ...] = ()
    external: ExternalDecision | None = None
    risk: RiskRequirement | None = None


def require(wanted: Requirements, claims: Claims, issuer: Issuer, request: Request, params: Params, now: float) -> None:
    """Reject *claims* of *issuer* that do not meet *wanted* at *now*, except for the risk.

    Raises Rejected: TOKEN_BOUND, STEP_UP_REQUIRED, INSUFFICIENT_SCOPE, POLICY_DENIED, AUDIENCE_MISMATCH.
    """
    if wanted.bound and "cnf" not in claims.members:
        raise Rejected(Reason.TOKEN_BOUND, "the rule requires a token that is bound to a key or a certificate")
    require_step_up(wanted, claims, issuer.rules.leeway, now)
    granted = claims.scopes
    missing = tuple(scope for scope in wanted.scopes if scope not in granted)
    alternatives = wanted.any_scope if granted.isdisjoint(wanted.any_scope) else ()
    if missing or alternatives:
        raise Rejected(
            Reason.INSUFFICIENT_SCOPE,
            f"scope lacks {' '.join(missing) or 'one of ' + ' '.join(alternatives)}{explain_scopes(claims)}",
            scopes=(wanted.scopes if missing else ()) + alternatives,
        )
    if wanted.issuers and issuer.name not in wanted.issuers:
        raise Rejected(Reason.POLICY_DENIED, f"issuer {issuer.name} is not one of the rule's issuers")
    for requirement in wanted.claims:
        claims.check_subject(claims.locate(requirement.name, requirement.path))
        if not requirement.is_met(claims):
            why = explain_claim(claims, requirement.name, requirement.path, requirement.values, every=requirement.every)
            raise Rejected(Reason.POLICY_DENIED, why)
    for path in wanted.condition_reads:
        claims.check_subject(path)
    if wanted.condition is not None:
        check_condition(partial(wanted.condition.holds, request, params, claims))
    if wanted.audiences and wanted.audiences.isdisjoint(claims.audience):
        detail = "the audience contains none of the rule's audiences"
        raise Rejected(Reason.AUDIENCE_MISMATCH, detail, audiences=wanted.audiences)


def require_step_up(wanted: Requirements, claims: Claims, leeway: float, now: float) -> None:
    """Check how and when the user was authenticated (RFC 9470). Raises Rejected(STEP_UP_REQUIRED)."""
    acr, amr = claims.members.get("acr"), claims.members.get("amr")
    failed = ""
    if wanted.acr and acr not in wanted.acr:
        failed = f"acr is {'not what the rule requires' if isinstance(acr, str) else describe(acr)}"
    if wanted.amr and not (isinstance(amr, list) and any(method in amr for method in wanted.amr)):
        failed = f"amr is {'not what the rule requires' if isinstance(amr, list) else describe(amr)}"
    if wanted.max_age is not None:
        failed = _explain_age(claims.members.get("auth_time"), wanted.max_age, leeway, now) or failed
    if failed:
        raise Rejected(
            Reason.STEP_UP_REQUIRED,
            failed,
            acr_values=wanted.acr,
            max_age=None if wanted.max_age is None else int(wanted.max_age),
        )


def _explain_age(auth_time: object, max_age: float, leeway: float, now: float) -> str:
    """Explain why `auth_time` does not satisfy *max_age*; return an empty text if it does.

    Raises Rejected(CLAIMS_MALFORMED) for milliseconds: a new login would not help.
    """
    if isinstance(auth_time, bool) or not isinstance(auth_time, int | float):
        return f"auth_time is {describe(auth_time)}"
    check_unit("auth_time", auth_time)
    if auth_time > now + leeway:
        return f"auth_time is {auth_time - now:.0f} s ahead"
    return (
        ""
        if auth_time >= now - leeway - max_age
        else f"auth_time is {now - auth_time:.0f} s ago, at most {max_age:.0f} s"
    )


def check_condition(holds: Callable[[], bool]) -> None:
    """Reject a request for which a condition does not hold. Raises Rejected(POLICY_DENIED)."""
    try:
        held = holds()
    except Exception as error:  # every failure of an expression is a denial
        why = str(error) if isinstance(error, NoResultError) else type(error).__name__
        raise Rejected(Reason.POLICY_DENIED, f"the rule's condition failed: {why}") from error
    if held is not True:
        raise Rejected(Reason.POLICY_DENIED, "the rule's condition does not hold")
