"""SPIRE without jwt_issuer, and the bundle of its trust domain."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T, changed
from tests.recipes.recipe import Recipe, Token, certificate, fails, jwk, passes

_DOMAIN: Final = "spiffe://example.org"
_BUNDLE: Final = "https://spire.example.org:8443/"
_READ: Final = "GET https://orders.shop.svc/orders/7"
_WRITE: Final = "POST https://orders.shop.svc/orders"
_CHECKOUT: Final = f"{_DOMAIN}/ns/shop/sa/checkout"
_REPORTS: Final = f"{_DOMAIN}/ns/shop/sa/reports"

_SVID: Final = Token(
    kid="k8VnKc1mZrGq2bWJw9uXyA0tFhE7sLdP",  # the authority's id
    algorithm="ES256",
    header={"typ": "JWT"},
    claims={"aud": ["orders-api"], "exp": T + 240, "iat": T - 60, "sub": _CHECKOUT},
)
_OF_REPORTS: Final = _SVID.but(sub=_REPORTS)


def _bundle() -> dict[str, object]:
    """The SPIFFE trust domain and bundle, section 4: JWT keys beside the authorities of X.509-SVIDs; no alg."""
    names = {"alg": ABSENT, "use": "jwt-svid"}
    authority = {"kid": ABSENT, "alg": ABSENT, "use": "x509-svid", "x5c": certificate("x509")}
    x509 = changed(jwk("x509"), authority)
    keys = [x509, jwk(_SVID.kid, "ES256", **names), jwk("prepared-authority", "ES256", **names)]
    return {"keys": keys, "spiffe_sequence": 4, "spiffe_refresh_hint": 300}


RECIPE: Final = Recipe(
    name="spiffe-bundle",
    serves=lambda: {_BUNDLE: _bundle()},
    rejected_keys={"example-org": [None]},
    cases=(
        passes("a workload that writes", _WRITE, _SVID, subject=_CHECKOUT),
        passes("a workload that reads", _READ, _OF_REPORTS, subject=_REPORTS),
        passes("an SVID whose typ is JOSE", _READ, _SVID.but(header={"typ": "JOSE"}), subject=_CHECKOUT),
        passes("an SVID without typ", _READ, _SVID.but(header={"typ": ABSENT}), subject=_CHECKOUT),
        passes(
            "an SVID of the authority that was prepared",
            _READ,
            _SVID.by("prepared-authority", "ES256"),
            subject=_CHECKOUT,
        ),
        fails("an SVID of a server with jwt_issuer", _READ, _SVID.but(iss="https://o.example"), Reason.ISSUER_UNKNOWN),
        fails("an iss of nothing", _READ, _SVID.but(iss=""), Reason.CLAIMS_MALFORMED),
        fails("a token of another kind", _READ, _SVID.but(header={"typ": "at+jwt"}), Reason.TYP_NOT_ALLOWED),
        fails("an SVID for another service", _READ, _SVID.but(aud=["billing-api"]), Reason.AUDIENCE_MISMATCH),
        fails("a workload that only reads", _WRITE, _OF_REPORTS, Reason.POLICY_DENIED),
        fails("a workload whose name begins alike", _WRITE, _SVID.but(sub=f"{_CHECKOUT}/x"), Reason.POLICY_DENIED),
        fails(
            "a workload that is not in the rule for reading", _READ, _SVID.but(sub=f"{_DOMAIN}/x"), Reason.POLICY_DENIED
        ),
        fails(
            "a workload of another trust domain, signed here",
            _READ,
            _SVID.but(sub=_CHECKOUT.replace(".org", ".net")),
            Reason.CLAIMS_MALFORMED,
        ),
        fails("a sub that is no SPIFFE ID", _READ, _SVID.but(sub=f"{_CHECKOUT}/../reports"), Reason.CLAIMS_MALFORMED),
        fails(
            "the trust domain as iss, and a workload of another",
            _READ,
            _SVID.but(iss=_DOMAIN, sub="spiffe://example.net/x"),
            Reason.CLAIMS_MALFORMED,
        ),
        fails("an SVID of a day", _READ, _SVID.but(exp=T + 86_400), Reason.CLAIMS_MALFORMED),
        fails("an SVID that has expired", _READ, _SVID.but(iat=T - 360, exp=T - 60), Reason.TOKEN_EXPIRED),
        fails("an authority that was never published", _READ, _SVID.by("stranger", "ES256"), Reason.KEY_NOT_FOUND),
        fails("an authority of X.509", _READ, _SVID.by("x509"), Reason.ALG_NOT_ALLOWED),
    ),
)
