"""What holds for every question to another system and for every answer: laws over generated requests and documents."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.authorize import authorize
from authz.core.decision import Allow, Deny
from authz.core.introspection import IntrospectionResponse, check_active
from authz.core.needs import Need, Unanswered
from authz.core.pdp import PDP, PdpDecision, PdpKind
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request
from authz.core.requirements import RiskRequirement
from authz.core.risk import CLIENT, RISK, Assessment, ClientHistory, RiskEngine
from authz.core.throttle import ClientRules
from authz.facts.source import SourceError
from authz.feeds.http.fetch import Response
from authz.feeds.pdp import PdpReader
from authz.feeds.risk import read_assessment
from tests.attacks.generated import bounded, claim_changes, json_values, requests, texts
from tests.cases.external import TOLERANT, question
from tests.cases.introspection import RULES
from tests.fixtures import A_EC, T, make_snapshot, mint, rule
from tests.unit.core.test_decide_again import GOOD, gather, guarded, request

JSON: Final = {"content-type": "application/json"}
ASKING: Final = make_snapshot(
    rule(
        "items",
        "/items/{id}",
        risk=RiskRequirement(levels=("low",), asks_engine=True),
        external=question(
            TOLERANT,
            context={"agent": '${request.headers["user-agent"]}', "all": "${request.headers}", "at": "${request.path}"},
            resource_properties={"claims": "${claims}", "extensions": "${context}"},
        ),
    ),
    clients=ClientRules(),
    risk=RiskEngine(source="https://risk.test", headers=("user-agent", "cookie")),
)
AGENTS: Final = st.fixed_dictionaries({}, optional={"user-agent": texts, "cookie": texts, "x": texts})


def respond(document: object) -> Response:
    """Answer with *document*, as JSON."""
    return Response(200, JSON, json.dumps(document).encode())


@bounded
@given(requests(), AGENTS, claim_changes)
def test_every_request_is_a_question_or_a_denial(
    asked: Request, headers: dict[str, str], claims: dict[str, Any]
) -> None:
    """Whatever a client sends beside a good token: what is asked is JSON that can be sent, and nothing is raised."""
    token = mint(A_EC, claims={**claims, "sub": claims.get("sub", "bob")})
    names = {**asked.headers, **headers, "authorization": f"Bearer {token}"}
    sent = replace(asked, method="GET", host="api.test", path="/items/1", headers=names)
    facts: dict[Need, object] = {}
    for _ in range(4):
        decision = authorize(sent, ASKING, T, facts)
        assert isinstance(decision, Allow | Deny)
        assert decision.reason is not Reason.AUTHENTICATED
        for need in decision.trail.needs:
            if need.kind in {PDP, RISK}:
                assert isinstance(json.loads(need.payload.encode()), dict)
        found = {CLIENT: ClientHistory(), RISK: Assessment("low"), PDP: Unanswered("HTTP status 403")}
        facts = gather(facts, decision, found)


@bounded
@given(st.sampled_from(sorted(GOOD)), json_values | st.builds(Unanswered, st.text(max_size=9)))
def test_no_answer_of_another_form_allows(kind: str, fact: object) -> None:
    """A fact is of its own type or is none: text, numbers and objects that look like an answer decide nothing."""
    snapshot, asked, facts = guarded(), request(), dict[Need, object]()
    for _ in range(len(GOOD) + 1):
        decision = authorize(asked, snapshot, T, facts)
        facts = gather(facts, decision, {**GOOD, kind: fact})
    assert isinstance(authorize(asked, snapshot, T, facts), Deny)


@bounded
@given(st.sampled_from(PdpKind), json_values, json_values)
@pytest.mark.parametrize("placed", ["document", "decision", "result", "decision of a result"])
def test_only_a_literal_true_of_a_pdp_allows(placed: str, kind: PdpKind, value: object, other: object) -> None:
    """Whatever it answers, and wherever the value is: all else denies, or is no answer."""
    document = {
        "document": value,
        "decision": {"decision": value, "context": other},
        "result": {"result": value, "decision_id": other},
        "decision of a result": {"result": {"decision": value, "context": other}},
    }[placed]
    try:
        answer = PdpReader(kind=kind, ttl=0.0).read(lambda: respond(document)).value
    except SourceError:
        return
    found = document["result"] if kind is PdpKind.OPA and isinstance(document, dict) else document
    allows = found is True or (isinstance(found, dict) and found.get("decision") is True)
    assert (answer.decision is PdpDecision.ALLOWED) is allows  # type: ignore[attr-defined]  # it is a PdpResponse


@bounded
@given(st.dictionaries(st.sampled_from(["level", "score"]) | st.text(max_size=6), json_values, max_size=4))
def test_an_assessment_is_a_word_and_a_number(members: dict[str, Any]) -> None:
    """Whatever a risk engine answers: nothing that is not finite, and no text that could be anything else."""
    try:
        assessment = read_assessment(respond(members))
    except SourceError:
        return
    assert assessment.level is None or (assessment.level == members["level"] and assessment.level.isascii())
    assert assessment.score is None or math.isfinite(assessment.score)
    assert assessment != Assessment()


@bounded
@given(st.dictionaries(st.sampled_from(["active", "token_type", "typ", "token_use", "cnf"]), json_values, max_size=5))
def test_only_a_literal_true_makes_a_token_active(members: dict[str, Any]) -> None:
    """And only with what proves an access token (RFC 7662 section 2.2)."""
    try:
        check_active(IntrospectionResponse(members), RULES)
    except Rejected:
        return
    assert members["active"] is True
    assert str(members["token_type"]).lower() in {"bearer", "dpop"}
