"""Proves the decisions about tokens whose issuer is asked (RFC 7662): by what real servers answer, and none may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Allow, Decision, as_unanswered
from authz.core.introspection import (
    ACCESS_TOKEN_PROOFS,
    INTROSPECTION,
    Introspection,
    IntrospectionMode,
    IntrospectionResponse,
    SignedIntrospectionResponse,
    introspection_need,
)
from authz.core.needs import KEY, Facts, KeySearched
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.steps import Step
from authz.demo.signing import SigningKey
from tests.fixtures import A_EC, ABSENT, B_EC, A, B, T, ask, changed, issuer_a, make_snapshot, mint
from tests.tools import ROOT

RULES: Final = Introspection(client="rs", source="https://a.test/introspect as rs")
TOKEN: Final = "XMQdFed_ds5tJ2ns4ZadQpk1xWJnJSecWjs15_vh8Wh"
GOOD: Final[Mapping[str, object]] = {
    "active": True,
    "sub": "alice",
    "client_id": "app",
    "aud": "api",
    "exp": T + 300,
    "iat": T,
    "iss": A,
    "scope": "openid read",
    "token_type": "Bearer",
}
SAMPLES: Final = json.loads((ROOT / "tests/data/introspection.json").read_text(encoding="utf-8"))
OIDC: Final = SAMPLES["oidc-provider 9.13.3"]
SPRING: Final = SAMPLES["Spring Authorization Server 7"]


def world(rules: Introspection = RULES, *, start: str = "", **issuer: Any) -> Snapshot:  # noqa: ANN401 - ClaimRules
    """Have issuer A asked about tokens that begin with *start*; *issuer* are changes to it."""
    return make_snapshot(a=replace(issuer_a(**issuer), introspection=rules), opaque=((start, A),))


def answered(
    answer: object, *, token: str = TOKEN, snapshot: Snapshot | None = None, now: float = T, path: str = "/items/1"
) -> Decision:
    """Decide on *token* when the issuer has given *answer*."""
    world_now = snapshot or world()
    rules = world_now.issuers[A].introspection
    assert rules is not None
    return authorize(ask(token, path=path), world_now, now, {introspection_need(token, "a", rules): answer})


def says(**changes: object) -> IntrospectionResponse:
    """Answer as a good server does, with changes."""
    return IntrospectionResponse(changed(GOOD, changes), b"{}")


def sampled(sample: Mapping[str, str], **changes: object) -> IntrospectionResponse:
    """Answer with the body of a sample, at the time of these tests and for their issuer."""
    members = {**json.loads(sample["body"]), **changes}
    times = {"exp": T + 300, "iat": T, "nbf": T, "iss": A}
    return IntrospectionResponse({name: times.get(name, value) for name, value in members.items()}, b"{}")


@pytest.mark.parametrize("token", [TOKEN, "ory_at_aaa.bbb", "a" * 16_384, "a.b.c.d.e"])
def test_an_opaque_token_is_a_need(token: str) -> None:
    """Without an answer the decision is "try again", and it names what is to be asked of whom; nothing shows it."""
    decision = authorize(ask(token), world(), T)
    (need,) = decision.trail.needs
    assert (decision.reason, need.kind, need.source, need.payload) == (
        Reason.INTROSPECTION_UNAVAILABLE,
        INTROSPECTION,
        "a",
        token,
    )
    assert token not in repr(decision)
    assert need.without_payload == need
    assert need.without_payload.payload == ""
    assert as_unanswered(decision).reason is Reason.INTROSPECTION_UNAVAILABLE


def test_an_active_token_is_as_good_as_a_signed_one() -> None:
    """Rules, scopes and identity headers see the claims of the answer."""
    decision = answered(says(groups=["admin"]), path="/admin/1")
    assert isinstance(decision, Allow)
    assert dict(decision.set_headers) == {"x-user-id": "alice", "x-user-groups": "admin"}
    trail = decision.trail
    assert (trail.issuer, trail.subject, trail.expires, trail.audience) == ("a", "alice", T + 300, "api")


ANSWERS: Final[dict[str, tuple[IntrospectionResponse, Reason]]] = {
    "good": (says(), Reason.AUTHENTICATED),
    "inactive": (says(active=False), Reason.TOKEN_INACTIVE),
    "active is no boolean": (says(active="true"), Reason.TOKEN_INACTIVE),
    "active is one": (says(active=1), Reason.TOKEN_INACTIVE),
    "active is absent": (says(active=ABSENT), Reason.TOKEN_INACTIVE),
    "without iss, which is optional": (says(iss=ABSENT), Reason.AUTHENTICATED),
    "another iss": (says(iss=B), Reason.ISSUER_UNKNOWN),
    "null as iss": (says(iss=None), Reason.ISSUER_UNKNOWN),
    "a list of audiences": (says(aud=["api", "other"]), Reason.AUTHENTICATED),
    "another audience": (says(aud=["other"]), Reason.AUDIENCE_MISMATCH),
    "no audience": (says(aud=ABSENT), Reason.AUDIENCE_MISMATCH),
    "no expiry": (says(exp=ABSENT), Reason.CLAIMS_MALFORMED),
    "expired, though active": (says(exp=T), Reason.TOKEN_EXPIRED),
    "not yet valid": (says(nbf=T + 60), Reason.TOKEN_NOT_YET_VALID),
    "times as texts": (says(exp=str(T + 300)), Reason.CLAIMS_MALFORMED),
    "no subject, which is required": (says(sub=ABSENT), Reason.CLAIMS_MALFORMED),
    "scopes as a list": (says(scope=["read"]), Reason.AUTHENTICATED),
    "no token_type": (says(token_type=ABSENT), Reason.TYP_NOT_ALLOWED),
    "another token_type": (says(token_type="N_A"), Reason.TYP_NOT_ALLOWED),
    "token_type is a list": (says(token_type=["Bearer"]), Reason.TYP_NOT_ALLOWED),
    "token_type in lower case": (says(token_type="bearer"), Reason.AUTHENTICATED),
    "DPoP with its key": (says(token_type="DPoP", cnf={"jkt": "x"}), Reason.TOKEN_BOUND),
    "DPoP without its key": (says(token_type="DPoP"), Reason.TYP_NOT_ALLOWED),
    "a certificate that is not there": (says(cnf={"x5t#S256": "x"}), Reason.TOKEN_BOUND),
    "Hydra or Dex, access token": (says(token_use="access_token"), Reason.AUTHENTICATED),
    "Hydra or Dex, refresh token that is Bearer": (says(token_use="refresh_token"), Reason.TYP_NOT_ALLOWED),
    "Keycloak, access token": (says(typ="Bearer"), Reason.AUTHENTICATED),
    "Keycloak, refresh token": (says(typ="Refresh"), Reason.TYP_NOT_ALLOWED),
    "Dex, refresh token with exp of iat": (says(exp=T, iat=T), Reason.TOKEN_EXPIRED),
    "oidc-provider, user": (sampled(OIDC["opaque user token, basic"], aud="api"), Reason.AUTHENTICATED),
    "oidc-provider, user without resource": (sampled(OIDC["opaque user token, basic"]), Reason.AUDIENCE_MISMATCH),
    "oidc-provider, refresh token": (sampled(OIDC["refresh token"], aud="api"), Reason.TYP_NOT_ALLOWED),
    "oidc-provider, machine": (
        sampled(OIDC["client_credentials opaque with resource"], aud="api"),
        Reason.CLAIMS_MALFORMED,  # no sub: see the next test
    ),
    "oidc-provider, bound": (sampled(OIDC["dpop bound"], aud="api"), Reason.TOKEN_BOUND),
    "oidc-provider, revoked": (sampled(OIDC["grant revoked"]), Reason.TOKEN_INACTIVE),
    "Spring, aud is the client": (sampled(SPRING["reference token"]), Reason.AUDIENCE_MISMATCH),
    "Spring, for us": (sampled(SPRING["reference token"], aud=["api"]), Reason.AUTHENTICATED),
    "Spring, revoked": (sampled(SPRING["revoked"]), Reason.TOKEN_INACTIVE),
}


@pytest.mark.parametrize(("answer", "reason"), ANSWERS.values(), ids=ANSWERS)
def test_answers(answer: IntrospectionResponse, reason: Reason) -> None:
    """Each answer is checked as a signed payload is, and must prove that the token is an access token."""
    assert answered(answer).reason is reason


def test_machines_have_no_subject_at_some_servers() -> None:
    """What a token must have is the operator's choice, as for a JWT."""
    answer = sampled(OIDC["client_credentials opaque with resource"], aud="api")
    assert answered(answer, snapshot=world(required=("exp",))).reason is Reason.AUTHENTICATED


@pytest.mark.parametrize(
    ("preset", "good", "refresh"),
    [
        ("bearer", {"token_type": "Bearer"}, {}),
        ("token_use", {"token_use": "access_token"}, {"token_type": "Bearer", "token_use": "refresh_token"}),
        ("token_use", {"token_use": "access_token"}, {"token_type": "Bearer"}),
        ("typ", {"typ": "Bearer"}, {"typ": "Offline"}),
        ("typ", {"typ": "Bearer"}, {"token_type": "Bearer"}),
    ],
)
def test_proof_of_the_kind_fails_closed(preset: str, good: dict[str, object], refresh: dict[str, object]) -> None:
    """Each preset accepts the access token of its servers, and neither their refresh token nor an answer without."""
    snapshot = world(replace(RULES, proof=ACCESS_TOKEN_PROOFS[preset]))
    bare = {name: value for name, value in GOOD.items() if name != "token_type"}
    for members, reason in ((good, Reason.AUTHENTICATED), (refresh, Reason.TYP_NOT_ALLOWED), ({}, None)):
        decision = answered(IntrospectionResponse({**bare, **members}), snapshot=snapshot)
        assert decision.reason is (reason or Reason.TYP_NOT_ALLOWED)


def test_time_is_judged_with_every_decision() -> None:
    """An answer that is kept serves until `exp`, and not a moment longer."""
    assert answered(says(), now=T + 299).reason is Reason.AUTHENTICATED
    assert answered(says(), now=T + 300).reason is Reason.TOKEN_EXPIRED


def test_the_operator_learns_why_a_token_is_inactive() -> None:
    """What the server said of the question is a detail, the client only sees that the token is not good."""
    decision = answered(IntrospectionResponse({"active": False}, note="status 400: unsupported_token_type"))
    assert (decision.reason, decision.detail) == (Reason.TOKEN_INACTIVE, "status 400: unsupported_token_type")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("a" * 16_385, Reason.TOKEN_TOO_LARGE),
        ("a b", Reason.TOKEN_MALFORMED),
        ("gar*bage", Reason.TOKEN_MALFORMED),
        ("=a", Reason.TOKEN_MALFORMED),
        ("täglich", Reason.TOKEN_MALFORMED),
        ("a.b.c", Reason.TOKEN_MALFORMED),  # of the form of a JWT: it is never sent anywhere
    ],
)
def test_what_cannot_be_a_token_is_asked_about_nowhere(token: str, reason: Reason) -> None:
    """Form and size are checked before anything leaves."""
    decision = authorize(ask(token), world(), T)
    assert (decision.reason, decision.trail.needs) == (reason, ())


def test_a_token_goes_to_its_own_issuer_only() -> None:
    """Beginnings tell the issuers of opaque tokens apart; a token of neither is sent to no one."""
    asked = replace(RULES, source="b")
    b = replace(make_snapshot().issuers[B], introspection=asked)
    snapshot = replace(world(start="aa_"), opaque=(("bb_", B), ("aa_", A)))
    snapshot = replace(snapshot, issuers={**snapshot.issuers, B: b})

    def asks(token: str) -> list[str]:
        return [need.source for need in authorize(ask(token), snapshot, T).trail.needs]

    assert (asks("aa_1"), asks("bb_1"), asks("cc_1"), asks("bb_1.2.3")) == (["a"], ["b"], [], ["b"])
    assert authorize(ask("cc_1"), snapshot, T).reason is Reason.TOKEN_MALFORMED


def test_an_answer_serves_its_own_configuration_only() -> None:
    """Another client, or another URL, is another question: the answer to one does not answer the other."""
    answer = {introspection_need(TOKEN, "a", RULES): says()}
    for other in (replace(RULES, source="https://a.test/introspect as other"), replace(RULES, source="https://b.test")):
        assert authorize(ask(TOKEN), world(other), T, answer).reason is Reason.INTROSPECTION_UNAVAILABLE
    assert introspection_need("other", "a", RULES) not in answer


def test_a_snapshot_that_contradicts_itself_allows_nothing() -> None:
    """An issuer that is named for opaque tokens, and says nothing of how it is asked."""
    snapshot = make_snapshot(opaque=(("", A),))
    assert authorize(ask(TOKEN), snapshot, T).reason is Reason.INTROSPECTION_UNAVAILABLE


@pytest.mark.parametrize("fact", [KeySearched(), SignedIntrospectionResponse("a.b.c"), True, {"active": True}])
def test_a_fact_of_another_kind_is_no_answer(fact: object) -> None:
    """It is as if the issuer had not been asked."""
    assert answered(fact).reason is Reason.INTROSPECTION_UNAVAILABLE


def test_steps_are_observed() -> None:
    """An opaque token passes the steps that are about signatures, and waits at the ninth."""
    passed: dict[int, object] = {}
    authorize(ask(TOKEN), world(), T, observe=passed.__setitem__)
    assert max(passed) == Step.KEY
    authorize(ask(TOKEN), world(), T, {introspection_need(TOKEN, "a", RULES): says()}, observe=passed.__setitem__)
    assert set(passed) == set(Step)


ALWAYS: Final = replace(RULES, mode=IntrospectionMode.ALWAYS)
AGREEMENT: Final[dict[str, tuple[IntrospectionResponse, Reason]]] = {
    "agrees": (says(sub="bob"), Reason.AUTHENTICATED),
    "says little": (IntrospectionResponse({"active": True, "token_type": "Bearer"}), Reason.AUTHENTICATED),
    "inactive": (says(active=False), Reason.TOKEN_INACTIVE),
    "a refresh token": (says(sub="bob", token_use="refresh_token"), Reason.TYP_NOT_ALLOWED),
    "of somebody else": (says(sub="alice"), Reason.TOKEN_INACTIVE),
    "of another issuer": (says(sub="bob", iss=B), Reason.TOKEN_INACTIVE),
    "bound to a key, which the token does not say": (says(sub="bob", cnf={"jkt": "k"}), Reason.TOKEN_INACTIVE),
    "bound to nothing, at length": (says(sub="bob", cnf=None), Reason.AUTHENTICATED),
}


@pytest.mark.parametrize(("answer", "reason"), AGREEMENT.values(), ids=AGREEMENT)
def test_a_jwt_that_is_asked_about_must_pass_both(answer: IntrospectionResponse, reason: Reason) -> None:
    """Its own checks first, then what its issuer says now; neither replaces the other."""
    token = mint()
    assert answered(answer, token=token, snapshot=world(ALWAYS)).reason is reason


def test_only_a_good_jwt_is_asked_about() -> None:
    """A forgery, an expired token and one for others cost no call; JWTs of an issuer that is not asked need none."""
    for token, reason in (
        (mint(A_EC, header={"kid": "a-rsa", "alg": "RS256"}), Reason.SIGNATURE_INVALID),
        (mint(exp=T - 1), Reason.TOKEN_EXPIRED),
        (mint(aud="x"), Reason.AUDIENCE_MISMATCH),
        (mint(B_EC, iss=B), Reason.AUTHENTICATED),
    ):
        decision = authorize(ask(token), world(ALWAYS), T)
        assert (decision.reason, decision.trail.needs) == (reason, ())
    assert authorize(ask(mint()), world(), T).reason is Reason.AUTHENTICATED  # mode: opaque
    (need,) = authorize(ask(mint()), world(ALWAYS), T).trail.needs
    assert need.kind == INTROSPECTION


SIGNED: Final = replace(RULES, signed=True)
OUTSIDE: Final[Mapping[str, object]] = {"iss": A, "aud": "rs", "iat": T, "token_introspection": dict(GOOD)}


def signed(
    key: SigningKey = A_EC, *, typ: object = "token-introspection+jwt", **changes: object
) -> SignedIntrospectionResponse:
    """Sign an answer as RFC 9701 wants it, with changes."""
    head = json.dumps(changed({**key.header(), "typ": typ}, {})).encode()
    return SignedIntrospectionResponse(key.sign_bytes(json.dumps(changed(OUTSIDE, changes)).encode(), header=head))


SIGNED_ANSWERS: Final[dict[str, tuple[object, Reason]]] = {
    "good": (signed(), Reason.AUTHENTICATED),
    "a list of audiences": (signed(aud=["other", "rs"]), Reason.AUTHENTICATED),
    "inactive": (signed(token_introspection={"active": False}), Reason.TOKEN_INACTIVE),
    "typ of an access token": (signed(typ="at+jwt"), Reason.INTROSPECTION_UNAVAILABLE),
    "typ as a whole media type": (signed(typ="application/token-introspection+jwt"), Reason.AUTHENTICATED),
    "no typ": (signed(typ=ABSENT), Reason.INTROSPECTION_UNAVAILABLE),
    "for another asker": (signed(aud="other"), Reason.INTROSPECTION_UNAVAILABLE),
    "for nobody": (signed(aud=ABSENT), Reason.INTROSPECTION_UNAVAILABLE),
    "of another issuer": (signed(iss=B), Reason.INTROSPECTION_UNAVAILABLE),
    "says nothing": (signed(token_introspection=ABSENT), Reason.INTROSPECTION_UNAVAILABLE),
    "says a text": (signed(token_introspection="active"), Reason.INTROSPECTION_UNAVAILABLE),
    "active outside only": (signed(active=True, token_introspection={}), Reason.TOKEN_INACTIVE),
    "by a key of another": (signed(B_EC), Reason.INTROSPECTION_UNAVAILABLE),
    "no JWT": (SignedIntrospectionResponse("{}"), Reason.INTROSPECTION_UNAVAILABLE),
    "unsigned JSON": (says(), Reason.INTROSPECTION_UNAVAILABLE),
}


@pytest.mark.parametrize(("answer", "reason"), SIGNED_ANSWERS.values(), ids=SIGNED_ANSWERS)
def test_signed_answers(answer: object, reason: Reason) -> None:
    """A signed answer counts if the issuer signed it, as such an answer, for us; else it says nothing of the token."""
    assert answered(answer, snapshot=world(SIGNED)).reason is reason


def test_a_signed_answer_by_a_new_key_is_a_need_for_the_key() -> None:
    """As for a token: the key may have been published since."""
    fresh = SigningKey.create("ES256", kid="new")
    facts: Facts = {introspection_need(TOKEN, "a", SIGNED): signed(fresh)}
    (need,) = authorize(ask(TOKEN), world(SIGNED), T, facts).trail.needs
    assert (need.kind, need.identifier) == (KEY, "new")


def test_a_signed_answer_without_keys_is_unavailable() -> None:
    """It cannot be verified, so it says nothing."""
    assert answered(signed(), snapshot=world(SIGNED, keys=None)).reason is Reason.INTROSPECTION_UNAVAILABLE


def test_the_operators_bound_of_a_token_counts() -> None:
    """`token.max_bytes` is for opaque tokens too."""
    snapshot = replace(world(), token=TokenRules(max_bytes=10))
    assert authorize(ask(TOKEN), snapshot, T).reason is Reason.TOKEN_TOO_LARGE
