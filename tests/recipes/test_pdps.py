"""The recipe for policy decision points: what each is asked by the page's configuration, and what its answers do."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from authz.demo.client import send
from authz.testing import Gateway, Verdict
from tests.documents.pages import blocks
from tests.fakes.pdp import MEMBERS
from tests.integration.cerbos import TOOL, Cerbos
from tests.recipes.recipe import FOLDER

ISSUER: Final = {"corporate": {"issuer": "https://login.example.com", "audiences": ["orders-api"]}}
# What the page says of Cerbos: the role is the type of the subject, and the claims are its attributes.
POLICY: Final = """apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: order
  version: default
  rules:
    - actions: ["GET"]
      effect: EFFECT_ALLOW
      roles: ["user"]
      condition: {match: {expr: '"reader" in P.attr.roles'}}
"""


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    """The configuration of the page, with an issuer."""
    (block,) = [each for each in blocks("yaml", page=FOLDER / "README.md") if "\npdps:" in f"\n{each.text}"]
    return Gateway.from_text(yaml.safe_dump({"version": 1, "issuers": ISSUER, **yaml.safe_load(block.text)}))


@dataclass
class Pdp:
    """Answers what it is told, and keeps the question."""

    says: Mapping[str, object] | None
    asked: dict[str, Any] = field(default_factory=dict)

    def __call__(self, question: dict[str, Any]) -> Mapping[str, object] | None:
        self.asked = question
        return self.says


def ask(gateway: Gateway, what: str, pdp: Callable[[dict[str, Any]], object], **claims: object) -> Verdict:
    """Send a request, as a method and a path."""
    method, _, path = what.partition(" ")
    token = gateway.mint("corporate", claims)
    return gateway.decide(method, f"https://api.example.com{path}", token=token, pdp=pdp)  # type: ignore[arg-type]


def test_cerbos_gets_the_four_members_of_the_standard(gateway: Gateway) -> None:
    """It refuses a question with any other, and one without an id; roles that a caller has not are left out."""
    pdp = Pdp({"decision": True})
    assert ask(gateway, "GET /orders/7", pdp, realm_access={"roles": ["reader"]}).reason == "authenticated"
    assert pdp.asked == {
        "subject": {"type": "user", "id": "alice", "properties": {"roles": ["reader"]}},
        "action": {"name": "GET"},
        "resource": {"type": "order", "id": "7"},
    }
    assert pdp.asked.keys() <= {*MEMBERS, "context"}
    assert ask(gateway, "GET /orders/7", pdp).allowed
    assert pdp.asked["subject"] == {"type": "user", "id": "alice", "properties": {}}
    pdp.asked = {}
    assert (ask(gateway, "GET /orders/7", pdp, sub=None).allowed, pdp.asked) == (False, {})


@pytest.fixture(scope="module")
def cerbos() -> Iterator[Cerbos]:
    """A real one, with the policy that the page speaks of."""
    with tempfile.TemporaryDirectory() as folder, Cerbos(Path(folder), policy=POLICY) as server:
        yield server


@pytest.mark.needs(TOOL)
def test_a_real_cerbos_decides(gateway: Gateway, cerbos: Cerbos) -> None:
    """Who has the role reads; without it, by another method, and about what it does not know, it denies."""

    def decide(question: dict[str, Any]) -> Mapping[str, object]:
        headers = [("Content-Type", "application/json")]
        answer = send(cerbos.url, method="POST", headers=headers, body=json.dumps(question).encode())
        assert answer.status == 200, answer.body
        said: Mapping[str, object] = answer.json()
        return said

    reader = {"realm_access": {"roles": ["reader"]}}
    assert ask(gateway, "GET /orders/7", decide, **reader).reason == "authenticated"
    for what, claims in (
        ("GET /orders/7", {"realm_access": {"roles": []}}),
        ("GET /orders/7", {}),
        ("PUT /orders/7", reader),
    ):
        assert ask(gateway, what, decide, **claims).reason == "pdp_denied"


def test_openfga_gets_ids_that_it_takes(gateway: Gateway) -> None:
    """No mail address and no file name has a character that it refuses; two different ones stay different."""
    seen = set()
    for subject, file in (("alice@example.com", "a:b"), ("spiffe://example.com/x", "a%23b"), ("a b", "a%20b")):
        pdp = Pdp({"decision": True})
        assert ask(gateway, f"GET /files/{file}", pdp, sub=subject).allowed
        ids = pdp.asked["subject"]["id"], pdp.asked["resource"]["id"]
        assert not set(":#@ ") & set("".join(ids))
        assert (pdp.asked["action"], pdp.asked["resource"]["type"]) == ({"name": "read"}, "doc")
        seen.add(ids)
    assert len(seen) == 3
    assert ask(gateway, "GET /files/7", Pdp({"decision": False})).reason == "pdp_denied"


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({"result": True}, "authenticated"),
        ({"result": False}, "pdp_denied"),
        ({"result": {"decision": True}}, "authenticated"),
        ({"result": {"decision": False, "context": {"reason_user": "no"}}}, "pdp_denied"),
        ({"result": {"decision": False, "context": {"acr_values": "mfa"}}}, "step_up_required"),
        ({"result": {}}, "pdp_unavailable"),
        ({}, "pdp_unavailable"),
        (None, "pdp_unavailable"),
    ],
)
def test_opa_gets_an_input_and_answers_with_a_result(
    gateway: Gateway, says: Mapping[str, object] | None, reason: str
) -> None:
    """A boolean, or an object with a decision; a rule that is undefined, as without its bundle, is no answer."""
    pdp = Pdp(says)
    verdict = ask(gateway, "GET /other", pdp)
    assert (verdict.reason, "no" in (verdict.body or "").split()) == (reason, False)
    assert pdp.asked == {
        "input": {
            "subject": {"type": "user", "id": "alice"},
            "action": {"name": "GET"},
            "resource": {"type": "route", "id": "/other"},
        }
    }
