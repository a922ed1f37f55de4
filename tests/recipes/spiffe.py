"""SPIRE 1.15 and its OIDC discovery provider."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_ISSUER: Final = "https://oidc.example.org"
_KEYS: Final = f"{_ISSUER}/keys"
_READ: Final = "GET https://orders.shop.svc/orders/7"
_WRITE: Final = "POST https://orders.shop.svc/orders"
_CHECKOUT: Final = "spiffe://example.org/ns/shop/sa/checkout"
_REPORTS: Final = "spiffe://example.org/ns/shop/sa/reports"

_SVID: Final = Token(
    kid="k8VnKc1mZrGq2bWJw9uXyA0tFhE7sLdP",  # the authority's id
    algorithm="ES256",
    header={"typ": "JWT"},
    claims={"aud": ["orders-api"], "exp": T + 240, "iat": T - 60, "iss": _ISSUER, "sub": _CHECKOUT},
)
_OF_REPORTS: Final = _SVID.but(sub=_REPORTS)

RECIPE: Final = Recipe(
    name="spiffe",
    serves=lambda: {
        **discovery(_ISSUER, _KEYS),
        _KEYS: {"keys": [jwk(_SVID.kid, "ES256", use=ABSENT), jwk("prepared-authority", "ES256", use=ABSENT)]},
    },
    cases=(
        passes("a workload that writes", _WRITE, _SVID, subject=_CHECKOUT),
        passes("the same, to read", _READ, _SVID, subject=_CHECKOUT),
        passes("a workload that reads", _READ, _OF_REPORTS, subject=_REPORTS),
        passes("an SVID for two services", _READ, _SVID.but(aud=["billing-api", "orders-api"]), subject=_CHECKOUT),
        passes(
            "an SVID of the authority that was prepared",
            _READ,
            _SVID.by("prepared-authority", "ES256"),
            subject=_CHECKOUT,
        ),
        fails("an SVID of a server without jwt_issuer", _READ, _SVID.but(iss=ABSENT), Reason.CLAIMS_MALFORMED),
        fails("an SVID of another server", _READ, _SVID.but(iss="https://oidc.example.net"), Reason.ISSUER_UNKNOWN),
        fails("an SVID for another service", _READ, _SVID.but(aud=["billing-api"]), Reason.AUDIENCE_MISMATCH),
        fails("a workload that only reads", _WRITE, _OF_REPORTS, Reason.POLICY_DENIED),
        fails("a workload whose name begins alike", _WRITE, _SVID.but(sub=f"{_CHECKOUT}/x"), Reason.POLICY_DENIED),
        fails(
            "a workload of another trust domain",
            _READ,
            _SVID.but(sub=_CHECKOUT.replace(".org", ".net")),
            Reason.POLICY_DENIED,
        ),
        fails("an SVID without sub", _READ, _SVID.but(sub=ABSENT), Reason.CLAIMS_MALFORMED),
        fails("an SVID of a day", _READ, _SVID.but(exp=T + 86_400), Reason.CLAIMS_MALFORMED),
        fails("an SVID that has expired", _READ, _SVID.but(iat=T - 360, exp=T - 60), Reason.TOKEN_EXPIRED),
        fails("an authority that was never published", _READ, _SVID.by("stranger", "ES256"), Reason.KEY_NOT_FOUND),
        fails("an authority of another key type", _READ, _SVID.by("rsa-authority"), Reason.ALG_NOT_ALLOWED),
    ),
)
