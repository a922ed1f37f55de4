"""Proves authz.core.exchange: whose tokens are exchanged, what is asked for, and what the upstream gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Allow
from authz.core.exchange import EXCHANGED, TokenType, read_request
from authz.core.identity import Identity, separator_variants
from authz.core.minting import ScopeClaim
from authz.core.needs import Need
from authz.core.policy import AccessMode
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot, TokenRules
from tests.cases.case import Case
from tests.cases.exchange import CASES, EXCHANGE, OURS, TOKEN, WORLD, exchanging, given
from tests.fixtures import T, ask, make_snapshot, mint, rule

READ: Final = rule("read", "/items/**", scopes=("read",), any_scope=("a", "b"))


def need(snapshot: Snapshot, token: str = TOKEN) -> Need:
    """Return the only need of the decision."""
    (asked,) = authorize(ask(token), snapshot, T).trail.needs
    return asked


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_decisions(each: Case) -> None:
    """Each answer of the issuer ends so, and only a token that it gave is sent."""
    decision = authorize(each.request, each.snapshot, each.now, each.facts)
    assert decision.reason is each.reason
    if isinstance(decision, Allow):
        assert ("x-token" in dict(decision.set_headers)) is True
    for name, value in (each.sees or {}).items():
        assert isinstance(decision, Allow)
        assert dict(decision.set_headers)[name] == value


def test_what_is_asked_for() -> None:
    """The scopes that the rule asks for, of those that the caller has, for the audience of the rule."""
    snapshot = exchanging(make_snapshot(replace(READ, upstream_audiences=("billing",))))
    asked = need(snapshot, mint(scope="write read b"))
    assert (asked.kind, asked.source, asked.unanswered) == (EXCHANGED, "a", Reason.UPSTREAM_TOKEN_UNAVAILABLE)
    sent = read_request(asked.payload)
    assert (sent.subject, sent.audiences, sent.scope) == (mint(scope="write read b"), ("billing",), "read b")
    everything = replace(snapshot, exchange=replace(EXCHANGE, scope=ScopeClaim.GRANTED))
    assert read_request(need(everything, mint(scope="write read b")).payload).scope == "b read write"
    nothing = replace(snapshot, exchange=replace(EXCHANGE, scope=ScopeClaim.NONE))
    assert read_request(need(nothing, mint(scope="write read b")).payload).scope == ""
    assert read_request('{"subject": "t", "audiences": "x", "scope": ""}').audiences == ()


def test_an_answer_is_for_one_question() -> None:
    """Another token, server, audience or scope is another need; the token is in no need's repr."""
    different = {
        need(WORLD).identifier,
        need(WORLD, mint(sub="eve")).identifier,
        need(exchanging(source="elsewhere")).identifier,
        need(exchanging(audiences=("billing",))).identifier,
        need(exchanging(scope=ScopeClaim.GRANTED), mint(scope="x")).identifier,
    }
    assert len(different) == 5
    assert TOKEN not in repr(need(WORLD))
    assert "for-orders" not in repr(OURS)
    assert TOKEN not in repr(read_request(need(WORLD).payload))


def test_a_token_is_renewed_before_its_end() -> None:
    """It is sent on, and the question is asked again meanwhile: in time, and not sooner."""
    for ahead, renews in ((1.0, False), (0.0, True), (-60.0, True)):
        decision = authorize(ask(TOKEN), WORLD, T, given(replace(OURS, renew=T + ahead)))
        assert isinstance(decision, Allow)
        assert dict(decision.set_headers)["x-token"] == "for-orders"
        assert [(each, each.renews) for each in decision.trail.rechecks] == [(need(WORLD), True)] * renews
    assert authorize(ask(TOKEN), WORLD, T, given(OURS)).trail.rechecks == ()
    ended = replace(OURS, expires=T + 1.0, renew=T - 60.0)
    decision = authorize(ask(TOKEN), WORLD, T, given(ended))
    assert ([each.renews for each in decision.trail.needs], decision.trail.rechecks) == ([False], ())


def test_the_header_is_ours_on_every_path() -> None:
    """Public and anonymous requests ask for no token, and a client's own is removed from them in every spelling."""
    for access in (AccessMode.PUBLIC, AccessMode.OPTIONAL):
        snapshot = exchanging(make_snapshot(rule("open", "/**", allow=access)))
        decision = authorize(ask(headers={"x-token": "forged"}), snapshot, T)
        assert isinstance(decision, Allow)
        assert set(separator_variants("x-token")) <= set(decision.remove_headers)
        assert decision.trail.needs == ()


@pytest.mark.parametrize(("shadowed", "sent"), [(False, None), (True, "for-orders")])
def test_shadowed_requests(shadowed: bool, sent: str | None) -> None:  # noqa: FBT001 - a setting
    """They get a token only if that is configured."""
    shadow = rule("shadow", "/**", scopes=("never",), shadow=True)
    snapshot = exchanging(make_snapshot(shadow), shadowed=shadowed)
    facts: Mapping[Need, object] = given(OURS, snapshot=exchanging(make_snapshot(rule("shadow", "/**"))))
    decision = authorize(ask(TOKEN), snapshot, T, facts)
    assert isinstance(decision, Allow)
    assert decision.would_deny
    assert dict(decision.set_headers).get("x-token") == sent


def test_in_place_of_the_callers_token() -> None:
    """The upstream gets the exchanged one, and not the caller's beside it."""
    snapshot = replace(WORLD, identity=Identity(token_header="authorization"), token=TokenRules(forward=False))
    decision = authorize(ask(TOKEN), snapshot, T, given(OURS, snapshot=snapshot))
    assert isinstance(decision, Allow)
    assert dict(decision.set_headers) == {"authorization": "Bearer for-orders"}
    assert "authorization" not in decision.remove_headers


def test_kinds() -> None:
    """RFC 8693 section 3."""
    assert TokenType.JWT.urn == "urn:ietf:params:oauth:token-type:jwt"
    assert TokenType.ACCESS_TOKEN.urn == "urn:ietf:params:oauth:token-type:access_token"
