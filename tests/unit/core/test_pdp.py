"""Proves external decisions: what is asked of a PDP, what counts as its answer, and what follows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from authz.core.authorize import authorize
from authz.core.challenge import write_challenge
from authz.core.decision import Allow, Decision, Deny, as_unanswered
from authz.core.needs import Need, Unanswered
from authz.core.pdp import (
    MAX_ACR_VALUES,
    MAX_QUESTION_BYTES,
    MAX_REASON_CHARS,
    PDP,
    Entity,
    IdEncoding,
    PdpDecision,
    PdpKind,
    PdpResponse,
    StepUp,
    read_response,
)
from authz.core.reasons import Reason
from authz.core.steps import Step
from authz.core.template import Reference, parse_template
from tests.cases.external import DOWN, GOOD, POLICIES, REASONED, TOLERANT, no_expression, question, ruled, text
from tests.fixtures import T, ask, mint

ALLOWED: Final = PdpResponse(PdpDecision.ALLOWED)
DENIED: Final = PdpResponse(PdpDecision.DENIED)


def need_of(asked: Any, token: str = GOOD, **request: Any) -> Need:  # noqa: ANN401 - a question
    """The need of a request for the decision of a PDP."""
    (need,) = authorize(ask(token, **request), ruled(asked), T).trail.needs
    return need


def sent(asked: Any, token: str = GOOD, **request: Any) -> Any:  # noqa: ANN401 - JSON
    """What is sent to the PDP."""
    return json.loads(need_of(asked, token, **request).payload)


def answered(fact: object, asked: Any = None, token: str = GOOD, **rule: Any) -> Decision:  # noqa: ANN401 - a question
    """Decide with an answer of the PDP."""
    wanted = asked or question()
    return authorize(ask(token), ruled(wanted, **rule), T, {need_of(wanted, token): fact})


def test_the_question_has_the_members_of_the_standard_and_no_others() -> None:
    """Some servers refuse what they do not know; context is there if it is configured."""
    assert sent(question()) == {
        "subject": {"type": "user", "id": "bob"},
        "action": {"name": "GET"},
        "resource": {"type": "item", "id": "1"},
    }
    more = question(
        subject_properties={"groups": "${claims.groups}", "dept": "${claims.dept}"},
        action_properties={"soft": True},
        resource_properties={"host": "${request.host}"},
        context={"ip": "${source.address}"},
    )
    token = mint(groups=["a"])
    assert sent(more, token, source_address="192.0.2.7") == {
        "subject": {"type": "user", "id": "bob", "properties": {"groups": ["a"]}},
        "action": {"name": "GET", "properties": {"soft": True}},
        "resource": {"type": "item", "id": "1", "properties": {"host": "api.test"}},
        "context": {"ip": "192.0.2.7"},
    }


@pytest.mark.parametrize("kind", PdpKind)
@pytest.mark.parametrize("value", ['x","type":"admin', "\\", "\x00\n", "é\u2028", "}}", "\U0001f600"])
def test_a_value_stays_a_value_whatever_it_contains(kind: PdpKind, value: str) -> None:
    """The question is JSON with sorted members, in ASCII: a value cannot end its text, nor two questions look alike."""
    asked = question(
        replace(POLICIES, kind=kind),
        subject="${claims.sub}",
        subject_properties={"z": "${claims.sub}", "a": {"${": "${claims.sub}"}},
        action_properties={"as": "${claims.sub}"},
        context={"of": ["${claims.sub}", "${claims.absent}", 1, True]},
    )
    need = need_of(asked, mint(sub=value))
    written = json.loads(need.payload)
    assert need.payload == json.dumps(written, separators=(",", ":"), sort_keys=True)
    found = written["input"] if kind is PdpKind.OPA else written
    assert found == {
        "subject": {"type": "user", "id": value, "properties": {"z": value, "a": {"${": value}}},
        "action": {"name": "GET", "properties": {"as": value}},
        "resource": {"type": "item", "id": "1"},
        "context": {"of": [value, 1, True]},
    }


def test_opa_gets_the_same_as_its_input() -> None:
    """One policy serves either protocol."""
    assert sent(question(replace(POLICIES, kind=PdpKind.OPA))) == {"input": sent(question())}


def test_a_need_differs_by_all_that_is_sent_and_by_whom_it_is_sent_to() -> None:
    """An answer is never used for another question, another PDP, or another way to ask it."""
    needs = [
        need_of(question()),
        need_of(question(), mint(sub="eve")),
        need_of(question(), path="/items/2"),
        need_of(question(), method="POST"),
        need_of(question(context={"a": 1})),
        need_of(question(replace(POLICIES, source="another URL"))),
        need_of(question(replace(POLICIES, name="others"))),
        need_of(question(replace(POLICIES, kind=PdpKind.OPA))),
    ]
    assert len(set(needs)) == len(needs)
    need = needs[0]
    assert (need.kind, need.source, need.unanswered, need.optional) == (PDP, "policies", Reason.PDP_UNAVAILABLE, False)
    assert need == need_of(question(), mint(exp=T + 7))
    assert (need.without_payload, need.without_payload.payload) == (need, "")
    assert need_of(question(TOLERANT)).without_payload.optional
    assert "bob" not in repr(need)


ENCODED: Final = {
    IdEncoding.NONE: "a:b#c@d e/é",
    IdEncoding.PERCENT: "a%3Ab%23c%40d%20e%2F%C3%A9",
    IdEncoding.BASE64URL: "YTpiI2NAZCBlL8Op",
}


@pytest.mark.parametrize(("encoding", "written"), ENCODED.items(), ids=ENCODED)
def test_ids_are_encoded_for_servers_that_refuse_characters(encoding: IdEncoding, written: str) -> None:
    """Ids of subject and resource, each value in them; neither types, names, properties nor the text between."""
    pdp = replace(POLICIES, id_encoding=encoding)
    asked = replace(
        question(pdp, subject="org:${claims.sub}", subject_properties={"mail": "${claims.sub}"}),
        resource=Entity(text("item:x"), text("${claims.sub}")),
    )
    found = sent(asked, mint(sub="a:b#c@d e/é"))
    assert found["subject"] == {"type": "user", "id": f"org:{written}", "properties": {"mail": "a:b#c@d e/é"}}
    assert found["resource"] == {"type": "item:x", "id": written}


def test_credentials_are_in_no_question() -> None:
    """Neither by name nor with all headers, by a reference or by an expression."""

    class Headers:
        """An expression that finds all headers."""

        def evaluate(self, request: Any, _params: object, _claims: object) -> object:  # noqa: ANN401 - a request
            """Return them."""
            return dict(request.headers)

    pdp = replace(POLICIES, excluded_headers=frozenset({"authorization", "cookie"}))
    headers = {"cookie": "s=secret", "x-device": "d1"}
    plain = {"all": "${request.headers}", "one": "${request.headers.authorization}"}
    assert sent(question(pdp, context=plain), headers=headers)["context"] == {"all": {"x-device": "d1"}}
    by_cel = replace(question(pdp), context={"all": Reference("request.headers", expression=Headers())})
    assert sent(by_cel, headers=headers)["context"] == {"all": {"x-device": "d1"}}


ANSWERS: Final[Mapping[str, tuple[PdpKind, object, PdpResponse | None]]] = {
    "true": (PdpKind.AUTHZEN, {"decision": True}, ALLOWED),
    "false": (PdpKind.AUTHZEN, {"decision": False}, DENIED),
    "true with a context": (PdpKind.AUTHZEN, {"decision": True, "context": {"acr_values": "x"}}, ALLOWED),
    "an unknown member": (PdpKind.AUTHZEN, {"decision": True, "more": 1}, ALLOWED),
    "a context that is no object": (PdpKind.AUTHZEN, {"decision": False, "context": "no"}, DENIED),
    "no decision": (PdpKind.AUTHZEN, {}, None),
    "a text": (PdpKind.AUTHZEN, {"decision": "true"}, None),
    "a number": (PdpKind.AUTHZEN, {"decision": 1}, None),
    "null": (PdpKind.AUTHZEN, {"decision": None}, None),
    "OPA's word": (PdpKind.AUTHZEN, {"result": True}, None),
    "opa true": (PdpKind.OPA, {"result": True}, ALLOWED),
    "opa false": (PdpKind.OPA, {"result": False, "decision_id": "1"}, DENIED),
    "opa undefined": (PdpKind.OPA, {}, None),
    "opa undefined, with an id": (PdpKind.OPA, {"decision_id": "1"}, None),
    "opa object": (PdpKind.OPA, {"result": {"decision": True, "context": {}}}, ALLOWED),
    "opa package": (PdpKind.OPA, {"result": {"allow": True}}, None),
    "opa set": (PdpKind.OPA, {"result": [True]}, None),
    "AuthZEN's word": (PdpKind.OPA, {"decision": True}, None),
}


@pytest.mark.parametrize(("kind", "members", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_only_a_boolean_is_a_decision(kind: PdpKind, members: Any, expected: PdpResponse | None) -> None:  # noqa: ANN401 - JSON
    """Anything else is no answer: neither a denial nor an allow."""
    if expected is None:
        with pytest.raises(ValueError, match="no boolean"):
            read_response(members, kind)
    else:
        assert read_response(members, kind) == expected


REASONS: Final[Mapping[str, tuple[object, str]]] = {
    "a text": ("no", "no"),
    "by status": ({"401": "x", "403": "no"}, "no"),
    "by language": ({"en": "no", "de": "nein"}, "no"),
    "no text": ({"en": 1}, ""),
    "an empty object": ({}, ""),
    "a list": (["no"], ""),
    "control characters": ("a\r\nb\x00\u202ec\ud800", "abc"),
    "a long one": ("x" * (MAX_REASON_CHARS + 5), "x" * MAX_REASON_CHARS),
}


@pytest.mark.parametrize(("value", "expected"), REASONS.values(), ids=REASONS)
def test_reasons_are_texts_that_can_be_shown(value: object, expected: str) -> None:
    """For the user and for the operator; neither breaks a line of a log, nor a header."""
    read = read_response({"decision": False, "context": {"reason_user": value, "reason_admin": value}}, PdpKind.AUTHZEN)
    assert (read.reason, read.note) == (expected, expected)
    assert read_response({"decision": False, "context": {"reason": value}}, PdpKind.AUTHZEN).note == expected
    assert repr(read).count("no") == 0


STEP_UPS: Final[Mapping[str, tuple[Mapping[str, object], StepUp | None]]] = {
    "as in the standard": ({"acr_values": "urn:loa:3", "amr_values": "mfa hwk"}, StepUp(("urn:loa:3",))),
    "two": ({"acr_values": "urn:loa:3 urn:loa:2"}, StepUp(("urn:loa:3", "urn:loa:2"))),
    "a list": ({"acr_values": ["a", "b"]}, StepUp(("a", "b"))),
    "only amr": ({"amr_values": "mfa"}, StepUp()),
    "an age": ({"max_age": 300}, StepUp((), 300)),
    "an age of 0": ({"max_age": 0}, StepUp((), 0)),
    "an age as text": ({"max_age": "300"}, StepUp((), 300)),
    "both": ({"acr_values": "a", "max_age": 300}, StepUp(("a",), 300)),
    "nothing": ({}, None),
    "empty": ({"acr_values": "", "amr_values": []}, None),
    "quotes": ({"acr_values": 'a" evil="b'}, None),
    "a line break": ({"acr_values": ["a\r\nset-cookie: x"]}, None),
    "another type": ({"acr_values": {"a": 1}, "amr_values": 3, "max_age": True}, None),
    "a list of others": ({"acr_values": ["a", 1]}, None),
    "a negative age": ({"max_age": -1}, None),
    "an age of centuries": ({"max_age": 10**12}, None),
    "a fraction": ({"max_age": 1.5}, None),
    "a word as age": ({"max_age": "soon"}, None),
    "digits of another script": ({"max_age": "٣"}, None),
    "too many": ({"acr_values": ["a"] * (MAX_ACR_VALUES + 1)}, None),
    "too long": ({"acr_values": "a" * 300}, None),
}


@pytest.mark.parametrize(("context", "expected"), STEP_UPS.values(), ids=STEP_UPS)
def test_a_step_up_is_read_from_three_members(context: Mapping[str, object], expected: StepUp | None) -> None:
    """What a challenge cannot contain is left out as a whole, and the denial stays one."""
    read = read_response({"decision": False, "context": context}, PdpKind.AUTHZEN)
    assert (read.decision, read.step_up) == (PdpDecision.DENIED, expected)


def test_a_step_up_becomes_the_challenge_of_rfc_9470() -> None:
    """With the values and the age that the PDP asks for."""
    decision = answered(PdpResponse(PdpDecision.DENIED, step_up=StepUp(("urn:loa:3", "mfa"), 300)))
    assert isinstance(decision, Deny)
    assert write_challenge(decision, realm="api") == (
        'Bearer realm="api", error="insufficient_user_authentication", acr_values="urn:loa:3 mfa", max_age="300"'
    )
    plain = answered(PdpResponse(PdpDecision.DENIED, step_up=StepUp()))
    assert isinstance(plain, Deny)
    assert write_challenge(plain, realm="api") == 'Bearer realm="api", error="insufficient_user_authentication"'


def test_the_reason_for_the_user_is_sent_only_if_configured() -> None:
    """The one for the operator is in the detail, and never sent."""
    quiet, told = answered(REASONED), answered(REASONED, question(replace(POLICIES, expose_reason=True)))
    assert isinstance(quiet, Deny)
    assert isinstance(told, Deny)
    assert (quiet.message, told.message) == ("", "ask your manager")
    assert quiet.detail == told.detail == "pdp policies denies: policy 7"


def test_what_is_missing_is_named_and_nobody_is_asked() -> None:
    """There is no question without ids; the detail has no value of the token."""
    for subject, token, detail in (
        ("${claims.uid}", GOOD, "no question to pdp policies: subject.id is absent"),
        ("${claims.uid}", mint(uid=""), "no question to pdp policies: subject.id is empty"),
        ("${claims.uid}", mint(uid={"a": "s3cret"}), "${claims.uid} is an object, where text is needed"),
    ):
        decision = authorize(ask(token), ruled(question(subject=subject)), T)
        assert decision.reason is Reason.POLICY_DENIED
        assert decision.detail.endswith(detail)
        assert decision.trail.needs == ()
        assert decision.trail.pdp is None


def test_it_is_the_last_requirement_and_before_the_headers() -> None:
    """Step 12 passes with its answer; while it is not known, the trail names the need and the PDP."""
    passed: dict[int, object] = {}
    wanted = question()
    authorize(ask(GOOD), ruled(wanted), T, {need_of(wanted): ALLOWED}, observe=passed.__setitem__)
    assert Step.HEADERS in passed
    waiting = authorize(ask(GOOD), ruled(wanted), T, observe=passed.__setitem__)
    assert isinstance(waiting, Deny)
    assert (waiting.trail.pdp, waiting.detail) == ("policies", "pdp policies has not answered")
    retryable = as_unanswered(waiting)
    assert (retryable.reason, retryable.detail) == (
        Reason.PDP_UNAVAILABLE,
        "pdp policies has not answered; not answered in time: pdp of policies",
    )


def test_without_an_answer_a_tolerant_rule_allows_and_reports() -> None:
    """Only if the PDP does not answer at all; step 13 holds nevertheless, and the identity is set."""
    decision = answered(DOWN, question(TOLERANT))
    assert isinstance(decision, Allow)
    assert (decision.reason, decision.would_deny) == (Reason.PDP_UNAVAILABLE, True)
    assert decision.detail == "allowed without an answer of pdp policies: connection refused"
    assert ("x-user-id", "bob") in decision.set_headers
    assert isinstance(answered(DOWN, question(TOLERANT), mint(sub="bob\n")), Deny)
    for fact in (Unanswered("no budget"), None, "allowed", DENIED, PdpResponse(PdpDecision.REFUSED)):
        assert isinstance(answered(fact, question(TOLERANT)), Deny), fact
    assert isinstance(answered(DOWN), Deny)


def test_a_shadow_rule_reports_what_the_pdp_says() -> None:
    """It lets the request pass, and its report waits for the answer."""
    for fact, reason in ((ALLOWED, Reason.AUTHENTICATED), (DENIED, Reason.PDP_DENIED), (None, Reason.PDP_UNAVAILABLE)):
        decision = answered(fact, shadow=True)
        assert isinstance(decision, Allow)
        assert (decision.reason, decision.would_deny) == (reason, reason is not Reason.AUTHENTICATED)
        assert bool(decision.trail.needs) is (fact is None)


def test_a_question_is_compared_by_what_is_asked() -> None:
    """Two that ask the same are equal, also with expressions, which are compared by their text."""
    one, two = ({"a": Reference("f(x)", expression=None)} for _ in range(2))
    assert replace(question(), context=one) == replace(question(), context=two)
    assert question() != question(subject="${claims.uid}")
    assert parse_template("${claims.a}", no_expression) != parse_template("${claims.b}", no_expression)


def test_a_question_is_bounded() -> None:
    """No PDP gets more than 64 KiB: what does not fit is denied, and not cut."""
    large = {"x": ["y" * 2000] * 33}
    decision = authorize(ask(GOOD), ruled(question(context=large)), T)
    assert decision.reason is Reason.POLICY_DENIED
    assert decision.detail == f"no question to pdp policies: more than {MAX_QUESTION_BYTES} bytes"
    assert len(need_of(question(context={"x": ["y" * 2000] * 32})).payload) <= MAX_QUESTION_BYTES
