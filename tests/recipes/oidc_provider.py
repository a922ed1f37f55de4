"""npm's oidc-provider 9.13, with access tokens that are JWTs, and an RSA key without alg as in its default."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_ISSUER: Final = "https://login.example.com"
_JWKS: Final = f"{_ISSUER}/jwks"
_API: Final = "https://api.example.com/orders"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "PUT https://api.example.com/orders/7"
_KEY: Final = "keystore-CHANGE-ME"

_USER: Final = Token(
    kid=_KEY,
    header={"typ": "at+jwt"},
    claims={
        "jti": "XMQdFed_ds5tJ2ns4ZadQpk1xWJnJSecWjs15_vh8Wh",
        "sub": "alice",
        "iat": T - 60,
        "exp": T + 3540,
        "scope": "orders:read orders:write",
        "client_id": "web",
        "iss": _ISSUER,
        "aud": _API,
    },
)
_MACHINE: Final = _USER.but(sub="batch", client_id="batch", scope="orders:read")
_ID_TOKEN: Final = _USER.but(
    jti=ABSENT, scope=ABSENT, client_id=ABSENT, aud="web", at_hash="h", auth_time=T - 60, header={"typ": ABSENT}
)
_WHO: Final = {"subject": "alice", "client": "web"}

RECIPE: Final = Recipe(
    name="oidc-provider",
    serves=lambda: {**discovery(_ISSUER, _JWKS), _JWKS: {"keys": [jwk(_KEY, alg=ABSENT)]}},
    accepts="application/jwk-set+json",
    cases=(
        passes("a user", _WRITE, _USER, **_WHO),
        passes("a user, to read", _READ, _USER, **_WHO),
        passes("a machine", _READ, _MACHINE, subject="batch", client="batch"),
        fails("a machine that writes", _WRITE, _MACHINE, Reason.INSUFFICIENT_SCOPE, 'scope="orders:write"'),
        fails("a token without a scope", _READ, _USER.but(scope=ABSENT), Reason.INSUFFICIENT_SCOPE),
        fails(
            "a token for another resource",
            _READ,
            _USER.but(aud="https://api.example.com/billing"),
            Reason.AUDIENCE_MISMATCH,
        ),
        fails(
            "an opaque token, of a client that asked for no resource",
            _READ,
            "2sIfFuxuX46PtpcKXRr2X9YABCl8henfm-SHUEP9Hyw",
            Reason.TOKEN_MALFORMED,
        ),
        fails("an ID token", _READ, _ID_TOKEN, Reason.TYP_NOT_ALLOWED),
        fails(
            "an ID token of a client that has the API's name",
            _READ,
            _ID_TOKEN.but(aud=_API, scope="orders:read"),
            Reason.TYP_NOT_ALLOWED,
        ),
        fails("the same, as if it were an access token", _READ, _USER.but(client_id=ABSENT), Reason.CLAIMS_MALFORMED),
        fails("the same key by another algorithm", _READ, _USER.by(_KEY, "PS256"), Reason.ALG_NOT_ALLOWED),
        fails("the issuer with a slash", _READ, _USER.but(iss=f"{_ISSUER}/"), Reason.ISSUER_UNKNOWN),
        fails("a key that was removed", _READ, _USER.by("removed"), Reason.KEY_NOT_FOUND),
        fails("an expired token", _READ, _USER.but(iat=T - 3660, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
