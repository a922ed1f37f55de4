"""Proves authz/core/RULES.md: each of its examples decides as the lines below it say, without a warning."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
import yaml

from authz.config.build import build_snapshot
from authz.config.diagnostics.warnings import warnings
from authz.config.load import parse
from authz.config.model import Config
from authz.config.rules import Require
from authz.core.authorize import authorize
from authz.core.decision import outcome
from authz.core.reasons import WIRE_STATUS, Reason
from authz.core.request import Request
from tests.fixtures import A_RSA, B_EC, T, mint
from tests.tools import ROOT

TEXT: Final = (ROOT / "authz/core/RULES.md").read_text(encoding="utf-8")
EXAMPLES: Final = dict(re.findall(r"^## Example (\d: .*)\n((?:(?!^## ).*\n)*)", TEXT, flags=re.MULTILINE))
KEYS: Final = {"corporate": A_RSA, "partners": B_EC}
ISSUERS: Final = {"corporate": {"issuer": "https://login.example.com/", "audiences": ["api"]}}


def configure(body: str) -> Config:
    """Load the example with the keys of its issuers written in."""
    (block,) = re.findall(r"```yaml\n(.*?)```", body, flags=re.DOTALL)
    written: dict[str, Any] = {"version": 1, "issuers": ISSUERS, **yaml.safe_load(block)}
    for name, issuer in written["issuers"].items():
        issuer["jwks"] = {"keys": [KEYS[name].public()]}
    return parse(json.dumps(written), file="RULES.md")


def rows(body: str) -> list[tuple[str, str, str]]:
    """Return request, token and decision of each line below an example."""
    return re.findall(r"^- ([A-Z]+ \S+), (.+) → (.+)$", body, flags=re.MULTILINE)


CASES: Final = [
    pytest.param(body, *row, id=f"{title}, {row[0]}, {row[1]}")
    for title, body in EXAMPLES.items()
    for row in rows(body)
]


@pytest.mark.parametrize(("body", "request_", "token", "decision"), CASES)
def test_decision(body: str, request_: str, token: str, decision: str) -> None:
    """The request is decided as the document says."""
    config = configure(body)
    method, _, where = request_.partition(" ")
    host, slash, path = where.partition("/")
    headers = {}
    if token != "no token":
        before, mark, claims = token.partition("{")
        name = before.strip() or "corporate"
        changes = {"iss": config.issuers[name].issuer, **yaml.safe_load(mark + claims)}
        headers["authorization"] = f"Bearer {mint(KEYS[name], **changes)}"
    snapshot = build_snapshot(config)
    decided = authorize(Request(method=method, host=host, path=slash + path, headers=headers), snapshot, T)
    assert f"{outcome(decided)} {decided.reason}" == decision


@pytest.mark.parametrize("body", EXAMPLES.values(), ids=EXAMPLES)
def test_no_warning(body: str) -> None:
    """An example has nothing that check-config warns of."""
    assert warnings(configure(body)) == []


def test_statuses_are_those_of_the_reasons() -> None:
    """The list of requirements says the status of each of its reasons, and has every requirement."""
    section = TEXT.partition("## What a rule may require\n")[2].partition("\n### ")[0]
    lines = re.findall(r"^- (.+) → (\d+) \[(\w+)\]", section, flags=re.MULTILINE)
    written = {Reason(reason): int(status) for _, status, reason in lines}
    keys = {key for needed, *_ in lines for key in re.findall(r"`(\w+)`", needed)}

    assert written == {reason: WIRE_STATUS[reason].http for reason in written}
    assert written.keys() >= {Reason.STEP_UP_REQUIRED, Reason.INSUFFICIENT_SCOPE, Reason.POLICY_DENIED}
    assert keys == Require.model_fields.keys()


def test_examples_have_both() -> None:
    """There are three, each with both a permission and a refusal."""
    assert len(EXAMPLES) == 3
    for body in EXAMPLES.values():
        assert {row[2].partition(" ")[0] for row in rows(body)} == {"allow", "deny"}
