"""Auth0, with its default token profile and RBAC."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, certificate, discovery, fails, jwk, passes

_TENANT: Final = "https://example.eu.auth0.com"
_JWKS: Final = f"{_TENANT}/.well-known/jwks.json"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "PUT https://api.example.com/orders/7"
_EXPORT: Final = "GET https://api.example.com/export"

_USER: Final = Token(
    kid="auth0-current",
    header={"typ": "JWT"},
    claims={
        "https://example.com/tenant": "acme",
        "iss": f"{_TENANT}/",
        "sub": "auth0|507f1f77bcf86cd799439011",
        "aud": ["https://api.example.com/orders", f"{_TENANT}/userinfo"],
        "iat": T - 60,
        "exp": T + 86_340,
        "scope": "openid profile orders:read",
        "azp": "spa-client-id",
        "permissions": ["orders:read", "orders:write"],
    },
)
_WHO: Final = {"subject": "auth0|507f1f77bcf86cd799439011", "client": "spa-client-id", "tenant": "acme"}
_MACHINE: Final = _USER.but(
    {"https://example.com/tenant": ABSENT},
    sub="backoffice-client-id@clients",
    aud="https://api.example.com/orders",
    azp="backoffice-client-id",
    gty="client-credentials",
    scope="orders:read",
    permissions=["orders:read"],
)
_ID_TOKEN: Final = _USER.but(aud="spa-client-id", azp=ABSENT, scope=ABSENT, permissions=ABSENT, nonce="n", sid="s")

RECIPE: Final = Recipe(
    name="auth0",
    serves=lambda: {
        **discovery(f"{_TENANT}/", _JWKS),
        _JWKS: {"keys": [jwk(kid, x5t=kid, x5c=certificate(kid)) for kid in ("auth0-current", "auth0-next")]},
    },
    cases=(
        passes("a user", _READ, _USER, **_WHO),
        passes(
            "a machine",
            _EXPORT,
            _MACHINE,
            subject="backoffice-client-id@clients",
            client="backoffice-client-id",
        ),
        passes("the next key, once it signs", _WRITE, _USER.by("auth0-next"), **_WHO),
        fails("an ID token", _READ, _ID_TOKEN, Reason.AUDIENCE_MISMATCH),
        fails("a token for /userinfo alone", _READ, _USER.but(aud=f"{_TENANT}/userinfo"), Reason.AUDIENCE_MISMATCH),
        fails(
            "an opaque token, for want of an audience", _READ, "eyJhbGciOiJkaXIifQ..iv.text.tag", Reason.TOKEN_MALFORMED
        ),
        fails("iss without its slash", _READ, _USER.but(iss=_TENANT), Reason.ISSUER_UNKNOWN),
        fails("another tenant", _READ, _USER.but(iss="https://other.eu.auth0.com/"), Reason.ISSUER_UNKNOWN),
        fails("the RFC 9068 profile", _READ, _USER.but(header={"typ": "at+jwt"}), Reason.TYP_NOT_ALLOWED),
        fails("an API set to HS256", _READ, _USER.by("auth0-secret", "HS256"), Reason.ALG_NOT_ALLOWED),
        fails("a user without the permission", _WRITE, _USER.but(permissions=["orders:read"]), Reason.POLICY_DENIED),
        fails("an API without RBAC", _WRITE, _USER.but(permissions=ABSENT), Reason.POLICY_DENIED),
        fails(
            "an application without the scope",
            _READ,
            _USER.but(scope="openid"),
            Reason.INSUFFICIENT_SCOPE,
            'scope="orders:read"',
        ),
        fails("the application, without the scope", _EXPORT, _MACHINE.but(scope=ABSENT), Reason.INSUFFICIENT_SCOPE),
        fails("another application", _EXPORT, _USER, Reason.POLICY_DENIED),
        fails("yesterday's token", _READ, _USER.but(iat=T - 86_460, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
