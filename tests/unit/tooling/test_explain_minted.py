"""Proves what `authz explain` and `authz.testing` say of a token for the upstream: its claims, without a signature."""

from __future__ import annotations

import json
from dataclasses import replace

from authz.testing import Gateway
from authz.tooling.explain.explanation import Question, explain_question
from authz.tooling.explain.live import explain_live
from tests.unit.config.sample import small

TEXT = small(
    rule="require: {scopes: [read]}\n    upstream_audience: [orders-v2]",
    more="identity: {token: {issuer: https://gateway.test, audience: [orders], claims: {path: {request: path}}}}\n",
)


def test_a_gateway_mints() -> None:
    """A verdict has the claims of the token; without one, none."""
    gateway = Gateway.from_text(TEXT)
    verdict = gateway.decide("GET", "https://a.test/orders", token=gateway.mint("corporate", scope="read write"))
    assert verdict.allowed
    claims = dict(verdict.upstream_token)
    assert claims.pop("exp") == claims.pop("iat") + 120
    assert claims == {
        "iss": "https://gateway.test",
        "sub": "alice",
        "aud": "orders-v2",
        "scope": "read",
        "path": "/orders",
        "txn": "transaction",
    }
    assert "txn-token" in verdict.request_headers
    assert gateway.decide("GET", "https://a.test/orders").upstream_token == {}


def test_explain_says_what_would_be_signed() -> None:
    """The decision is that of a running sidecar; the claims are shown, and nothing is signed."""
    gateway = Gateway.from_text(TEXT)
    token = gateway.mint("corporate", scope="read")
    keys = json.dumps({"keys": [gateway.keys["corporate"].public()]}).encode()
    question = Question(method="GET", host="a.test", path="/orders", at=gateway.at, token=token, jwks=keys)
    explained = explain_question(question, gateway.config)
    assert explained.allowed
    (need,) = explained.needs
    assert need.answer.startswith("JWT for the upstream, not signed here: ")
    assert json.loads(need.answer.partition(": ")[2])["sub"] == "alice"
    assert token not in explained.table()
    live = explain_live(replace(question, jwks=None), gateway.snapshot, gateway.config)
    assert live.allowed
    assert [each.answer for each in live.needs] == [need.answer]
    keyless = replace(gateway.snapshot, minting=replace(gateway.snapshot.minting, key=None))  # type: ignore[type-var]
    assert explain_live(question, keyless, gateway.config).decision.reason.value == "upstream_token_unavailable"
