"""Proves authz.core.binding: a bound token serves its sender alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import pytest

from authz.core import base64url
from authz.core.authorize import authorize
from authz.core.binding import certificate_thumbprint, check_binding
from authz.core.claims import ClaimRules, Claims, check
from authz.core.decision import Allow, AuditTrail, Decision, Deny, as_unanswered
from authz.core.dpop import Possession, ProofRules, ProofUse
from authz.core.introspection import INTROSPECTION, Introspection, IntrospectionMode, IntrospectionResponse
from authz.core.key import thumbprint_of
from authz.core.needs import NO_FACTS, PROOF, Facts, Unanswered
from authz.core.reasons import Reason, Rejected
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.token import FoundToken, HeaderSource, parse_token
from tests.cases.external import TOLERANT, question
from tests.fixtures import ABSENT, A, T, ask, issuer_a, make_snapshot, mint, rule
from tests.proofs import key, prove, token_hash

OFF: Final = issuer_a()
BY_BEARER: Final = FoundToken("token", HeaderSource("authorization", "Bearer"))


def claims_of(**members: object) -> Claims:
    """Check good claims with changes that are no trouble."""
    assert OFF.keys is not None
    signed = OFF.keys.verify(parse_token(mint(claims=members)), ["RS256"])
    return check(signed, ClaimRules(issuer=A, audiences=frozenset({"api"})), T)


# By a certificate

DER = bytes(range(200))
PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def pem(der: bytes) -> str:
    """Write a certificate as Envoy sends it: URL-encoded PEM."""
    body = base64url.encode(der).decode().replace("-", "+").replace("_", "/")
    body += "=" * (-len(body) % 4)
    return quote(PEM.format("\n".join(body[i : i + 64] for i in range(0, len(body), 64))), safe="")


THUMBPRINT = base64url.encode(hashlib.sha256(DER).digest()).decode()
UNREADABLE = {
    "empty": "",
    "no-pem": "certificate",
    "not-base64": quote(PEM.format("A")),
    "not-ascii": quote(PEM.format("\u2003")),
    "cut-short": pem(DER)[:-30],
    "surrogate": "\ud800" + PEM.format("A"),
}


def bound(confirmation: object, certificate: str) -> Reason | None:
    """Check the binding of a token with that cnf against a peer with that certificate."""
    try:
        check_binding(BY_BEARER, claims_of(cnf=confirmation), ask(certificate=certificate), OFF, T, AuditTrail())
    except Rejected as rejected:
        return rejected.reason
    return None


def test_thumbprint_of_a_certificate() -> None:
    """The thumbprint is that of the first certificate of a chain, as Envoy encodes it."""
    assert certificate_thumbprint(pem(DER)) == THUMBPRINT
    assert certificate_thumbprint(pem(DER) + pem(b"another")) == THUMBPRINT


@pytest.mark.parametrize("certificate", UNREADABLE.values(), ids=UNREADABLE)
def test_certificate_that_cannot_be_read(certificate: str) -> None:
    """An unreadable certificate has no thumbprint, and proves nothing: not even one that is null."""
    assert certificate_thumbprint(certificate) is None
    for claimed in (THUMBPRINT, "", None):
        assert bound({"x5t#S256": claimed}, certificate) is Reason.TOKEN_BOUND


@pytest.mark.parametrize(
    ("confirmation", "certificate", "expected"),
    [
        (ABSENT, "", None),
        ({"x5t#S256": THUMBPRINT}, pem(DER), None),
        ({"x5t#S256": THUMBPRINT}, pem(b"another"), Reason.TOKEN_BOUND),
        ({"x5t#S256": THUMBPRINT + "="}, pem(DER), Reason.TOKEN_BOUND),
        ({"x5t#S256": [THUMBPRINT]}, pem(DER), Reason.TOKEN_BOUND),
        ({"x5t#S256": THUMBPRINT, "jkt": "x"}, pem(DER), Reason.TOKEN_BOUND),
        ({"jkt": THUMBPRINT}, pem(DER), Reason.TOKEN_BOUND),
        ({"jwk": {}}, pem(DER), Reason.TOKEN_BOUND),
        ({"x5t#S256": THUMBPRINT, "jwk": {}}, pem(DER), Reason.TOKEN_BOUND),
        ({"x5t#S256": THUMBPRINT, "of-its-own": 1}, pem(DER), None),
        ({"of-its-own": 1}, pem(DER), Reason.TOKEN_BOUND),
        ({}, pem(DER), Reason.TOKEN_BOUND),
        (None, pem(DER), Reason.CLAIMS_MALFORMED),
        ([], pem(DER), Reason.CLAIMS_MALFORMED),
        (THUMBPRINT, pem(DER), Reason.CLAIMS_MALFORMED),
    ],
    ids=lambda value: str(value)[:24],
)
def test_binding(confirmation: object, certificate: str, expected: Reason | None) -> None:
    """A bound token needs its certificate; a proof that is not checked here is never taken as given."""
    assert bound(confirmation, certificate) == expected


# By a proof

JKT: Final = thumbprint_of(dict(key().public()))
BOUND: Final = mint(cnf={"jkt": JKT})
FREE: Final = mint()
HOST: Final = "api.test"
HTU: Final = "https://api.test/items/1"


def snapshot(possession: Possession = Possession.ALLOWED, **rules: Any) -> Snapshot:  # noqa: ANN401 - of ProofRules
    """Return a snapshot whose issuer A binds tokens to keys."""
    a = replace(issuer_a(), possession=possession, proofs=ProofRules(**rules))
    sources = (HeaderSource("authorization", "Bearer"), HeaderSource("authorization", "DPoP"))
    token = TokenRules(sources=sources, schemes=("Bearer", "DPoP"), strip_proofs=True)
    return make_snapshot(a=a, token=token)


def decide(
    credentials: str | None,
    proof: str | None = None,
    facts: Facts = NO_FACTS,
    where: Snapshot | None = None,
    **request: Any,  # noqa: ANN401
) -> Decision:
    """Decide about GET /items/1 with these credentials and this proof."""
    headers = {"authorization": credentials, "dpop": proof}
    sent = {name: value for name, value in headers.items() if value is not None}
    return authorize(ask(host=HOST, headers=sent, **request), where or snapshot(), T, facts)


def proof_for(token: str, **claims: Any) -> str:  # noqa: ANN401
    """Write a proof for a token and this request."""
    return prove(htu=HTU, ath=token_hash(token), **claims)


def denial(decision: Decision) -> tuple[Reason, str, tuple[str, ...]]:
    """Return reason and detail of a denial, and the schemes of its challenge."""
    assert isinstance(decision, Deny)
    return decision.reason, decision.detail, decision.trail.schemes


def use(decision: Decision, found: object) -> Mapping[Any, object]:
    """Answer the need for the use of a proof that *decision* names."""
    (need,) = decision.trail.needs
    assert (need.kind, need.source) == (PROOF, "a")
    return {need: found}


def test_a_bound_token_with_its_proof_is_accepted_once() -> None:
    """First the use of the proof is asked for; then it decides."""
    proof = proof_for(BOUND)
    asking = decide(f"DPoP {BOUND}", proof)
    assert denial(asking)[:2] == (Reason.PROOF_INVALID, "proof: not known whether it was used before")
    allowed = decide(f"DPoP {BOUND}", proof, use(asking, ProofUse.FIRST))
    assert isinstance(allowed, Allow)
    assert allowed.trail.thumbprint == JKT
    assert "dpop" in allowed.remove_headers
    replayed = decide(f"DPoP {BOUND}", proof, use(asking, ProofUse.REPLAYED))
    assert denial(replayed) == (Reason.PROOF_INVALID, "proof: used before", ("DPoP",))
    assert replayed.trail.thumbprint is None
    assert denial(decide(f"DPoP {BOUND}", proof, use(asking, "whatever")))[0] is Reason.PROOF_INVALID


def test_without_an_answer_the_client_tries_again() -> None:
    """A full memory is no fault of the proof."""
    decision = as_unanswered(decide(f"DPoP {BOUND}", proof_for(BOUND)))
    assert denial(decision)[0] is Reason.OVERLOADED


def test_a_proof_is_used_up_when_nothing_else_is_unanswered() -> None:
    """Else a client that tries again, because its issuer did not answer, would learn that its proof was used."""
    rules = Introspection(client="rs", source="here", mode=IntrospectionMode.ALWAYS)
    where = snapshot()
    always = make_snapshot(a=replace(where.issuers[A], introspection=rules), token=where.token)
    proof = proof_for(BOUND)
    (asked,) = decide(f"DPoP {BOUND}", proof, where=always).trail.needs
    assert asked.kind == INTROSPECTION
    active = {asked: IntrospectionResponse({"active": True, "token_type": "DPoP", "cnf": {"jkt": JKT}})}
    asking = decide(f"DPoP {BOUND}", proof, active, always)
    allowed = decide(f"DPoP {BOUND}", proof, {**active, **use(asking, ProofUse.FIRST)}, always)
    assert isinstance(allowed, Allow)


def test_a_denial_uses_a_proof_up_and_an_unknown_answer_does_not() -> None:
    """What is denied for good is noted after the response; what may be tried again is not."""
    proof = proof_for(BOUND)
    token = snapshot().token
    denying = make_snapshot(rule("all", "/**", scopes=("write",)), a=snapshot().issuers[A], token=token)
    denied = decide(f"DPoP {BOUND}", proof, where=denying)
    assert denied.reason is Reason.INSUFFICIENT_SCOPE
    assert ([need.kind for need in denied.trail.rechecks], denied.trail.thumbprint) == ([PROOF], JKT)
    unknown = make_snapshot(
        rule("all", "/items/{id}", external=question(TOLERANT)), a=snapshot().issuers[A], token=token
    )
    (asked,) = decide(f"DPoP {BOUND}", proof, where=unknown).trail.needs
    failed = decide(f"DPoP {BOUND}", proof, {asked: Unanswered("HTTP status 500")}, unknown)
    assert (failed.reason, failed.trail.rechecks) == (Reason.PDP_UNAVAILABLE, ())


def test_an_opaque_token_with_its_proof_is_accepted_once() -> None:
    """Its issuer says to which key it is bound; then the use of the proof is asked for, and decides."""
    token, where = "XMQdFed_ds5tJ2ns4ZadQpk1", snapshot()
    a = replace(where.issuers[A], introspection=Introspection(client="rs", source="here"))
    opaque = make_snapshot(a=a, token=where.token, opaque=(("", A),))
    proof = proof_for(token)
    (asked,) = decide(f"DPoP {token}", proof, where=opaque).trail.needs
    members = {"active": True, "sub": "bob", "aud": "api", "exp": T + 300, "token_type": "DPoP", "cnf": {"jkt": JKT}}
    said = {asked: IntrospectionResponse(members)}
    asking = decide(f"DPoP {token}", proof, said, opaque)
    assert isinstance(decide(f"DPoP {token}", proof, {**said, **use(asking, ProofUse.FIRST)}, opaque), Allow)
    replayed = decide(f"DPoP {token}", proof, {**said, **use(asking, ProofUse.REPLAYED)}, opaque)
    assert denial(replayed)[:2] == (Reason.PROOF_INVALID, "proof: used before")
    assert denial(decide(f"Bearer {token}", None, said, opaque))[0] is Reason.TOKEN_BOUND


def test_nobody_is_asked_about_a_proof_that_no_key_signed() -> None:
    """Otherwise strangers could fill the memory of proofs."""
    proof = proof_for(BOUND)
    decision = decide(f"DPoP {BOUND}", proof[:-4] + ("AAAA" if proof[-4:] != "AAAA" else "BBBB"))
    assert denial(decision)[0] is Reason.PROOF_INVALID
    assert decision.trail.needs == ()


def test_a_forged_proof_asks_no_issuer() -> None:
    """A thief knows the public key of a stolen token: with it alone he has no issuer asked."""
    where = snapshot()
    rules = Introspection(client="rs", source="here", mode=IntrospectionMode.ALWAYS)
    asking = make_snapshot(a=replace(where.issuers[A], introspection=rules), token=where.token)
    proof = proof_for(BOUND)
    forged = decide(f"DPoP {BOUND}", proof[:-4] + ("AAAA" if proof[-4:] != "AAAA" else "BBBB"), where=asking)
    assert denial(forged)[0] is Reason.PROOF_INVALID
    assert forged.trail.needs == ()
    assert [need.kind for need in decide(f"DPoP {BOUND}", proof, where=asking).trail.needs] == [INTROSPECTION]


OTHER_KEY: Final = mint(cnf={"jkt": thumbprint_of(dict(key("Ed25519").public()))})
REFUSED: Final[dict[str, tuple[str | None, str | None, Reason, tuple[str, ...]]]] = {
    "no token": (None, None, Reason.TOKEN_MISSING, ("Bearer", "DPoP")),
    "bound token as a bearer's": (f"Bearer {BOUND}", None, Reason.TOKEN_BOUND, ("DPoP",)),
    "bound token as a bearer's, with its proof": (f"Bearer {BOUND}", proof_for(BOUND), Reason.PROOF_INVALID, ("DPoP",)),
    "free token with a proof": (f"Bearer {FREE}", proof_for(FREE), Reason.PROOF_INVALID, ("DPoP",)),
    "free token under DPoP": (f"DPoP {FREE}", proof_for(FREE), Reason.TOKEN_BOUND, ("DPoP",)),
    "no proof": (f"DPoP {BOUND}", None, Reason.PROOF_INVALID, ("DPoP",)),
    "proof of another key": (f"DPoP {OTHER_KEY}", proof_for(OTHER_KEY), Reason.PROOF_INVALID, ("DPoP",)),
    "proof for another token": (f"DPoP {BOUND}", proof_for(FREE), Reason.PROOF_INVALID, ("DPoP",)),
    "expired": (f"DPoP {mint(exp=T)}", None, Reason.TOKEN_EXPIRED, ("DPoP",)),
    "both schemes": (f"DPoP {BOUND}, Bearer {BOUND}", proof_for(BOUND), Reason.TOKEN_MULTIPLE, ("Bearer", "DPoP")),
    "bad token as a bearer's": ("Bearer x", None, Reason.TOKEN_MALFORMED, ("Bearer",)),
}


@pytest.mark.parametrize(("credentials", "proof", "reason", "schemes"), REFUSED.values(), ids=REFUSED)
def test_who_is_refused(credentials: str | None, proof: str | None, reason: Reason, schemes: tuple[str, ...]) -> None:
    """A fault of the token is invalid_token, one of the proof is not: clients fetch new tokens upon the former."""
    refused = denial(decide(credentials, proof))
    assert (refused[0], refused[2]) == (reason, schemes)


def test_a_free_token_stays_a_bearer_token_where_that_is_allowed() -> None:
    """Clients move to DPoP one by one; where it is required, the challenge says how."""
    assert isinstance(decide(f"Bearer {FREE}"), Allow)
    required = decide(f"Bearer {FREE}", where=snapshot(Possession.REQUIRED))
    assert denial(required)[0::2] == (Reason.TOKEN_BOUND, ("DPoP",))
    assert decide(f"DPoP {BOUND}", proof_for(BOUND), where=snapshot(Possession.REQUIRED)).trail.needs


def test_an_issuer_without_dpop() -> None:
    """Beside one that has it, its tokens are accepted as bearer tokens alone, and no proof is looked at."""
    off = snapshot(Possession.OFF)
    assert denial(decide(f"DPoP {BOUND}", proof_for(BOUND), where=off))[0] is Reason.TOKEN_BOUND
    assert denial(decide(f"Bearer {BOUND}", where=off))[0] is Reason.TOKEN_BOUND
    assert isinstance(decide(f"Bearer {FREE}", "whatever", where=off), Allow)


def test_keycloak_says_more_than_the_thumbprint() -> None:
    """`cnf` may have members that are no confirmation methods (RFC 7800 section 3.1)."""
    token = mint(cnf={"jkt": JKT, "kc-jkt-type": "key"})
    assert decide(f"DPoP {token}", proof_for(token)).trail.needs


def test_a_token_bound_by_both_ways_needs_both() -> None:
    """A key and a certificate."""
    token = mint(cnf={"jkt": JKT, "x5t#S256": THUMBPRINT})
    assert denial(decide(f"DPoP {token}", proof_for(token)))[0] is Reason.TOKEN_BOUND
    assert decide(f"DPoP {token}", proof_for(token), certificate=pem(DER)).trail.needs


def test_a_rule_may_require_a_bound_token() -> None:
    """By either way; the issuer leaves it open."""
    strict = replace(snapshot(), policy=make_snapshot(rule("strict", "/**", bound=True)).policy)
    assert denial(decide(f"Bearer {FREE}", where=strict))[0] is Reason.TOKEN_BOUND
    asking = decide(f"DPoP {BOUND}", proof_for(BOUND), where=strict)
    assert isinstance(decide(f"DPoP {BOUND}", proof_for(BOUND), use(asking, ProofUse.FIRST), strict), Allow)
    by_certificate = mint(cnf={"x5t#S256": THUMBPRINT})
    assert isinstance(decide(f"Bearer {by_certificate}", where=strict, certificate=pem(DER)), Allow)
