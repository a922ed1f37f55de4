"""The pipeline: from a request to a decision, in one pure function.

The steps in their order; the first one that fails determines the reason:

 1 the request is well formed: method, host, one canonical path
 2 a rule matches; a public rule allows at once, and no matching rule denies
 3 exactly one token, from a network that is not throttled
 4 the token is a well-formed compact JWS
 5 its issuer is configured
 6 its algorithm and type are allowed for that issuer
 7 the issuer's keys are available
 8 candidate keys: the key that the token names, or at most four that fit
 9 the signature verifies under one of them
10 the claims are valid: form, exp, nbf, iat, audience
11 a sender-constrained token is used by its sender; it was not revoked; its status list and introspection, if
   configured, say that it is valid
12 the requirements of the rule are met, then its risk requirements; last, the policy decision point (PDP) allows the
   request
13 the identity headers can be written safely, and the token for the upstream is signed; last, when nothing else can be
   unavailable, the proof of a sender-constrained token is used for the first time

An opaque token skips 6 to 8 and is introspected at 9: its claims are those of the response.

A shadow rule reports failures of steps 3 to 13 without enforcing them. Between steps 1 and 2 the sidecar answers
requests for its own metadata document and its own keys, from any client and whatever the rules say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from authz.core import policy
from authz.core.authenticate import SignedToken, UsedFacts, authenticate
from authz.core.binding import UnusedProof, check_use, is_first_use, uses_dpop
from authz.core.caller import Caller
from authz.core.claims import Claims
from authz.core.decision import BEARER, Allow, AuditTrail, Decision, Deny, deny
from authz.core.dpop import SCHEME, ProofUse
from authz.core.exchange import exchange
from authz.core.identity import HeaderChanges
from authz.core.minting import mint
from authz.core.needs import NO_FACTS, Facts, Need
from authz.core.pdp import PDP, check_external
from authz.core.reasons import WIRE_STATUS, Reason, Rejected
from authz.core.record import record
from authz.core.request import Request, Target, parse_target
from authz.core.requirements import Params, require
from authz.core.revocation import check_revoked
from authz.core.risk import check_risk
from authz.core.same_origin import require_same_origin
from authz.core.snapshot import Snapshot
from authz.core.steps import StepObserver, ignore_step
from authz.core.strip_credentials import strip_credentials
from authz.core.template import Variables
from authz.core.throttle import check_throttle
from authz.core.token import FoundToken, ValidToken, find_token

_PROOF_HEADERS: Final = ("dpop",)
_SERVICE_UNAVAILABLE: Final = 503


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
        if (served := _find_document(target, snapshot, trail)) is not None:
            return served
        rule, params = snapshot.policy.select(target, request.context)  # 2
        observe(2, (rule, params))
    except Rejected as rejected:
        if snapshot.shadow_all and rejected.reason is Reason.POLICY_DENIED:
            return _allow_in_shadow(rejected, request, snapshot, trail, None, now, facts)
        return deny(rejected, trail)
    trail.rule = rule.name
    if rule.allow is policy.AccessMode.PUBLIC:
        return _allow(Reason.PUBLIC, request, snapshot, trail)
    caller: Caller | None = None
    proof: UnusedProof | None = None
    try:
        if rule.allow is policy.AccessMode.DENY:
            raise Rejected(Reason.POLICY_DENIED, "the rule denies every request")
        trail.schemes = snapshot.token.schemes
        found_token = _find_token(request, snapshot, trail, facts)  # 3
        if found_token is None and rule.allow is policy.AccessMode.OPTIONAL:
            return _allow(Reason.ANONYMOUS, request, snapshot, trail)
        if found_token is None:
            raise Rejected(Reason.TOKEN_MISSING, "no token in any configured place")
        trail.schemes = (SCHEME,) if uses_dpop(found_token) else BEARER
        observe(3, found_token)
        authenticated = authenticate(found_token, request, snapshot, trail, now, facts, observe)  # 4 to 11
        issuer, claims, proof, signed, used = authenticated
        if snapshot.clients is not None:
            trail.valid_token = ValidToken(found_token.text, claims.members)
        is_new = trail.alg is not None and not trail.signature_cached
        caller = Caller(request, target, rule, issuer, claims, found_token.text, is_new)
        require(rule.requirements, claims, issuer, request, params, now)  # 12
        require_same_origin(request, found_token.source)
    except Rejected as rejected:
        return _refuse(rejected, request, rule, caller, proof, snapshot, now, trail, facts)
    return _conclude(caller, params, proof, signed, used, None, snapshot, now, trail, facts, observe)


@record
class Checkpoint:
    """An evaluation at *now* that passed all steps up to `_conclude`, which lacks facts: `decide_again` resumes there.

    *signed* is the token, and the key that it verifies under. *used* are the facts about it. *external* is the need for
    the PDP's response, if that is missing. The last three are what the trail held before `_conclude`.
    """

    snapshot: Snapshot
    now: float
    caller: Caller
    params: Params
    proof: UnusedProof | None
    signed: SignedToken
    used: UsedFacts
    external: Need | None
    rechecks: tuple[Need, ...]
    valid_token: ValidToken | None
    thumbprint: str | None


def decide_again(decision: Decision, snapshot: Snapshot, facts: Facts) -> Decision | None:
    """Return what `authorize` would with these *facts*, or None if the whole request must be evaluated again.

    *facts* include those of *decision*. Steps that passed are not repeated if they were evaluated against the same
    *snapshot* and facts. Revocation entries may have been added to the snapshot since, and are looked up again. A fact
    that was renewed since may be another one; one that has only expired was valid at the time of the decision. The
    throttle is not asked again: it is against guesses, and the token has proved to be none.
    """
    checkpoint = decision.trail.checkpoint
    if not isinstance(checkpoint, Checkpoint) or checkpoint.snapshot is not snapshot:
        return None
    if any(facts.get(need, fact) is not fact for need, fact in checkpoint.used):
        return None
    if checkpoint.proof is not None and facts.get(checkpoint.proof.need, ProofUse.FIRST) is not ProofUse.FIRST:
        return None  # a replayed proof is rejected before any later step
    caller, now = checkpoint.caller, checkpoint.now
    trail = decision.trail.without_last_steps(checkpoint.rechecks, checkpoint.valid_token, checkpoint.thumbprint)
    if snapshot.revocations:
        try:
            check_revoked(snapshot.revocations, caller.claims, caller.issuer, *checkpoint.signed, now)
        except Rejected as rejected:
            trail.valid_token = None
            return _refuse(rejected, caller.request, caller.rule, None, None, snapshot, now, trail, facts)
    proof, signed, used, external = checkpoint.proof, checkpoint.signed, checkpoint.used, checkpoint.external
    return _conclude(caller, checkpoint.params, proof, signed, used, external, snapshot, now, trail, facts, ignore_step)


def _conclude(  # noqa: PLR0913, PLR0917 - one for each result of the steps before: an object would cost time
    caller: Caller,
    params: Params,
    proof: UnusedProof | None,
    signed: SignedToken,
    used: UsedFacts,
    external: Need | None,
    snapshot: Snapshot,
    now: float,
    trail: AuditTrail,
    facts: Facts,
    observe: StepObserver,
) -> Decision:
    """Evaluate the last steps, which may lack facts: the risk requirements, the PDP, and step 13."""
    rechecks, valid_token, thumbprint = trail.rechecks, trail.valid_token, trail.thumbprint
    request, rule, claims = caller.request, caller.rule, caller.claims
    tolerated: Rejected | None = None
    try:
        if rule.requirements.risk is not None:
            check_risk(rule.requirements.risk, caller, params, snapshot.risk, now, trail, facts)
        if rule.requirements.external is not None:
            variables = Variables(request, caller.target, params, claims)
            tolerated = check_external(rule.requirements.external, variables, trail, facts, external)
        observe(12, rule.requirements)
        headers = snapshot.identity.headers_for(claims)  # 13
        headers = _add_token(headers, caller, snapshot, trail, now, facts)
        check_use(proof, trail, facts)
        observe(13, headers)
    except Rejected as rejected:
        decision = _refuse(rejected, request, rule, caller, proof, snapshot, now, trail, facts)
        if trail.needs:
            external = next((need for need in trail.needs if need.kind == PDP), None)
            trail.checkpoint = Checkpoint(
                snapshot, now, caller, params, proof, signed, used, external, rechecks, valid_token, thumbprint
            )
        return decision
    reason = Reason.AUTHENTICATED if tolerated is None else tolerated.reason
    return _allow(reason, request, snapshot, trail, claims=claims, headers=headers, shadowed=tolerated)


def _refuse(  # noqa: PLR0913, PLR0917 - as above
    rejected: Rejected,
    request: Request,
    rule: policy.Rule,
    caller: Caller | None,
    proof: UnusedProof | None,
    snapshot: Snapshot,
    now: float,
    trail: AuditTrail,
    facts: Facts,
) -> Decision:
    """Deny the request, or allow it in shadow."""
    trail.expected_audience = rejected.audiences
    if rule.shadow or snapshot.shadow_all:
        proven = caller if is_first_use(proof, trail, facts) else None  # an allowed request uses its proof
        return _allow_in_shadow(rejected, request, snapshot, trail, proven, now, facts)
    return _deny(rejected, proof, trail, facts)


def _deny(rejected: Rejected, proof: UnusedProof | None, trail: AuditTrail, facts: Facts) -> Deny:
    """Deny the request; a denial that is not retryable uses up its proof."""
    is_final = not trail.needs and WIRE_STATUS[rejected.reason].http != _SERVICE_UNAVAILABLE
    if proof is not None and is_final and proof.need not in facts:
        trail.rechecks += (proof.need,)
    return deny(rejected, trail)


def _find_document(target: Target, snapshot: Snapshot, trail: AuditTrail) -> Allow | None:
    """Return the answer to a request for a document that the sidecar serves itself; None for any other request."""
    removed = snapshot.identity.strip_all.remove  # in case an integration forwards the request
    resource = snapshot.responses.resource
    if resource is not None and resource.matches_document(target):
        return Allow(reason=Reason.PUBLIC, trail=trail, remove_headers=removed, document=resource.document)
    for served in snapshot.published:
        if served.matches(target):
            return Allow(
                reason=Reason.PUBLIC,
                trail=trail,
                remove_headers=removed,
                document=served.body,
                etag=served.etag,
                max_age=served.max_age,
            )
    return None


def _add_token(
    headers: HeaderChanges, caller: Caller, snapshot: Snapshot, trail: AuditTrail, now: float, facts: Facts
) -> HeaderChanges:
    """Return *headers* with the token for the upstream, if one is configured, or name the need for it.

    Raises Rejected.
    """
    if snapshot.exchange is not None:
        exchanged, needs = exchange(snapshot.exchange, caller, now, facts)
        if exchanged is None:
            trail.needs = needs
            raise Rejected(Reason.UPSTREAM_TOKEN_UNAVAILABLE, "the token for the upstream is not exchanged")
        trail.rechecks += needs
        return snapshot.identity.add_token(headers, exchanged)
    if snapshot.minting is None:
        return headers
    minted, needs = mint(snapshot.minting, caller, now, facts)
    if minted is None:
        trail.needs = needs
        raise Rejected(Reason.UPSTREAM_TOKEN_UNAVAILABLE, "the token for the upstream is not signed")
    trail.rechecks += needs
    trail.transaction = minted.transaction
    return snapshot.identity.add_token(headers, minted.text)


def _find_token(request: Request, snapshot: Snapshot, trail: AuditTrail, facts: Facts) -> FoundToken | None:
    """Return the token of the request, unless its network is throttled. Raises Rejected."""
    found_token = find_token(request, snapshot.token.sources)
    if found_token is not None and snapshot.clients is not None:
        check_throttle(found_token, request, snapshot.clients, snapshot.token.max_bytes, trail, facts)
    return found_token


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
    proofs = _PROOF_HEADERS if snapshot.token.strip_proofs else ()
    stripped = None
    if not snapshot.token.forward:
        stripped = strip_credentials(request, snapshot.token.sources)
        if snapshot.sends_token:  # its header may be one of the caller's token
            names = {*(name for name, _ in changes.set), *changes.remove}
            stripped = replace(stripped, remove=tuple(name for name in stripped.remove if name not in names))
    return Allow(
        reason=reason,
        trail=trail,
        set_headers=changes.set + (stripped.set if stripped else ()),
        remove_headers=changes.remove + (stripped.remove if stripped else ()) + proofs,
        drop_query=stripped.drop_query if stripped else (),
        claims=snapshot.identity.metadata_for(claims) if claims else {},
        would_deny=shadowed is not None,
        detail=shadowed.detail if shadowed else "",
    )


def _allow_in_shadow(
    rejected: Rejected,
    request: Request,
    snapshot: Snapshot,
    trail: AuditTrail,
    caller: Caller | None,
    now: float,
    facts: Facts,
) -> Allow:
    """Allow a request that *rejected* would have denied; pass on the identity only if the token itself was valid."""
    headers, claims = None, None
    if caller is not None:
        try:
            headers = snapshot.identity.headers_for(caller.claims)
            claims = caller.claims  # values that are not sent as headers are not sent as metadata either
            if snapshot.sends_token_in_shadow:
                headers = _add_token(headers, caller, snapshot, trail, now, facts)
        except Rejected:
            pass
    return _allow(rejected.reason, request, snapshot, trail, claims=claims, headers=headers, shadowed=rejected)
