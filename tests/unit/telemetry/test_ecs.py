"""Proves authz.telemetry.ecs: every line is of the Elastic Common Schema, by the types that Elastic publishes."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.ecs import VERSION
from authz.telemetry.metrics import Metrics
from tests.fixtures import ask, mint
from tests.tools import path
from tests.unit.telemetry import hostile
from tests.unit.telemetry.capturing import logging_to

TRACE = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
_FIELD = re.compile(r"^ *'?(?P<name>[@a-z_0-9]+)'?\??: (?P<type>.*?)[{;]$")


def decisions() -> str:
    """The lines about decisions of each kind, as `log_format: ecs` writes them."""
    log = DecisionLog(Metrics(insecure_options=0, label_rules=True), monotonic=lambda: 0.0)
    trail = AuditTrail("items", "a", "RS256", "k1", claimed_issuer="https://x", audience=["b"], subject="bob")
    with logging_to("ecs", worker=1) as stream:
        for source in ("192.0.2.7", "@pipe"):
            made: tuple[Decision, ...] = (
                Allow(reason=Reason.PUBLIC, trail=AuditTrail()),
                Allow(reason=Reason.POLICY_DENIED, trail=trail, would_deny=True),
                *(Deny(reason, trail, "why") for reason in Reason),
            )
            for decision in made:
                request = ask(mint(), source_address=source, headers={"x-request-id": "r"})
                log.write(CheckRecord(decision, "id-1", request, 0.0012), log_client=True, trace=TRACE)
        log.write(CheckRecord(Deny(Reason.REQUEST_MALFORMED), "id-1", None, 0.0), log_client=True)
        log.summarise(name_clients=True)
        logging.getLogger("authz").info("ready")
        try:
            raise OSError("no")
        except OSError:
            logging.getLogger("authz").exception("broken")
    return stream.getvalue()


def lines() -> list[dict[str, Any]]:
    """The same, read."""
    return [json.loads(line) for line in decisions().splitlines()]


def test_a_denial_is_an_event_of_an_api() -> None:
    """With who, what, which rule, why, and how long it took, in nanoseconds."""
    line = next(line for line in lines() if line["event"].get("code") == "audience_mismatch")
    assert line["event"] == {
        "kind": "event",
        "category": ["api"],
        "type": ["denied"],
        "action": "authorize",
        "outcome": "failure",
        "code": "audience_mismatch",
        "reason": "why",
        "id": "id-1",
        "duration": 1_200_000,
    }
    assert line["client"] == {"address": "192.0.2.7", "ip": "192.0.2.7"}
    assert (line["user"], line["rule"], line["url"]) == (
        {"id": "bob"},
        {"name": "items"},
        {"domain": "api.test", "path": "/items/1"},
    )
    assert line["http"] == {"request": {"id": "r", "method": "GET"}}
    assert (line["trace"], line["span"]) == ({"id": TRACE.trace_id}, {"id": TRACE.span_id})
    assert line["authz"]["token"] == {"alg": "RS256", "kid": "k1", "audience": ["b"]}
    assert line["log"] == {"level": "info", "logger": "authz.decisions"}
    assert line["ecs"] == {"version": VERSION}


def test_what_passes_is_a_success() -> None:
    """Also in shadow: the request went through, and what would have been said is in a field of our own."""
    allowed, shadowed = lines()[:2]
    assert (allowed["event"]["type"], allowed["event"]["outcome"]) == (["allowed"], "success")
    assert (shadowed["event"]["type"], shadowed["authz"]["decision"]) == (["allowed"], "would_deny")


def test_other_lines_are_no_events() -> None:
    """A line of the program has a level, a logger and a message; an error its traceback."""
    ready, broken = lines()[-2:]
    assert (ready["message"], "event" in ready) == ("ready", False)
    assert "OSError: no" in broken["error"]["stack_trace"]


def test_no_text_makes_another_line() -> None:
    """Whatever an attacker sends, each line is one object."""
    log = DecisionLog(Metrics(insecure_options=0, label_rules=True), monotonic=lambda: 0.0)
    with logging_to("ecs") as stream:
        for request in hostile.requests():
            log.write(CheckRecord(Deny(Reason.TOKEN_MISSING), "id", request, 0.0), log_client=True)
    assert all(isinstance(json.loads(line), dict) for line in stream.getvalue().splitlines())


@pytest.mark.needs("@elastic/ecs")
def test_every_field_is_of_the_schema() -> None:
    """By name and type, of the version that the lines name; only what is below `authz` is ours."""
    types = dict(schema(Path(path("@elastic/ecs")) / "generated"))
    assert types["ecs.version"] == f"'{VERSION}'"
    seen: set[str] = set()
    for line in lines():
        for name, value in flat(line):
            if not name.startswith("authz."):
                assert fits(value, types[name]), f"{name}: {types[name]}, not {value!r}"
                seen.add(name)
    assert {"event.duration", "client.ip", "error.stack_trace", "rule.name", "span.id"} <= seen


def schema(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the fields of Elastic's TypeScript interfaces with their types."""
    for file in sorted(folder.glob("*.ts")):
        top = () if file.stem in {"base", "tracing"} else (file.stem,)
        above = list(top)
        inside = False
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("export interface"):
                inside, above = True, list(top)
            elif inside and (found := _FIELD.match(line)) is not None:
                if line.endswith("{"):
                    above.append(found["name"])
                else:
                    yield ".".join([*above, found["name"]]), found["type"]
            elif inside and line.strip() == "};":
                above.pop()
            elif line.startswith("}"):
                inside = False


def flat(line: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """Yield the fields of a line with dots in their names."""
    for name, value in line.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def fits(value: object, wanted: str) -> bool:
    """Whether a value is of a type of TypeScript."""
    match wanted:
        case "string":
            return isinstance(value, str)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string | Array<string>":
            return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
        case _:
            return wanted == f"'{value}'"
