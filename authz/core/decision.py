"""The decision about one request, with the information for its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from authz.core.needs import Need, Unanswered
from authz.core.reasons import Reason, Rejected
from authz.core.record import kw_record, record


@dataclass(slots=True)
class AuditTrail:
    """What the pipeline learned, in order; None if that step was not reached.

    *rule* and *issuer* are configured names. The others come from a token: *expires*, *audience* and *subject* only
    from a verified one; *alg*, *kid* and *claimed_issuer* are anybody's text until *signature_cached* (True or False)
    is set. *expires* and *audience* are claims as they stand there, of any type; *expected_audience* is what the latter
    has none of. *needs* are the facts that the decision lacks; *doubts* are what it relied on and may be outdated:
    worth a look, but the decision stands.
    """

    rule: str | None = None
    issuer: str | None = None
    alg: str | None = None
    kid: str | None = None
    claimed_issuer: str | None = None
    signature_cached: bool | None = None
    expires: object = None
    audience: object = None
    expected_audience: frozenset[str] = frozenset()
    subject: str | None = None
    needs: tuple[Need, ...] = ()
    doubts: tuple[Need, ...] = ()


@kw_record
class Allow:
    """Allow the request, with headers overwritten and removed; no name is in both.

    *would_deny* marks a denial that a shadow rule only reports: then *reason* and *detail* are those of the denial.
    *claims* are for Envoy's dynamic metadata, *drop_query* names parameters that the upstream must not see. A
    *document*, in JSON, is served instead of a response of the upstream, which is not called.
    """

    reason: Reason
    trail: AuditTrail
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    drop_query: tuple[str, ...] = ()
    document: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict, repr=False)
    would_deny: bool = False
    detail: str = ""


@record
class Deny:
    """Deny the request. *detail* is for the operator; the next three fields say what would have sufficed.

    *retryable* marks a denial that may change when a fact arrives, which any client's token can ask for.
    """

    reason: Reason
    trail: AuditTrail = field(default_factory=AuditTrail)
    detail: str = ""
    scopes: tuple[str, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    retryable: bool = False


Decision = Allow | Deny

_NONE: Final[Mapping[Need, Unanswered]] = MappingProxyType({})


def deny(rejected: Rejected, trail: AuditTrail) -> Deny:
    """Return the denial for *rejected*. All denials of the pipeline are made here."""
    return Deny(rejected.reason, trail, rejected.detail, rejected.scopes, rejected.acr_values, rejected.max_age)


def as_unanswered(decision: Decision, unanswered: Mapping[Need, Unanswered] = _NONE) -> Decision:
    """Turn a denial that lacks a fact into "try again"; what a shadow lets pass stays as it is.

    *unanswered* says why nobody could be asked for a fact; the others did not come in time.
    """
    needs = decision.trail.needs
    if not needs or isinstance(decision, Allow):
        return decision
    late = ", ".join(_name(need) for need in needs if need not in unanswered)
    said = [f"{_name(need)}: {unanswered[need].why}" for need in needs if need in unanswered]
    detail = "; ".join([decision.detail, *([f"not answered in time: {late}"] if late else []), *said])
    return replace(decision, reason=needs[0].unanswered, detail=detail, retryable=True)


def _name(need: Need) -> str:
    return f"{need.kind} of {need.of}"


def outcome(decision: Decision) -> str:
    """Name the outcome of *decision* in one word: allow, deny or would_deny."""
    if isinstance(decision, Allow):
        return "would_deny" if decision.would_deny else "allow"
    return "deny"
