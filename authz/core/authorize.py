"""The pipeline: from a request to a decision, in one pure function.

The steps in their order; the first one that fails determines the reason:

 1 the request is well formed: method, host, one canonical path
 2 a rule matches; a public rule allows at once, and no matching rule denies
 3 exactly one token
 4 the token is a well-formed compact JWS
 5 its issuer is configured
 6 its algorithm and type are allowed for that issuer
 7 the issuer's keys are available
 8 candidate keys: the key that the token names, or at most four that fit
 9 the signature verifies under one of them
10 the claims are valid: form, exp, nbf, iat, audience
11 a sender-constrained token is used by its sender
12 the requirements of the rule are met
13 the identity headers can be written safely

A shadow rule reports failures of steps 3 to 13 without enforcing them. Between steps 1 and 2 the sidecar answers
requests for its own metadata document, from any client and whatever the rules say.
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
    """Evaluate *request* against *snapshot* at *now*, seconds since the epoch. No input raises an exception.

    *facts* answer the `trail.needs` of an earlier decision. *observe* is called after each step that
    passed; `authz explain` shows them.
    """
    trail = AuditTrail()
    try:
        target = parse_target(request)  # 1
        snapshot.identity.reject_connection_nominated_headers(request)
        observe(1, target)
        resource = snapshot.responses.resource
        if resource is not None and resource.matches_document(target):
            removed = snapshot.identity.strip_all.remove  # in case an integration forwards the request
            return Allow(reason=Reason.PUBLIC, trail=trail, remove_headers=removed, document=resource.document)
        rule, params = snapshot.policy.select(target, request.context)  # 2
        observe(2, (rule, params))
    except Rejected as rejected:
        if snapshot.shadow_all and rejected.reason is Reason.POLICY_DENIED:
            return _allow_in_shadow(rejected, request, snapshot, trail)
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
            raise Rejected(Reason.TOKEN_MISSING, "no token in any configured place")
        observe(3, found)
        issuer, claims = _authenticate(found.text, request, snapshot, trail, now, facts, observe)  # 4 to 11
        policy.require(rule, claims, issuer, request, params, now)  # 12
        require_same_origin(request, found.source)
        observe(12, rule.requirements)
        headers = snapshot.identity.headers_for(claims)  # 13
        observe(13, headers)
    except Rejected as rejected:
        if rule.shadow or snapshot.shadow_all:
            return _allow_in_shadow(rejected, request, snapshot, trail, claims)
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
        hint = ": the trailing slash differs" if near else ""
        raise Rejected(Reason.ISSUER_UNKNOWN, f"iss is not a configured issuer{hint}")
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
            raise _report_missing_key(rejected, Need(KEY, issuer.name, token.kid), trail, facts) from None
        if rejected.reason is Reason.SIGNATURE_INVALID:  # a forgery, or new material under an old key id
            trail.rechecks = (Need(CHANGED_KEY, issuer.name, token.kid),)
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
    """Verify the signature of *token* with the candidate keys of *issuer*. Raises Rejected."""
    candidates = keys.select(token, issuer.algorithms, configured=issuer.algorithms_configured)  # 8
    observe(8, candidates)
    signed = verify(token, candidates, issuer=issuer.name, by=snapshot.verify_signature)  # 9
    if not issuer.owns(signed.key):
        raise Rejected(Reason.KEY_UNUSABLE, "the key belongs to another tenant")
    return signed


def _report_missing_key(rejected: Rejected, need: Need, trail: AuditTrail, facts: Facts) -> Rejected:
    """Add the *need* for an unknown key to *trail*; after a search for it, add the search's note to the detail."""
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
    """Allow the request and set the identity *headers*; without them, remove all identity headers."""
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


def _allow_in_shadow(
    rejected: Rejected, request: Request, snapshot: Snapshot, trail: AuditTrail, claims: Claims | None = None
) -> Allow:
    """Allow a request that *rejected* would have denied; pass on the identity only if the token itself was valid."""
    headers = None
    if claims is not None:
        try:
            headers = snapshot.identity.headers_for(claims)
        except Rejected:
            claims = None  # values that are not sent as headers are not sent as metadata either
    return _allow(rejected.reason, request, snapshot, trail, claims=claims, headers=headers, shadowed=rejected)
