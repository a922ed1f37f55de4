"""Google, whose keys lie on another host than its issuer."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_ISSUER: Final = "https://accounts.google.com"
CERTS: Final = "https://www.googleapis.com/oauth2/v3/certs"
_WEB: Final = "1234567890-orders.apps.googleusercontent.com"
_BATCH: Final = "POST https://orders.example.com/batch/1"
_ORDERS: Final = "GET https://orders.example.com/orders/7"

_SERVICE: Final = Token(
    kid="google-1",
    header={"typ": "JWT"},
    claims={
        "iss": _ISSUER,
        "aud": "https://orders.example.com",
        "azp": "104029292853099978293",
        "email": "nightly@example-project.iam.gserviceaccount.com",
        "email_verified": True,
        "sub": "104029292853099978293",
        "iat": T - 60,
        "exp": T + 3540,
    },
)
_PERSON: Final = _SERVICE.but(
    aud=_WEB, azp=_WEB, hd="example.com", email="alice@example.com", sub="110169484474386276334", at_hash="h"
)

RECIPE: Final = Recipe(
    name="google",
    serves=lambda: {**discovery(_ISSUER, CERTS), CERTS: {"keys": [jwk("google-1"), jwk("google-2")]}},
    cases=(
        passes(
            "a service",
            _BATCH,
            _SERVICE,
            subject="104029292853099978293",
            issuer=_ISSUER,
            email="nightly@example-project.iam.gserviceaccount.com",
        ),
        passes(
            "a person of the domain",
            _ORDERS,
            _PERSON.by("google-2"),
            subject="110169484474386276334",
            issuer=_ISSUER,
            email="alice@example.com",
        ),
        passes(
            "the issuer without https",
            _ORDERS,
            _PERSON.but(iss="accounts.google.com"),
            subject="110169484474386276334",
            issuer="accounts.google.com",
            email="alice@example.com",
        ),
        fails(
            "a service by the issuer without https",
            _BATCH,
            _SERVICE.but(iss="accounts.google.com"),
            Reason.AUDIENCE_MISMATCH,
        ),
        fails(
            "another service account",
            _BATCH,
            _SERVICE.but(email="other@example-project.iam.gserviceaccount.com"),
            Reason.POLICY_DENIED,
        ),
        fails("an address that nobody verified", _BATCH, _SERVICE.but(email_verified=False), Reason.POLICY_DENIED),
        fails(
            "a token without the address",
            _BATCH,
            _SERVICE.but(email=ABSENT, email_verified=ABSENT),
            Reason.POLICY_DENIED,
        ),
        fails(
            "a token for another service",
            _BATCH,
            _SERVICE.but(aud="https://other.example.com"),
            Reason.AUDIENCE_MISMATCH,
        ),
        fails(
            "a person where services are wanted",
            _BATCH,
            _PERSON.but(email="nightly@example-project.iam.gserviceaccount.com"),
            Reason.AUDIENCE_MISMATCH,
        ),
        fails(
            "another web application",
            _ORDERS,
            _PERSON.but(aud="9-x.apps.googleusercontent.com"),
            Reason.AUDIENCE_MISMATCH,
        ),
        fails(
            "a person by the audience of services",
            _ORDERS,
            _PERSON.but(aud="https://orders.example.com"),
            Reason.AUDIENCE_MISMATCH,
        ),
        fails("a private account", _ORDERS, _PERSON.but(hd=ABSENT, email="alice@gmail.example"), Reason.POLICY_DENIED),
        fails("another domain", _ORDERS, _PERSON.but(hd="example.org"), Reason.POLICY_DENIED),
        fails("an access token, which is opaque", _ORDERS, "ya29.a0AfH6SMC", Reason.TOKEN_MALFORMED),
        fails("an expired token", _BATCH, _SERVICE.but(iat=T - 3660, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
