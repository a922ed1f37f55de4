"""Proves that a test of one's own rules can say what a PDP and a risk engine answer."""

from __future__ import annotations

from typing import Any, Final

import pytest

from authz.testing import Gateway, Reason

URL: Final = "https://api.test/orders/7"
CONFIG: Final = """version: 1
issuers:
  corporate: {issuer: "https://login.test/", audiences: [api], algorithms: [ES256]}
pdps:
  policies: {url: "https://pdp.test/access/v1/evaluation"}
  opa: {kind: opa, url: "https://opa.test/v1/data/app/allow"}
  lax: {url: "https://lax.test/access/v1/evaluation", insecure: {allow_on_error: true}}
risk: {url: "https://risk.test/assess", %s}
rules:
  - {name: asked, match: {paths: ["/orders/{id}"]}, require: {pdp: {name: policies, resource: {id: "${params.id}"}}}}
  - {name: opa, match: {paths: [/opa]}, require: {pdp: opa}}
  - {name: lax, match: {paths: [/lax]}, require: {pdp: lax}}
  - name: calm
    match: {paths: [/calm]}
    require: {risk: {levels: [low], max_failures_1m: 3, step_up: {acr: [mfa]}}}
  - {name: known, match: {paths: [/known]}, require: {risk: {known_network: true}}}
"""


def gateway(on_error: str = "cache: 0s") -> Gateway:
    """The gateway of these tests."""
    return Gateway.from_text(CONFIG % on_error)


def decide(path: str, where: Gateway | None = None, **answers: Any) -> Reason:  # noqa: ANN401 - of a PDP or an engine
    """Decide about a request of alice."""
    here = where or gateway()
    return here.decide("GET", f"https://api.test{path}", token=here.mint("corporate"), **answers).reason


def test_a_pdp_answers_as_the_test_says() -> None:
    """In the words of its kind; without an answer it is down, and a text is no decision."""
    assert decide("/orders/7", pdp={"decision": True}) is Reason.AUTHENTICATED
    assert decide("/orders/7", pdp={"decision": False}) is Reason.PDP_DENIED
    assert decide("/orders/7", pdp={"decision": "true"}) is Reason.PDP_UNAVAILABLE
    assert decide("/orders/7") is Reason.PDP_UNAVAILABLE
    assert decide("/opa", pdp={"result": True}) is Reason.AUTHENTICATED
    assert decide("/opa", pdp={"result": {"decision": False}}) is Reason.PDP_DENIED
    assert decide("/opa", pdp={}) is Reason.PDP_UNAVAILABLE


def test_a_pdp_may_answer_by_the_question() -> None:
    """So a test sees what its templates make of a request."""
    asked: list[dict[str, Any]] = []

    def reply(question: dict[str, Any]) -> dict[str, object] | None:
        asked.append(question)
        return {"decision": question["resource"]["id"] == "7"} if question["subject"]["id"] == "alice" else None

    assert decide("/orders/7", pdp=reply) is Reason.AUTHENTICATED
    assert decide("/orders/8", pdp=reply) is Reason.PDP_DENIED
    assert asked[0]["resource"] == {"type": "route", "id": "7"}


def test_a_pdp_that_is_down_is_tolerated_if_configured() -> None:
    """What the configuration says of a PDP that does not answer is tested too."""
    here = gateway()
    verdict = here.decide("GET", "https://api.test/lax", token=here.mint("corporate"))
    assert (verdict.allowed, verdict.would_deny, verdict.reason) == (True, True, Reason.PDP_UNAVAILABLE)
    assert decide("/lax", pdp={}) is Reason.PDP_UNAVAILABLE
    assert not here.decide("GET", "https://api.test/lax", token=here.mint("corporate"), pdp={}).allowed


def test_a_step_up_that_the_pdp_asks_for() -> None:
    """The challenge is what the client gets."""
    here = gateway()
    said = {"decision": False, "context": {"acr_values": "mfa"}}
    verdict = here.decide("GET", URL, token=here.mint("corporate"), pdp=said)
    assert (verdict.status, verdict.reason) == (401, Reason.STEP_UP_REQUIRED)
    assert 'acr_values="mfa"' in (verdict.challenge or "")


def test_the_risk_is_what_the_test_says() -> None:
    """Of the engine and of the client; a client of which nothing is said has no failures."""
    assert decide("/calm", risk={"level": "low"}) is Reason.AUTHENTICATED
    assert decide("/calm", risk={"level": "high"}) is Reason.STEP_UP_REQUIRED
    assert decide("/calm", risk={"level": "low", "failures_1m": 4}) is Reason.STEP_UP_REQUIRED
    assert decide("/calm") is Reason.RISK_UNAVAILABLE
    assert decide("/calm", gateway("on_error: {level: low}")) is Reason.AUTHENTICATED
    assert decide("/known") is Reason.AUTHENTICATED
    assert decide("/known", risk={"new_network": True}) is Reason.RISK_DENIED


def test_a_misspelt_name_is_no_risk() -> None:
    """It would be no risk at all, and the test would prove nothing."""
    with pytest.raises(ValueError, match="called levle, but level, score, failures_1m"):
        decide("/calm", risk={"levle": "high"})
