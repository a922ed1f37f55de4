"""Keycloak 26.7, with client roles and step-up."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, certificate, discovery, fails, jwk, passes

_REALM: Final = "https://login.example.com/realms/example"
_CERTS: Final = f"{_REALM}/protocol/openid-connect/certs"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "POST https://api.example.com/orders/7"
_ADMIN: Final = "GET https://api.example.com/admin/users"

USER: Final = Token(
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
        "acr": "0",  # as after single sign-on
        "realm_access": {"roles": ["default-roles-example", "offline_access"]},
        "resource_access": {"orders-api": {"roles": ["reader", "editor"]}, "account": {"roles": ["view-profile"]}},
        "scope": "openid profile",
        "preferred_username": "alice",
    },
)
WHO: Final = {
    "subject": "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
    "client": "web",
    "roles": "reader,editor",
}
_ADMIN_USER: Final = USER.but(acr="2", auth_time=T - 60, realm_access={"roles": ["orders-admin"]})
_MACHINE: Final = USER.but(  # client_credentials: an acr, and no auth_time
    sub="5f0c9d86-9c0b-4d0e-a4d2-0a4c8a8f8f10",
    azp="batch",
    acr="1",
    auth_time=ABSENT,
    sid=ABSENT,
    preferred_username="service-account-batch",
)
_STEP_UP: Final = 'error="insufficient_user_authentication", acr_values="2", max_age="900"'
ID_TOKEN: Final = USER.but(
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
        passes("a user", _READ, USER, **WHO),
        passes("an editor", _WRITE, USER, **WHO),
        passes("an administrator", _ADMIN, _ADMIN_USER, **WHO),
        passes(
            "a user whose name has an umlaut",
            _READ,
            USER.but(preferred_username="jürgen", name="Jürgen Müller"),
            **WHO,
        ),
        passes(
            "a user with roles that no header can carry as they are",
            _READ,
            USER.but(resource_access={"orders-api": {"roles": ["reader", "sales, north", "prüfer"]}}),
            **{**WHO, "roles": "reader,sales%2C north,pr%C3%BCfer"},
        ),
        passes(
            "a machine",
            _READ,
            _MACHINE,
            **{**WHO, "subject": "5f0c9d86-9c0b-4d0e-a4d2-0a4c8a8f8f10", "client": "batch"},
        ),
        fails(
            "an administrator after single sign-on",
            _ADMIN,
            _ADMIN_USER.but(acr="0"),
            Reason.STEP_UP_REQUIRED,
            _STEP_UP,
        ),
        fails(
            "an administrator who asked for a level that cannot be reached",
            _ADMIN,
            _ADMIN_USER.but(acr="1"),
            Reason.STEP_UP_REQUIRED,
            _STEP_UP,
        ),
        fails(
            "an administrator of this morning",
            _ADMIN,
            _ADMIN_USER.but(auth_time=T - 14_400),
            Reason.STEP_UP_REQUIRED,
            _STEP_UP,
        ),
        fails(
            "a machine that administers",
            _ADMIN,
            _MACHINE.but(acr="2", realm_access={"roles": ["orders-admin"]}),
            Reason.STEP_UP_REQUIRED,
        ),
        fails(
            "a token issued to the service's own client, to a user without a role",
            _READ,
            USER.but(azp="orders-api", aud=ABSENT, resource_access=ABSENT),
            Reason.AUDIENCE_MISMATCH,
        ),
        fails(
            "a lightweight token, without what mappers write",
            _READ,
            USER.but(aud=ABSENT, resource_access=ABSENT, realm_access=ABSENT, preferred_username=ABSENT),
            Reason.AUDIENCE_MISMATCH,
        ),
        fails(
            "a lightweight token with the audience alone",
            _READ,
            USER.but(resource_access=ABSENT, realm_access=ABSENT, preferred_username=ABSENT),
            Reason.POLICY_DENIED,
        ),
        fails("a token for the account console alone", _READ, USER.but(aud="account"), Reason.AUDIENCE_MISMATCH),
        fails("a token without aud", _READ, USER.but(aud=ABSENT), Reason.AUDIENCE_MISMATCH),
        fails("an ID token", _READ, ID_TOKEN, Reason.AUDIENCE_MISMATCH),
        fails(
            "an ID token that mappers made look like an access token", _READ, USER.but(typ="ID"), Reason.POLICY_DENIED
        ),
        fails("the same, to write", _WRITE, USER.but(typ="ID"), Reason.POLICY_DENIED),
        fails(
            "the same, of an administrator",
            _ADMIN,
            _ADMIN_USER.but(typ="ID"),
            Reason.POLICY_DENIED,
        ),
        fails("a user without roles", _READ, USER.but(resource_access=ABSENT), Reason.POLICY_DENIED),
        fails(
            "a refresh token",
            _READ,
            USER.but(typ="Refresh", aud=_REALM).by("keycloak-hmac", "HS512"),
            Reason.ALG_NOT_ALLOWED,
        ),
        fails("a signature by the key for encryption", _READ, USER.by("keycloak-enc"), Reason.KEY_UNUSABLE),
        fails("another realm", _READ, USER.but(iss="https://login.example.com/realms/other"), Reason.ISSUER_UNKNOWN),
        fails(
            "another name of the server",
            _READ,
            USER.but(iss="http://keycloak:8080/realms/example"),
            Reason.ISSUER_UNKNOWN,
        ),
        fails(
            "a role of another client",
            _WRITE,
            USER.but(resource_access={"orders-api": {"roles": ["reader"]}, "billing-api": {"roles": ["editor"]}}),
            Reason.POLICY_DENIED,
        ),
        fails(
            "a client role by the name of a realm role",
            _ADMIN,
            _ADMIN_USER.but(realm_access=ABSENT, resource_access={"orders-api": {"roles": ["orders-admin"]}}),
            Reason.POLICY_DENIED,
        ),
        fails("a token without sub", _READ, USER.but(sub=ABSENT), Reason.CLAIMS_MALFORMED),
        fails("an expired token", _READ, USER.but(iat=T - 360, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
