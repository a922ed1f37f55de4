"""Authenticate a token: by the keys of its issuer, by introspection, or by both.

These are the steps 4 to 11 of `authorize`, whose module lists them.
"""

from __future__ import annotations

import json
from dataclasses import replace

from authz.core.binding import UnusedProof, check_binding, check_proof
from authz.core.claims import (
    Claims,
    check,
    check_agreement,
    check_introspection_response,
    check_type,
    normalize_type,
    read_issuer,
)
from authz.core.decision import AuditTrail
from authz.core.introspection import (
    MAX_RESPONSE_BYTES,
    SIGNED_TYPE,
    Introspection,
    IntrospectionMode,
    IntrospectionResponse,
    SignedIntrospectionResponse,
    check_active,
    introspection_need,
)
from authz.core.issuer import Issuer
from authz.core.key import Key
from authz.core.keys import KeySet, SignedPayload, Verified, check_algorithm, verify
from authz.core.needs import CHANGED_KEY, KEY, NO_NEEDS, Facts, KeySearched, Need
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request
from authz.core.revocation import RevocableToken, check_revoked
from authz.core.snapshot import Snapshot
from authz.core.status_list import (
    STALE_STATUS_LIST,
    StatusList,
    StatusRules,
    check_entry,
    read_reference,
    status_list_need,
    unavailable,
)
from authz.core.steps import StepObserver, ignore_step
from authz.core.token import FoundToken, UnverifiedToken, check_opaque, parse_token

SignedToken = tuple[RevocableToken, Key | None]
"""A token, and the key that it verifies under, if it is a JWT."""

UsedFacts = tuple[tuple[Need, object], ...]
"""The needs for facts that may be renewed, and the facts that answered them."""


def authenticate(
    found_token: FoundToken,
    request: Request,
    snapshot: Snapshot,
    trail: AuditTrail,
    now: float,
    facts: Facts,
    observe: StepObserver,
) -> tuple[Issuer, Claims, UnusedProof | None, SignedToken, UsedFacts]:
    """Verify *found_token*.

    Return its issuer, its claims, the proof sent with it, itself with its key, and the facts about it. Raises Rejected.
    """
    text = found_token.text
    issuer = _find_issuer_of_opaque(text, snapshot)
    if issuer is not None:
        response, used = _introspect_opaque(text, issuer, snapshot, trail, facts, observe)  # 4 to 9
        claims = check_introspection_response(response, issuer.rules, now)  # 10
        trail.subject, trail.client = claims.subject, claims.client
        observe(10, claims)
        proof = check_binding(found_token, claims, request, issuer, now, trail)  # 11
        unused = None if proof is None else check_proof(proof, issuer, trail, facts)
        if snapshot.revocations:
            check_revoked(snapshot.revocations, claims, issuer, text, None, now)
        if issuer.status_list is not None:
            used += _check_status(claims, issuer, issuer.status_list, snapshot, trail, facts, now)
        observe(11, claims)
        return issuer, claims, unused, (text, None), used
    token = snapshot.parse_token(text, max_bytes=snapshot.token.max_bytes)  # 4
    trail.alg, trail.kid = token.alg, token.kid
    observe(4, token)
    issuer = _find_issuer(token, snapshot, trail)  # 5
    trail.issuer = issuer.name
    observe(5, issuer)
    check_algorithm(token, issuer.algorithms)  # 6
    check_type(token, issuer.rules.token_types)
    observe(6, token)
    signed = verify_signed(token, issuer, snapshot, trail, facts, observe)  # 7 to 9
    trail.signature_cached, trail.expires = signed.verified is Verified.CACHED, signed.members.get("exp")
    trail.audience = signed.members.get(issuer.rules.audience_claim)
    observe(9, signed)
    claims = check(signed, issuer.rules, now)  # 10
    trail.subject, trail.client = claims.subject, claims.client
    observe(10, claims)
    proof = check_binding(found_token, claims, request, issuer, now, trail)  # 11
    unused = None if proof is None else check_proof(proof, issuer, trail, facts)
    if snapshot.revocations:
        check_revoked(snapshot.revocations, claims, issuer, token, signed.key, now)
    used = _check_status_and_introspection(text, claims, issuer, snapshot, trail, facts, now)
    observe(11, claims)
    return issuer, claims, unused, (token, signed.key), used


def _check_status_and_introspection(
    text: str, claims: Claims, issuer: Issuer, snapshot: Snapshot, trail: AuditTrail, facts: Facts, now: float
) -> UsedFacts:
    """Check a JWT by status list and by introspection, as configured. If both facts are missing, both become needs.

    Return the facts. Raises Rejected.
    """
    used: UsedFacts = ()
    lacking: Rejected | None = None
    if issuer.status_list is not None:
        try:
            used += _check_status(claims, issuer, issuer.status_list, snapshot, trail, facts, now)
        except Rejected as rejected:
            if not trail.needs:
                raise
            lacking = rejected
    if issuer.introspection is not None and issuer.introspection.mode is IntrospectionMode.ALWAYS:
        needs, trail.needs = trail.needs, NO_NEEDS
        try:
            response, introspected = _introspect(text, issuer, snapshot, trail, facts)
            check_agreement(response, claims)
            used += introspected
        except Rejected as rejected:
            if not trail.needs:
                raise
            lacking = lacking or rejected
        trail.needs = needs + trail.needs
    if lacking is not None:
        raise lacking
    return used


def _find_issuer(token: UnverifiedToken, snapshot: Snapshot, trail: AuditTrail) -> Issuer:
    """Return the configured issuer of a JWT. Raises Rejected: CLAIMS_MALFORMED, ISSUER_UNKNOWN."""
    trail.claimed_issuer = iss = read_issuer(token, snapshot.issuers)
    issuer = snapshot.issuers.get(iss)
    if issuer is None:
        near = iss.removesuffix("/") in snapshot.issuers or f"{iss}/" in snapshot.issuers
        hint = ": the trailing slash differs" if near else ""
        raise Rejected(Reason.ISSUER_UNKNOWN, f"iss is not a configured issuer{hint}")
    return issuer


def _find_issuer_of_opaque(text: str, snapshot: Snapshot) -> Issuer | None:
    """Return the issuer that introspects an opaque token, None for a JWT."""
    for prefix, iss in snapshot.opaque:
        if text.startswith(prefix) and (prefix or text.count(".") != 2):
            return snapshot.issuers[iss]
    return None


def _introspect_opaque(
    text: str, issuer: Issuer, snapshot: Snapshot, trail: AuditTrail, facts: Facts, observe: StepObserver
) -> tuple[IntrospectionResponse, UsedFacts]:
    """Return the response of *issuer* about an opaque token, also as a fact. Raises Rejected."""
    check_opaque(text, max_bytes=snapshot.token.max_bytes)  # 4
    observe(4, None)
    trail.issuer = issuer.name
    for step, value in ((5, issuer), (6, None), (7, None), (8, None)):
        observe(step, value)
    response, used = _introspect(text, issuer, snapshot, trail, facts)  # 9
    trail.expires, trail.audience = response.members.get("exp"), response.members.get(issuer.rules.audience_claim)
    observe(9, response)
    return response, used


def _introspect(
    text: str, issuer: Issuer, snapshot: Snapshot, trail: AuditTrail, facts: Facts
) -> tuple[IntrospectionResponse, UsedFacts]:
    """Return the response of *issuer* about an active token, also as a fact; or name the need for it.

    Raises Rejected.
    """
    rules = issuer.introspection
    if rules is None:
        raise Rejected(
            Reason.INTROSPECTION_UNAVAILABLE, "no introspection is configured for the issuer: inconsistent snapshot"
        )
    need = introspection_need(text, issuer.name, rules)
    fact = response = facts.get(need)
    if isinstance(fact, SignedIntrospectionResponse) and rules.signed:
        response = _verify_response(fact, issuer, rules, snapshot, trail, facts)
    if not isinstance(response, IntrospectionResponse) or (response is fact and rules.signed):
        trail.needs = (need,)
        raise Rejected(Reason.INTROSPECTION_UNAVAILABLE, "the issuer has not been asked about this token")
    check_active(response, rules)
    return response, ((need, fact),)


def _verify_response(
    response: SignedIntrospectionResponse,
    issuer: Issuer,
    rules: Introspection,
    snapshot: Snapshot,
    trail: AuditTrail,
    facts: Facts,
) -> IntrospectionResponse:
    """Verify a signed response (RFC 9701 section 5): its signature by *issuer*, its `typ`, `iss` and `aud`.

    An invalid one is treated as no response. Raises Rejected.
    """
    try:
        token = parse_token(response.text, max_bytes=MAX_RESPONSE_BYTES)
        if normalize_type(token.typ) != SIGNED_TYPE:
            raise _unusable(f"its typ is not {SIGNED_TYPE}")
        check_algorithm(token, issuer.algorithms)
        members = verify_signed(token, issuer, snapshot, trail, facts, ignore_step).members
    except Rejected as rejected:
        raise _unusable(rejected.detail) from rejected
    audience, nested = members.get("aud"), members.get("token_introspection")
    if members.get("iss") != issuer.rules.issuer:
        raise _unusable("its iss is another issuer")
    if rules.client not in (audience if isinstance(audience, list) else (audience,)):
        raise _unusable("its aud is not the client that asked")
    if not isinstance(nested, dict):
        raise _unusable("it has no token_introspection")
    return IntrospectionResponse(nested, json.dumps(nested, ensure_ascii=False, separators=(",", ":")).encode())


def _unusable(why: str) -> Rejected:
    return Rejected(Reason.INTROSPECTION_UNAVAILABLE, f"the signed answer of the issuer cannot be used: {why}")


def _check_status(
    claims: Claims,
    issuer: Issuer,
    rules: StatusRules,
    snapshot: Snapshot,
    trail: AuditTrail,
    facts: Facts,
    now: float,
) -> UsedFacts:
    """Reject a token that the status list does not call valid, or name the need for the list; return the list.

    Raises Rejected.
    """
    reference = read_reference(claims, rules)
    if reference is None:
        return ()
    need = status_list_need(reference, issuer.name)
    listing = facts.get(need)
    if not isinstance(listing, StatusList):
        trail.needs = (need,)
        raise unavailable("it was not fetched yet")
    trail.rechecks += (status_list_need(reference, issuer.name, STALE_STATUS_LIST),)
    try:
        verify_status_list(listing, issuer, rules, snapshot, trail, facts)
    except Rejected as rejected:
        raise unavailable(rejected.detail) from rejected
    check_entry(listing, reference, rules, now, issuer.rules.leeway)
    return ((need, listing),)


def verify_status_list(
    listing: StatusList, issuer: Issuer, rules: StatusRules, snapshot: Snapshot, trail: AuditTrail, facts: Facts
) -> None:
    """Verify the signature of a list by the keys of *issuer*, or by its separate keys for lists. Raises Rejected."""
    check_algorithm(listing.token, issuer.algorithms)
    caching = replace(snapshot, verify_signature=listing.verify)  # the list caches its signers
    if not rules.own_keys:
        verify_signed(listing.token, issuer, caching, trail, facts, ignore_step)
    elif listing.keys is None:
        raise Rejected(Reason.KEYS_UNAVAILABLE, "its keys were not fetched with it")
    else:
        _verify_with(listing.keys, listing.token, issuer, caching, ignore_step)


def verify_signed(
    token: UnverifiedToken,
    issuer: Issuer,
    snapshot: Snapshot,
    trail: AuditTrail,
    facts: Facts,
    observe: StepObserver,
) -> SignedPayload:
    """Verify *token* under the keys of *issuer*, or name the need for a key that may be new. Raises Rejected."""
    if issuer.keys is None:  # 7
        raise Rejected(Reason.KEYS_UNAVAILABLE, "no keys of this issuer, or none that are fresh enough")
    observe(7, issuer.keys)
    try:
        return _verify_with(issuer.keys, token, issuer, snapshot, observe)  # 8 and 9
    except Rejected as rejected:
        if rejected.reason is Reason.KEY_NOT_FOUND:
            raise _report_missing_key(rejected, Need(KEY, issuer.name, token.kid), trail, facts) from None
        if rejected.reason is Reason.SIGNATURE_INVALID:  # a forgery, or new material under an old key id
            trail.rechecks += (Need(CHANGED_KEY, issuer.name, token.kid),)
        raise


def _verify_with(
    keys: KeySet, token: UnverifiedToken, issuer: Issuer, snapshot: Snapshot, observe: StepObserver
) -> SignedPayload:
    """Verify *token* with its candidate keys among *keys*. Raises Rejected."""
    candidates = keys.select(token, issuer.algorithms, configured=issuer.algorithms_configured)  # 8
    observe(8, candidates)
    signed = verify(token, candidates, issuer=issuer.name, by=snapshot.verify_signature)  # 9
    if not issuer.owns(signed.key):
        raise Rejected(Reason.KEY_UNUSABLE, "the key belongs to another tenant")
    return signed


def _report_missing_key(rejected: Rejected, need: Need, trail: AuditTrail, facts: Facts) -> Rejected:
    """Add the *need* for an unknown key to *trail*; if it was searched for, add the search's note to the detail."""
    searched = facts.get(need)
    if searched is None:
        trail.needs = (need,)
    elif isinstance(searched, KeySearched) and searched.note:
        return Rejected(rejected.reason, f"{rejected.detail}; {searched.note}")
    return rejected
