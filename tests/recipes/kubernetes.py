"""A Kubernetes cluster and its service accounts."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, fails, jwk, passes

HOST: Final = "kubernetes.default.svc"
_ISSUER: Final = f"https://{HOST}"
_READ: Final = "GET http://orders.shop.svc/orders/7"
_WRITE: Final = "POST http://orders.shop.svc/orders"

_POD: Final = Token(
    kid="cluster-1",
    claims={
        "aud": ["orders"],
        "exp": T + 3007,
        "iat": T - 600,
        "iss": _ISSUER,
        "jti": "e51f1fbc-4733-4b85-a59f-ba80c0523874",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "worker-1", "uid": "517eb86e-b863-451b-bf70-86cb61439a3a"},
            "pod": {"name": "checkout-6d4cf56db6-x7k2p", "uid": "0d8b260e-ef0e-45fb-be8e-ff44f97722e8"},
            "serviceaccount": {"name": "checkout", "uid": "e6a8680e-d103-4cce-80ea-03acbbeacf7d"},
        },
        "nbf": T - 600,
        "sub": "system:serviceaccount:shop:checkout",
    },
)
_UNBOUND: Final = {"namespace": "reporting", "serviceaccount": {"name": "nightly", "uid": "a709ef71"}}
_LEGACY: Final = Token(
    kid="cluster-1",
    claims={
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "shop",
        "kubernetes.io/serviceaccount/secret.name": "checkout-token-pnj77",
        "kubernetes.io/serviceaccount/service-account.name": "checkout",
        "kubernetes.io/serviceaccount/service-account.uid": "a709ef71-30e2-489a-bd19-ade97031b9db",
        "sub": "system:serviceaccount:shop:checkout",
    },
)


def _as(namespace: str, account: str) -> Token:
    names = {"namespace": namespace, "serviceaccount": {"name": account, "uid": "u"}, "pod": {"name": "p", "uid": "u"}}
    return _POD.but({"kubernetes.io": names}, sub=f"system:serviceaccount:{namespace}:{account}")


RECIPE: Final = Recipe(
    name="kubernetes",
    serves=lambda: {f"{_ISSUER}/openid/v1/jwks": {"keys": [jwk("cluster-1"), jwk("cluster-2", "ES256")]}},
    accepts="application/jwk-set+json",
    absent=("issuers.cluster.fetch.ca_file", "issuers.cluster.fetch.bearer_token_file"),
    cases=(
        passes(
            "a pod",
            _WRITE,
            _POD,
            subject="system:serviceaccount:shop:checkout",
            namespace="shop",
            account="checkout",
            pod="checkout-6d4cf56db6-x7k2p",
        ),
        passes(
            "a token of kubectl create token, bound to no pod",
            _READ,
            _POD.but({"kubernetes.io": _UNBOUND}, sub="system:serviceaccount:reporting:nightly"),
            subject="system:serviceaccount:reporting:nightly",
            namespace="reporting",
            account="nightly",
        ),
        passes(
            "a pod, after the API server got an elliptic curve key",
            _WRITE,
            _POD.by("cluster-2", "ES256"),
            subject="system:serviceaccount:shop:checkout",
            namespace="shop",
            account="checkout",
            pod="checkout-6d4cf56db6-x7k2p",
        ),
        fails("another account", _WRITE, _as("shop", "default"), Reason.POLICY_DENIED),
        fails("a namesake in another namespace", _WRITE, _as("evil", "checkout"), Reason.POLICY_DENIED),
        fails("another namespace", _READ, _as("evil", "checkout"), Reason.POLICY_DENIED),
        fails("a pod's own token, for the API server", _READ, _POD.but(aud=[_ISSUER]), Reason.AUDIENCE_MISMATCH),
        fails("a token for another service", _READ, _POD.but(aud=["billing"]), Reason.AUDIENCE_MISMATCH),
        fails("a token of a year", _READ, _POD.but(exp=T + 31_536_000), Reason.CLAIMS_MALFORMED),
        fails("a token from a Secret, which never ends", _READ, _LEGACY, Reason.ISSUER_UNKNOWN),
        fails("another cluster", _READ, _POD.but(iss=f"{_ISSUER}.cluster.local"), Reason.ISSUER_UNKNOWN),
        fails("another cluster of the same name", _READ, _POD.by("other-cluster"), Reason.KEY_NOT_FOUND),
        fails("what no API server wrote", _READ, _POD.but({"kubernetes.io": ABSENT}), Reason.CLAIMS_MALFORMED),
        fails("an expired token", _READ, _POD.but(iat=T - 3700, nbf=T - 3700, exp=T - 93), Reason.TOKEN_EXPIRED),
    ),
)
