"""Proves authz.core.risk: what rules require of a client beside its token, and what follows if they do not get it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from authz.core.authorize import authorize
from authz.core.conditions import find_risk
from authz.core.decision import Allow, Decision, Deny
from authz.core.needs import NO_FACTS, Facts, Need, Unanswered
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.requirements import Requirements, RiskRequirement
from authz.core.risk import CLIENT, ENGINE, RISK, SUBJECT_FAILURES, Assessment, ClientHistory, RiskEngine, name_subject
from authz.core.snapshot import Snapshot
from authz.core.throttle import ClientRules
from tests.fixtures import ABSENT, T, ask, issuer_a, make_snapshot, mint, rule

OFFICE = "192.0.2.1"
MFA = Requirements(acr=("mfa",))
FRESH = Requirements(max_age=300.0)


class Reads:
    """A condition that reads the risk, and keeps what it got."""

    def __init__(self, *, holds: bool = True) -> None:
        self.got: Mapping[str, object] | None = None
        self._holds = holds

    def holds(self, request: Request, params: object, claims: object, risk: Mapping[str, object] | None = None) -> bool:
        self.got = risk
        return self._holds


def guarded(risk: RiskRequirement, **others: Any) -> Snapshot:  # noqa: ANN401 - of rules
    """Require something of the risk in the only rule."""
    return make_snapshot(rule("r", "/**", risk=risk, **others), a=issuer_a(required=("exp",)), clients=ClientRules())


def known(subject: str = "a bob", network: str = OFFICE, **history: Any) -> Facts:  # noqa: ANN401 - counts and a flag
    """Return what is known of a client."""
    return {Need(CLIENT, "clients", f"{network}\n{subject}"): ClientHistory(**history)}


def judge(risk: RiskRequirement, facts: Facts, token: str | None = None, **others: Any) -> Decision:  # noqa: ANN401
    """Decide a request from the office."""
    request = ask(mint() if token is None else token, source_address=OFFICE)
    return authorize(request, guarded(risk, **others), T, facts)


LIMITS = {
    "max_failures_1m": ("failures_1m", "21 failures of the network in 1 m, at most 20"),
    "max_failures_1h": ("failures_1h", "21 failures of the network in 1 h, at most 20"),
    "max_subject_failures_1m": ("subject_failures_1m", "21 failures of the subject in 1 m, at most 20"),
    "max_subject_failures_1h": ("subject_failures_1h", "21 failures of the subject in 1 h, at most 20"),
}


@pytest.mark.parametrize(("limit", "count", "detail"), [(name, *row) for name, row in LIMITS.items()])
def test_each_count_has_its_limit(limit: str, count: str, detail: str) -> None:
    """A count at its limit passes, one above it is denied, and the other counts do not matter."""
    wanted = RiskRequirement(**{limit: 20})  # type: ignore[arg-type]
    others: dict[str, Any] = {name: 1000 for name, _ in LIMITS.values() if name != count}
    assert judge(wanted, known(**{**others, count: 20})).reason is Reason.AUTHENTICATED
    denied = judge(wanted, known(**{**others, count: 21}))
    assert (denied.reason, denied.detail) == (Reason.RISK_DENIED, detail)


def test_a_new_network_is_denied_only_if_the_rule_says_so() -> None:
    """What is known of networks matters to rules that ask for a known one."""
    strange = known(new_network=True)
    assert judge(RiskRequirement(max_failures_1m=0), strange).reason is Reason.AUTHENTICATED
    denied = judge(RiskRequirement(known_network=True), strange)
    assert (denied.reason, denied.detail) == (Reason.RISK_DENIED, "the network is new for the subject")
    assert judge(RiskRequirement(known_network=True), known()).reason is Reason.AUTHENTICATED


@pytest.mark.parametrize(
    ("step_up", "claims", "reason", "detail"),
    [
        (MFA, {}, Reason.STEP_UP_REQUIRED, "the network is new for the subject; acr is absent"),
        (MFA, {"acr": "mfa"}, Reason.AUTHENTICATED, ""),
        (FRESH, {"auth_time": T - 301}, Reason.STEP_UP_REQUIRED, None),
        (FRESH, {"auth_time": T - 10}, Reason.AUTHENTICATED, ""),
    ],
)
def test_a_step_up_is_the_way_out(
    step_up: Requirements, claims: dict[str, object], reason: Reason, detail: str | None
) -> None:
    """A risky request needs the stronger login, with a challenge that says which; without risk nothing is asked."""
    wanted = RiskRequirement(known_network=True, step_up=step_up)
    decision = judge(wanted, known(new_network=True), mint(claims=claims))
    assert decision.reason is reason
    if isinstance(decision, Deny):
        assert (decision.acr_values, decision.max_age) == (step_up.acr, 300 if step_up is FRESH else None)
    if detail is not None:
        assert decision.detail == detail
    assert judge(wanted, known(), mint(claims=claims)).reason is Reason.AUTHENTICATED


def test_a_condition_reads_all_that_is_known() -> None:
    """It gets each value by the name that it has in conditions, after everything else was checked."""
    reads = Reads()
    allowed = judge(RiskRequirement(condition=reads), known(failures_1m=3, new_network=True))
    assert allowed.reason is Reason.AUTHENTICATED
    assert reads.got == {
        "risk.failures_1m": 3,
        "risk.failures_1h": 0,
        "risk.subject_failures_1m": 0,
        "risk.subject_failures_1h": 0,
        "risk.new_network": True,
    }
    denied = judge(RiskRequirement(condition=Reads(holds=False)), known())
    assert (denied.reason, denied.detail) == (Reason.POLICY_DENIED, "the rule's condition does not hold")


def test_the_risk_is_looked_up_last() -> None:
    """A request that is denied anyway asks for nothing; one that is not names what it needs, and is never allowed."""
    wanted = RiskRequirement(max_failures_1m=20)
    for reason, others in (
        (Reason.INSUFFICIENT_SCOPE, {"scopes": ("x",)}),
        (Reason.POLICY_DENIED, {"issuers": frozenset({"b"})}),
    ):
        denied = judge(wanted, NO_FACTS, **others)
        assert (denied.reason, denied.trail.needs, denied.trail.reads_risk) == (reason, (), False)
    lacking = judge(wanted, NO_FACTS)
    assert lacking.reason is Reason.RISK_UNAVAILABLE
    assert [(need.kind, need.identifier) for need in lacking.trail.needs] == [(CLIENT, f"{OFFICE}\na bob")]
    assert lacking.trail.reads_risk


@pytest.mark.parametrize("fact", [None, 0, "low", object()])
def test_what_is_no_history_is_none(fact: object) -> None:
    """Nothing but a history is taken for one."""
    facts = {Need(CLIENT, "clients", f"{OFFICE}\na bob"): fact}
    assert judge(RiskRequirement(max_failures_1m=20), facts).reason is Reason.RISK_UNAVAILABLE


ENGINE_OF = RiskEngine(source="https://risk.test", headers=("user-agent",))


def ask_engine(
    wanted: RiskRequirement, fact: object, engine: RiskEngine | None = ENGINE_OF, token: str | None = None
) -> Decision:
    """Decide with an engine that gives *fact* as its answer, whatever it is asked."""
    snapshot = replace(guarded(wanted), risk=engine)
    request = ask(mint() if token is None else token, source_address=OFFICE, headers={"user-agent": "curl"})
    here = {**known(), **known("a eve")}
    lacking = authorize(request, snapshot, T, here)
    facts = {**here, **dict.fromkeys(lacking.trail.needs, fact)}
    return authorize(request, snapshot, T, facts)


def test_the_engine_gets_who_asks_from_where() -> None:
    """Issuer, subject, address and the headers that are configured: no token, and nothing else of the request."""
    lacking = ask_engine(RiskRequirement(levels=("low",), asks_engine=True), None)
    assert lacking.reason is Reason.RISK_UNAVAILABLE
    (need,) = lacking.trail.needs
    assert (need.kind, need.source, need.optional) == (RISK, ENGINE, False)
    assert json.loads(need.payload) == {
        "issuer": "a",
        "subject": "bob",
        "client": None,
        "address": OFFICE,
        "headers": {"user-agent": "curl"},
    }


def test_an_answer_is_of_one_question_to_one_engine() -> None:
    """Another subject, another address and another configuration are other questions."""
    wanted = RiskRequirement(levels=("low",), asks_engine=True)
    questions = {
        ask_engine(wanted, None, engine, token).trail.needs
        for engine in (ENGINE_OF, replace(ENGINE_OF, source="other"), replace(ENGINE_OF, headers=()))
        for token in (mint(), mint(sub="eve"))
    }
    assert len(questions) == 6


@pytest.mark.parametrize(
    ("limits", "assessment", "reason", "detail"),
    [
        ({"levels": ("low", "medium")}, Assessment("medium"), Reason.AUTHENTICATED, ""),
        ({"levels": ("low", "medium")}, Assessment("high"), Reason.RISK_DENIED, "gives high, and not low or medium"),
        ({"levels": ("low",)}, Assessment(None, 0.0), Reason.RISK_DENIED, "gives no level, and not low"),
        ({"max_score": 0.7}, Assessment(None, 0.7), Reason.AUTHENTICATED, ""),
        ({"max_score": 0.7}, Assessment("low", 0.8), Reason.RISK_DENIED, "gives score 0.8, at most 0.7"),
        ({"max_score": 0.7}, Assessment("low"), Reason.RISK_DENIED, "gives no score, at most 0.7"),
    ],
)
def test_what_the_engine_says_has_limits(
    limits: dict[str, Any], assessment: Assessment, reason: Reason, detail: str
) -> None:
    """A level is one of the list, a score at most the limit; what the engine does not say is denied."""
    decision = ask_engine(RiskRequirement(asks_engine=True, **limits), assessment)
    assert (decision.reason, decision.detail) == (reason, f"the risk engine {detail}" if detail else "")


@pytest.mark.parametrize("fact", [None, 1, "low", object(), Unanswered("down")])
def test_without_an_answer_a_request_is_denied(fact: object) -> None:
    """Nothing but an assessment is an answer: otherwise the client tries again."""
    assert ask_engine(RiskRequirement(levels=("low",), asks_engine=True), fact).reason is Reason.RISK_UNAVAILABLE


def test_a_failure_counts_as_what_is_configured() -> None:
    """The need says that a decision without an answer is possible, and then the failure is an assessment of its own."""
    wanted = RiskRequirement(levels=("low", "medium"), asks_engine=True)
    for level, reason in (("medium", Reason.AUTHENTICATED), ("high", Reason.RISK_DENIED)):
        engine = replace(ENGINE_OF, on_error=Assessment(level))
        assert [need.optional for need in ask_engine(wanted, None, engine).trail.needs] == [True]
        assert ask_engine(wanted, Unanswered("down", absent=True), engine).reason is reason
        assert ask_engine(wanted, Unanswered("HTTP status 500"), engine).reason is Reason.RISK_UNAVAILABLE
        assert ask_engine(wanted, Assessment("low"), engine).reason is Reason.AUTHENTICATED


def test_a_step_up_is_the_way_out_of_a_bad_assessment_too() -> None:
    """The challenge names the login, after which the same assessment does not matter."""
    wanted = RiskRequirement(levels=("low",), asks_engine=True, step_up=MFA)
    assert ask_engine(wanted, Assessment("high")).reason is Reason.STEP_UP_REQUIRED
    assert ask_engine(wanted, Assessment("high"), token=mint(acr="mfa")).reason is Reason.AUTHENTICATED


def test_a_condition_reads_what_the_engine_says() -> None:
    """Beside what is known of the client; what the engine does not say is absent, and the condition has no result."""
    reads = Reads()
    assert ask_engine(RiskRequirement(condition=reads, asks_engine=True), Assessment("low", 0.5)).reason is (
        Reason.AUTHENTICATED
    )
    assert reads.got is not None
    assert (reads.got["risk.level"], reads.got["risk.score"], reads.got["risk.failures_1m"]) == ("low", 0.5, 0)
    assert Assessment("low").values() == {"risk.level": "low"}


def test_the_engine_is_asked_after_what_is_known_here() -> None:
    """A request that its failures deny is no question to the engine; a snapshot without one denies."""
    wanted = RiskRequirement(max_failures_1m=20, levels=("low",), asks_engine=True)
    snapshot = replace(guarded(wanted), risk=ENGINE_OF)
    denied = authorize(ask(mint(), source_address=OFFICE), snapshot, T, known(failures_1m=21))
    assert (denied.reason, denied.trail.needs) == (Reason.RISK_DENIED, ())
    assert ask_engine(wanted, Assessment("low"), None).reason is Reason.RISK_UNAVAILABLE


def test_a_question_is_bounded() -> None:
    """A header beyond the bound is sent nowhere, and the request is denied, whatever the engine's absence counts as."""
    wanted = RiskRequirement(levels=("low",), asks_engine=True)
    engine = replace(ENGINE_OF, on_error=Assessment("low"))
    snapshot = replace(guarded(wanted), risk=engine)
    request = ask(mint(), source_address=OFFICE, headers={"user-agent": "x" * 66_000})
    denied = authorize(request, snapshot, T, known())
    assert (denied.reason, denied.trail.needs) == (Reason.RISK_DENIED, ())
    assert denied.detail == "no question to the risk engine: more than 65536 bytes"


def test_subjects_have_names() -> None:
    """A name has its issuer, and a bounded length; without a subject it is empty."""
    assert name_subject("a", "bob") == "a bob"
    assert name_subject("a", None) == name_subject("a", "") == ""
    assert name_subject("a", "x" * 128) == f"a {'x' * 128}"
    long = name_subject("a", "x" * 129)
    assert long.startswith("a sha256:")
    assert len(long) < 80
    assert name_subject("a", "x" * 130) != long


def test_a_token_without_a_subject_has_the_history_of_its_network_alone() -> None:
    """A machine counts by its client; who has no name at all has no failures of its own."""
    wanted = RiskRequirement(max_failures_1m=20)
    machine = mint(sub="svc", client_id="svc")
    assert judge(wanted, known("a svc"), machine).reason is Reason.AUTHENTICATED
    assert judge(wanted, known(""), mint(sub=ABSENT)).reason is Reason.AUTHENTICATED


def test_a_rule_in_shadow_reports_the_risk_and_allows() -> None:
    """The reason is reported, the request passes."""
    snapshot = guarded(RiskRequirement(known_network=True), shadow=True)
    request = ask(mint(), source_address=OFFICE)
    allowed = authorize(request, snapshot, T, known(new_network=True))
    assert isinstance(allowed, Allow)
    assert (allowed.reason, allowed.would_deny) == (Reason.RISK_DENIED, True)


def test_a_rule_without_it_pays_nothing() -> None:
    """No need is made and nothing is looked up where no rule asks."""

    class Nothing(dict[Need, object]):
        def get(self, key: Need, default: object = None) -> object:
            raise AssertionError(f"asked for {key}")

    snapshot = replace(make_snapshot(rule("r", "/**")), clients=ClientRules())
    allowed = authorize(ask(mint(), source_address=OFFICE), snapshot, T, Nothing())
    assert (allowed.reason, allowed.trail.reads_risk) == (Reason.AUTHENTICATED, False)


def test_what_counts_as_a_failure_of_a_subject() -> None:
    """Denials for the risk itself do not: a client that tries again would keep itself out."""
    assert {reason.value for reason in SUBJECT_FAILURES} == {
        *("insufficient_scope", "pdp_denied", "policy_denied", "proof_invalid"),
        *("token_bound", "token_inactive", "token_revoked"),
    }


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("risk.failures_1m < 20", ["failures_1m"]),
        ("risk . new_network || risk.failures_1h > 3", ["new_network", "failures_1h"]),
        ("claims.risk == 'low'", []),
        ("claims . risk.level == 'low'", []),
        ("claims['risk.level'] == 'low'", []),
        ("'risk.failures_1m' == claims.x // risk.new_network", []),
        ("params.risk == 'x' && at_risk.level == 1", []),
    ],
)
def test_what_a_condition_reads_of_the_risk(text: str, members: list[str]) -> None:
    """Members of the variable are found, in any spacing; a claim of that name, a string and a comment are none."""
    assert list(find_risk(text)) == members
