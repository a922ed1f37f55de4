"""The decision about one request, and the audit trail that explains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from authz.core.needs import Need, Unanswered
from authz.core.reasons import Reason, Rejected
from authz.core.record import kw_record, record
from authz.core.token import ValidToken

BEARER: Final = ("Bearer",)


@dataclass(slots=True)
class AuditTrail:
    """What the pipeline found, in the order of its steps; None if a step was not reached.

    *rule* and *issuer* are configured names; the other fields come from the token. *alg*, *kid* and *claimed_issuer*
    are unverified until *signature_cached* (True or False) is set; *expires*, *audience*, *subject* and *client* (of
    a token that speaks for no person) are set only after verification, *expires* and *audience* as in the token, of any
    JSON type. *expected_audience* are the accepted audiences if *audience* has none of them. *thumbprint* is of the key
    that the sender proved to hold. *transaction* is the `txn` of the token for the upstream. *pdp* is the configured
    name of the policy decision point that was asked. *schemes* are those of a challenge. *needs* are the facts that the
    decision lacks. *rechecks* are facts that it used and that may be outdated; they do not delay the decision.
    *network* is the client's, if networks are counted; *throttled* says that the throttle would deny the request;
    *valid_token* is a token that was found authentic and valid. *reads_risk* says that the rule reads the history of
    the client. *checkpoint* is for `decide_again`, while the decision lacks facts.
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
    client: str | None = None
    thumbprint: str | None = None
    pdp: str | None = None
    transaction: str | None = None
    schemes: tuple[str, ...] = BEARER
    needs: tuple[Need, ...] = ()
    rechecks: tuple[Need, ...] = ()
    network: str | None = None
    throttled: bool = False
    valid_token: ValidToken | None = None
    reads_risk: bool = False
    checkpoint: object = field(default=None, compare=False, repr=False)

    def without_last_steps(
        self, rechecks: tuple[Need, ...], valid_token: ValidToken | None, thumbprint: str | None
    ) -> AuditTrail:
        """Return a trail without what the steps after `require` found; before them it held these three.

        `dataclasses.replace` takes ten times as long, and every resumed decision needs one.
        """
        return AuditTrail(
            rule=self.rule,
            issuer=self.issuer,
            alg=self.alg,
            kid=self.kid,
            claimed_issuer=self.claimed_issuer,
            signature_cached=self.signature_cached,
            expires=self.expires,
            audience=self.audience,
            subject=self.subject,
            client=self.client,
            thumbprint=thumbprint,
            schemes=self.schemes,
            rechecks=rechecks,
            network=self.network,
            throttled=self.throttled,
            valid_token=valid_token,
        )


@kw_record
class Allow:
    """Allow the request, with headers overwritten and removed; no name is in both.

    With *would_deny* a shadow rule reports a denial without enforcing it, or the configuration allows the request
    although a fact is missing: *reason* and *detail* are the denial's.
    *claims* go into Envoy's dynamic metadata, *drop_query* names query parameters to remove. A *document*, in JSON, is
    sent as the response, and the upstream is not called; caches may keep it for *max_age* seconds, and *etag*
    identifies it.
    """

    reason: Reason
    trail: AuditTrail
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    drop_query: tuple[str, ...] = ()
    document: str | None = None
    etag: str | None = None
    max_age: int = 300
    claims: Mapping[str, object] = field(default_factory=dict, repr=False)
    would_deny: bool = False
    detail: str = ""


@record
class Deny:
    """Deny the request. *detail* is for the operator; the next three fields are for the challenge.

    *retryable* means that the decision lacked a fact, and that a repeated request may be allowed. Any client can cause
    such a denial. *nonce* is for the client's next proof (RFC 9449 section 9). *message* is for the client's user.
    *retry_after* is in seconds.
    """

    reason: Reason
    trail: AuditTrail = field(default_factory=AuditTrail)
    detail: str = ""
    scopes: tuple[str, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    retryable: bool = False
    nonce: str | None = None
    message: str = ""
    retry_after: int | None = None


Decision = Allow | Deny

_NO_ANSWERS: Final[Mapping[Need, Unanswered]] = MappingProxyType({})


def deny(rejected: Rejected, trail: AuditTrail) -> Deny:
    """Return the denial for *rejected*. All denials of the pipeline are made here."""
    return Deny(
        rejected.reason,
        trail,
        rejected.detail,
        rejected.scopes,
        rejected.acr_values,
        rejected.max_age,
        nonce=rejected.nonce,
        message=rejected.message,
        retry_after=rejected.retry_after,
    )


def as_unanswered(decision: Decision, unanswered: Mapping[Need, Unanswered] = _NO_ANSWERS) -> Decision:
    """Make a denial that lacks a fact retryable; an allow by a shadow rule stays as it is.

    *unanswered* has the needs that could not be answered, and why; the answers to the others did not arrive in time.
    """
    needs = decision.trail.needs
    if not needs or isinstance(decision, Allow):
        return decision
    late = ", ".join(_describe_need(need) for need in needs if need not in unanswered)
    reasons = [f"{_describe_need(need)}: {unanswered[need].why}" for need in needs if need in unanswered]
    detail = "; ".join([decision.detail, *([f"not answered in time: {late}"] if late else []), *reasons])
    return replace(decision, reason=needs[0].unanswered, detail=detail, retryable=True)


def _describe_need(need: Need) -> str:
    return f"{need.kind} of {need.source}"


def outcome(decision: Decision) -> str:
    """Name the outcome of *decision* in one word: allow, deny or would_deny."""
    if isinstance(decision, Allow):
        return "would_deny" if decision.would_deny else "allow"
    return "deny"
