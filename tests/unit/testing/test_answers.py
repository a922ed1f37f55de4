"""Proves that a test can say what an issuer answers about a token, signed or not."""

from __future__ import annotations

import pytest

from authz.testing import Gateway

CONFIG = """version: 1
issuers:
  corporate:
    issuer: "https://login.example.com"
    audiences: [api]
    introspection: {{client: {{id: gateway, secret_file: /etc/secret}}, {more}}}
rules:
  - {{name: all, match: {{paths: ["/**"]}}}}
identity: {{headers: {{x-user: sub}}}}
"""
URL = "https://api.example.com/orders"
ACTIVE = {"active": True, "token_type": "Bearer", "aud": "api", "sub": "alice", "exp": 1_800_000_300}


@pytest.mark.parametrize("more", ["mode: opaque", "signed: true"])
def test_an_opaque_token_is_what_its_issuer_says(more: str) -> None:
    """Active or not; and without an answer the issuer is away."""
    gateway = Gateway.from_text(CONFIG.format(more=more))
    allowed = gateway.decide("GET", URL, token="opaque", answer=ACTIVE)
    assert (allowed.reason, allowed.headers) == ("authenticated", {"x-user": "alice"})
    assert gateway.decide("GET", URL, token="opaque", answer={"active": False}).reason == "token_inactive"
    assert gateway.decide("GET", URL, token="opaque", answer={**ACTIVE, "aud": "x"}).reason == "audience_mismatch"
    assert gateway.decide("GET", URL, token="opaque").reason == "introspection_unavailable"


def test_a_jwt_needs_an_answer_only_if_every_token_is_asked_about() -> None:
    """With `mode: always` it must be active too."""
    opaque, always = (Gateway.from_text(CONFIG.format(more=f"mode: {mode}")) for mode in ("opaque", "always"))
    assert opaque.decide("GET", URL, token=opaque.mint("corporate")).allowed
    assert always.decide("GET", URL, token=always.mint("corporate")).reason == "introspection_unavailable"
    assert always.decide("GET", URL, token=always.mint("corporate"), answer=ACTIVE).allowed
    assert not always.decide("GET", URL, token=always.mint("corporate"), answer={**ACTIVE, "sub": "bob"}).allowed
