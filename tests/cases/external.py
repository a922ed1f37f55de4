"""P: rules that a policy decision point must allow. Its protocol is in tests/unit/core/test_pdp.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from authz.core.authorize import authorize
from authz.core.needs import Facts, Unanswered
from authz.core.pdp import Action, Entity, ExternalDecision, Pdp, PdpDecision, PdpResponse, StepUp
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.core.template import Expression, Reference, Text, parse_template, parse_text
from tests.cases.case import Case, case
from tests.fixtures import ABSENT, T, issuer_a, make_snapshot, mint, rule
from tests.fixtures import ask as request_of

POLICIES: Final = Pdp(name="policies", source="authzen at https://pdp.test/access/v1/evaluation")
TOLERANT: Final = replace(POLICIES, allow_on_error=True)
GOOD: Final = mint()


def no_expression(text: str) -> Expression:
    """Compile nothing: these rules need no CEL."""
    raise ValueError(text)


def text(template: str) -> Text | Reference:
    """Read a text."""
    return parse_text(template, no_expression)


def question(pdp: Pdp = POLICIES, *, subject: str = "${claims.sub}", **others: Any) -> ExternalDecision:  # noqa: ANN401 - templates
    """Ask whether the subject may do what the request does."""
    parts = {name: parse_template(value, no_expression) for name, value in others.items()}
    return ExternalDecision(
        pdp,
        Entity(text("user"), text(subject), parts.get("subject_properties")),
        Action(text("${request.method}"), parts.get("action_properties")),
        Entity(text("item"), text("${params.id}"), parts.get("resource_properties")),
        parts.get("context"),
    )


def ruled(asked: ExternalDecision, **others: Any) -> Snapshot:  # noqa: ANN401 - fields of a rule
    """Have the only rule ask."""
    return make_snapshot(rule("items", "/items/{id}", external=asked, **others), a=issuer_a(required=("exp",)))


def said(fact: object, snapshot: Snapshot) -> Facts:
    """Have the PDP say *fact* of the request for /items/1."""
    (need,) = authorize(request_of(GOOD), snapshot, T).trail.needs
    return {need: fact}


def asks(name: str, reason: Reason, fact: object, *, asked: ExternalDecision | None = None, **others: Any) -> Case:  # noqa: ANN401 - the same
    """Write a row with an answer of the PDP."""
    snapshot = ruled(asked or question())
    return case(f"{name}-P", reason, GOOD, snapshot=snapshot, facts=said(fact, snapshot), **others)


DOWN: Final = Unanswered("connection refused", absent=True)
REASONED: Final = PdpResponse(PdpDecision.DENIED, "policy 7", "ask your manager")
STEP_UP: Final = PdpResponse(PdpDecision.DENIED, step_up=StepUp(("mfa",), 300))

CASES: Final[list[Case]] = [
    asks(
        "allows",
        Reason.AUTHENTICATED,
        PdpResponse(PdpDecision.ALLOWED),
        sees={"x-user-id": "bob", "x-user-groups": "admin,staff"},
    ),
    asks("denies", Reason.PDP_DENIED, PdpResponse(PdpDecision.DENIED)),
    asks("denies-with-a-reason", Reason.PDP_DENIED, REASONED),
    asks("refuses-the-question", Reason.PDP_DENIED, PdpResponse(PdpDecision.REFUSED, "HTTP status 400")),
    asks("asks-for-a-step-up", Reason.STEP_UP_REQUIRED, STEP_UP),
    asks("is-no-answer", Reason.PDP_UNAVAILABLE, {"decision": True}),
    asks("is-down", Reason.PDP_UNAVAILABLE, DOWN),
    asks("answers-with-an-error", Reason.PDP_UNAVAILABLE, Unanswered("HTTP status 500"), asked=question(TOLERANT)),
    asks("denies-where-errors-are-tolerated", Reason.PDP_DENIED, REASONED, asked=question(TOLERANT)),
    asks("asks-for-a-step-up-and-says-why", Reason.STEP_UP_REQUIRED, replace(STEP_UP, note="policy 7")),
    case("not-asked-yet-P", Reason.PDP_UNAVAILABLE, GOOD, snapshot=ruled(question())),
    case("no-subject-P", Reason.POLICY_DENIED, mint(sub=ABSENT), snapshot=ruled(question())),
    case("empty-subject-P", Reason.POLICY_DENIED, mint(sub=""), snapshot=ruled(question())),
    case("numeric-subject-P", Reason.CLAIMS_MALFORMED, mint(sub=17), snapshot=ruled(question())),
    case("list-as-id-P", Reason.POLICY_DENIED, mint(ids=["a"]), snapshot=ruled(question(subject="${claims.ids}"))),
    case("huge-P", Reason.POLICY_DENIED, mint(), snapshot=ruled(question(context={"x": ["y" * 2000] * 40}))),
    case("scope-first-P", Reason.INSUFFICIENT_SCOPE, GOOD, snapshot=ruled(question(), scopes=("items:read",))),
    case("token-first-P", Reason.TOKEN_EXPIRED, mint(exp=T - 60), snapshot=ruled(question())),
]
