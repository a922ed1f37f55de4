"""Proves that `authz explain` is the server's own decision, step by step, for all decision tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Decision, outcome
from authz.core.needs import NO_FACTS, Facts
from authz.core.reasons import WIRE_STATUS, Reason
from authz.core.request import Request
from authz.core.revocation import RevocationSource, RevocationTable
from authz.core.snapshot import Snapshot
from authz.core.steps import Step
from authz.tooling.explain.explanation import Explanation, Question, explain, explain_question
from tests.cases.tables import Case, config_of, read_documents, read_table
from tests.cases.test_decisions import CASES
from tests.fixtures import A_RSA, T, ask, jwks, make_snapshot, mint
from tests.unit.config.sample import configure

# The order of the steps, as the pipeline promises it: where each reason belongs.
STEPS: Final[Mapping[Reason, set[Step]]] = {
    Reason.REQUEST_MALFORMED: {Step.REQUEST},
    Reason.PATH_AMBIGUOUS: {Step.REQUEST, Step.RULE},
    Reason.PUBLIC: {Step.RULE, Step.TOKEN},  # the sidecar's own document, or a rule that asks for no token
    Reason.ANONYMOUS: {Step.TOKEN},
    Reason.TOKEN_MISSING: {Step.TOKEN},
    Reason.TOKEN_MULTIPLE: {Step.TOKEN},
    Reason.THROTTLED: {Step.TOKEN},
    Reason.TOKEN_MALFORMED: {Step.TOKEN, Step.FORM},
    Reason.TOKEN_TOO_LARGE: {Step.FORM},
    Reason.HEADER_INVALID: {Step.FORM},
    Reason.CRIT_UNSUPPORTED: {Step.FORM},
    Reason.ISSUER_UNKNOWN: {Step.ISSUER, Step.CLAIMS},
    Reason.ALG_NOT_ALLOWED: {Step.ALGORITHM},
    Reason.TYP_NOT_ALLOWED: {Step.ALGORITHM, Step.SIGNATURE, Step.BINDING},
    Reason.TOKEN_INACTIVE: {Step.SIGNATURE, Step.BINDING, Step.HEADERS},
    Reason.INTROSPECTION_UNAVAILABLE: {Step.SIGNATURE, Step.BINDING},
    Reason.KEYS_UNAVAILABLE: {Step.KEYS},
    Reason.KEY_NOT_FOUND: {Step.KEY, Step.SIGNATURE},
    Reason.KEY_AMBIGUOUS: {Step.KEY},
    Reason.KEY_UNUSABLE: {Step.KEY},
    Reason.SIGNATURE_INVALID: {Step.SIGNATURE},
    Reason.CLAIMS_MALFORMED: {Step.ISSUER, Step.CLAIMS, Step.BINDING, Step.REQUIREMENTS, Step.HEADERS},
    Reason.TOKEN_EXPIRED: {Step.CLAIMS, Step.HEADERS},
    Reason.UPSTREAM_TOKEN_UNAVAILABLE: {Step.HEADERS},
    Reason.TOKEN_NOT_YET_VALID: {Step.CLAIMS},
    Reason.AUDIENCE_MISMATCH: {Step.CLAIMS, Step.REQUIREMENTS},
    Reason.TOKEN_BOUND: {Step.BINDING, Step.REQUIREMENTS},
    Reason.TOKEN_REVOKED: {Step.BINDING},
    Reason.REVOCATIONS_UNAVAILABLE: {Step.BINDING},
    Reason.PROOF_INVALID: {Step.BINDING},
    Reason.NONCE_REQUIRED: {Step.BINDING},
    Reason.STEP_UP_REQUIRED: {Step.REQUIREMENTS},
    Reason.INSUFFICIENT_SCOPE: {Step.REQUIREMENTS},
    Reason.POLICY_DENIED: {Step.RULE, Step.TOKEN, Step.REQUIREMENTS, Step.HEADERS},
    Reason.RISK_DENIED: {Step.REQUIREMENTS},
    Reason.RISK_UNAVAILABLE: {Step.REQUIREMENTS},
    Reason.PDP_DENIED: {Step.REQUIREMENTS},
    Reason.PDP_UNAVAILABLE: {Step.REQUIREMENTS},
    Reason.HEADER_UNSAFE: {Step.HEADERS},
    Reason.UPSTREAM_TOKEN_REFUSED: {Step.HEADERS},
}
NOT_OF_THE_PIPELINE: Final = {Reason.AUTHENTICATED, Reason.OVERLOADED, Reason.INTERNAL_ERROR}


def rows() -> Iterator[tuple[str, Mapping[str, Any], Case]]:
    """Yield every row that is written as YAML: its name, its table's configuration, and the case."""
    for stem, table in read_documents("policy-*.yaml").items():
        if "conditions" in stem:
            pytest.importorskip("cel_expr_python")
        yield from ((f"{stem}: {name}", table["config"], case) for name, case in read_table(table))


ROWS: Final = [pytest.param(config, case, id=name) for name, config, case in rows()]


def check(explained: Explanation, decision: Decision) -> None:
    """Compare what is shown with what was decided: outcome, reason, and the step at which it ended."""
    assert (outcome(explained.decision), explained.decision.reason) == (outcome(decision), decision.reason)
    assert explained.decision == decision
    assert [line.step for line in explained.lines] == list(Step)
    ends = [line.ended for line in explained.lines]
    passed = ends.count("ok")
    if decision.reason is Reason.AUTHENTICATED:
        assert passed == len(Step)
        return
    assert ends == ["ok"] * passed + [outcome(decision)] + ["not reached"] * (len(Step) - passed - 1)
    assert Step(passed + 1) in STEPS[decision.reason]
    if decision.reason is Reason.POLICY_DENIED:
        at = {
            "no rule matches": Step.RULE,
            "the rule denies every request": Step.TOKEN,
            "tokens of a are not exchanged: see identity.token.exchange.subjects": Step.HEADERS,
        }
        assert Step(passed + 1) is at.get(explained.decision.detail, Step.REQUIREMENTS)
    assert (decision.trail.rule is None) is (passed < Step.RULE)
    assert (decision.trail.issuer is None) is (passed < Step.ISSUER)
    detail = explained.decision.detail  # of what is read after the claims
    nameless = detail.startswith(("sub is not a string", "sub of the token for the upstream"))
    nameless = nameless or "subject.id is absent" in detail
    assert (decision.trail.subject is None) <= (passed < Step.CLAIMS or nameless)


def told(request: Request, snapshot: Snapshot, now: float, facts: Facts = NO_FACTS) -> None:
    """Explain one request, and compare."""
    check(explain(request, snapshot, now, facts), authorize(request, snapshot, now, facts))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_explain_is_the_server_in_the_tables_of_the_core(case: Any) -> None:  # noqa: ANN401 - a row
    """Tokens, keys, claims, requests: the same outcome, the same reason, the right step."""
    told(case.request, case.snapshot, case.now, case.facts)


@pytest.mark.parametrize(("config", "case"), ROWS)
def test_explain_is_the_server_in_the_tables_of_rules(config: Mapping[str, Any], case: Case) -> None:
    """Rules, identity, cookies, conditions, shadows: the same, also where the command itself makes the request."""
    told(case.request(), case.snapshot, T)

    request = case.request()
    question = Question(
        method=request.method,
        host=request.host,
        path=request.path,
        scheme=request.scheme,
        address=request.source_address,
        headers=list(request.headers.items()),
        context=request.context,
        at=T,
    )
    check(explain_question(question, config_of(config)), case.decide())


def test_every_reason_has_its_step() -> None:
    """A new reason must be given a place in the order."""
    assert STEPS.keys() | NOT_OF_THE_PIPELINE == set(Reason) == set(WIRE_STATUS)


def test_nearly_every_reason_is_explained_by_some_row() -> None:
    """The tables reach every reason that the pipeline can give, except those that need an empty feed."""
    reached = {case.reason for case in CASES} | {Reason(case.row["then"].split()[1]) for _, _, case in rows()}
    assert set(STEPS) <= reached


def test_what_is_known_of_revocations_is_said() -> None:
    """A running sidecar names its sources; without one, it is said that they are not known."""
    snapshot = make_snapshot(revocations=(RevocationSource("partner", RevocationTable(max_entries=1)),))
    live = explain(ask(mint()), snapshot, T)
    assert next(line.looked_at for line in live.lines if line.step is Step.BINDING) == "no cnf; revocations: partner"

    config = configure(issuer=f"jwks: {jwks(A_RSA)}", more="revocation: {file: /events}\n")
    claims = {"iss": "https://login.example.com/", "aud": "orders-api"}
    headers = [("authorization", f"Bearer {mint(claims=claims)}")]
    question = Question(method="GET", host="api.test", path="/orders", headers=headers, at=T)
    assert any(
        "whether the token was revoked is not known here" in note for note in explain_question(question, config).notes
    )
    without = explain_question(question, configure(issuer=f"jwks: {jwks(A_RSA)}"))
    assert not [note for note in without.notes if "revoked" in note]
