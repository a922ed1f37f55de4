"""The pipeline: from a request to a decision, in one pure function.

The order of evaluation; the first step that fails gives the reason:

 1 the request is well formed: method, host, one canonical path
 2 the first rule that matches; a public one allows at once, none denies
 3 exactly one token
 4 the token's form
 5 its issuer is configured
 6 its algorithm and type are allowed for that issuer
 7 the issuer's keys are at hand
 8 usable keys can be meant: the one that is named, or at most four
 9 the signature verifies under one of them
10 the claims: form, exp, nbf, iat, audience
11 the binding to a key of the sender; what the issuer says of the token now, if it is to be asked
12 what the rule requires
13 the identity headers can be written safely

A token that is no JWT passes 6 to 8, and its issuer is asked at 9: its answer is what the claims are read from.

A shadow rule reports steps 3 to 13 without enforcing them. Between 1 and 2 the sidecar serves its own metadata document
to any client: no rule can hide it, and it hides no path but its own.
"""

from __future__ import annotations

from contextlib import suppress

from authz.core import policy
from authz.core.authenticate import authenticate
from authz.core.claims import Claims
from authz.core.decision import Allow, AuditTrail, Decision, deny
from authz.core.identity import HeaderChanges
from authz.core.needs import NO_FACTS, Facts
from authz.core.origin import require_same_origin
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request, parse_target
from authz.core.snapshot import Snapshot
from authz.core.steps import StepObserver, ignore_step
from authz.core.strip_credentials import strip_credentials
from authz.core.token import find_token


def authorize(
    request: Request, snapshot: Snapshot, now: float, facts: Facts = NO_FACTS, *, observe: StepObserver = ignore_step
) -> Decision:
    """Evaluate *request* against *snapshot* at *now*, seconds since the epoch. Total: no input raises.

    *facts* answer the `trail.needs` of an earlier decision. *observe* is called for each step that was passed;
    `authz explain` shows them.
    """
    trail = AuditTrail()
    try:
        target = parse_target(request)  # 1
        snapshot.identity.reject_connection_nominated_headers(request)
        observe(1, target)
        resource = snapshot.responses.resource
        if resource is not None and resource.is_asked_for(target):
            removed = snapshot.identity.strip_all.remove  # in case an integration forwards the request
            return Allow(reason=Reason.PUBLIC, trail=trail, remove_headers=removed, document=resource.document)
        rule, params = snapshot.policy.select(target, request.context)  # 2
        observe(2, (rule, params))
    except Rejected as rejected:
        if snapshot.shadow_all and rejected.reason is Reason.POLICY_DENIED:
            return _pass_in_shadow(rejected, request, snapshot, trail)
        return deny(rejected, trail)
    trail.rule = rule.name
    if rule.allow is policy.AccessMode.PUBLIC:
        return _allow(Reason.PUBLIC, request, snapshot, trail)
    claims: Claims | None = None
    try:
        if rule.allow is policy.AccessMode.DENY:
            raise Rejected(Reason.POLICY_DENIED, "the rule denies every request")
        found = find_token(request, snapshot.token.sources)  # 3
        if found is None and rule.allow is policy.AccessMode.OPTIONAL:
            return _allow(Reason.ANONYMOUS, request, snapshot, trail)
        if found is None:
            raise Rejected(Reason.TOKEN_MISSING, "no token in any of the configured places")
        observe(3, found)
        issuer, claims = authenticate(found.text, request, snapshot, trail, now, facts, observe)  # 4 to 11
        policy.require(rule, claims, issuer, request, params, now)  # 12
        require_same_origin(request, found.source)
        observe(12, rule.requirements)
        headers = snapshot.identity.headers_for(claims)  # 13
        observe(13, headers)
    except Rejected as rejected:
        if rule.shadow or snapshot.shadow_all:
            return _pass_in_shadow(rejected, request, snapshot, trail, claims)
        return deny(rejected, trail)
    return _allow(Reason.AUTHENTICATED, request, snapshot, trail, claims=claims, headers=headers)


def _allow(
    reason: Reason,
    request: Request,
    snapshot: Snapshot,
    trail: AuditTrail,
    *,
    claims: Claims | None = None,
    headers: HeaderChanges | None = None,
    shadowed: Rejected | None = None,
) -> Allow:
    """Allow the request with the identity *headers*, or with all of them removed."""
    changes = snapshot.identity.strip_all if headers is None else headers
    stripped = None
    if not snapshot.token.forward:
        stripped = strip_credentials(request, snapshot.token.sources)
    return Allow(
        reason=reason,
        trail=trail,
        set_headers=changes.set + (stripped.set if stripped else ()),
        remove_headers=changes.remove + (stripped.remove if stripped else ()),
        drop_query=stripped.drop_query if stripped else (),
        claims=snapshot.identity.copy(claims) if claims else {},
        would_deny=shadowed is not None,
        detail=shadowed.detail if shadowed else "",
    )


def _pass_in_shadow(
    rejected: Rejected, request: Request, snapshot: Snapshot, trail: AuditTrail, claims: Claims | None = None
) -> Allow:
    """Allow what *rejected* would have denied; identity headers are set only if the token itself was valid."""
    headers = None
    if claims is not None:
        with suppress(Rejected):
            headers = snapshot.identity.headers_for(claims)
    return _allow(rejected.reason, request, snapshot, trail, claims=claims, headers=headers, shadowed=rejected)
