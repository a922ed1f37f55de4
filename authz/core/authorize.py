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
11 the binding to a key of the sender
12 what the rule requires
13 the identity headers can be written safely

A shadow rule reports steps 3 to 13 without enforcing them. Between 1 and 2 the sidecar serves its own metadata document
to any client: no rule can hide it, and it hides no path but its own.
"""

from __future__ import annotations

from authz.core import policy
from authz.core.claims import Claims, check, check_binding, check_type, read_issuer
from authz.core.decision import Allow, AuditTrail, Decision, deny
from authz.core.identity import HeaderChanges
from authz.core.issuer import Issuer
from authz.core.keys import KeySet, SignedPayload, Verified, check_algorithm, verify
from authz.core.needs import CHANGED_KEY, KEY, NO_FACTS, Facts, KeySearched, Need
from authz.core.origin import require_same_origin
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request, parse_target
from authz.core.snapshot import Snapshot
from authz.core.steps import StepObserver, ignore_step
from authz.core.strip_credentials import strip_credentials
from authz.core.token import UnverifiedToken, find_token, parse_token


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
        issuer, claims = _authenticate(found.text, request, snapshot, trail, now, facts, observe)  # 4 to 11
        policy.require(rule, claims, issuer, request, params, now)  # 12
        require_same_origin(request, found.source)
        observe(12, rule.requirements)
        headers = snapshot.identity.headers_for(claims)  # 13
        observe(13, headers)
    except Rejected as rejected:
        trail.expected_audience = rejected.audiences
        if rule.shadow or snapshot.shadow_all:
            return _pass_in_shadow(rejected, request, snapshot, trail, claims)
        return deny(rejected, trail)
    return _allow(Reason.AUTHENTICATED, request, snapshot, trail, claims=claims, headers=headers)


def _authenticate(
    text: str, request: Request, snapshot: Snapshot, trail: AuditTrail, now: float, facts: Facts, observe: StepObserver
) -> tuple[Issuer, Claims]:
    """Verify the token *text*; return its issuer and claims. Raises Rejected."""
    token = parse_token(text, max_bytes=snapshot.token.max_bytes)  # 4
    trail.alg, trail.kid = token.alg, token.kid
    observe(4, token)
    trail.claimed_issuer = iss = read_issuer(token)  # 5
    issuer = snapshot.issuers.get(iss)
    if issuer is None:
        near = iss.removesuffix("/") in snapshot.issuers or f"{iss}/" in snapshot.issuers
        but = ", but for a final slash" if near else ""
        raise Rejected(Reason.ISSUER_UNKNOWN, f"iss is none of the configured issuers{but}")
    trail.issuer = issuer.name
    observe(5, issuer)
    check_algorithm(token, issuer.algorithms)  # 6
    check_type(token, issuer.rules.token_types)
    observe(6, token)
    if issuer.keys is None:  # 7
        raise Rejected(Reason.KEYS_UNAVAILABLE, "no keys of this issuer, or none that are fresh enough")
    observe(7, issuer.keys)
    try:
        signed = _verify(token, issuer, issuer.keys, snapshot, observe)  # 8 and 9
    except Rejected as rejected:
        if rejected.reason is Reason.KEY_NOT_FOUND:
            raise _may_be_new(rejected, Need(KEY, issuer.name, token.kid), trail, facts) from None
        if rejected.reason is Reason.SIGNATURE_INVALID:  # a forgery, or new material under an old key id
            trail.doubts = (Need(CHANGED_KEY, issuer.name, token.kid),)
        raise
    trail.signature_cached, trail.expires = signed.verified is Verified.CACHED, signed.members.get("exp")
    trail.audience = signed.members.get(issuer.rules.audience_claim)
    observe(9, signed)
    claims = check(signed, issuer.rules, now)  # 10
    trail.subject = claims.subject
    observe(10, claims)
    check_binding(claims, request.certificate)  # 11
    observe(11, claims)
    return issuer, claims


def _verify(
    token: UnverifiedToken, issuer: Issuer, keys: KeySet, snapshot: Snapshot, observe: StepObserver
) -> SignedPayload:
    """Verify *token* under the keys of *issuer* that it can mean. Raises Rejected."""
    candidates = keys.select(token, issuer.algorithms, written=issuer.algorithms_written)  # 8
    observe(8, candidates)
    signed = verify(token, candidates, issuer=issuer.name, by=snapshot.verify_signature)  # 9
    if not issuer.owns(signed.key):
        raise Rejected(Reason.KEY_UNUSABLE, "the key is of another tenant")
    return signed


def _may_be_new(rejected: Rejected, need: Need, trail: AuditTrail, facts: Facts) -> Rejected:
    """Name the *need* for a key that is unknown, and may have been published since; or say what the search found."""
    searched = facts.get(need)
    if searched is None:
        trail.needs = (need,)
    elif isinstance(searched, KeySearched) and searched.note:
        return Rejected(rejected.reason, f"{rejected.detail}; {searched.note}")
    return rejected


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
    """Allow what *rejected* would have denied; the identity is passed on only if the token itself was valid."""
    headers = None
    if claims is not None:
        try:
            headers = snapshot.identity.headers_for(claims)
        except Rejected:
            claims = None  # what is no header is no metadata either
    return _allow(rejected.reason, request, snapshot, trail, claims=claims, headers=headers, shadowed=rejected)
