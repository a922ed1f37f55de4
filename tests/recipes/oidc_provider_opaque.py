"""npm's oidc-provider 9.13, which is asked about its opaque tokens."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T, changed
from tests.recipes.recipe import Recipe, discovery, fails, jwk, passes

_ISSUER: Final = "https://login.example.com"
_JWKS: Final = f"{_ISSUER}/jwks"
_API: Final = "https://api.example.com/orders"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "PUT https://api.example.com/orders/7"
_TOKEN: Final = "2sIfFuxuX46PtpcKXRr2X9YABCl8henfm-SHUEP9Hyw"

_USER: Final = {
    "active": True,
    "aud": _API,
    "client_id": "web",
    "exp": T + 3540,
    "iat": T - 60,
    "iss": _ISSUER,
    "scope": "orders:read orders:write",
    "sub": "alice",
    "token_type": "Bearer",
}
_MACHINE: Final = changed(_USER, {"sub": ABSENT, "client_id": "batch", "scope": "orders:read"})
_REFRESH: Final = changed(_USER, {"token_type": ABSENT})

RECIPE: Final = Recipe(
    name="oidc-provider-opaque",
    serves=lambda: {**discovery(_ISSUER, _JWKS), _JWKS: {"keys": [jwk("id", alg=ABSENT)]}},
    accepts="application/jwk-set+json",
    absent=("issuers.login.introspection.client.secret_file",),
    cases=(
        passes("a user", _WRITE, _TOKEN, subject="alice", client="web").about(_USER),
        passes("a user, to read", _READ, _TOKEN, subject="alice", client="web").about(_USER),
        passes("a machine, which has no sub", _READ, _TOKEN, client="batch").about(_MACHINE),
        fails("a machine that writes", _WRITE, _TOKEN, Reason.INSUFFICIENT_SCOPE).about(_MACHINE),
        fails("no scope", _READ, _TOKEN, Reason.INSUFFICIENT_SCOPE).about(changed(_USER, {"scope": ABSENT})),
        fails("a refresh token, which is active too", _READ, _TOKEN, Reason.TYP_NOT_ALLOWED).about(_REFRESH),
        fails("a token that was revoked", _READ, _TOKEN, Reason.TOKEN_INACTIVE).about({"active": False}),
        fails("a client that sent no resource", _READ, _TOKEN, Reason.AUDIENCE_MISMATCH).about(
            changed(_USER, {"aud": ABSENT})
        ),
        fails("while the provider is away", _READ, _TOKEN, Reason.INTROSPECTION_UNAVAILABLE),
    ),
)
