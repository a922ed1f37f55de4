"""Proves authz.core.authorize: the order of the steps, and what goes along with a decision."""

from __future__ import annotations

from typing import Any

import pytest

from authz.core.authorize import authorize
from authz.core.claims import ClaimPath
from authz.core.decision import Allow, Decision, Deny
from authz.core.identity import ClaimHeader, Identity, MetadataClaim, separator_variants
from authz.core.keys import Key, Verified
from authz.core.needs import CHANGED_KEY, KEY, KeySearched, Need
from authz.core.policy import AccessMode
from authz.core.reasons import Reason, Rejected
from authz.core.resource_metadata import WELL_KNOWN, ProtectedResource
from authz.core.snapshot import Responses, Snapshot, TokenRules
from authz.core.token import CookieSource, HeaderSource, QuerySource, UnverifiedToken
from tests.fixtures import (
    A_EC,
    A_RSA,
    ABSENT,
    B_EC,
    DEFAULT_SNAPSHOT,
    B,
    T,
    ask,
    claim,
    decide,
    header,
    issuer_a,
    key_set,
    make_snapshot,
    mint,
    rule,
    signer,
)

GOOD = mint()
NO_IDENTITY = [name for header in ("x-user-id", "x-user-groups") for name in separator_variants(header)]


def test_good_token_is_allowed_and_introduced() -> None:
    """A good token passes; who called stands in headers that overwrite, in every other spelling they are removed."""
    decision = decide(GOOD, headers={"x-user-id": "admin", "x_user_id": "admin"})
    assert isinstance(decision, Allow)
    assert (decision.reason, decision.would_deny) == (Reason.AUTHENTICATED, False)
    assert decision.set_headers == (("x-user-id", "bob"), ("x-user-groups", "admin,staff"))
    assert sorted(decision.remove_headers) == sorted(set(NO_IDENTITY) - {"x-user-id", "x-user-groups"})


@pytest.mark.parametrize(
    ("path", "token", "reason"),
    [
        ("/public/x", None, Reason.PUBLIC),
        ("/public/x", "garbage", Reason.PUBLIC),
        ("/public/x", mint(exp=T - 1), Reason.PUBLIC),
        ("/mixed/x", None, Reason.ANONYMOUS),
    ],
)
def test_allow_of_nobody_removes_all_identity(path: str, token: str | None, reason: Reason) -> None:
    """Where no one was authenticated no one is introduced, whatever the client wrote."""
    decision = decide(token, path=path, headers={"x-user-id": "admin"})
    assert isinstance(decision, Allow)
    assert (decision.reason, decision.set_headers) == (reason, ())
    assert sorted(decision.remove_headers) == sorted(NO_IDENTITY)


def test_optional_does_not_forgive() -> None:
    """Where a token is optional a good one counts, and a bad one is refused."""
    assert decide(GOOD, path="/mixed").reason is Reason.AUTHENTICATED
    assert decide(mint(exp=T), path="/mixed").reason is Reason.TOKEN_EXPIRED
    assert decide(path="/mixed", headers={"authorization": "Bearer"}).reason is Reason.TOKEN_MALFORMED


def test_nominated_identity_is_malformed() -> None:
    """A client that wants an identity header dropped on the way is refused before any rule, in shadow too."""
    headers = {"connection": "upgrade, x-user-id"}
    for snapshot in (DEFAULT_SNAPSHOT, make_snapshot(shadow_all=True)):
        for path in ("/public", "/items/1"):
            decision = decide(GOOD, snapshot=snapshot, path=path, headers=headers)
            assert isinstance(decision, Deny)
            assert decision.reason is Reason.REQUEST_MALFORMED


def test_nobody_means_nobody() -> None:
    """A rule for no one refuses the best token, before it looks at it."""
    snapshot = make_snapshot(rule("closed", "/**", allow=AccessMode.DENY))
    for token in (None, GOOD, "garbage"):
        decision = decide(token, snapshot=snapshot)
        assert (decision.reason, decision.trail.alg) == (Reason.POLICY_DENIED, None)


# The order of the steps: each request has the faults of all later steps too, and the first decides.

LAST_STRAW = {"sub": "\n"}
NO_GROUP = LAST_STRAW | {"groups": ["x"]}
BOUND = NO_GROUP | {"cnf": {"jkt": "x"}}
EXPIRED = BOUND | {"exp": T - 1}
FORGED = signer("RS256", "a-rsa")
ORDER: list[tuple[Reason, Decision]] = [
    (Reason.REQUEST_MALFORMED, decide("x", host="a@b", path="/nowhere/..")),
    (Reason.PATH_AMBIGUOUS, decide("x", path="/nowhere/..")),
    (Reason.POLICY_DENIED, decide("x", path="/nowhere")),
    (Reason.TOKEN_MISSING, decide(path="/admin")),
    (Reason.TOKEN_MULTIPLE, decide("x,Bearer y", path="/admin")),
    (Reason.TOKEN_TOO_LARGE, decide("." * 16_385, path="/admin")),
    (Reason.TOKEN_MALFORMED, decide("x", path="/admin")),
    (Reason.HEADER_INVALID, decide(mint(header={"alg": 1, "crit": []}, iss=1), path="/admin")),
    (Reason.CRIT_UNSUPPORTED, decide(mint(header={"alg": "none", "crit": []}, iss=1), path="/admin")),
    (Reason.CLAIMS_MALFORMED, decide(mint(header={"alg": "none"}, iss=1), path="/admin")),
    (Reason.ISSUER_UNKNOWN, decide(mint(header={"alg": "none"}, iss="x"), path="/admin")),
    (Reason.ALG_NOT_ALLOWED, decide(mint(header={"alg": "none", "typ": "x"}), path="/admin")),
    (
        Reason.TYP_NOT_ALLOWED,
        decide(mint(header={"typ": "x"}), snapshot=make_snapshot(a=issuer_a(keys=None)), path="/admin"),
    ),
    (
        Reason.KEYS_UNAVAILABLE,
        decide(mint(header={"kid": "x"}), snapshot=make_snapshot(a=issuer_a(keys=None)), path="/admin"),
    ),
    (Reason.KEY_NOT_FOUND, decide(mint(FORGED, header={"kid": "x"}, claims=EXPIRED), path="/admin")),
    (Reason.KEY_UNUSABLE, decide(mint(FORGED, header={"kid": "a-ec"}, claims=EXPIRED), path="/admin")),
    (Reason.SIGNATURE_INVALID, decide(mint(FORGED, claims=EXPIRED), path="/admin")),
    (Reason.TOKEN_EXPIRED, decide(mint(claims=EXPIRED), path="/admin")),
    (Reason.TOKEN_BOUND, decide(mint(claims=BOUND), path="/admin")),
    (Reason.POLICY_DENIED, decide(mint(claims=NO_GROUP), path="/admin")),
    (Reason.HEADER_UNSAFE, decide(mint(claims=LAST_STRAW), path="/admin")),
    (Reason.AUTHENTICATED, decide(GOOD, path="/admin")),
]


@pytest.mark.parametrize(("reason", "decision"), ORDER, ids=[str(reason) for reason, _ in ORDER])
def test_first_failure_is_the_reason(reason: Reason, decision: Decision) -> None:
    """Of several faults the one that comes first in the order of the steps is named."""
    assert decision.reason is reason
    assert isinstance(decision, Deny) is (reason is not Reason.AUTHENTICATED)


def test_keys_of_one_issuer_never_serve_another() -> None:
    """A token that claims issuer A is evaluated by A's keys, and B's is evaluated by B's."""
    assert decide(mint(B_EC, iss=B)).reason is Reason.AUTHENTICATED
    assert decide(mint(B_EC)).reason is Reason.KEY_NOT_FOUND
    assert decide(mint(A_EC, iss=B)).reason is Reason.KEY_NOT_FOUND
    assert decide(mint(B_EC, header={"kid": "a-ec"})).reason is Reason.SIGNATURE_INVALID


def test_same_kid_at_two_issuers() -> None:
    """A key id means the key of the issuer that is named, also where another issuer uses the same one."""
    snapshot = make_snapshot(a=issuer_a(keys=key_set(signer("ES256", "b-ec"))))
    assert decide(mint(B_EC), snapshot=snapshot).reason is Reason.SIGNATURE_INVALID
    assert decide(mint(signer("ES256", "b-ec")), snapshot=snapshot).reason is Reason.AUTHENTICATED


# AuditTrail


def test_findings_of_an_allow() -> None:
    """Who reports an allow knows the rule, the issuer, the key and the subject."""
    found = decide(GOOD).trail
    assert (found.rule, found.issuer, found.alg, found.kid) == ("items", "a", "RS256", "a-rsa")
    assert (found.signature_cached, found.subject) == (False, "bob")


def test_findings_end_where_the_pipeline_ended() -> None:
    """What was not reached is None, and an unverified subject is never shown."""
    assert decide(path="/nowhere").trail.rule is None
    assert decide().trail.rule == "items"
    forged = decide(mint(FORGED)).trail
    assert (forged.kid, forged.signature_cached, forged.subject) == ("a-rsa", None, None)
    expired = decide(mint(exp=T)).trail
    assert (expired.signature_cached, expired.subject) == (False, None)
    assert decide(mint(cnf={})).trail.subject == "bob"


def test_memory_is_asked_for_arithmetic_only() -> None:
    """The cache of signatures gets issuer, key and token; time and rules are checked again."""
    asked: list[tuple[str, str | None, str]] = []

    def remember(issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
        (key,) = keys
        asked.append((issuer, key.kid, token.alg))
        return key, Verified.CACHED

    snapshot = make_snapshot(verify_signature=remember)
    assert decide(mint(FORGED), snapshot=snapshot).trail.signature_cached is True
    assert decide(mint(exp=T), snapshot=snapshot).reason is Reason.TOKEN_EXPIRED
    assert asked == [("a", "a-rsa", "RS256")] * 2


def test_no_token_in_any_repr() -> None:
    """What a log could show of a decision has nothing of the token's payload or signature in it."""
    for decision in (decide(GOOD), decide(mint(exp=T)), decide(mint(FORGED)), decide(GOOD + "!")):
        assert not [part for part in GOOD.split(".")[1:] if part[:24] in repr(decision)]


# Sources, and what the upstream gets to see

COOKIE = TokenRules(sources=(HeaderSource("authorization", "Bearer"), CookieSource("t")))


@pytest.mark.parametrize(
    ("method", "headers", "reason"),
    [
        ("GET", {}, Reason.AUTHENTICATED),
        ("POST", {}, Reason.POLICY_DENIED),
        ("POST", {"origin": "https://evil.test"}, Reason.POLICY_DENIED),
        ("POST", {"origin": "https://api.test"}, Reason.AUTHENTICATED),
        ("POST", {"sec-fetch-site": "cross-site"}, Reason.POLICY_DENIED),
        ("POST", {"sec-fetch-site": "same-origin"}, Reason.AUTHENTICATED),
    ],
    ids=str,
)
def test_cookie_needs_proof_of_origin(method: str, headers: dict[str, str], reason: Reason) -> None:
    """A token in a cookie is good for unsafe methods only with proof of the same origin; one in a header needs none."""
    snapshot = make_snapshot(token=COOKIE)
    asked: dict[str, Any] = {"method": method, "scheme": "https", "headers": {"cookie": f"t={GOOD}", **headers}}
    assert decide(snapshot=snapshot, **asked).reason is reason
    assert decide(GOOD, snapshot=snapshot, method=method).reason is Reason.AUTHENTICATED


@pytest.mark.parametrize("path", ["/items/1", "/public/1", "/mixed/1"])
def test_token_is_withheld_on_every_way_through(path: str) -> None:
    """Where tokens are not to be forwarded, none goes on: not past a public rule either."""
    sources = (HeaderSource("authorization", "Bearer"), CookieSource("t"), QuerySource("q"))
    snapshot = make_snapshot(token=TokenRules(sources=sources, forward=False))
    decision = decide(snapshot=snapshot, path=f"{path}?q=", headers={"cookie": f"a=1; t={GOOD}"})
    assert isinstance(decision, Allow)
    assert "authorization" in decision.remove_headers
    assert ("cookie", "a=1") in decision.set_headers
    assert decision.drop_query == ("q",)
    names = [name for name, _ in decision.set_headers]
    assert not set(names) & set(decision.remove_headers)


def test_token_is_forwarded_by_default() -> None:
    """Nothing of the request is taken away where no one asked for it."""
    decision = decide(GOOD)
    assert isinstance(decision, Allow)
    assert "authorization" not in decision.remove_headers
    assert decision.drop_query == ()


def test_claims_are_copied_for_the_authenticated_only() -> None:
    """Envoy's metadata gets the claims of who was let in, and of no one else."""
    copied = tuple(MetadataClaim(name, ClaimPath((name,))) for name in ("sub", "decision"))
    snapshot = make_snapshot(identity=Identity(metadata=copied))
    allowed, public = decide(mint(decision="allow"), snapshot=snapshot), decide(path="/public", snapshot=snapshot)
    assert isinstance(allowed, Allow)
    assert isinstance(public, Allow)
    assert (allowed.claims, public.claims) == ({"sub": "bob", "decision": "allow"}, {})


# Shadow


def shadowed(snapshot: Snapshot, token: str | None, **request: Any) -> Allow:  # noqa: ANN401 - fields of Request
    """Judge a request that a shadow lets pass."""
    decision = decide(token, snapshot=snapshot, **request)
    assert isinstance(decision, Allow)
    assert decision.would_deny
    return decision


SHADOWED_RULE = make_snapshot(rule("s", "/items/**", shadow=True, claims=(claim("groups", "root"),)), rule("t", "/**"))
SHADOWED_ALL = make_snapshot(shadow_all=True)


@pytest.mark.parametrize(
    ("token", "reason", "introduced"),
    [
        (None, Reason.TOKEN_MISSING, False),
        ("garbage", Reason.TOKEN_MALFORMED, False),
        (mint(FORGED), Reason.SIGNATURE_INVALID, False),
        (mint(exp=T), Reason.TOKEN_EXPIRED, False),
        (mint(cnf={}), Reason.TOKEN_BOUND, False),
        (GOOD, Reason.POLICY_DENIED, True),
    ],
    ids=["missing", "malformed", "forged", "expired", "bound", "good"],  # not the tokens: they are new in each process
)
def test_shadow_reports_and_lets_pass(token: str | None, reason: Reason, introduced: bool) -> None:  # noqa: FBT001
    """A rule in shadow lets pass what it would deny; only the bearer of a good token is introduced."""
    decision = shadowed(SHADOWED_RULE, token, headers={"x-user-id": "admin"})
    assert decision.reason is reason
    assert decision.detail
    assert (("x-user-id", "bob") in decision.set_headers) is introduced
    assert ("x-user-id" in decision.remove_headers) is not introduced


def test_shadow_introduces_nobody_whose_headers_are_unsafe() -> None:
    """A good token whose claims fit no header passes in shadow, with all identity removed."""
    snapshot = make_snapshot(rule("s", "/items/**", shadow=True))
    decision = shadowed(snapshot, mint(sub="\n"))
    assert (decision.reason, decision.set_headers) == (Reason.HEADER_UNSAFE, ())
    assert sorted(decision.remove_headers) == sorted(NO_IDENTITY)


def test_shadow_tells_envoy_no_claims_that_fit_no_header() -> None:
    """What is removed from the headers does not reach Envoy's metadata instead."""
    copied = Identity(
        headers=(ClaimHeader(header="x-user-id", name="sub", path=ClaimPath(("sub",))),),
        metadata=(MetadataClaim("sub", ClaimPath(("sub",))),),
    )
    snapshot = make_snapshot(rule("s", "/items/**", shadow=True), identity=copied)
    assert shadowed(snapshot, mint(sub="\n")).claims == {}


def test_shadow_lets_its_own_requests_pass_only() -> None:
    """A shadow on one rule changes nothing for another."""
    assert isinstance(decide(snapshot=SHADOWED_RULE, path="/other"), Deny)


def test_shadow_over_all_passes_what_no_rule_matches() -> None:
    """With everything in shadow a request without a rule passes, and so does one that a rule denies to everybody."""
    assert shadowed(SHADOWED_ALL, None, path="/nowhere").reason is Reason.POLICY_DENIED
    closed = make_snapshot(rule("closed", "/**", allow=AccessMode.DENY), shadow_all=True)
    assert shadowed(closed, GOOD).reason is Reason.POLICY_DENIED


@pytest.mark.parametrize("snapshot", [SHADOWED_RULE, SHADOWED_ALL], ids=["rule", "all"])
@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"host": "a@b"}, Reason.REQUEST_MALFORMED),
        ({"path": ""}, Reason.REQUEST_MALFORMED),
        ({"path": "/items/../x"}, Reason.PATH_AMBIGUOUS),
        ({"path": "/items/a;b"}, Reason.PATH_AMBIGUOUS),
    ],
    ids=str,
)
def test_shadow_never_hides_a_malformed_request(request_: dict[str, Any], reason: Reason, snapshot: Snapshot) -> None:
    """What is no request, or has two readings, is refused in shadow too."""
    decision = decide(GOOD, snapshot=snapshot, **request_)
    assert isinstance(decision, Deny)
    assert decision.reason is reason


def test_good_request_is_no_shadow() -> None:
    """What would be allowed anyway is allowed as ever."""
    decision = decide(GOOD, snapshot=SHADOWED_ALL)
    assert isinstance(decision, Allow)
    assert (decision.reason, decision.would_deny) == (Reason.AUTHENTICATED, False)


# The sidecar's own document

RESOURCE = ProtectedResource.describe(
    "https://api.test", authorization_servers=("https://a.test",), scopes=(), methods=("header",)
)


def test_document_is_answered_before_any_rule() -> None:
    """The metadata document is for everybody, also where a rule would close its path."""
    closed = make_snapshot(rule("closed", "/**", allow=AccessMode.DENY), responses=Responses(resource=RESOURCE))
    decision = decide(snapshot=closed, path=WELL_KNOWN)
    assert isinstance(decision, Allow)
    assert (decision.reason, decision.document) == (Reason.PUBLIC, RESOURCE.document)
    assert decide(snapshot=closed, path="/items/1").reason is Reason.POLICY_DENIED
    assert decide(path=WELL_KNOWN).reason is Reason.POLICY_DENIED


def test_no_other_decision_carries_a_document() -> None:
    """Only the document's own path is answered in the upstream's place."""
    decision = decide(GOOD, snapshot=make_snapshot(responses=Responses(resource=RESOURCE)))
    assert isinstance(decision, Allow)
    assert decision.document is None


def test_groups_are_judged_and_missing_ones_removed() -> None:
    """A missing optional claim removes its header and nothing else."""
    decision = decide(mint(groups=ABSENT))
    assert isinstance(decision, Allow)
    assert decision.set_headers == (("x-user-id", "bob"),)
    assert "x-user-groups" in decision.remove_headers


def test_rejections_of_the_memory_are_denials() -> None:
    """A remembered refusal counts like a computed one."""

    def refuse(issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
        raise Rejected(Reason.SIGNATURE_INVALID, f"{issuer} {keys[0].kid} {token.kid}")

    assert decide(GOOD, snapshot=make_snapshot(verify_signature=refuse)).reason is Reason.SIGNATURE_INVALID


def test_world_is_what_the_cases_assume() -> None:
    """The fixture itself: two issuers, four rules, identity headers for subject and groups."""
    assert [issuer.name for issuer in DEFAULT_SNAPSHOT.issuers.values()] == ["a", "b"]
    assert [each.name for each in DEFAULT_SNAPSHOT.policy.rules] == ["public", "mixed", "admin", "items"]
    assert ask(GOOD).headers == {"authorization": f"Bearer {GOOD}"}
    assert header("x", "sub").path == ClaimPath(("sub",))


UNKNOWN = signer("RS256", "never-seen")


def test_an_unknown_key_is_a_need() -> None:
    """The decision names what could change it: the key, of the issuer by its configured name."""
    denied = decide(mint(UNKNOWN))
    assert (denied.reason, denied.trail.needs) == (Reason.KEY_NOT_FOUND, (Need(KEY, "a", "never-seen"),))
    without_id = decide(mint(header={"kid": ABSENT}), snapshot=make_snapshot(a=issuer_a(keys=key_set(A_EC))))
    assert (without_id.reason, without_id.trail.needs) == (Reason.KEY_NOT_FOUND, (Need(KEY, "a", None),))


def test_a_key_that_was_looked_for_is_no_need() -> None:
    """With the fact that it was looked for, the same decision is final; another key's fact answers nothing."""
    need = Need(KEY, "a", "never-seen")
    final = authorize(ask(mint(UNKNOWN)), DEFAULT_SNAPSHOT, T, {need: "looked for"})
    other = authorize(ask(mint(UNKNOWN)), DEFAULT_SNAPSHOT, T, {Need(KEY, "b", "never-seen"): "looked for"})
    assert (final.reason, final.trail.needs) == (Reason.KEY_NOT_FOUND, ())
    assert other.trail.needs == (need,)


def test_what_the_operator_should_know_of_a_search_is_in_the_detail() -> None:
    """That the last refresh failed belongs to the denial that rests on an older one; the rest is as without it."""
    need = Need(KEY, "a", "never-seen")
    plain = authorize(ask(mint(UNKNOWN)), DEFAULT_SNAPSHOT, T, {need: KeySearched()})
    noted = authorize(ask(mint(UNKNOWN)), DEFAULT_SNAPSHOT, T, {need: KeySearched("the last refresh failed")})
    assert isinstance(plain, Deny)
    assert isinstance(noted, Deny)
    assert (plain.detail, noted.detail) == ("no key with this id", "no key with this id; the last refresh failed")
    assert (noted.reason, noted.trail.needs) == (plain.reason, ())


def test_a_wrong_signature_is_a_doubt() -> None:
    """The issuer may have changed the key under its id: the denial stands, and says what may be looked up."""
    forged = decide(mint(signer("RS256", str(A_RSA.kid))))
    assert (forged.reason, forged.trail.needs) == (Reason.SIGNATURE_INVALID, ())
    assert forged.trail.rechecks == (Need(CHANGED_KEY, "a", A_RSA.kid),)
    assert decide(mint()).trail.rechecks == ()
    assert decide(mint(claims=EXPIRED)).trail.rechecks == ()


def test_a_shadow_names_its_needs_too() -> None:
    """What a shadow lets pass says as well what it lacks: the report of it should be right."""
    shadowed = decide(mint(UNKNOWN), snapshot=make_snapshot(rule("r", "/items/**", shadow=True)))
    assert isinstance(shadowed, Allow)
    assert shadowed.trail.needs == (Need(KEY, "a", "never-seen"),)


@pytest.mark.parametrize("token", [mint(), mint(exp=T - 1), mint(FORGED), mint(iss="https://nobody.test"), "x"])
def test_nothing_else_is_a_need(token: str) -> None:
    """Whatever else is wrong with a token, no fact from elsewhere would change it."""
    assert decide(token).trail.needs == ()


def test_an_audience_that_does_not_fit_is_recorded_beside_those_that_would() -> None:
    """The issuer's, or the rule's where the token is good for the issuer; nothing with any other outcome."""
    items = rule("items", "/items/**", audiences=frozenset({"orders"}))
    of_rule = decide(mint(), snapshot=make_snapshot(items))
    assert of_rule.reason is Reason.AUDIENCE_MISMATCH
    assert (of_rule.trail.audience, of_rule.trail.expected_audience) == ("api", frozenset({"orders"}))
    of_issuer = decide(mint(aud=["billing"]))
    assert (of_issuer.trail.audience, of_issuer.trail.expected_audience) == (["billing"], frozenset({"api"}))
    shadowed = decide(mint(aud="x"), snapshot=make_snapshot(rule("items", "/items/**", shadow=True)))
    assert shadowed.trail.expected_audience == frozenset({"api"})
    assert decide(mint(exp=T - 1)).trail.expected_audience == frozenset()
