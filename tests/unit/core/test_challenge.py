"""Proves authz.core.challenge."""

from __future__ import annotations

import pytest

from authz.core.challenge import write_challenge
from authz.core.decision import Deny
from authz.core.reasons import WIRE_STATUS, Reason

CHALLENGES: dict[str, tuple[Deny, str | None]] = {
    "no-token-no-error": (Deny(Reason.TOKEN_MISSING), 'Bearer realm="api"'),
    "two-tokens": (Deny(Reason.TOKEN_MULTIPLE), 'Bearer realm="api", error="invalid_request"'),
    "expired": (Deny(Reason.TOKEN_EXPIRED, detail="expired 7 s ago"), 'Bearer realm="api", error="invalid_token"'),
    "scope": (
        Deny(Reason.INSUFFICIENT_SCOPE, scopes=("a", "b")),
        'Bearer realm="api", error="insufficient_scope", scope="a b"',
    ),
    "step-up": (
        Deny(Reason.STEP_UP_REQUIRED, acr_values=("mfa", "hw"), max_age=0),
        'Bearer realm="api", error="insufficient_user_authentication", acr_values="mfa hw", max_age="0"',
    ),
    "policy": (Deny(Reason.POLICY_DENIED), None),
    "keys-unavailable": (Deny(Reason.KEYS_UNAVAILABLE), None),
    "internal-error": (Deny(Reason.INTERNAL_ERROR), None),
}


@pytest.mark.parametrize(("denial", "challenge"), CHALLENGES.values(), ids=CHALLENGES)
def test_challenge(denial: Deny, challenge: str | None) -> None:
    """A challenge says what RFC 6750 and RFC 9470 say, and nothing of the token."""
    assert write_challenge(denial, realm="api") == challenge


@pytest.mark.parametrize("reason", Reason)
def test_challenge_goes_with_its_status(reason: Reason) -> None:
    """Every 401 has a challenge (RFC 9110 section 15.5.2)."""
    has_one = write_challenge(Deny(reason), realm="api") is not None
    assert has_one or WIRE_STATUS[reason].http != 401


def test_resource_metadata() -> None:
    """Where the resource describes itself, the challenge says where (RFC 9728 section 5.1)."""
    url = "https://api.test/.well-known/oauth-protected-resource"
    challenge = write_challenge(Deny(Reason.TOKEN_MISSING), realm="api", resource_metadata=url)
    assert challenge == f'Bearer realm="api", resource_metadata="{url}"'


def test_quotes_are_escaped() -> None:
    """A realm cannot break out of its quotes."""
    assert write_challenge(Deny(Reason.TOKEN_MISSING), realm='a"b\\c') == r'Bearer realm="a\"b\\c"'
