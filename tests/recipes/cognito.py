"""AWS Cognito, whose access tokens have no aud."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_POOL: Final = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE1"
_JWKS: Final = f"{_POOL}/.well-known/jwks.json"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "DELETE https://api.example.com/orders/7"

_USER: Final = Token(
    kid="cognito-access=",
    claims={
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "cognito:groups": ["editors", "staff"],
        "iss": _POOL,
        "version": 2,
        "client_id": "1webclientid",
        "origin_jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "token_use": "access",
        "scope": "openid orders-api/read orders-api/write",
        "auth_time": T - 120,
        "exp": T + 3540,
        "iat": T - 60,
        "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "username": "alice",
    },
)
_MACHINE: Final = _USER.but(
    {"cognito:groups": ABSENT},
    sub="2batchclientid",
    client_id="2batchclientid",
    scope="orders-api/read",
    username=ABSENT,
)
_ID_TOKEN: Final = (
    _USER.but(aud="1webclientid", client_id=ABSENT, scope=ABSENT, token_use="id")
    .but({"cognito:username": "alice"}, username=ABSENT, email="alice@example.com")
    .by("cognito-id=")
)

RECIPE: Final = Recipe(
    name="cognito",
    serves=lambda: {
        **discovery(_POOL, _JWKS),
        _JWKS: {"keys": [jwk("cognito-id="), jwk("cognito-access=")]},
    },
    cases=(
        passes(
            "a user",
            _WRITE,
            _USER,
            subject="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            login="alice",
            client="1webclientid",
            groups="editors,staff",
        ),
        passes("a machine", _READ, _MACHINE, subject="2batchclientid", client="2batchclientid"),
        passes(
            "a token bound to a resource, which has an aud too",
            _READ,
            _MACHINE.but(aud="https://api.example.com"),
            subject="2batchclientid",
            client="2batchclientid",
        ),
        fails("an ID token", _READ, _ID_TOKEN, Reason.AUDIENCE_MISMATCH),
        fails(
            "an ID token to which a trigger added what was missing",
            _READ,
            _ID_TOKEN.but(client_id="1webclientid", scope="orders-api/read"),
            Reason.POLICY_DENIED,
        ),
        fails("another app client", _READ, _USER.but(client_id="3otherclientid"), Reason.AUDIENCE_MISMATCH),
        fails(
            "another user pool",
            _READ,
            _USER.but(iss="https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_OTHER"),
            Reason.ISSUER_UNKNOWN,
        ),
        fails(
            "a sign-in by API, which gives no custom scopes",
            _READ,
            _USER.but(scope="aws.cognito.signin.user.admin"),
            Reason.INSUFFICIENT_SCOPE,
            'scope="orders-api/read"',
        ),
        fails("a group without the scope", _WRITE, _USER.but(scope="orders-api/read"), Reason.INSUFFICIENT_SCOPE),
        fails(
            "an ID token to write with, made up likewise",
            _WRITE,
            _ID_TOKEN.but(client_id="1webclientid", scope="orders-api/write"),
            Reason.POLICY_DENIED,
        ),
        fails("another group", _WRITE, _USER.but({"cognito:groups": ["staff"]}), Reason.POLICY_DENIED),
        fails("nobody's group", _WRITE, _USER.but({"cognito:groups": ABSENT}), Reason.POLICY_DENIED),
        fails("an expired token", _READ, _USER.but(iat=T - 3660, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
