"""Proves that a decision which lacked facts comes out as if they had been there, though what has passed is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import pytest

from authz.core.authorize import authorize, decide_again
from authz.core.decision import Allow, Decision
from authz.core.dpop import Possession, ProofUse
from authz.core.introspection import INTROSPECTION, Introspection, IntrospectionResponse
from authz.core.minting import MINTED, Minted
from authz.core.needs import NO_FACTS, PROOF, Facts, Need, Unanswered
from authz.core.pdp import PDP, PdpDecision, PdpResponse
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.requirements import RiskRequirement
from authz.core.revocation import RevocationEntry, RevocationSource, RevocationTable, RevokedBy
from authz.core.risk import CLIENT, RISK, Assessment, ClientHistory, RiskEngine
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.status_list import STATUS_LIST, StatusRules
from authz.core.throttle import ClientRules
from authz.core.token import HeaderSource
from tests.cases.external import DOWN, REASONED, STEP_UP, TOLERANT, question
from tests.cases.introspection import ALWAYS, JWT, OPAQUE, RULES, said
from tests.cases.minting import minting
from tests.cases.status_list import RULES as LISTS
from tests.cases.status_list import URI, listed, pack, referring
from tests.fixtures import A, T, ask, issuer_a, make_snapshot, mint, rule
from tests.unit.core.test_binding import BOUND, HOST, proof_for

ALLOWED: Final = PdpResponse(PdpDecision.ALLOWED)
GOOD: Final[dict[str, object]] = {
    CLIENT: ClientHistory(),
    RISK: Assessment("low"),
    PDP: ALLOWED,
    MINTED: Minted("head.claims.signature", "txn-1", T + 120.0),
    PROOF: ProofUse.FIRST,
}
BAD: Final[dict[str, tuple[object, ...]]] = {
    CLIENT: (ClientHistory(failures_1m=99), "no history"),
    RISK: (Assessment("high"), Unanswered("HTTP status 500")),
    PDP: (REASONED, STEP_UP, DOWN, Unanswered("HTTP status 500"), PdpResponse(PdpDecision.REFUSED)),
    MINTED: ("no token",),
    PROOF: (ProofUse.REPLAYED,),
}


def guarded(*, shadow: bool = False, revoked: RevocationTable | None = None, **others: Any) -> Snapshot:  # noqa: ANN401 - of rules
    """Have a rule whose requests lack a fact of each kind, one after another."""
    wanted = RiskRequirement(max_failures_1m=20, levels=("low",), asks_engine=True)
    asking = rule("r", "/items/{id}", shadow=shadow, risk=wanted, external=question(TOLERANT), **others)
    snapshot = make_snapshot(
        asking,
        a=replace(issuer_a(), possession=Possession.ALLOWED),
        token=TokenRules(sources=(HeaderSource("authorization", "DPoP"),), schemes=("DPoP",)),
        clients=ClientRules(),
        risk=RiskEngine(source="https://risk.test", headers=("user-agent",)),
        revocations=() if revoked is None else (RevocationSource("operator", revoked),),
    )
    return minting(snapshot, shadowed=True)


def request() -> Request:
    """Send a bound token with its proof."""
    headers = {"authorization": f"DPoP {BOUND}", "dpop": proof_for(BOUND), "user-agent": "curl"}
    return ask(host=HOST, headers=headers, source_address="192.0.2.7")


def gather(facts: Facts, decision: Decision, found: dict[str, object]) -> dict[Need, object]:
    """Add what is *found* for the needs of a decision."""
    return {**facts, **{need: found[need.kind] for need in decision.trail.needs if need.kind in found}}


@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize(("kind", "fact"), [(kind, fact) for kind, bad in BAD.items() for fact in (*bad, None)])
def test_each_fact_decides_as_if_it_had_been_there_at_first(kind: str, fact: object, shadow: bool) -> None:  # noqa: FBT001 - a variant
    """Whatever comes of one question, or nothing: the decision and its trail are equal to those of one evaluation."""
    found = {name: value for name, value in GOOD.items() if name != kind}
    if fact is not None:
        found[kind] = fact
    snapshot, asked, facts = guarded(shadow=shadow), request(), dict[Need, object]()
    decision = authorize(asked, snapshot, T, facts)
    kinds: list[str] = []
    while more := {need: value for need, value in gather({}, decision, found).items() if need not in facts}:
        kinds += [need.kind for need in more]
        facts = {**facts, **more}
        again, decision = decide_again(decision, snapshot, facts), authorize(asked, snapshot, T, facts)
        if ProofUse.REPLAYED in more.values():
            assert again is None  # such a request is denied before all else
        else:
            assert again == decision
    if kind not in kinds:
        assert fact is None or shadow
    if fact is None and not shadow:
        assert [need.kind for need in decision.trail.needs] == [kind]


def test_it_can_be_decided_again_more_than_once() -> None:
    """The first decision stays as it was."""
    snapshot, asked, facts = guarded(), request(), dict[Need, object]()
    decision = authorize(asked, snapshot, T)
    while PDP not in [need.kind for need in decision.trail.needs]:
        facts = gather(facts, decision, GOOD)
        decision = authorize(asked, snapshot, T, facts)
    needs = decision.trail.needs
    denied, going_on = (decide_again(decision, snapshot, {**facts, needs[0]: fact}) for fact in (REASONED, ALLOWED))
    assert denied is not None
    assert denied.reason is Reason.PDP_DENIED
    assert going_on is not None
    assert [need.kind for need in going_on.trail.needs] == [MINTED]
    assert (decision.trail.needs, decision.trail.pdp) == (needs, "policies")


def decided_until_the_pdp(snapshot: Snapshot, token: str) -> tuple[Decision, Facts]:
    """Decide about a request that lacks only the decision of a PDP; return what that says."""
    decision = authorize(ask(token), snapshot, T)
    (need,) = decision.trail.needs
    assert need.kind == PDP
    return decision, {need: ALLOWED}


def test_another_snapshot_decides_from_the_start() -> None:
    """Its keys, rules and settings may be others; so may be those of a decision that lacks nothing."""
    snapshot = make_snapshot(rule("r", "/items/{id}", external=question()))
    decision, facts = decided_until_the_pdp(snapshot, mint())
    assert decide_again(decision, replace(snapshot), facts) is None
    final = decide_again(decision, snapshot, facts)
    assert isinstance(final, Allow)
    assert decide_again(final, snapshot, facts) is None


def test_what_is_not_found_out_yet_is_decided_from_the_start() -> None:
    """A token whose key is to be looked for has not passed."""
    decision = authorize(ask(mint(header={"kid": "new"})), make_snapshot(), T)
    assert decision.trail.needs
    assert decide_again(decision, make_snapshot(), NO_FACTS) is None


@pytest.mark.parametrize("shadow", [False, True])
def test_a_token_that_was_revoked_meanwhile_is_not_accepted(shadow: bool) -> None:  # noqa: FBT001 - a variant
    """The table of a snapshot in use has what was added while the PDP was asked."""
    table = RevocationTable(max_entries=2)
    source = RevocationSource("operator", table)
    snapshot = make_snapshot(
        rule("r", "/items/{id}", shadow=shadow, external=question()), revocations=(source,), clients=ClientRules()
    )
    decision, facts = decided_until_the_pdp(snapshot, mint(jti="t1"))
    allowed = decide_again(decision, snapshot, facts)
    assert isinstance(allowed, Allow)
    assert not allowed.would_deny
    table.add(RevocationEntry(RevokedBy.TOKEN, A, "t1", None, math.inf))
    revoked = decide_again(decision, snapshot, facts)
    assert revoked is not None
    assert revoked == authorize(ask(mint(jti="t1")), snapshot, T, facts)
    assert (revoked.reason, revoked.trail.valid_token) == (Reason.TOKEN_REVOKED, None)


def test_a_revocation_meanwhile_counts_as_a_failure_of_the_subject() -> None:
    """The risk was read before, and is not what denies: the memory of clients counts it as it does at first."""
    table = RevocationTable(max_entries=2)
    snapshot, asked, facts = guarded(revoked=table), request(), dict[Need, object]()
    decision = authorize(asked, snapshot, T, facts)
    while PDP not in [need.kind for need in decision.trail.needs]:
        facts = gather(facts, decision, GOOD)
        decision = authorize(asked, snapshot, T, facts)
    assert decision.trail.reads_risk
    table.add(RevocationEntry(RevokedBy.SUBJECT, A, "bob", None, math.inf))
    revoked = decide_again(decision, snapshot, gather(facts, decision, GOOD))
    assert revoked is not None
    assert revoked == authorize(asked, snapshot, T, facts)
    assert (revoked.reason, revoked.trail.reads_risk) == (Reason.TOKEN_REVOKED, False)


ASKED: Final = {
    "an opaque token": (OPAQUE, RULES, None, said()),
    "a JWT that is introspected": (JWT, ALWAYS, None, said(JWT, ALWAYS)),
    "a JWT with a status list": (referring(), None, LISTS, listed()),
    "an opaque token with a status list": (
        OPAQUE,
        RULES,
        LISTS,
        {**said(status={"status_list": {"idx": 0, "uri": URI}}), **listed()},
    ),
    "a JWT with both": (referring(), ALWAYS, LISTS, {**said(referring(), ALWAYS), **listed()}),
}


@pytest.mark.parametrize(("token", "introspection", "lists", "known"), ASKED.values(), ids=ASKED)
def test_what_is_learned_of_a_token_meanwhile_counts(
    token: str, introspection: Introspection | None, lists: StatusRules | None, known: Facts
) -> None:
    """A fact about it that was renewed while the PDP was asked may say that it is revoked: all is evaluated again.

    One that only expired meanwhile does not: it was valid at the time of the decision, as `exp` has to be.
    """
    snapshot = make_snapshot(
        rule("r", "/items/{id}", external=question()),
        a=replace(issuer_a(), introspection=introspection, status_list=lists),
        opaque=() if introspection is None else (("", A),),
    )
    decision = authorize(ask(token), snapshot, T, known)
    (need,) = decision.trail.needs
    assert need.kind == PDP
    allowed = decide_again(decision, snapshot, {**known, need: ALLOWED})
    assert isinstance(allowed, Allow)
    assert allowed == authorize(ask(token), snapshot, T, {**known, need: ALLOWED})
    assert decide_again(decision, snapshot, {need: ALLOWED}) == allowed
    renewed = {INTROSPECTION: IntrospectionResponse({"active": False}), STATUS_LIST: revoking()}
    for fact in known:
        changed = {**known, need: ALLOWED, fact: renewed[fact.kind]}
        assert decide_again(decision, snapshot, changed) is None
        assert not isinstance(authorize(ask(token), snapshot, T, changed), Allow)


def revoking() -> object:
    """Return a list that calls its first entry invalid."""
    (listing,) = listed(entries=pack(1)).values()
    return listing
