"""Ory Hydra 26.2, with access tokens that are JWTs."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_ISSUER: Final = "https://hydra.example.com"
_JWKS: Final = f"{_ISSUER}/.well-known/jwks.json"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "PUT https://api.example.com/orders/7"
_ACCESS_KEY: Final = "b2f1a3a8-5f43-4b52-9d6e-1f0f6a2f5d11"
_ID_KEY: Final = "0f9f4a0e-0a57-4e8b-8a53-3a3f3d6d1c22"

_USER: Final = Token(
    kid=_ACCESS_KEY,
    header={"typ": "JWT"},
    claims={
        "aud": ["orders-api"],
        "client_id": "web",
        "exp": T + 3540,
        "ext": {"groups": ["order-editors", "staff"]},
        "iat": T - 60,
        "iss": _ISSUER,
        "jti": "8c2a3c4e-43a2-4a3e-a0d0-5f0e5d5a9e33",
        "nbf": T - 60,
        "scp": ["openid", "orders:read", "orders:write"],
        "sub": "alice",
    },
)
_MACHINE: Final = _USER.but(sub="batch", client_id="batch", ext={}, scp=["orders:read"])
_ID_TOKEN: Final = _USER.but(
    aud=["web"], client_id=ABSENT, scp=ABSENT, ext=ABSENT, at_hash="h", auth_time=T - 60, rat=T - 90, sid="s"
).by(_ID_KEY)
_WHO: Final = {"subject": "alice", "client": "web", "groups": "order-editors,staff"}

RECIPE: Final = Recipe(
    name="hydra",
    serves=lambda: {**discovery(_ISSUER, _JWKS), _JWKS: {"keys": [jwk(_ID_KEY), jwk(_ACCESS_KEY)]}},
    cases=(
        passes("a user", _WRITE, _USER, **_WHO),
        passes("a user, to read", _READ, _USER, **_WHO),
        passes("a machine", _READ, _MACHINE, subject="batch", client="batch"),
        passes("scopes as text", _READ, _USER.but(scp=ABSENT, scope="openid orders:read"), **_WHO),
        passes("scopes as both", _READ, _USER.but(scope="openid orders:read orders:write"), **_WHO),
        passes("scopes as a list beside an empty text", _READ, _USER.but(scope=""), **_WHO),
        fails("a client that asked for no audience", _READ, _USER.but(aud=[]), Reason.AUDIENCE_MISMATCH),
        fails("a client that asked for another one", _READ, _USER.but(aud=["billing-api"]), Reason.AUDIENCE_MISMATCH),
        fails("an opaque token", _READ, "ory_at_q3XfQmZ0b1y7.8Kc2nV5tGdWjR4pLs", Reason.TOKEN_MALFORMED),
        fails("an ID token", _READ, _ID_TOKEN, Reason.CLAIMS_MALFORMED),
        fails(
            "an ID token of a client that has the API's name",
            _READ,
            _ID_TOKEN.but(aud=["orders-api"], scp=["orders:read"]),
            Reason.CLAIMS_MALFORMED,
        ),
        fails("a user without the group", _WRITE, _USER.but(ext={}), Reason.POLICY_DENIED),
        fails(
            "a group at the top, where it is not searched for",
            _WRITE,
            _USER.but(ext={}, groups=["order-editors"]),
            Reason.POLICY_DENIED,
        ),
        fails("an editor without the scope", _WRITE, _USER.but(scp=["orders:read"]), Reason.INSUFFICIENT_SCOPE),
        fails("a user without a scope", _READ, _USER.but(scp=[]), Reason.INSUFFICIENT_SCOPE),
        fails("the issuer with a slash", _READ, _USER.but(iss=f"{_ISSUER}/"), Reason.ISSUER_UNKNOWN),
        fails("a key that was deleted", _READ, _USER.by("deleted"), Reason.KEY_NOT_FOUND),
        fails("an expired token", _READ, _USER.but(iat=T - 3660, nbf=T - 3660, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
