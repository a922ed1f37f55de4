"""Proves what `authz check-config --fetch` and `authz explain` find out about a policy decision point."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from authz.config.load import parse
from authz.config.model import Config
from authz.demo.loopback import Request, Responder, Response, json_response
from authz.tooling.explain.explanation import Explanation, Question, explain_question, format_document
from authz.tooling.pdp_probe import ProbedPdp, probe_pdps
from tests.fakes.idp import FakeIdp, fail, html, say
from tests.fakes.pdp import EVALUATION

ALLOW, DENY = say(b'{"decision":true}'), say(b'{"decision":false}')


def configure(idp: FakeIdp, more: str = "", asked: str = "{name: policies, resource: {type: order}}") -> Config:
    """Have the fake provider asked for decisions too."""
    return parse(
        f"""version: 1
issuers:
  a:
    issuer: {idp.issuer}
    audiences: [api]
    insecure: {{http: true}}
pdps:
  policies: {{url: "{idp.url}{EVALUATION}"{more}}}
rules:
  - match: {{paths: [/**]}}
    require: {{pdp: {asked}}}
""",
        file="authz.yaml",
    )


def probe(reply: Responder, more: str = "", asked: str = "{name: policies, resource: {type: order}}") -> ProbedPdp:
    """Probe a PDP that answers so."""
    with FakeIdp() as idp:
        idp.answers[EVALUATION] = reply
        (found,) = probe_pdps(configure(idp, more, asked))
        assert all(request.body for request in idp.seen)
    return found


def test_a_good_pdp_denies_what_is_made_up() -> None:
    """The question has the types and the action of the rule, and ids that no one has."""
    seen: list[Request] = []

    def note(request: Request) -> Response:
        seen.append(request)
        return json_response({"decision": False})

    found = probe(note)
    assert found.ok
    assert found.findings == (
        "a made-up subject and resource are denied",
        "it answers without credentials in a header",
    )
    assert json.loads(seen[0].body) == {
        "subject": {"type": "user", "id": "authz-check-config"},
        "action": {"name": "GET"},
        "resource": {"type": "order", "id": "authz-check-config"},
    }
    assert next(iter(found.lines())) == "pdp policies: answers"
    assert found.document()["ok"] is True


def test_one_that_allows_everyone_is_told() -> None:
    """So is an answer in the words of OPA, whose input it is."""
    assert "is that so by a rule for everyone?" in probe(ALLOW).findings[1]
    found = probe(say(b'{"result":false}'), ", kind: opa")
    assert found.findings[0] == "a made-up subject and resource are denied"


@pytest.mark.parametrize("key", ["bearer_token_file", "basic_credentials_file"])
def test_whether_credentials_are_looked_at(key: str, tmp_path: Path) -> None:
    """With wrong ones: if they are answered too, ours are not proved."""
    (tmp_path / "file").write_text("us:right" if key == "basic_credentials_file" else "right")

    def looks(request: Request) -> Response:
        given = dict(request.headers).get("authorization", "")
        return json_response({"decision": False}, status=401 if "d3Jvbmc6" in given else 200)

    more = f", {key}: {tmp_path / 'file'}"
    assert probe(looks, more).findings[-1] == "wrong credentials are refused (unauthorized), so ours are right"
    assert probe(DENY, more).findings[-1].startswith("wrong credentials are answered too")


@pytest.mark.parametrize(
    ("reply", "finding"),
    [
        (html(), "unreadable: the answer is text/html, not JSON"),
        (say(b"{}"), "unreadable: the answer has no boolean decision"),
        (fail(401), "unauthorized: HTTP status 401: it rejects our credentials"),
        (fail(400), "does it know this type and action?"),
    ],
)
def test_what_is_wrong_is_said(reply: Responder, finding: str) -> None:
    """With what came back, and, if the PDP refuses the question, the question."""
    found = probe(reply)
    assert not found.ok
    assert finding in found.findings[0]
    assert "failed" in list(found.lines())[1]


def test_a_pdp_that_no_rule_asks_is_asked_about_a_route() -> None:
    """The defaults of a question; so is one whose rule writes references."""
    for asked in ("{name: policies, resource: {type: '${params.x}y'}}", "policies"):
        with FakeIdp() as idp:
            idp.answers[EVALUATION] = DENY
            text = asked if "params" not in asked else asked.replace("params.x", "claims.x")
            probe_pdps(configure(idp, asked=text))
            assert json.loads(idp.seen[0].body)["resource"]["type"] == "route"


def explained(reply: Responder, more: str = "") -> Explanation:
    """Explain a request that a PDP answers so."""
    with FakeIdp() as idp:
        idp.answers[EVALUATION] = reply
        question = Question(method="GET", host="api.test", path="/x", at=idp.claims()["iat"], token=idp.mint())  # type: ignore[arg-type]
        return explain_question(question, configure(idp, more))


def test_explain_shows_need_question_answer_and_cache() -> None:
    """The PDP is asked as a running sidecar would."""
    found = explained(DENY, ", cache: 5s")
    document = found.document()
    assert (document["reason"], document["detail"]) == ("pdp_denied", "pdp policies denies")
    (need,) = document["needs"]
    assert (need["kind"], need["of"]) == ("pdp", "policies")
    assert need["answer"] == "denied; a running sidecar keeps this answer for 5 s"
    assert json.loads(need["question"])["subject"] == {"type": "user", "id": "alice"}
    assert f"  question: {need['question']}" in format_document(document)
    assert explained(ALLOW).allowed
    (need,) = explained(ALLOW).document()["needs"]
    assert need["answer"] == "allowed; a running sidecar asks each time (cache: 0s)"


def test_explain_says_why_there_is_no_answer() -> None:
    """And what follows from that, by the configuration."""
    found = explained(fail(503))
    assert found.decision.reason.value == "pdp_unavailable"
    assert found.needs[0].answer == "status: HTTP status 503"
    tolerant = explained(fail(503), ", insecure: {allow_on_error: true}")
    assert tolerant.document()["decision"] == "would_deny"


def test_explain_asks_no_one_where_keys_are_given() -> None:
    """What is decided from files alone opens no connection."""
    with FakeIdp() as idp:
        idp.answers[EVALUATION] = ALLOW
        keys = json.dumps({"keys": idp.published}).encode()
        question = Question(
            method="GET",
            host="api.test",
            path="/x",
            at=idp.claims()["iat"],  # type: ignore[arg-type]
            token=idp.mint(),
            jwks=keys,
        )
        found = explain_question(question, configure(idp))
        assert (found.needs[0].answer, idp.count(EVALUATION)) == ("not asked: a key set was given", 0)
