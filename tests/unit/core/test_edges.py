"""Proves what only a small change to the core would break: found by making such changes, and seeing no test fail."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from urllib.parse import quote

import pytest

from authz.core import base64url
from authz.core.authorize import authorize
from authz.core.binding import certificate_thumbprint
from authz.core.certificate import X5C_UNREADABLE
from authz.core.claims import ClaimPath, Claims
from authz.core.decision import Allow, Deny
from authz.core.identity import HeaderChanges, Identity, MetadataClaim
from authz.core.issuer import Issuer
from authz.core.jwk_validation import LEAKED_PRIVATE_KEY
from authz.core.keys import Candidates, KeySet, RejectedKey, SignedPayload
from authz.core.policy import AccessMode, Rule
from authz.core.reasons import Reason
from authz.core.request import Request, Target
from authz.core.requirements import Params, Requirements
from authz.core.resource_metadata import ProtectedResource
from authz.core.snapshot import Responses, TokenRules
from authz.core.strip_credentials import strip_credentials
from authz.core.token import CookieSource, FoundToken, HeaderSource, UnverifiedToken, find_token
from tests.fixtures import (
    A_EC,
    A_RSA,
    ABSENT,
    T,
    ask,
    changed,
    claim,
    decide,
    header,
    issuer_a,
    jwks,
    key_set,
    make_snapshot,
    mint,
    rule,
)
from tests.unit.core.test_jwk_validation import OCT, PQ, RSA, number, rough
from tests.unit.core.test_keys import certificate

COOKIES = make_snapshot(token=TokenRules(sources=(CookieSource("t"),), forward=False))


def test_watch_is_told_what_came_of_each_step() -> None:
    """Each step hands over its own result, by its number and in order."""
    seen: list[tuple[int, object]] = []
    authorize(ask(mint()), make_snapshot(), T, observe=lambda step, made: seen.append((step, made)))
    kinds = [(step, type(made)) for step, made in seen]
    assert kinds == [
        (1, Target),
        (2, tuple),
        (3, FoundToken),
        (4, UnverifiedToken),
        (5, Issuer),
        (6, UnverifiedToken),
        (7, KeySet),
        (8, Candidates),
        (9, SignedPayload),
        (10, Claims),
        (11, Claims),
        (12, Requirements),
        (13, HeaderChanges),
    ]
    matched = seen[1][1]
    assert isinstance(matched, tuple)
    assert isinstance(matched[0], Rule)
    assert matched[1] == {}


def test_context_reaches_the_rules() -> None:
    """What the operator says of a route chooses the rule."""
    snapshot = make_snapshot(rule("shop", "/**", context={"shop": "1"}, allow=AccessMode.PUBLIC))
    assert decide(snapshot=snapshot, context={"shop": "1"}).reason is Reason.PUBLIC
    assert decide(snapshot=snapshot, context={"shop": "2"}).reason is Reason.POLICY_DENIED


@pytest.mark.parametrize(
    ("path", "token", "found"),
    [("/public/1", None, "public"), ("/mixed/1", None, "mixed"), ("/items/1", mint(), "items")],
)
def test_findings_go_with_every_allow(path: str, token: str | None, found: str) -> None:
    """An allow says by which rule."""
    decision = decide(token, path=path)
    assert isinstance(decision, Allow)
    assert (decision.trail.rule, decision.detail, decision.would_deny) == (found, "", False)


def test_shadow_knows_whom_it_lets_pass() -> None:
    """Where only the rule refused, the shadow still passes on who calls, keeps the token back and copies the claims."""
    snapshot = replace(
        make_snapshot(rule("r", "/**", shadow=True, scopes=("x",))),
        token=COOKIES.token,
        identity=Identity((header("x-user-id", "sub"),), metadata=(MetadataClaim("sub", ClaimPath(("sub",))),)),
    )
    decision = decide(snapshot=snapshot, headers={"cookie": f"a=1; t={mint()}"})
    assert isinstance(decision, Allow)
    assert decision.would_deny
    assert decision.trail.rule == "r"
    assert decision.claims == {"sub": "bob"}
    assert dict(decision.set_headers) == {"x-user-id": "bob", "cookie": "a=1"}


def test_shadow_over_all_keeps_tokens_back_where_no_rule_matches() -> None:
    """Also a request that no rule knows goes on without its token, and is on record."""
    snapshot = replace(make_snapshot(rule("r", "/r"), shadow_all=True), token=COOKIES.token)
    decision = decide(snapshot=snapshot, headers={"cookie": "a=1; t=x"})
    assert isinstance(decision, Allow)
    assert dict(decision.set_headers) == {"cookie": "a=1"}
    assert decision.trail.rule is None


class _Recorder:
    """A condition that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, Params]] = []

    def holds(self, request: Request, params: Params, claims: Claims) -> bool:
        self.asked.append((request, params))
        return True


def test_condition_sees_the_request_and_its_parameters() -> None:
    """A condition is asked about this request, and the values in its path."""
    condition = _Recorder()
    assert (
        decide(mint(), snapshot=make_snapshot(rule("r", "/items/{id}", condition=condition))).reason
        is Reason.AUTHENTICATED
    )
    ((request, params),) = condition.asked
    assert (request.path, params) == ("/items/1", {"id": "1"})


@pytest.mark.parametrize(("auth_time", "reason"), [(T - 60, Reason.AUTHENTICATED), (T - 61, Reason.STEP_UP_REQUIRED)])
def test_age_is_counted_from_now(auth_time: int, reason: Reason) -> None:
    """The instant of the decision reaches the rule."""
    assert decide(mint(auth_time=auth_time), snapshot=make_snapshot(rule("r", "/**", max_age=60))).reason is reason


def test_certificate_of_the_peer_reaches_the_binding() -> None:
    """A token that is bound to the peer's certificate is good in its hands only (RFC 8705 section 3.1)."""
    pem = f"-----BEGIN CERTIFICATE-----\n{b64encode(certificate(A_EC)).decode()}\n-----END CERTIFICATE-----\n"
    token = mint(cnf={"x5t#S256": certificate_thumbprint(quote(pem))})
    assert decide(token, certificate=quote(pem)).reason is Reason.AUTHENTICATED
    assert decide(token).reason is Reason.TOKEN_BOUND


def test_missing_keys_are_nobodys_fault() -> None:
    """An issuer without keys is a reason to try again, not to give up."""
    assert decide(mint(), snapshot=make_snapshot(a=issuer_a(keys=None))).reason is Reason.KEYS_UNAVAILABLE


def test_alias_of_the_issuer_counts_in_rules_and_metadata() -> None:
    """A name means what the issuer's configuration says, not the claim of that name."""
    a = issuer_a(aliases={"roles": ClaimPath(("groups",))})
    snapshot = replace(
        make_snapshot(rule("r", "/**", claims=(claim("roles", "admin"),)), a=a),
        identity=Identity(metadata=(MetadataClaim("roles", ClaimPath(("roles",))),)),
    )
    decision = decide(mint(roles=["nobody"]), snapshot=snapshot)
    assert isinstance(decision, Allow)
    assert decision.claims == {"roles": ["admin", "staff"]}


def test_alias_of_the_issuer_counts_in_headers() -> None:
    """A header is written from the claim that its name means for the issuer."""
    snapshot = replace(
        make_snapshot(a=issuer_a(aliases={"user": ClaimPath(("login",))})),
        identity=Identity((header("x-user-id", "user"),)),
    )
    decision = decide(mint(user="nobody", login="ann"), snapshot=snapshot)
    assert isinstance(decision, Allow)
    assert decision.set_headers == (("x-user-id", "ann"),)


def test_challenge_names_only_the_scopes_that_are_missing() -> None:
    """Where the alternatives are what fails, the scopes that are there are not asked for again."""
    decision = decide(mint(scope="a"), snapshot=make_snapshot(rule("r", "/**", scopes=("a",), any_scope=("b", "c"))))
    assert isinstance(decision, Deny)
    assert decision.scopes == ("b", "c")


def test_rule_that_minds_case_stays_so_behind_one_that_does_not() -> None:
    """Two rules of both kinds on one host are not mixed up."""
    snapshot = make_snapshot(
        rule("fold", "/Fold", case_insensitive=True, allow=AccessMode.PUBLIC),
        rule("exact", "/Exact", allow=AccessMode.PUBLIC),
    )
    outcomes = {path: decide(snapshot=snapshot, path=path).reason for path in ("/fOLD", "/Exact", "/exact", "/EXACT")}
    assert outcomes == {
        "/fOLD": Reason.PUBLIC,
        "/Exact": Reason.PUBLIC,
        "/exact": Reason.POLICY_DENIED,
        "/EXACT": Reason.POLICY_DENIED,
    }


def test_rules_that_ignore_case_stand_side_by_side() -> None:
    """A second rule that ignores case takes nothing from the first."""
    snapshot = make_snapshot(rule("one", "/One", case_insensitive=True), rule("two", "/Two", case_insensitive=True))
    assert [decide(snapshot=snapshot, path=path).trail.rule for path in ("/oNE", "/tWO")] == ["one", "two"]


def test_rule_may_match_in_two_ways() -> None:
    """A path that two templates of one rule fit is matched once."""
    assert (
        decide(snapshot=make_snapshot(rule("r", "/{x}", "/a", "/**", allow=AccessMode.PUBLIC)), path="/a").reason
        is Reason.PUBLIC
    )


@pytest.mark.parametrize("connection", ["close,x-user-id", "\tx-user-id ", "close, X-User-Id"])
def test_nomination_in_a_list(connection: str) -> None:
    """An identity header is found among the options of `connection`, however they are separated."""
    assert decide(mint(), headers={"connection": connection}).reason is Reason.REQUEST_MALFORMED


def test_name_with_other_spaces_is_another_name() -> None:
    """Only space and tab are optional white space (RFC 9110 section 5.6.3)."""
    assert decide(mint(), headers={"connection": "\xa0x-user-id"}).reason is Reason.AUTHENTICATED
    assert find_token(Request(headers={"cookie": "\xa0t=x; X t=y"}), (CookieSource("t"),)) is None
    assert find_token(Request(), (CookieSource("t"),)) is None


@pytest.mark.parametrize(
    ("cookie", "left"),
    [
        ("a=1,t=2,b=3", "a=1,b=3"),
        ("a=1; t=x=y", "a=1"),
        ("a=1,\tt=2", "a=1"),
        ("a=1; \xa0t=2; t=3", "a=1; \xa0t=2"),
        ("Xa=1X; t=2", "Xa=1X"),
        ("t=2; Xt=1", "Xt=1"),
        ("a=1;  b=2", None),
    ],
)
def test_cookies_that_are_left(cookie: str, left: str | None) -> None:
    """The token's cookie goes, wherever it stands; the others stay letter by letter."""
    changes = strip_credentials(Request(headers={"cookie": cookie}), (CookieSource("t"),))
    assert dict(changes.set).get("cookie") == left


def test_credentials_behind_others_are_kept_back() -> None:
    """A header that holds a token of ours behind a comma is removed."""
    source = HeaderSource("authorization", "Bearer")
    assert strip_credentials(Request(headers={"authorization": "Basic x,Bearer y"}), (source,)).remove == (
        "authorization",
    )
    assert strip_credentials(Request(headers={"authorization": "Basic x,y"}), (source,)).remove == ()


def test_symmetric_key_needs_a_word_of_the_operator() -> None:
    """Unless a set is said to be local, no secret in it is a key."""
    document = json.dumps({"keys": [OCT]})
    assert KeySet.from_json(document).keys == ()
    (key,) = KeySet.from_json(document, local=True).keys
    assert (key.alg, key.bits) == ("HS256", 256)


def test_two_keys_of_one_name_are_both_known() -> None:
    """The second key of a name does not hide the first (RFC 7517 section 4.5): either may have signed."""
    twin = changed(A_RSA.public(), {"n": number(rough(2048))})
    for keys in (key_set(A_RSA, twin), key_set(twin, A_RSA)):
        assert decide(mint(), snapshot=make_snapshot(a=issuer_a(keys=keys))).reason is Reason.AUTHENTICATED
    other = changed(A_EC.public(), {"kid": "a-rsa"})
    assert decide(mint(), snapshot=make_snapshot(a=issuer_a(keys=key_set(A_RSA, other)))).reason is Reason.AUTHENTICATED


def test_key_that_is_set_aside_says_what_it_is_for() -> None:
    """Invalid, leaked or blocked, it is known by type, curve and algorithm: a token without a key id may mean it."""
    private = {**json.loads(A_EC.jwk.export_private()), "kid": "private"}
    for keys, why in (
        (key_set(changed(A_EC.public(), {"y": ABSENT})), "y is missing or not a string"),
        (key_set(A_EC, private), LEAKED_PRIVATE_KEY),
        (key_set(A_EC).block(["a-ec"]), "blocked by configuration"),
    ):
        assert RejectedKey("a-ec", why, "EC", "P-256", "ES256") in keys.rejected_keys


def test_key_for_something_else_is_known_by_its_id_alone() -> None:
    """A key for encryption can be named by a token, and is never meant by one without a key id."""
    keys = key_set(changed(A_EC.public(), {"use": "enc"}))
    assert keys.rejected_keys == (RejectedKey("a-ec", "use is not sig", other_purpose=True),)
    assert keys.rejected_signing_keys == []


def test_bounds_belong_to_what_they_bound() -> None:
    """The longest key id and the longest modulus are still allowed."""
    assert len(key_set(changed(RSA, {"kid": "k" * 1024})).keys) == 1
    (key,) = key_set(changed(RSA, {"n": number(rough(8192))})).keys
    assert key.bits == 8192


def test_size_of_a_post_quantum_key() -> None:
    """Its size is that of its public part."""
    (key,) = key_set(PQ).keys
    assert key.bits == 8 * 1312


def test_secret_of_eight_octets_many_times_over() -> None:
    """Eight different octets are the fewest that are not called a repetition."""
    k = base64url.encode(bytes(range(8)) * 4).decode()
    assert len(key_set(changed(OCT, {"k": k}), local=True).keys) == 1


def test_certificate_is_base64_and_nothing_else() -> None:
    """Characters outside the alphabet are not skipped (RFC 7517 section 4.7): it is then no certificate."""
    chain = b64encode(certificate(A_RSA)).decode()
    for x5c, notes in (([chain], ()), (["!" + chain], (X5C_UNREADABLE,))):
        (key,) = KeySet.from_json(jwks(changed(A_RSA.public(), {"x5c": x5c}))).keys
        assert key.notes == notes


def test_wildcard_reaches_every_depth() -> None:
    """A wildcard is met by names that are two and more labels longer."""
    snapshot = make_snapshot(rule("r", "/**", hosts=["*.api.test"], allow=AccessMode.PUBLIC))
    hosts = ("x.api.test", "x.y.api.test", "x.y.z.api.test", "api.test", "xapi.test")
    assert [decide(snapshot=snapshot, host=host).reason is Reason.PUBLIC for host in hosts] == [True] * 3 + [False] * 2


def test_empty_cookie_is_no_token_and_goes_all_the_same() -> None:
    """Who comes without a token under `allow: optional` is anonymous, and what is left of a cookie is kept back."""
    decision = decide(snapshot=COOKIES, path="/mixed/1", headers={"cookie": "a=1; t="})
    assert isinstance(decision, Allow)
    assert decision.reason is Reason.ANONYMOUS
    assert dict(decision.set_headers) == {"cookie": "a=1"}


def test_expiry_is_on_record() -> None:
    """Anyone who reports a decision learns when the token will have expired."""
    assert decide(mint()).trail.expires == T + 300


def test_audience_is_on_record() -> None:
    """Anyone who reports a decision learns whom the token is for, by the claim that the issuer says it in."""
    assert decide(mint(aud="other")).trail.audience == "other"
    snapshot = make_snapshot(a=issuer_a(audience_claim="client_id"))
    assert decide(mint(client_id=["other"]), snapshot=snapshot).trail.audience == ["other"]


def test_document_leaves_no_identity_header() -> None:
    """The sidecar's own document is an allow like any other: no one's headers stay."""
    resource = ProtectedResource.describe("https://api.test", authorization_servers=(), scopes=(), methods=())
    snapshot = replace(make_snapshot(), responses=Responses(resource=resource))
    decision = decide(snapshot=snapshot, path="/.well-known/oauth-protected-resource")
    assert isinstance(decision, Allow)
    assert decision.document
    assert set(decision.remove_headers) == set(snapshot.identity.strip_all.remove) != set()


def test_large_set_may_have_many_arrays() -> None:
    """What bounds the containers of a token does not bound a set that may have more keys."""
    entries = [changed(RSA, {"kid": str(n), "key_ops": ["verify"]}) for n in range(600)]
    assert len(KeySet.from_json(jwks(*entries), max_keys=600, max_bytes=2**20).keys) == 600
