"""A provider that says how its users logged in."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_ISSUER: Final = "https://login.example.com"
_JWKS: Final = f"{_ISSUER}/jwks"
_READ: Final = "GET https://pay.example.com/payments/7"
_APPROVE: Final = "POST https://pay.example.com/payments/7/approval"
_KEYS: Final = "DELETE https://pay.example.com/keys/7"
_STEP_UP: Final = 'error="insufficient_user_authentication", acr_values="phr phrh", max_age="300"'

_SECURITY_KEY: Final = Token(
    kid="login-1",
    algorithm="ES256",
    header={"typ": "at+jwt"},
    claims={
        "iss": _ISSUER,
        "sub": "alice",
        "aud": "payments-api",
        "client_id": "web",
        "iat": T - 60,
        "exp": T + 240,
        "jti": "1",
        "scope": "payments",
        "acr": "phrh",
        "amr": ["hwk", "user", "mfa"],
        "auth_time": T - 60,
    },
)
_SYNCED: Final = _SECURITY_KEY.but(acr="phr", amr=["swk", "user", "mfa"])
_POP: Final = _SECURITY_KEY.but(acr="phr", amr=["pop", "user", "mfa"])
_PASSWORD: Final = _SECURITY_KEY.but(acr="1", amr=["pwd", "otp", "mfa"])

RECIPE: Final = Recipe(
    name="passkey",
    serves=lambda: {**discovery(_ISSUER, _JWKS), _JWKS: {"keys": [jwk("login-1", "ES256")]}},
    cases=(
        passes("any login", _READ, _PASSWORD, subject="alice", acr="1", amr="pwd otp mfa"),
        passes("a synced passkey", _APPROVE, _SYNCED, subject="alice", acr="phr", amr="swk user mfa"),
        passes("a passkey of unsaid make", _APPROVE, _POP, subject="alice", acr="phr", amr="pop user mfa"),
        passes("a key in hardware", _APPROVE, _SECURITY_KEY, subject="alice", acr="phrh", amr="hwk user mfa"),
        passes("a key in hardware for keys", _KEYS, _SECURITY_KEY, subject="alice", acr="phrh", amr="hwk user mfa"),
        fails("a password and a code", _APPROVE, _PASSWORD, Reason.STEP_UP_REQUIRED, _STEP_UP),
        fails("no acr at all", _APPROVE, _SYNCED.but(acr=ABSENT), Reason.STEP_UP_REQUIRED, _STEP_UP),
        fails(
            "a login of this morning", _APPROVE, _SYNCED.but(auth_time=T - 14_400), Reason.STEP_UP_REQUIRED, _STEP_UP
        ),
        fails(
            "a refreshed token that hides when",
            _APPROVE,
            _SYNCED.but(auth_time=ABSENT),
            Reason.STEP_UP_REQUIRED,
            _STEP_UP,
        ),
        fails("a synced passkey for keys", _KEYS, _SYNCED, Reason.STEP_UP_REQUIRED, 'acr_values="phrh"'),
        fails(
            "hardware that only acr claims",
            _KEYS,
            _SYNCED.but(acr="phrh"),
            Reason.STEP_UP_REQUIRED,
            'acr_values="phrh"',
        ),
        fails(
            "hardware without a passkey",
            _KEYS,
            _SECURITY_KEY.but(acr="1"),
            Reason.STEP_UP_REQUIRED,
            'acr_values="phrh"',
        ),
        fails(
            "a key in hardware, this morning",
            _KEYS,
            _SECURITY_KEY.but(auth_time=T - 14_400),
            Reason.STEP_UP_REQUIRED,
            'max_age="300"',
        ),
        fails("a key in hardware without the scope", _KEYS, _SECURITY_KEY.but(scope=ABSENT), Reason.INSUFFICIENT_SCOPE),
        fails("an ID token", _APPROVE, _SYNCED.but(header={"typ": "JWT"}), Reason.TYP_NOT_ALLOWED),
        fails("any login, without the scope", _READ, _PASSWORD.but(scope="profile"), Reason.INSUFFICIENT_SCOPE),
        fails("a passkey without the scope", _APPROVE, _SYNCED.but(scope="profile"), Reason.INSUFFICIENT_SCOPE),
        fails("an expired token", _APPROVE, _SYNCED.but(iat=T - 400, exp=T - 100), Reason.TOKEN_EXPIRED),
    ),
)
