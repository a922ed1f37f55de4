"""Proves authz.runtime.insight and config_report: what the console shows is what this process does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from authz.admin.console.attempt import QuestionError
from authz.admin.console.configuration import SIZE
from authz.core.decision import AuditTrail, Deny
from authz.core.reasons import Reason
from authz.core.throttle import ClientRules, Throttle
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.recent import DecisionFilter
from tests.fixtures import A_EC, B_EC, T, ask, jwks, mint
from tests.unit.runtime.looking import Running
from tests.unit.telemetry.capturing import logging_to

CONFIG = f"""version: 1
admin: {{listen: "127.0.0.1:0"}}
issuers:
  a:
    issuer: https://a.test
    audiences: [api]
    algorithms: [ES256]
    jwks: {json.dumps(json.loads(jwks(A_EC)))}
rules:
  - name: public
    match: {{paths: [/public/**]}}
    allow: public
  - name: items
    match: {{paths: ["/items/**"]}}
    allow: authenticated
identity:
  headers:
    x-gateway: {{value: between-us}}
    x-user: sub
insecure:
  query_token: t
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file that is in use."""
    path = tmp_path / "authz.yaml"
    path.write_text(CONFIG)
    return path


def look(running: Running, **query: str) -> dict[str, Any]:
    """Return the configuration as the console shows it."""
    return json.loads(json.dumps(running.insight.configuration(query)))  # type: ignore[no-any-return]


def test_the_configuration_in_use_is_shown(file: Path) -> None:
    """Every key with its value, defaults included, what Envoy needs, and what is insecure; no fixed header's value."""
    shown = look(Running(file))
    assert (shown["file"], shown["rejected"], shown["needs_restart"]) == (str(file), None, [])
    assert [each["path"] for each in shown["insecure"]] == ["insecure.query_token"]
    assert "max_concurrent: 256" in shown["rest"]
    assert "x-user" in shown["rest"]
    assert "between-us" not in json.dumps(shown)
    assert [each["name"] for each in shown["rules"]] == ["public", "items"]
    assert "https://a.test" in shown["issuers"][0]["text"]
    assert "envoy.filters.http.ext_authz" in shown["envoy"]


def test_a_file_that_is_rejected_is_shown_with_its_problems(file: Path) -> None:
    """Until it is good again; what is in use is unchanged."""
    running = Running(file)
    file.write_text(CONFIG.replace("allow: public", "allow: everybody"))
    with logging_to():
        running.active.reload()
    shown = look(running)
    assert "rules[0].allow" in shown["rejected"]["text"]
    assert "allow: public" in shown["rules"][0]["text"]
    file.write_text(CONFIG)
    with logging_to():
        running.active.reload()
    assert look(running)["rejected"] is None
    with logging_to():
        running.active.report_removed()
    assert look(running)["rejected"]["text"] == "the file was removed"


def test_what_waits_for_a_restart_is_shown_beside_what_runs(file: Path) -> None:
    """Each key below server, admin and the exporter whose value in the file is another one."""
    running = Running(file)
    file.write_text(
        CONFIG.replace("version: 1", "version: 1\nserver: {workers: 3, tls: null}".replace(", tls: null", ""))
    )
    with logging_to():
        running.active.reload()
    shown = look(running)
    assert shown["needs_restart"] == [{"path": "server.workers", "running": "1", "file": "3"}]
    assert "workers: 1" in shown["rest"]


def test_many_rules_are_shown_in_parts(file: Path) -> None:
    """From the position that is asked for on."""
    more = "".join(f"  - {{name: r{number}, match: {{paths: [/r/{number}]}}, allow: deny}}\n" for number in range(120))
    file.write_text(CONFIG.replace("identity:", f"{more}identity:"))
    shown = look(Running(file), rules="100")
    assert shown["rules_total"] == 122
    assert [shown["rules"][0]["name"], shown["rules"][-1]["name"]] == ["r98", "r119"]
    assert len(look(Running(file))["rules"]) == SIZE


def test_a_request_is_explained_by_what_runs(file: Path) -> None:
    """By the keys and rules in use, and nothing follows from it: no key counts as used."""
    running = Running(file)
    token = mint(A_EC)
    (explained,) = explanations(running, {"path": "/items/1", "token": token})
    assert (explained["decision"], explained["rule"], explained["subject"]) == ("allow", "items", "bob")
    assert [step["ended"] for step in explained["steps"]] == ["ok"] * 13
    assert token not in json.dumps(explained)
    key = running.insight.keys()["issuers"][0]["keys"][0]  # type: ignore[index]
    assert key["last_used"] is None
    assert running.insight.decisions(DecisionFilter())["decisions"] == []


def test_a_key_that_is_not_there_is_a_need(file: Path) -> None:
    """A request would have it looked for; explaining fetches nothing."""
    (explained,) = explanations(Running(file), {"path": "/items/1", "token": mint(B_EC, iss="https://a.test")})
    assert explained["reason"] == "key_not_found"
    assert [need["answer"] for need in explained["needs"]] == [
        "not in the current key set; a real request starts a search, limited by fetch.cooldown"
    ]


def test_an_opaque_token_is_a_need_that_is_not_asked(tmp_path: Path) -> None:
    """Its issuer is not asked for an explanation: a request would be; the token is in no part of it."""
    secret, file = tmp_path / "secret", tmp_path / "authz.yaml"
    secret.write_text("s")
    client = f"{{client: {{id: c, secret_file: {secret}}}, url: 'https://a.test/introspect'}}"
    file.write_text(CONFIG.replace("    audiences: [api]\n", f"    audiences: [api]\n    introspection: {client}\n", 1))
    (explained,) = explanations(Running(file), {"path": "/items/1", "token": "opaque-token-of-somebody"})
    assert explained["decision"] == "deny"
    assert [(need["kind"], need["answer"]) for need in explained["needs"]] == [
        ("introspection", "not requested here; a real request waits for the answer, or uses a cached one")
    ]
    assert "opaque-token-of-somebody" not in json.dumps(explained)


def explanations(running: Running, question: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the console."""
    return json.loads(json.dumps(running.insight.explain(question)["explanations"]))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ({"method": 1}, "must be strings"),
        ({"token": []}, "token and proof must be strings"),
        ({"proof": 7}, "token and proof must be strings"),
        ({"headers": {}}, "headers must be a list"),
        ({"headers": [["a"]]}, "headers must be a list"),
        ({"headers": [["a", "b"]] * 101}, "at most 100"),
        ({"context": {"a": 1}}, "context must be an object"),
        ({"at": "now"}, "at must be seconds"),
        ({"at": True}, "at must be seconds"),
        ({"at": float("nan")}, "at must be seconds"),
        ({"address": "nowhere"}, "not an IP address"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused(file: Path, question: dict[str, Any], problem: str) -> None:
    """It says what is wrong; nothing else breaks."""
    with pytest.raises(QuestionError, match=problem):
        Running(file).insight.explain(question)


def test_a_question_has_defaults(file: Path) -> None:
    """An empty one is GET https://localhost/ now, and one about another moment is decided then."""
    (explained,) = explanations(Running(file), {})
    assert (explained["reason"], explained["steps"][0]["looked_at"]) == ("policy_denied", "GET localhost /")
    (late,) = explanations(Running(file), {"path": "/items/1", "token": mint(A_EC), "at": T + 10_000})
    assert late["reason"] == "token_expired"
    headers = [["authorization", f"Bearer {mint(A_EC)}"]]
    (by_header,) = explanations(Running(file), {"path": "/items/1", "headers": headers, "address": "192.0.2.1"})
    assert by_header["decision"] == "allow"


def test_pressure_is_who_fails(file: Path) -> None:
    """Clients by the log's own count; subjects and rules among the last denials; clients only if they may be named."""
    running = Running(file)
    trail = AuditTrail(rule="items", issuer="a", subject="mallory")
    record = CheckRecord(Deny(Reason.POLICY_DENIED, trail), "id", ask(mint(), source_address="192.0.2.7"), 0.001)
    with logging_to():
        for _ in range(3):
            running.active.report(record)
        running.log.summarise(name_clients=True)
        running.active.report(record)
    shown = running.insight.pressure()
    assert shown["clients"] == {
        "now": [{"client": "192.0.2.7", "failures": 1, "error_bound": 0}],
        "before": [{"client": "192.0.2.7", "failures": 3, "error_bound": 0}],
    }
    assert (shown["subjects"], shown["rules"]) == (
        [{"name": "mallory", "failures": 4}],
        [{"name": "items", "failures": 4}],
    )
    assert (shown["in_flight"], shown["max_concurrent"]) == (3, 256)
    assert shown["revocations"] == {"events": 2}
    assert shown["shared_revocations"] == {"age": 1.5, "pending": 3, "failure": ""}
    running.clients.reconfigure(ClientRules(throttle=Throttle(failures=2, window=60.0)))
    for _ in range(2):
        running.clients.record_decision(Deny(Reason.SIGNATURE_INVALID, AuditTrail(network="192.0.2.0/24")))
    running.clients.record_decision(record.decision)
    shown = running.insight.pressure()
    assert shown["networks"] == [{"name": "192.0.2.0/24", "failures": 2, "last_minute": 2, "throttled": 1}]
    assert shown["failing_subjects"] == [{"name": "a mallory", "failures": 1, "last_minute": 1}]
    file.write_text(CONFIG + "telemetry: {log_client: false}\n")
    with logging_to():
        running.active.reload()
    quiet = running.insight.pressure()
    assert quiet["clients"] == {"now": [], "before": []}
    assert (quiet["networks"], quiet["failing_subjects"]) == ([], [])


def test_the_last_hour_says_what_is_waited_for(file: Path) -> None:
    """So that the first page says whether it is ready."""
    running = Running(file)
    running.hour.take()
    shown = running.insight.history()
    assert shown["waiting_for"] == ["keys of a"]
    assert len(shown["steps"]) == 1  # type: ignore[arg-type]


def test_keys_of_the_configuration_are_not_fetched(file: Path) -> None:
    """Nor is an issuer that there is not."""
    assert Running(file).insight.refresh("a") is None
    assert Running(file).insight.refresh(None) == {"issuers": []}
