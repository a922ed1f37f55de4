"""Proves authz.core.snapshot."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from authz.core.identity import Identity
from authz.core.keys import Verified
from authz.core.policy import Policy
from authz.core.reasons import Reason, Rejected
from authz.core.snapshot import BodyFormat, Responses, Snapshot, TokenRules, Unavailable
from authz.core.token import MAX_TOKEN_BYTES, HeaderSource, parse_token
from tests.fixtures import ISSUER_A, RULES, A, mint, signer


def test_defaults_are_strict() -> None:
    """Without a word in the configuration: bearer tokens only, problem documents, denials, and no shadow."""
    snapshot = Snapshot(issuers={A: ISSUER_A}, policy=Policy(RULES))
    assert snapshot.token == TokenRules(
        sources=(HeaderSource("authorization", "Bearer"),), max_bytes=MAX_TOKEN_BYTES, forward=True
    )
    assert snapshot.responses == Responses(
        realm="api", body=BodyFormat.PROBLEM_JSON, expose_reason=False, unavailable=Unavailable.DENY, resource=None
    )
    assert snapshot.identity.strip_all == Identity().strip_all
    assert snapshot.shadow_all is False


def test_default_verify_computes() -> None:
    """Where nothing remembers, every signature is computed."""
    snapshot = Snapshot(issuers={}, policy=Policy(RULES))
    assert ISSUER_A.keys is not None
    (key,) = (key for key in ISSUER_A.keys.keys if key.kid == "a-rsa")
    assert snapshot.verify_signature("a", (key,), parse_token(mint())) == (key, Verified.COMPUTED)
    with pytest.raises(Rejected) as caught:
        snapshot.verify_signature("a", (key,), parse_token(mint(signer("RS256", "r"))))
    assert caught.value.reason is Reason.SIGNATURE_INVALID


def test_snapshot_is_frozen() -> None:
    """A request holds the snapshot that it began with: no one changes it under way."""
    snapshot = Snapshot(issuers={}, policy=Policy(RULES))
    with pytest.raises(FrozenInstanceError):
        snapshot.shadow_all = True  # type: ignore[misc]
