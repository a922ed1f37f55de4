"""Ory Hydra 26.2, which is asked about its opaque tokens."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import T
from tests.recipes.recipe import Recipe, discovery, fails, jwk, passes

_ISSUER: Final = "https://hydra.example.com"
_JWKS: Final = f"{_ISSUER}/.well-known/jwks.json"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "PUT https://api.example.com/orders/7"
_TOKEN: Final = "ory_at_q3XfQmZ0b1y7.8Kc2nV5tGdWjR4pLs"

_USER: Final = {
    "active": True,
    "aud": ["orders-api"],
    "client_id": "web",
    "exp": T + 3540,
    "ext": {"groups": ["order-editors", "staff"]},
    "iat": T - 60,
    "iss": _ISSUER,
    "nbf": T - 60,
    "scope": "openid orders:read orders:write",
    "sub": "alice",
    "token_type": "Bearer",
    "token_use": "access_token",
}
_INACTIVE: Final = {"active": False}
_WHO: Final = {"subject": "alice", "client": "web", "groups": "order-editors,staff"}

RECIPE: Final = Recipe(
    name="hydra-opaque",
    serves=lambda: {**discovery(_ISSUER, _JWKS), _JWKS: {"keys": [jwk("id")]}},
    absent=("issuers.hydra.introspection.client.secret_file",),
    cases=(
        passes("a user", _WRITE, _TOKEN, **_WHO).about(_USER),
        passes("a user, to read", _READ, _TOKEN, **_WHO).about(_USER),
        fails("a refresh token", _READ, "ory_rt_x.y", Reason.TOKEN_MALFORMED).about(
            {**_USER, "token_use": "refresh_token"}
        ),
        fails("one that is sent as an access token", _READ, _TOKEN, Reason.TYP_NOT_ALLOWED).about(
            {**_USER, "token_use": "refresh_token"}
        ),
        fails("a token that was revoked", _WRITE, _TOKEN, Reason.TOKEN_INACTIVE).about(_INACTIVE),
        fails("no audience", _READ, _TOKEN, Reason.AUDIENCE_MISMATCH).about({**_USER, "aud": []}),
        fails("a user without the group", _WRITE, _TOKEN, Reason.POLICY_DENIED).about({**_USER, "ext": {}}),
        fails("an editor without the scope", _WRITE, _TOKEN, Reason.INSUFFICIENT_SCOPE).about(
            {**_USER, "scope": "orders:read"}
        ),
        fails("a user without a scope", _READ, _TOKEN, Reason.INSUFFICIENT_SCOPE).about({**_USER, "scope": "openid"}),
        fails("an answer about an expired token", _READ, _TOKEN, Reason.TOKEN_EXPIRED).about({**_USER, "exp": T - 60}),
        fails("while Hydra is away", _READ, _TOKEN, Reason.INTROSPECTION_UNAVAILABLE),
    ),
)
