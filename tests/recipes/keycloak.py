"""Keycloak, with client roles."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.recipes.recipe import Recipe, Token, certificate, discovery, fails, jwk, passes
from tests.world import ABSENT, T

_REALM: Final = "https://login.example.com/realms/example"
_CERTS: Final = f"{_REALM}/protocol/openid-connect/certs"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "POST https://api.example.com/orders/7"
_ADMIN: Final = "GET https://api.example.com/admin/users"

_USER: Final = Token(
    kid="keycloak-sig",
    header={"typ": "JWT"},
    claims={
        "exp": T + 240,
        "iat": T - 60,
        "auth_time": T - 120,
        "jti": "onrtac:0a5cb5b2",
        "iss": _REALM,
        "aud": ["orders-api", "account"],
        "sub": "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
        "typ": "Bearer",
        "azp": "web",
        "sid": "4c0a3a8a",
        "acr": "1",
        "realm_access": {"roles": ["default-roles-example", "offline_access"]},
        "resource_access": {"orders-api": {"roles": ["reader", "editor"]}, "account": {"roles": ["view-profile"]}},
        "scope": "openid profile",
        "preferred_username": "alice",
    },
)
_WHO: Final = {
    "subject": "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
    "login": "alice",
    "client": "web",
    "roles": "reader,editor",
}
_ID_TOKEN: Final = _USER.but(
    typ="ID", aud="web", realm_access=ABSENT, resource_access=ABSENT, scope=ABSENT, at_hash="h", nonce="n"
)

RECIPE: Final = Recipe(
    name="keycloak",
    serves=lambda: {
        **discovery(_REALM, _CERTS),
        _CERTS: {
            "keys": [
                jwk("keycloak-enc", use="enc", alg="RSA-OAEP", x5c=certificate("keycloak-enc")),
                jwk("keycloak-sig", x5c=certificate("keycloak-sig")),
            ]
        },
    },
    rejected_keys={"keycloak": ["keycloak-enc"]},
    cases=(
        passes("a user", _READ, _USER, **_WHO),
        passes("an editor", _WRITE, _USER, **_WHO),
        passes("an administrator", _ADMIN, _USER.but(realm_access={"roles": ["orders-admin"]}), **_WHO),
        fails("a token for the account console alone", _READ, _USER.but(aud="account"), Reason.AUDIENCE_MISMATCH),
        fails("a token without aud", _READ, _USER.but(aud=ABSENT), Reason.AUDIENCE_MISMATCH),
        fails("an ID token", _READ, _ID_TOKEN, Reason.AUDIENCE_MISMATCH),
        fails(
            "an ID token that mappers made look like an access token", _READ, _USER.but(typ="ID"), Reason.POLICY_DENIED
        ),
        fails("the same, to write", _WRITE, _USER.but(typ="ID"), Reason.POLICY_DENIED),
        fails(
            "the same, of an administrator",
            _ADMIN,
            _USER.but(typ="ID", realm_access={"roles": ["orders-admin"]}),
            Reason.POLICY_DENIED,
        ),
        fails("a user without roles", _READ, _USER.but(resource_access=ABSENT), Reason.POLICY_DENIED),
        fails(
            "a refresh token",
            _READ,
            _USER.but(typ="Refresh", aud=_REALM).by("keycloak-hmac", "HS512"),
            Reason.ALG_NOT_ALLOWED,
        ),
        fails("a signature by the key for encryption", _READ, _USER.by("keycloak-enc"), Reason.KEY_UNUSABLE),
        fails("another realm", _READ, _USER.but(iss="https://login.example.com/realms/other"), Reason.ISSUER_UNKNOWN),
        fails(
            "another name of the server",
            _READ,
            _USER.but(iss="http://keycloak:8080/realms/example"),
            Reason.ISSUER_UNKNOWN,
        ),
        fails(
            "a role of another client",
            _WRITE,
            _USER.but(resource_access={"orders-api": {"roles": ["reader"]}, "billing-api": {"roles": ["editor"]}}),
            Reason.POLICY_DENIED,
        ),
        fails(
            "a client role by the name of a realm role",
            _ADMIN,
            _USER.but(resource_access={"orders-api": {"roles": ["orders-admin"]}}),
            Reason.POLICY_DENIED,
        ),
        fails("a token without sub", _READ, _USER.but(sub=ABSENT), Reason.CLAIMS_MALFORMED),
        fails("an expired token", _READ, _USER.but(iat=T - 360, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
