"""Proves that rules can be tested where an issuer gives the upstream a token: no issuer is asked."""

from __future__ import annotations

from typing import Final

from authz.core.exchange import EXCHANGED
from authz.core.needs import Need
from authz.testing import Gateway
from authz.testing.exchange import answer_exchange

CONFIG: Final = """version: 1
issuers:
  a: {issuer: 'https://a.test', audiences: [api]}
  b: {issuer: 'https://b.test', audiences: [api]}
rules:
  - match: {paths: [/billing]}
    require: {scopes: [bill]}
    upstream_audience: [billing, ledger]
  - match: {paths: ["/**"]}
    allow: authenticated
identity:
  token:
    header: authorization
    audience: [orders]
    exchange: {issuer: a, client: {id: gw, secret_file: /no/secret}}
"""


def test_what_would_be_asked_for() -> None:
    """The token has the audience and the scope that the issuer would be asked for; other callers are denied."""
    gateway = Gateway.from_text(CONFIG)
    token = gateway.mint("a", scope="bill more")
    assert gateway.decide("GET", "https://x/orders", token=token).upstream_token == {"aud": "orders", "scope": ""}
    billed = gateway.decide("GET", "https://x/billing", token=token)
    assert billed.upstream_token == {"aud": ["billing", "ledger"], "scope": "bill"}
    assert billed.request_headers["authorization"] != f"Bearer {token}"
    other = gateway.decide("GET", "https://x/orders", token=gateway.mint("b"))
    assert (other.allowed, other.reason) == (False, "policy_denied")


def test_the_lane_never_waits() -> None:
    """It answers at once, however it is asked."""
    answers: list[object] = []
    need = Need(EXCHANGED, "a", "digest", payload='{"subject": "t", "audiences": ["x"], "scope": ""}')
    lane = answer_exchange()[EXCHANGED]
    lane.ask(need, answers.append)
    assert answers == [lane.find(need)]
    assert lane.max_wait(need) == 0.0
