"""Okta, with a custom authorization server."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_ORG: Final = "https://example.okta.com"
_SERVER: Final = f"{_ORG}/oauth2/default"
_KEYS: Final = f"{_SERVER}/v1/keys"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "DELETE https://api.example.com/orders/7"
_NIGHTLY: Final = "POST https://api.example.com/nightly"

_USER: Final = Token(
    kid="okta-current",
    claims={
        "ver": 1,
        "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
        "iss": _SERVER,
        "aud": "api://default",
        "iat": T - 60,
        "exp": T + 3540,
        "cid": "0oaWebApp",
        "uid": "00ujmkLgagxeRrAg20g3",
        "scp": ["openid", "orders.read", "orders.write"],
        "auth_time": T - 120,
        "sub": "alice@example.com",
        "groups": ["Everyone", "order-editors"],
    },
)
_WHO: Final = {
    "subject": "00ujmkLgagxeRrAg20g3",
    "login": "alice@example.com",
    "client": "0oaWebApp",
    "groups": "Everyone,order-editors",
}
_MACHINE: Final = _USER.but(
    cid="0oaNightly", sub="0oaNightly", scp=["orders.write"], uid=ABSENT, auth_time=ABSENT, groups=ABSENT
)
_ID_TOKEN: Final = _USER.but(
    aud="0oaWebApp", sub="00ujmkLgagxeRrAg20g3", cid=ABSENT, uid=ABSENT, scp=ABSENT, amr=["pwd"], at_hash="h", nonce="n"
)

RECIPE: Final = Recipe(
    name="okta",
    serves=lambda: {**discovery(_SERVER, _KEYS), _KEYS: {"keys": [jwk("okta-current")]}},
    cases=(
        passes("a user", _READ, _USER, **_WHO),
        passes("a user of the group", _WRITE, _USER, **_WHO),
        passes("a machine", _NIGHTLY, _MACHINE, login="0oaNightly", client="0oaNightly"),
        fails("an ID token", _READ, _ID_TOKEN, Reason.AUDIENCE_MISMATCH),
        fails("the org's own authorization server", _READ, _USER.but(iss=_ORG, aud=_ORG), Reason.ISSUER_UNKNOWN),
        fails("another authorization server", _READ, _USER.but(iss=f"{_ORG}/oauth2/aus1"), Reason.ISSUER_UNKNOWN),
        fails("iss with a slash", _READ, _USER.but(iss=f"{_SERVER}/"), Reason.ISSUER_UNKNOWN),
        fails("another audience", _READ, _USER.but(aud="api://other"), Reason.AUDIENCE_MISMATCH),
        fails("a key from before the last rotation", _READ, _USER.by("okta-old"), Reason.KEY_NOT_FOUND),
        fails("no scope", _READ, _USER.but(scp=["openid"]), Reason.INSUFFICIENT_SCOPE, 'scope="orders.read"'),
        fails("a group without the scope", _WRITE, _USER.but(scp=["orders.read"]), Reason.INSUFFICIENT_SCOPE),
        fails("the machine, without the scope", _NIGHTLY, _MACHINE.but(scp=["orders.read"]), Reason.INSUFFICIENT_SCOPE),
        fails("another group", _WRITE, _USER.but(groups=["Everyone"]), Reason.POLICY_DENIED),
        fails("a server without a groups claim", _WRITE, _USER.but(groups=ABSENT), Reason.POLICY_DENIED),
        fails("another client", _NIGHTLY, _USER, Reason.POLICY_DENIED),
        fails("an expired token", _READ, _USER.but(iat=T - 3660, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
