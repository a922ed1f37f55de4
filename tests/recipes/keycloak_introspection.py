"""Keycloak 26.7, whose JWTs are verified, and must be active too."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.recipes import keycloak
from tests.recipes.recipe import Recipe, fails, passes

_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "POST https://api.example.com/orders/7"
_USER: Final = keycloak.USER
_READER: Final = _USER.but(resource_access={"orders-api": {"roles": ["reader"]}})
_ID_TOKEN: Final = keycloak.ID_TOKEN
_ACTIVE: Final = {**_USER.claims, "active": True, "token_type": "Bearer"}
_WHO: Final = keycloak.WHO

RECIPE: Final = Recipe(
    name="keycloak-introspection",
    serves=keycloak.RECIPE.serves,
    rejected_keys=keycloak.RECIPE.rejected_keys,
    absent=("issuers.keycloak.introspection.client.secret_file",),
    cases=(
        passes("a user", _READ, _USER, **_WHO).about(_ACTIVE),
        passes("an editor", _WRITE, _USER, **_WHO).about(_ACTIVE),
        fails("a user who has logged out", _READ, _USER, Reason.TOKEN_INACTIVE).about({"active": False}),
        fails("a reader who writes", _WRITE, _READER, Reason.POLICY_DENIED).about(_ACTIVE),
        fails("no role", _READ, _USER.but(resource_access={}), Reason.POLICY_DENIED).about(_ACTIVE),
        fails("an ID token", _READ, _ID_TOKEN, Reason.AUDIENCE_MISMATCH),
        fails("an ID token for the API", _READ, _ID_TOKEN.but(aud="orders-api"), Reason.TYP_NOT_ALLOWED).about(
            {**_ID_TOKEN.claims, "active": True, "token_type": "ID"}
        ),
        fails("an answer about another user", _READ, _USER, Reason.TOKEN_INACTIVE).about({**_ACTIVE, "sub": "bob"}),
        fails("a forged token, which nobody is asked about", _READ, _USER.by("other"), Reason.KEY_NOT_FOUND),
        fails("while Keycloak is away", _READ, _USER, Reason.INTROSPECTION_UNAVAILABLE),
    ),
)
