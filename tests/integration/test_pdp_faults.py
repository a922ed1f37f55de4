"""Proves that a sidecar whose rules ask a PDP stays safe and answers, whatever the PDP does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from authz.demo.loopback import Responder
from authz.envoy import ext_authz_pb2 as wire
from tests.fakes.idp import FakeIdp, brotli, fail, flood, html, redirect, say
from tests.fakes.kms import half, reset
from tests.fakes.pdp import EVALUATION, VECTORS, evaluate
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.station import Station

ALLOW, DENY = say(b'{"decision":true}'), say(b'{"decision":false}')
PATIENT: Final = "max_wait: 10s, timeout: 10s"


def station(idp: FakeIdp, more: str = PATIENT, *, pdp: FakeIdp | None = None) -> Station:
    """A sidecar with a fake provider, which is its PDP too, or another: for everything but /open."""
    return Station(
        whole=f"""version: 1
issuers:
  a:
    issuer: {idp.issuer}
    audiences: [api]
    insecure: {{http: true}}
pdps:
  policies: {{url: "{(pdp or idp).url}{EVALUATION}", {more}}}
rules:
  - name: open
    match: {{paths: [/open]}}
  - name: records
    match: {{paths: ["/records/{{id}}/{{action}}"]}}
    require:
      pdp:
        name: policies
        subject: {{properties: {{role: "${{claims.role}}"}}}}
        action: {{name: "${{params.action}}", properties: {{soft: "${{claims.soft}}"}}}}
        resource: {{type: record, id: "${{params.id}}", properties: {{status: "${{claims.status}}"}}}}
  - name: all
    match: {{paths: ["/**"]}}
    require: {{pdp: policies}}
""",
    ).settle()


def test_the_certification_scenario_from_token_and_path() -> None:
    """The question is made of the request, and each decision is that of the PDP."""
    with FakeIdp() as idp, station(idp) as sidecar:
        idp.answers[EVALUATION] = evaluate
        for question, decision in VECTORS.values():
            if "context" in question:
                continue
            asked = {name: question[name].get("properties", {}) for name in ("subject", "action", "resource")}
            claims = {name: value for properties in asked.values() for name, value in properties.items()}
            token = idp.mint(sub=question["subject"]["id"], **claims)
            path = f"/records/{question['resource']['id']}/{question['action']['name']}"
            assert sidecar.ask(token, f"GET api.test{path}") == ("authenticated" if decision else "pdp_denied")
            sent = without_empty(json.loads(idp.seen[-1].body))
            assert sent == question


def without_empty(question: Mapping[str, Any]) -> dict[str, Any]:
    """The question without properties that have nothing: the standard makes no difference."""
    return {
        name: {key: value for key, value in entity.items() if key != "properties" or value}
        for name, entity in question.items()
    }


FAULTS: Final[dict[str, Responder]] = {
    "500": fail(500),
    "503": fail(503),
    "401": fail(401),
    "403": fail(403),
    "400": fail(400),
    "429": fail(429),
    "HTML": html(),
    "huge": flood(1),
    "redirect": redirect("/login"),
    "wrong type": say(b'{"decision":true}', content_type="text/plain"),
    "not JSON": say(b"true"),
    "no boolean": say(b'{"decision":"true"}'),
    "undefined": say(b"{}"),
    "encoded": brotli(),
    "reset": reset,
    "reset in the middle": half,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_try_again_and_ends_with_the_fault(fault: Responder) -> None:
    """Never an allow, never a denial by policy, never cached; a rule that asks no one needs none of it."""
    with FakeIdp() as idp, station(idp, f"{PATIENT}, cache: 1h") as sidecar:
        idp.answers[EVALUATION] = fault
        token = idp.mint()
        assert sidecar.ask(token, "GET api.test/x") == "pdp_unavailable"
        assert sidecar.ask(token, "GET api.test/open") == "authenticated"
        idp.answers[EVALUATION] = ALLOW
        assert sidecar.ask(token, "GET api.test/x") == "authenticated"


# Of these, what one question may be the cause of: for a PDP, or for a firewall in front of it.
BY_THE_QUESTION: Final = ("undefined", "no boolean", "HTML", "huge", "encoded", "redirect", "400", "403", "500")
QUIET_OR_NOT: Final = [(fault, quiet) for fault in BY_THE_QUESTION for quiet in (False, True)]


@pytest.mark.parametrize(("fault", "quiet"), [("401", False), *QUIET_OR_NOT])
def test_a_question_without_an_answer_leaves_others_theirs(fault: str, quiet: bool) -> None:  # noqa: FBT001 - a variant
    """A rule of OPA that is undefined for some callers opens no circuit breaker: the others are decided as ever.

    That is so also when all was *quiet* before: but for 401, which is about our credentials if none were accepted yet.
    """
    with FakeIdp() as idp, station(idp) as sidecar:
        idp.answers[EVALUATION] = lambda request: (FAULTS[fault] if b"mallory" in request.body else ALLOW)(request)
        if not quiet:
            assert sidecar.ask(idp.mint(sub="alice"), "GET api.test/x") == "authenticated"
        for number in range(8):
            found = sidecar.ask(idp.mint(sub=f"mallory-{number}"), "GET api.test/x")
            assert found == ("pdp_denied" if fault == "400" and not quiet else "pdp_unavailable")
        assert sidecar.ask(idp.mint(sub="alice"), "GET api.test/x") == "authenticated"
        assert sidecar.asked("policies", "breaker_open", "pdp") == 0


TOLERATED: Final = {"503", "reset"}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_that_a_question_can_cause_is_not_tolerated(fault: str) -> None:
    """allow_on_error is for a PDP that is not there: what it answers with an error is denied nevertheless."""
    with FakeIdp() as idp, station(idp, f"{PATIENT}, insecure: {{allow_on_error: true}}") as sidecar:
        idp.answers[EVALUATION] = FAULTS[fault]
        answer = sidecar.check(idp.mint(), "GET api.test/x")
        assert (answer.status.code == 0) is (fault in TOLERATED)
        assert answer.dynamic_metadata.fields["reason"].string_value == "pdp_unavailable"


def test_a_pdp_that_is_down_is_tolerated_and_reported() -> None:
    """With allow_on_error, if it is configured: the decision is would_deny. What it denies stays denied."""
    with FakeIdp() as idp, FakeIdp() as pdp:
        tolerant = station(idp, f"{PATIENT}, insecure: {{allow_on_error: true}}", pdp=pdp)
        with tolerant as sidecar:
            pdp.answers[EVALUATION] = DENY
            assert sidecar.ask(idp.mint(), "GET api.test/x") == "pdp_denied"
            pdp.stop()
            for _ in range(8):  # the breaker opens, and the answer stays the same
                answer = sidecar.check(idp.mint(), "GET api.test/x")
                fields = answer.dynamic_metadata.fields
                assert answer.status.code == 0
                assert fields["decision"].string_value == "would_deny"
                assert fields["reason"].string_value == "pdp_unavailable"
            assert sidecar.asked("policies", "breaker_open", "pdp") > 0


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_slow_pdp_is_waited_for_within_bounds(fault: str) -> None:
    """The first byte or the last: each check ends by its own bound, and requests that need no PDP do not notice."""
    slow: Callable[[FakeIdp], Responder] = lambda idp: idp.hang if fault == "hang" else idp.drip(seconds=0.1)  # noqa: E731
    with FakeIdp() as idp, station(idp, "max_wait: 100ms, timeout: 200ms") as sidecar:
        idp.answers[EVALUATION] = slow(idp)
        waiting = [sidecar.begin(idp.mint(sub=f"user-{number}")) for number in range(8)]
        assert sidecar.ask(idp.mint(), "GET api.test/open") == "authenticated"
        for answers in waiting:
            answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
            assert answer.dynamic_metadata.fields["reason"].string_value == "pdp_unavailable"
            assert answer.denied_response.status.code == 503
        idp.stop()


def test_a_pdp_that_restarts_is_left_alone_and_comes_back() -> None:
    """Under load: what it decided before serves as long as configured, new questions try again."""
    with FakeIdp() as idp, station(idp, f"{PATIENT}, cache: 1h") as sidecar:
        idp.answers[EVALUATION] = ALLOW
        known = idp.mint(sub="known")
        assert sidecar.ask(known, "GET api.test/x") == "authenticated"
        tokens = [idp.mint(sub=f"new-{number}") for number in range(8)]
        idp.stop()
        assert {sidecar.ask(token, "GET api.test/x") for token in tokens} == {"pdp_unavailable"}
        assert sidecar.ask(known, "GET api.test/x") == "authenticated"
        assert sidecar.asked("policies", "breaker_open", "pdp") > 0
        idp.start()
        wait_until(lambda: sidecar.ask(tokens[0], "GET api.test/x") == "authenticated")


def test_without_a_cache_each_request_asks_and_with_one_the_same_question_does_not() -> None:
    """The key is all that is sent: another subject, path or method is another question."""
    for more, asked in ((PATIENT, 8), (f"{PATIENT}, cache: 1h", 4)):
        with FakeIdp() as idp, station(idp, more) as sidecar:
            idp.answers[EVALUATION] = ALLOW
            for _ in range(2):
                for subject, what in (("a", "GET /x"), ("b", "GET /x"), ("a", "POST /x"), ("a", "GET /y")):
                    request = what.replace(" ", " api.test")
                    assert sidecar.ask(idp.mint(sub=subject), request) == "authenticated"
            assert idp.count(EVALUATION) == asked


def test_64_checks_with_one_question_ask_once() -> None:
    """Anyone who comes while the answer is pending shares it, also without a cache."""
    with FakeIdp() as idp, station(idp) as sidecar:
        idp.answers[EVALUATION] = ALLOW
        token = idp.mint()
        waiting = [sidecar.begin(token) for _ in range(64)]
        answers = [wire.CheckResponse.FromString(each.get(timeout=HANG_SECONDS)) for each in waiting]
        assert {answer.status.code for answer in answers} == {0}
        assert idp.count(EVALUATION) < 64


def test_one_caller_does_not_spend_what_is_tolerated() -> None:
    """A flood of questions ends at our own budget: that is no absence of the PDP, and allows nothing."""
    bounds = f"{PATIENT}, max_per_second: 1, insecure: {{allow_on_error: true}}"
    with FakeIdp() as idp, station(idp, bounds) as sidecar:
        idp.answers[EVALUATION] = DENY
        found = {sidecar.ask(idp.mint(), f"GET api.test/{number}") for number in range(50)}
        allowed = sidecar.allowed
        assert found <= {"pdp_denied", "pdp_unavailable"}
        assert sidecar.asked("policies", "rate_limited", "pdp") > 0
        assert allowed == 0


def test_a_step_up_and_a_reason_reach_the_client() -> None:
    """The challenge of RFC 9470, and, as configured, the PDP's words for the user in the body."""
    denial = {"decision": False, "context": {"acr_values": "mfa", "max_age": 60, "reason_user": {"403": "call us"}}}
    with FakeIdp() as idp, station(idp, f"{PATIENT}, expose_reason_user: true") as sidecar:
        idp.answers[EVALUATION] = say(json.dumps(denial).encode())
        answer = sidecar.check(idp.mint(), "GET api.test/x")
        headers = {option.header.key: option.header.value for option in answer.denied_response.headers}
        assert answer.denied_response.status.code == 401
        assert headers["www-authenticate"].endswith('acr_values="mfa", max_age="60"')
        assert json.loads(answer.denied_response.body)["detail"] == "call us"


def test_local_requirements_come_first() -> None:
    """Who is denied without the PDP is no question to it."""
    with FakeIdp() as idp, station(idp) as sidecar:
        idp.answers[EVALUATION] = ALLOW
        assert sidecar.ask(idp.mint(aud="other"), "GET api.test/x") == "audience_mismatch"
        assert sidecar.ask(idp.mint(exp=int(time.time()) - 60), "GET api.test/x") == "token_expired"
        assert sidecar.ask("garbage", "GET api.test/x") == "token_malformed"
        assert idp.count(EVALUATION) == 0
