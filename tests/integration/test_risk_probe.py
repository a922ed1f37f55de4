"""Proves what `authz check-config --fetch` finds out about a risk engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from authz.cli import main
from authz.config.load import parse
from authz.demo.loopback import Request, Responder, Response, json_response
from authz.tooling.explain.explanation import Explanation, Question, explain_question
from authz.tooling.risk_probe import ProbedRisk, probe_risk
from tests.fakes.idp import FakeIdp, fail, html, say

ASSESS = "/assess"
LOW = say(b'{"level":"low","score":0.1}')


def configure(idp: FakeIdp, more: str = "", required: str = "{levels: [low]}", when: str = "") -> str:
    """Write a configuration that has the fake provider asked about risk too."""
    condition = f", when: '{when}'" if when else ""
    return f"""version: 1
issuers:
  a:
    issuer: {idp.issuer}
    audiences: [api]
    insecure: {{http: true}}
risk: {{url: "{idp.url}{ASSESS}"{more}}}
rules:
  - name: all
    match: {{paths: [/**]}}
    require: {{risk: {required}{condition}}}
"""


def probe(reply: Responder, more: str = "", required: str = "{levels: [low]}", when: str = "") -> ProbedRisk:
    """Probe an engine that answers so."""
    with FakeIdp() as idp:
        idp.answers[ASSESS] = reply
        found = probe_risk(parse(configure(idp, more, required, when), file="authz.yaml"))
    assert found is not None
    return found


def test_a_good_engine_is_asked_about_a_client_that_no_one_is() -> None:
    """The question is of the usual form, with the headers that are configured."""
    seen: list[Request] = []

    def note(request: Request) -> Response:
        seen.append(request)
        return json_response({"level": "low", "score": 0.5})

    found = probe(note, ", send_headers: [user-agent]")
    assert found.ok
    assert found.findings == (
        "a made-up client has level low and score 0.5",
        "it answers without credentials in a header",
    )
    assert json.loads(seen[0].body) == {
        "issuer": "a",
        "subject": "authz-check-config",
        "client": None,
        "address": "192.0.2.1",
        "headers": {"user-agent": "authz-check-config"},
    }
    assert next(iter(found.lines())) == "risk engine: answers"
    assert found.document()["ok"] is True


@pytest.mark.parametrize("key", ["bearer_token_file", "basic_credentials_file"])
def test_whether_credentials_are_looked_at(key: str, tmp_path: Path) -> None:
    """With wrong ones: if they are answered too, ours are not proved."""
    (tmp_path / "file").write_text("us:right" if key == "basic_credentials_file" else "right")

    def looks(request: Request) -> Response:
        given = dict(request.headers).get("authorization", "")
        return json_response({"level": "low"}, status=401 if "d3Jvbmc6" in given else 200)

    more = f", {key}: {tmp_path / 'file'}"
    assert probe(looks, more).findings[-1] == "wrong credentials are refused (unauthorized), so ours are right"
    assert probe(LOW, more).findings[-1].startswith("wrong credentials are answered too")


@pytest.mark.parametrize(
    ("reply", "required", "when", "finding"),
    [
        (html(), "{levels: [low]}", "", "unreadable: the answer is text/html, not JSON"),
        (say(b"{}"), "{levels: [low]}", "", "unreadable: the answer has neither level nor score"),
        (fail(401), "{levels: [low]}", "", "unauthorized: HTTP status 401: it rejects our credentials"),
        (say(b'{"score":1}'), "{levels: [low]}", "", "a made-up client has score 1; rule 'all' reads a level"),
        (say(b'{"level":"low"}'), "{max_score: 0.5}", "", "a made-up client has level low; rule 'all' reads a score"),
        (
            say(b'{"level":"low"}'),
            "{known_network: true}",
            "risk.score < 0.5",
            "a made-up client has level low; rule 'all' reads a score",
        ),
    ],
)
def test_what_is_wrong_is_said(reply: Responder, required: str, when: str, finding: str) -> None:
    """Also that the engine answers, and not what the rules read: they would deny everyone."""
    found = probe(reply, required=required, when=when)
    assert (found.ok, found.findings) == (False, (finding,))
    assert "failed" in list(found.lines())[1]


def test_the_command_asks_the_engine(tmp_path: Path) -> None:
    """And ends with a status that says whether it can be used."""
    file = tmp_path / "authz.yaml"
    with FakeIdp() as idp:
        file.write_text(configure(idp))
        for reply, said in ((LOW, "risk engine: answers"), (fail(500), "risk engine: fails")):
            idp.answers[ASSESS] = reply
            result = CliRunner().invoke(main, ["check-config", str(file), "--fetch"])
            assert said in result.output
            assert ("the risk engine does not answer" in result.output) is (reply is not LOW)
            assert (result.exit_code == 0) is (reply is LOW)


def test_without_an_engine_no_one_is_asked() -> None:
    """There is nothing to say."""
    with FakeIdp() as idp:
        text = configure(idp).replace("risk: {url", "#").replace("{risk: {levels: [low]}}", "{scopes: [a]}")
        assert probe_risk(parse(text, file="authz.yaml")) is None


def explained(reply: Responder, more: str = "") -> Explanation:
    """Explain a request whose risk an engine assesses so."""
    with FakeIdp() as idp:
        idp.answers[ASSESS] = reply
        config = parse(configure(idp, more), file="authz.yaml")
        question = Question(method="GET", host="api.test", path="/x", at=idp.claims()["iat"], token=idp.mint())  # type: ignore[arg-type]
        return explain_question(question, config)


def test_explain_shows_need_question_answer_and_cache() -> None:
    """The engine is asked as a running sidecar would, and what it is asked has no token."""
    document = explained(say(b'{"level":"high"}'), ", cache: 5s").document()
    assert (document["reason"], document["detail"]) == ("risk_denied", "the risk engine gives high, and not low")
    client, engine = document["needs"]
    assert (client["kind"], engine["kind"], engine["of"]) == ("client", "risk", "engine")
    assert engine["answer"] == "Assessment(level='high', score=None); a running sidecar keeps this answer for 5 s"
    assert json.loads(engine["question"])["subject"] == "alice"
    (_, engine) = explained(LOW, ", cache: 0s").document()["needs"]
    assert engine["answer"].endswith("a running sidecar asks each time (cache: 0s)")


def test_explain_says_why_there_is_no_answer() -> None:
    """And what follows from that, by the configuration: an absent engine is tolerated, an error is not."""
    tolerant = ", on_error: {level: low}"
    assert explained(fail(503)).decision.reason.value == "risk_unavailable"
    assert explained(fail(503), tolerant).allowed
    assert explained(fail(500), tolerant).decision.reason.value == "risk_unavailable"
