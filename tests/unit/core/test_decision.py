"""Proves authz.core.decision."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from authz.core.decision import Allow, AuditTrail, Deny, as_unanswered, deny, outcome
from authz.core.needs import KEY, Need, Unanswered
from authz.core.reasons import Reason, Rejected
from authz.core.token import ValidToken

FINDINGS = AuditTrail(rule="r", issuer="a")


def test_denial_carries_all_that_the_rejection_knew() -> None:
    """Reason, detail, and what would have sufficed go from a rejection into the denial."""
    rejected = Rejected(Reason.STEP_UP_REQUIRED, "why", scopes=("a",), acr_values=("b",), max_age=5)
    expected = Deny(Reason.STEP_UP_REQUIRED, FINDINGS, "why", ("a",), ("b",), 5)
    assert deny(rejected, FINDINGS) == expected


def test_a_denial_that_lacks_a_fact_says_try_again() -> None:
    """While a fact is not there a denial is none yet; what was found stays known, and the detail says what lacks."""
    lacking = AuditTrail(rule="r", issuer="a", needs=(Need(KEY, "a", "k2"),))
    denial = deny(Rejected(Reason.KEY_NOT_FOUND, "no key with this id"), lacking)
    waiting = as_unanswered(denial)
    assert isinstance(waiting, Deny)
    assert (denial.retryable, waiting.retryable) == (False, True)
    assert (waiting.reason, waiting.trail) == (Reason.KEYS_UNAVAILABLE, lacking)
    assert waiting.detail == "no key with this id; not answered in time: key of a"


def test_each_need_says_what_its_absence_means() -> None:
    """The reason is the need's own, so that anyone who waits knows no kind by name."""
    needs = (Need("weather", "almanac", None, unanswered=Reason.OVERLOADED), Need(KEY, "a", "k2"))
    waiting = as_unanswered(Deny(Reason.POLICY_DENIED, AuditTrail(needs=needs), "it may rain"))
    assert waiting.reason is Reason.OVERLOADED
    assert waiting.detail == "it may rain; not answered in time: weather of almanac, key of a"


def test_why_nobody_could_be_asked_is_said_to_the_operator() -> None:
    """What cannot be known now is not confused with what did not come in time."""
    tide, weather = Need("tide", "harbour", None), Need("weather", "almanac", None)
    waiting = as_unanswered(
        Deny(Reason.POLICY_DENIED, AuditTrail(needs=(tide, weather)), "it may rain"), {tide: Unanswered("it is night")}
    )
    assert waiting.detail == "it may rain; not answered in time: weather of almanac; tide of harbour: it is night"
    nobody = as_unanswered(Deny(Reason.KEY_NOT_FOUND, AuditTrail(needs=(tide,)), "no key"), {tide: Unanswered("night")})
    assert nobody.detail == "no key; tide of harbour: night"


def test_what_lacks_nothing_is_final() -> None:
    """A denial without needs, and what a shadow lets pass, stay as they are."""
    denial = deny(Rejected(Reason.TOKEN_EXPIRED, "exp"), FINDINGS)
    shadowed = Allow(reason=Reason.KEY_NOT_FOUND, trail=AuditTrail(needs=(Need(KEY, "a", "k"),)), would_deny=True)
    assert as_unanswered(denial) is denial
    assert as_unanswered(shadowed) is shadowed


def test_claims_have_no_repr() -> None:
    """What a log would show of a decision has no claims in it."""
    assert "bob" not in repr(Allow(reason=Reason.AUTHENTICATED, trail=FINDINGS, claims={"sub": "bob"}))


def test_outcome_in_one_word() -> None:
    """A decision allows, denies, or would deny: there is no fourth."""
    assert outcome(Allow(reason=Reason.PUBLIC, trail=FINDINGS)) == "allow"
    assert outcome(Allow(reason=Reason.TOKEN_MISSING, trail=FINDINGS, would_deny=True)) == "would_deny"
    assert outcome(Deny(Reason.TOKEN_MISSING)) == "deny"


def test_a_resumed_trail_keeps_all_that_the_last_steps_did_not_find() -> None:
    """A field that is added to a trail later is kept too, unless the last steps set it."""
    need = Need(KEY, "a", "k2")
    before = AuditTrail(
        rule="rule",
        issuer="issuer",
        alg="ES256",
        kid="k1",
        claimed_issuer="https://a.test",
        signature_cached=True,
        expires=7,
        audience="api",
        expected_audience=frozenset({"other"}),
        subject="alice",
        client="robot",
        thumbprint="later",
        pdp="policies",
        transaction="txn",
        schemes=("DPoP",),
        needs=(need,),
        rechecks=(need, need),
        network="192.0.2.0/24",
        throttled=True,
        valid_token=ValidToken("later", {}),
        reads_risk=True,
        checkpoint="checkpoint",
    )
    found_last = {"expected_audience", "pdp", "transaction", "needs", "reads_risk", "checkpoint"}
    given: dict[str, Any] = {"rechecks": (need,), "valid_token": ValidToken("token", {}), "thumbprint": "earlier"}
    after = before.without_last_steps(**given)
    empty = AuditTrail()
    for name in [field.name for field in fields(AuditTrail)]:
        assert getattr(before, name) != getattr(empty, name), f"{name}: has no mark here"
        expected = getattr(empty, name) if name in found_last else given.get(name, getattr(before, name))
        assert getattr(after, name) == expected, name
