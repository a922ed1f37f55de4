"""Proves authz.core.minting: for whom a token is minted, what it says, and that no client can write its header."""

# ruff: noqa: ANN401 - changes to a request are fields of several types

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import pytest

from authz.core.authorize import authorize
from authz.core.claims import ClaimPath
from authz.core.decision import Allow, Decision, as_unanswered
from authz.core.identity import Identity, separator_variants
from authz.core.keys import Verified
from authz.core.minting import (
    MINTED,
    CopiedValue,
    FixedValue,
    Minted,
    MintedClaim,
    RequestField,
    ScopeClaim,
    SigningKey,
    TokenFormat,
)
from authz.core.needs import Need
from authz.core.policy import AccessMode, Rule
from authz.core.reasons import Reason
from authz.core.signing_request import read_signing_request
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.token import CookieSource, UnverifiedToken, parse_token
from tests.cases.minting import LEEWAY_CAUSES, MINTING, NO_SUB, SIZE_CAUSES, SUBJECT_CAUSES, minting
from tests.fixtures import A, T, ask, issuer_a, make_snapshot, mint, rule

SIGNED: Final = Minted("head.claims.signature", "txn-1", T + 120.0)
READ: Final = rule("read", "/items/**", scopes=("read",), any_scope=("a", "b"))
WORKLOAD: Final = "gateway.test"


def decide(
    snapshot: Snapshot,
    token: str | None = None,
    facts: Mapping[Need, object] | None = None,
    now: float = T,
    **changes: Any,
) -> Decision:
    """Decide about a request with *token*, or with a good one."""
    return authorize(ask(mint() if token is None else token, **changes), snapshot, now, facts or {})


def order(snapshot: Snapshot, token: str | None = None, now: float = T, **changes: Any) -> Need:
    """Return the only need of the decision: what is to be signed."""
    (need,) = decide(snapshot, token, now=now, **changes).trail.needs
    assert need.kind == MINTED
    return need


def claims(snapshot: Snapshot, token: str | None = None, **changes: Any) -> Mapping[str, object]:
    """Return the claims that are to be signed."""
    return read_signing_request(order(snapshot, token, **changes).payload).claims


def claim(name: str, value: CopiedValue | FixedValue | RequestField) -> MintedClaim:
    """Describe a claim of the minted token."""
    return MintedClaim(ClaimPath.parse(name), value)


def copied(name: str) -> CopiedValue:
    """Describe the value of a claim of the caller."""
    return CopiedValue(name, ClaimPath.parse(name))


def test_an_allowed_request_waits_for_its_token() -> None:
    """Without it the decision is "try again", which names what to sign; with it the upstream gets it."""
    snapshot = minting()
    need = order(snapshot)
    unanswered = as_unanswered(decide(snapshot))
    assert unanswered.reason is Reason.UPSTREAM_TOKEN_UNAVAILABLE
    allowed = decide(snapshot, facts={need: SIGNED})
    assert isinstance(allowed, Allow)
    assert dict(allowed.set_headers) == {"x-token": SIGNED.text}
    assert (allowed.reason, allowed.trail.transaction) == (Reason.AUTHENTICATED, "txn-1")


def test_nothing_of_the_caller_is_shown() -> None:
    """A need is logged and compared without what is sent."""
    need = order(minting())
    assert "bob" in need.payload
    assert "bob" not in repr(need)
    assert SIGNED.text not in repr(SIGNED)


def test_in_authorization_it_replaces_the_callers() -> None:
    """A bearer token, in place of the caller's, also if that is to be removed."""
    for forward in (True, False):
        snapshot = replace(minting(header="authorization"), token=TokenRules(forward=forward))
        allowed = decide(snapshot, facts={order(snapshot): SIGNED})
        assert isinstance(allowed, Allow)
        assert dict(allowed.set_headers) == {"authorization": f"Bearer {SIGNED.text}"}
        assert "authorization" not in allowed.remove_headers


def test_beside_it_the_callers_token_can_be_removed() -> None:
    """`token.forward: false` removes the caller's, from wherever it was."""
    snapshot = replace(minting(), token=TokenRules(forward=False))
    allowed = decide(snapshot, facts={order(snapshot): SIGNED})
    assert isinstance(allowed, Allow)
    assert "authorization" in allowed.remove_headers
    assert "x-token" in dict(allowed.set_headers)


WITHOUT_TOKEN: Final[dict[str, dict[str, Any]]] = {
    "public": {"path": "/public/x"},
    "anonymous": {"path": "/mixed/x"},
    "shadow": {"path": "/shadow/x"},
    "shadow-of-none": {"path": "/shadow/x", "token": mint()},
}


@pytest.mark.parametrize("header", ["x-token", "authorization"])
@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("request_", WITHOUT_TOKEN.values(), ids=WITHOUT_TOKEN)
def test_no_client_can_write_its_header(request_: dict[str, Any], header: str, forward: bool) -> None:  # noqa: FBT001 - a variant
    """Where none is minted, the header is removed, in every spelling, and once."""
    rules = (
        rule("public", "/public/**", allow=AccessMode.PUBLIC),
        rule("mixed", "/mixed/**", allow=AccessMode.OPTIONAL),
        rule("shadow", "/shadow/**", shadow=True, scopes=("none",)),
    )
    sources = (CookieSource("t"),) if header == "authorization" else TokenRules().sources
    snapshot = replace(
        minting(make_snapshot(*rules), header=header), token=TokenRules(sources=sources, forward=forward)
    )
    forged = dict.fromkeys(separator_variants(header), "forged")
    allowed = authorize(ask(**{"token": None, **request_}, headers=forged if header == "x-token" else {}), snapshot, T)
    assert isinstance(allowed, Allow)
    assert set(separator_variants(header)) <= set(allowed.remove_headers)
    assert len(set(allowed.remove_headers)) == len(allowed.remove_headers)
    assert header not in dict(allowed.set_headers)


def test_a_connection_header_cannot_remove_it() -> None:
    """A proxy would drop a header that `connection` names (RFC 9110 section 7.6.1)."""
    decision = decide(minting(), headers={"connection": "x-token"})
    assert decision.reason is Reason.REQUEST_MALFORMED


SHADOW: Final = make_snapshot(rule("r", "/**", shadow=True, scopes=("none",)))


def test_a_shadowed_request_gets_one_only_if_told() -> None:
    """A request that would be denied goes on without a token; with one only if `shadowed` is set."""
    assert decide(minting(SHADOW)).trail.needs == ()
    snapshot = minting(SHADOW, shadowed=True)
    need = order(snapshot)
    allowed = decide(snapshot, facts={need: SIGNED})
    assert isinstance(allowed, Allow)
    assert allowed.would_deny
    assert dict(allowed.set_headers) == {"x-token": SIGNED.text}
    unanswered = as_unanswered(decide(snapshot))
    assert isinstance(unanswered, Allow)
    assert unanswered.set_headers == ()
    assert "x-token" in unanswered.remove_headers


def test_a_shadow_rule_lets_a_request_without_a_token_pass() -> None:
    """What a rule in shadow would deny for want of a signature is allowed, and reported."""
    allowed = decide(minting(make_snapshot(rule("r", "/**", shadow=True)), key=None))
    assert isinstance(allowed, Allow)
    assert (allowed.would_deny, allowed.reason) == (True, Reason.UPSTREAM_TOKEN_UNAVAILABLE)


def test_what_it_says() -> None:
    """Ours is `iss`, the audience that of the upstream; the caller is `sub`, and who acts for it `act`."""
    actor = {"sub": "app", "act": {"sub": "other"}}
    said = claims(minting(), mint(act=actor))
    assert said == {"iss": MINTING.issuer, "sub": "bob", "aud": "orders", "act": actor}
    assert "act" not in claims(minting(), mint(act="app"))


def test_a_rule_has_its_own_audience() -> None:
    """The rule's audience is instead of the one for all; several are a list."""
    own = replace(rule("r", "/**"), upstream_audiences=("one", "two"))
    assert claims(minting(make_snapshot(own)))["aud"] == ["one", "two"]


SCOPES: Final[dict[str, tuple[Rule, ScopeClaim, TokenFormat, object]]] = {
    "what-the-rule-asks-of-those-granted": (READ, ScopeClaim.REQUIRED, TokenFormat.JWT, "read b"),
    "nothing-if-it-asks-for-none": (rule("r", "/**"), ScopeClaim.REQUIRED, TokenFormat.JWT, None),
    "all-that-was-granted": (READ, ScopeClaim.GRANTED, TokenFormat.JWT, "admin b read"),
    "none": (READ, ScopeClaim.NONE, TokenFormat.JWT, None),
    "a-transaction-has-a-purpose": (rule("r", "/**"), ScopeClaim.REQUIRED, TokenFormat.TRANSACTION, "r"),
    "of-a-transaction-too": (READ, ScopeClaim.REQUIRED, TokenFormat.TRANSACTION, "read b"),
}


@pytest.mark.parametrize(("wanted", "scope", "form", "said"), SCOPES.values(), ids=SCOPES)
def test_scope(wanted: Rule, scope: ScopeClaim, form: TokenFormat, said: object) -> None:
    """The scopes are narrowed to what the rule asks for, and never more than was granted."""
    snapshot = minting(make_snapshot(wanted), scope=scope, format=form)
    assert claims(snapshot, mint(scope="b read admin")).get("scope") == said


def test_what_the_callers_of_a_rule_have_in_common_is_kept_within_a_bound() -> None:
    """Each of very many rules has its own audience and scope, whichever of them was asked for last."""
    rules = [
        replace(rule(f"r{number}", f"/{number}", scopes=(f"s{number}",)), upstream_audiences=(f"a{number}",))
        for number in range(1030)
    ]
    snapshot, token = minting(make_snapshot(*rules)), mint(scope=" ".join(f"s{number}" for number in range(1030)))
    assert snapshot.minting is not None
    for number in (*range(1030), 0, 1029):
        said = claims(snapshot, token, path=f"/{number}")
        assert (said["aud"], said["scope"]) == (f"a{number}", f"s{number}")
        assert len(snapshot.minting.plans) <= 1024


def test_a_rule_that_changed_has_another_plan() -> None:
    """Of two rules with one name, in two snapshots with one way to mint, each has its own audience."""
    one = minting(make_snapshot(replace(rule("r", "/**"), upstream_audiences=("one",))))
    other = replace(make_snapshot(replace(rule("r", "/**"), upstream_audiences=("other",))), minting=one.minting)
    assert [claims(each)["aud"] for each in (one, other, one)] == ["one", "other", "one"]


def test_chosen_claims() -> None:
    """Claims of the caller, fixed ones and those of the request, also within objects; what is absent is left out."""
    chosen = (
        claim("groups", copied("groups")),
        claim("edge", FixedValue("eu")),
        claim("absent", copied("absent")),
        claim("tctx.path", RequestField.PATH),
        claim("tctx.method", RequestField.METHOD),
        claim("tctx.absent", copied("absent")),
        claim("rctx.none", copied("absent")),
        claim("rctx.host", RequestField.HOST),
        claim("rctx.rule", RequestField.RULE),
        claim("rctx.address", RequestField.ADDRESS),
    )
    said = claims(minting(claims=chosen))
    assert said["groups"] == ["admin", "staff"]
    assert (said["edge"], "absent" in said) == ("eu", False)
    assert said["tctx"] == {"path": "/items/1", "method": "GET"}
    assert said["rctx"] == {"host": "api.test", "rule": "items"}


def test_a_claim_within_what_is_no_object_is_left_out() -> None:
    """The caller's `act` is an object of the issuer's; a name below a text has no place."""
    chosen = (claim("edge", FixedValue("eu")), claim("edge.zone", FixedValue("1")))
    assert claims(minting(claims=chosen))["edge"] == "eu"


def test_texts_of_any_kind_are_sent_as_they_are() -> None:
    """Quotes, line breaks and other scripts of a caller's claims change nothing else of the token."""
    odd = 'a"b\\c\n\u2028\u6f22'
    snapshot = minting(issuer=odd, audiences=(odd, "b"), claims=(claim("team", copied("team")),))
    said = claims(snapshot, mint(sub=odd, team=[odd]))
    assert said == {"iss": odd, "sub": odd, "aud": [odd, "b"], "team": [odd]}


def test_what_is_added_to_act_is_not_said_of_the_caller() -> None:
    """A token's claims are kept for its next request: what we add for the upstream is in our token alone."""
    snapshot = minting(claims=(claim("act.path", RequestField.PATH),))
    token = mint(act={"sub": "app"})
    assert claims(remembering(snapshot), token)["act"] == {"sub": "app", "path": "/items/1"}
    assert parse_once(token).members["act"] == {"sub": "app"}


def test_another_subject() -> None:
    """A configured `sub` is in place of the caller's; if it is absent, there is none."""
    other = (claim("sub", copied("oid")),)
    assert claims(minting(claims=other), mint(oid="7"))["sub"] == "7"
    assert "sub" not in claims(minting(claims=other))
    assert "sub" not in claims(minting(make_snapshot(a=issuer_a(required=("exp",)))), mint(sub=None))


def test_a_transaction_token() -> None:
    """It has its own type, names the workload that asked for it, and needs no `iss`."""
    snapshot = minting(format=TokenFormat.TRANSACTION, issuer=None, workload=WORKLOAD, header="txn-token")
    written = read_signing_request(order(snapshot).payload)
    assert written.terms.jose_header == {"alg": "ES256", "typ": "txntoken+jwt", "kid": "ours-1"}
    assert written.claims == {"sub": "bob", "aud": "orders", "scope": "items", "req_wl": WORKLOAD}


def test_it_never_outlives_the_callers() -> None:
    """What is to be signed says when the caller's token ends; without an end only the lifetime counts."""
    written = read_signing_request(order(minting(), mint(exp=T + 50.7)).payload)
    assert (written.not_after, written.terms.lifetime) == (T + 50, 120.0)
    endless = minting(make_snapshot(a=issuer_a(no_expiry=True, required=())))
    assert read_signing_request(order(endless, _without_exp()).payload).not_after is None


def _without_exp() -> str:
    payload = {"iss": A, "aud": "api", "sub": "bob", "iat": T}
    return mint(payload=json.dumps(payload).encode())


SAME: Final = minting()
OTHERS: Final[dict[str, tuple[Snapshot, dict[str, Any]]]] = {
    "another-caller": (SAME, {"token": mint(sub="eve")}),
    "another-key": (minting(key=SigningKey("ours-2", "ES256")), {}),
    "another-configuration": (minting(digest="other"), {}),
    "another-rule": (SAME, {"path": "/admin/x"}),
    "later": (SAME, {"now": T + 60.0}),
}


@pytest.mark.parametrize(("snapshot", "changes"), OTHERS.values(), ids=OTHERS)
def test_no_token_is_used_for_another(snapshot: Snapshot, changes: dict[str, Any]) -> None:
    """Another caller, key, configuration, rule or time has another need."""
    assert order(snapshot, **changes) != order(SAME)


def remembering(snapshot: Snapshot) -> Snapshot:
    """Have tokens parsed once, and their signatures verified before, as those of callers who come again."""
    return replace(
        snapshot, parse_token=parse_kept, verify_signature=lambda _issuer, keys, _token: (keys[0], Verified.CACHED)
    )


@lru_cache
def parse_once(text: str) -> UnverifiedToken:
    """Parse a token; the same one is the same object."""
    return parse_token(text)


def parse_kept(text: str, /, *, max_bytes: int) -> UnverifiedToken:
    """Return what was parsed before."""
    return parse_once(text)


@pytest.mark.parametrize(("snapshot", "changes"), OTHERS.values(), ids=OTHERS)
def test_a_caller_who_comes_again_gets_no_other_token(snapshot: Snapshot, changes: dict[str, Any]) -> None:
    """What was kept with the claims of a caller's token is not used where anything else differs, and only there."""
    for world, request in ((SAME, {}), (snapshot, changes), (SAME, {}), (snapshot, changes)):
        first, again = (order(remembering(world), **request) for _ in range(2))
        assert first == again == order(world, **request)
        assert first.payload == again.payload == order(world, **request).payload


class _Asked(dict[Need, object]):
    """Facts that record what they were asked for."""

    def __init__(self, facts: Mapping[Need, object] | None = None) -> None:
        super().__init__(facts or {})
        self.asked: list[Need] = []

    def get(self, need: Need, default: object = None) -> object:
        self.asked.append(need)
        return super().get(need, default)


def test_for_a_caller_who_comes_again_nothing_is_written() -> None:
    """The token that is kept is found by its name alone; of a token never seen before, none can be kept."""
    facts = _Asked({order(SAME): SIGNED})
    for _ in range(2):
        assert isinstance(authorize(ask(mint()), remembering(SAME), T, facts), Allow)
    assert [need.payload for need in facts.asked] == ["", ""]
    new = _Asked({order(SAME): SIGNED})
    assert isinstance(authorize(ask(mint()), SAME, T, new), Allow)
    assert [need.payload for need in new.asked] == [order(SAME).payload]


def test_a_token_is_used_again() -> None:
    """The same caller's next request under the same rule has the same need, whatever else it asks."""
    assert order(SAME, path="/items/2", method="PUT") == order(SAME)
    assert order(SAME).payload == order(SAME, path="/items/2").payload


def test_a_token_that_names_the_request_is_not_used_for_another() -> None:
    """If a claim says what is asked, each such request has its own."""
    snapshot = minting(claims=(claim("tctx.path", RequestField.PATH),))
    assert order(snapshot, path="/items/2") != order(snapshot)
    assert order(snapshot, path="/items/1?x=2") == order(snapshot)
    by_rule = minting(claims=(claim("rule", RequestField.RULE),))
    assert order(by_rule, path="/items/2") == order(by_rule)


def test_each_transaction_has_its_own() -> None:
    """Tokens of transactions are neither kept, nor shared by requests that wait for one at the same time."""
    once, again = order(minting(reused=False)), order(SAME)
    assert (read_signing_request(once.payload).terms.reuse_for, once.single_use) == (0.0, True)
    assert (read_signing_request(again.payload).terms.reuse_for, again.single_use) == (120.0, False)


def at_its_last_moment(snapshot: Snapshot) -> tuple[Need, float]:
    """Return the need of now, and the moment at which another is needed."""
    need = order(snapshot)
    return need, next(T + later for later in range(1, 61) if order(snapshot, now=T + later) != need)


def test_the_token_of_before_serves_until_it_ends() -> None:
    """If no new one is there, the request goes on with the one of before, and a new one is asked for."""
    need, later = at_its_last_moment(SAME)
    allowed = decide(SAME, facts={need: replace(SIGNED, expires=later + 30.0)}, now=later)
    assert isinstance(allowed, Allow)
    assert dict(allowed.set_headers) == {"x-token": SIGNED.text}
    assert allowed.trail.rechecks == (order(SAME, now=later),)
    ended = decide(SAME, facts={need: replace(SIGNED, expires=later + 1.0)}, now=later)
    assert ended.reason is Reason.UPSTREAM_TOKEN_UNAVAILABLE
    once = minting(reused=False)
    need, later = at_its_last_moment(once)
    assert decide(once, facts={need: SIGNED}, now=later).reason is Reason.UPSTREAM_TOKEN_UNAVAILABLE


class _SignsAtOnce(dict[Need, object]):
    """Facts of a key in this process: it signs what it is sent."""

    def get(self, need: Need, default: object = None) -> object:
        return SIGNED if need.payload else default


def test_a_key_in_this_process_signs_at_once() -> None:
    """With what is to be signed the fact is found, and the request waits for nothing."""
    allowed = authorize(ask(mint()), SAME, T, _SignsAtOnce())
    assert isinstance(allowed, Allow)
    assert allowed.trail.needs == allowed.trail.rechecks == ()


def test_identity_without_a_header_for_it_stays_as_it_is() -> None:
    """An identity that knows no token writes none."""
    identity = Identity()
    assert identity.add_token(identity.strip_all, "x") is identity.strip_all


def test_callers_do_not_all_get_new_ones_at_one_moment() -> None:
    """The moments are spread, so that a key that is elsewhere is not asked for all at once."""
    changed = {at_its_last_moment_of(f"user-{number}") for number in range(20)}
    assert len(changed) > 5


def at_its_last_moment_of(subject: str) -> float:
    """Return when the token of a caller is replaced."""
    token = mint(sub=subject)
    need = order(SAME, token)
    return next(T + later for later in range(1, 61) if order(SAME, token, now=T + later) != need)


REFUSED: Final[dict[str, tuple[Reason, Any]]] = {
    name: (reason, row)
    for reason, rows in (
        (Reason.TOKEN_EXPIRED, LEEWAY_CAUSES),
        (
            Reason.CLAIMS_MALFORMED,
            {**SUBJECT_CAUSES, "sub-of-another-type": (mint(sub=7), minting(make_snapshot(a=NO_SUB)))},
        ),
        (Reason.HEADER_UNSAFE, SIZE_CAUSES),
    )
    for name, row in rows.items()
}


@pytest.mark.parametrize(("reason", "row"), REFUSED.values(), ids=REFUSED)
def test_no_token_can_be_made(reason: Reason, row: tuple[str, Snapshot]) -> None:
    """What would end before the caller's, has no subject, or is too long for a header, is no token."""
    decision = decide(row[1], row[0])
    assert (decision.reason, decision.trail.needs) == (reason, ())
