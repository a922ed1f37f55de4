"""Dex 2.45, whose access tokens are ID tokens in all but a hash."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_ISSUER: Final = "https://dex.example.com/dex"
_KEYS: Final = f"{_ISSUER}/keys"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "POST https://api.example.com/orders"
_SUB: Final = "CgVhbGljZRIFbG9jYWw"  # a protobuf: user "alice", connector "local"

_USER: Final = Token(
    kid="4f1d5c2f6b8e",
    claims={
        "iss": _ISSUER,
        "sub": _SUB,
        "aud": ["orders-api", "web"],
        "exp": T + 86_340,
        "iat": T - 60,
        "azp": "web",
        "email": "alice@example.com",
        "email_verified": True,
        "groups": ["order-editors"],
        "name": "Älice",
    },
)
_WHO: Final = {"subject": _SUB, "client": "web"}

RECIPE: Final = Recipe(
    name="dex",
    serves=lambda: {**discovery(_ISSUER, _KEYS), _KEYS: {"keys": [jwk(_USER.kid)]}},
    cases=(
        passes("an editor", _WRITE, _USER, **_WHO),
        passes("a reader", _READ, _USER.but(groups=ABSENT), **_WHO),
        passes(
            "another client, to read",
            _READ,
            _USER.but(aud=["orders-api", "reports"], azp="reports"),
            **{**_WHO, "client": "reports"},
        ),
        passes("an ID token, which nothing tells apart", _WRITE, _USER.but(at_hash="h", c_hash="c", nonce="n"), **_WHO),
        fails("a token of a client for itself", _READ, _USER.but(aud="web", azp=ABSENT), Reason.AUDIENCE_MISMATCH),
        fails("the API's own client, as itself", _READ, _USER.but(aud="orders-api", azp=ABSENT), Reason.POLICY_DENIED),
        fails("the same, to write", _WRITE, _USER.but(aud="orders-api", azp=ABSENT), Reason.POLICY_DENIED),
        fails("a client that only reads", _WRITE, _USER.but(azp="reports"), Reason.POLICY_DENIED),
        fails("a user who did not ask for groups", _WRITE, _USER.but(groups=ABSENT), Reason.POLICY_DENIED),
        fails("a user of another group", _WRITE, _USER.but(groups=["staff"]), Reason.POLICY_DENIED),
        fails("a token that lives longer than a day", _READ, _USER.but(exp=T + 90_000), Reason.CLAIMS_MALFORMED),
        fails("the issuer without its path", _READ, _USER.but(iss="https://dex.example.com"), Reason.ISSUER_UNKNOWN),
        fails("a key of before the last rotations", _READ, _USER.by("rotated-away"), Reason.KEY_NOT_FOUND),
        fails("an expired token", _READ, _USER.but(iat=T - 7_200, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
