"""PingFederate, with a JSON-token manager of its own keys."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, fails, jwk, passes

_READ: Final = "GET https://api.example.com/orders/7"
_SETTLE: Final = "POST https://api.example.com/settlement"

_USER: Final = Token(
    kid="ping-current",
    claims={
        "scope": "openid orders:read",
        "client_id": "web",
        "iss": "https://sso.example.com",
        "aud": "orders-api",
        "sub": "alice",
        "iat": T - 60,
        "exp": T + 7140,
    },
)
_MACHINE: Final = _USER.but(scope=["orders:settle"], client_id="settlement-batch", sub="settlement-batch")

RECIPE: Final = Recipe(
    name="pingfederate",
    serves=lambda: {
        # alg is optional there; the key that was active before stays for as long as its tokens live.
        "https://sso.example.com/ext/orders/jwks": {
            "keys": [jwk("ping-current", alg=ABSENT), jwk("ping-old", alg=ABSENT)]
        },
        "https://sso.example.com/pf/JWKS": {"keys": [jwk("ping-central")]},
    },
    cases=(
        passes("a user", _READ, _USER, subject="alice", client="web"),
        passes("scopes as a list", _SETTLE, _MACHINE, subject="settlement-batch", client="settlement-batch"),
        passes("the key before", _READ, _USER.by("ping-old"), subject="alice", client="web"),
        fails("a manager without an issuer value", _READ, _USER.but(iss=ABSENT), Reason.CLAIMS_MALFORMED),
        fails("an issuer value with a slash", _READ, _USER.but(iss="https://sso.example.com/"), Reason.ISSUER_UNKNOWN),
        fails("a manager without an audience value", _READ, _USER.but(aud=ABSENT), Reason.AUDIENCE_MISMATCH),
        fails("another manager's audience", _READ, _USER.but(aud="billing-api"), Reason.AUDIENCE_MISMATCH),
        fails("an ID token, by the central key", _READ, _USER.but(aud="web").by("ping-central"), Reason.KEY_NOT_FOUND),
        passes("no key id, and two keys", _READ, _USER.but(header={"kid": ABSENT}), subject="alice", client="web"),
        fails(
            "no key id, by the central key",
            _READ,
            _USER.but(header={"kid": ABSENT}).by("ping-central"),
            Reason.SIGNATURE_INVALID,
        ),
        fails("a manager with a symmetric key", _READ, _USER.by("ping-secret", "HS256"), Reason.ALG_NOT_ALLOWED),
        fails("a Type Header Value", _READ, _USER.but(header={"typ": "at+jwt"}), Reason.TYP_NOT_ALLOWED),
        fails("a contract without sub", _READ, _USER.but(sub=ABSENT), Reason.CLAIMS_MALFORMED),
        fails("no scope", _READ, _USER.but(scope="openid"), Reason.INSUFFICIENT_SCOPE, 'scope="orders:read"'),
        fails("the client, without the scope", _SETTLE, _MACHINE.but(scope=["orders:read"]), Reason.INSUFFICIENT_SCOPE),
        fails("another client", _SETTLE, _MACHINE.but(client_id="web"), Reason.POLICY_DENIED),
        fails("an expired token", _READ, _USER.but(iat=T - 7260, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
