"""Proves authz.core.decision."""

from __future__ import annotations

from authz.core.decision import Allow, Deny, Findings, await_keys, deny, outcome
from authz.core.reasons import Reason, Rejected

FINDINGS = Findings(rule="r", issuer="a")


def test_denial_carries_all_that_the_rejection_knew() -> None:
    """Reason, detail, and what would have sufficed go from a rejection into the denial."""
    rejected = Rejected(Reason.STEP_UP_REQUIRED, "why", scopes=("a",), acr_values=("b",), max_age=5)
    expected = Deny(Reason.STEP_UP_REQUIRED, FINDINGS, "why", ("a",), ("b",), 5)
    assert deny(rejected, FINDINGS) == expected


def test_key_that_may_come() -> None:
    """While a refresh is under way an unknown key is no refusal yet, and what was found stays known."""
    waiting = await_keys(deny(Rejected(Reason.KEY_NOT_FOUND, "no key with this id"), FINDINGS))
    assert (waiting.reason, waiting.findings) == (Reason.KEYS_UNAVAILABLE, FINDINGS)
    assert "refresh" in waiting.detail


def test_only_a_refresh_may_change_a_denial() -> None:
    """A denial counts as final unless a refresh is under way that could turn it into another."""
    denial = deny(Rejected(Reason.KEY_NOT_FOUND, "no key with this id"), FINDINGS)
    assert denial.may_change is False
    assert await_keys(denial).may_change is True


def test_claims_have_no_repr() -> None:
    """What a log would show of a decision has no claims in it."""
    assert "bob" not in repr(Allow(reason=Reason.AUTHENTICATED, findings=FINDINGS, claims={"sub": "bob"}))


def test_outcome_in_one_word() -> None:
    """A decision allows, denies, or would deny: there is no fourth."""
    assert outcome(Allow(reason=Reason.PUBLIC, findings=FINDINGS)) == "allow"
    assert outcome(Allow(reason=Reason.TOKEN_MISSING, findings=FINDINGS, would_deny=True)) == "would_deny"
    assert outcome(Deny(Reason.TOKEN_MISSING)) == "deny"
