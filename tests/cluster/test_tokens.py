"""Proves deploy/recipes/kubernetes.yaml with tokens that a real API server signs, by the keys that it publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from authz.core.base64url import decode
from tests.chart.helm import Document
from tests.cluster.apiserver import ISSUER, Cluster, Refused
from tests.cluster.sidecar import HOST, TOKENS, Gate, guarded_by_recipe
from tests.fakes.waiting import wait_until

pytestmark = pytest.mark.needs("cluster", "helm")

READ: Final = "GET http://orders.shop.svc/orders/7"
WRITE: Final = "POST http://orders.shop.svc/orders"
CONTAINER: Final = {
    "name": "app",
    "image": "registry.example.com/app:1",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
RESTRICTED: Final = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def account(name: str) -> Document:
    """A service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def pod(name: str, service_account: str) -> Document:
    """A pod that no node will ever run."""
    spec = {"serviceAccountName": service_account, "securityContext": RESTRICTED, "containers": [CONTAINER]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def callers(cluster: Cluster) -> Cluster:
    """A cluster with the namespaces and accounts that the recipe names, and one for the sidecar."""
    for namespace, names in (
        ("shop", ["checkout"]),
        ("reporting", ["nightly"]),
        ("evil", ["checkout"]),
        ("edge", ["authz"]),
    ):
        cluster.make_namespace(namespace)
        cluster.apply(*map(account, names), namespace=namespace)
    return cluster


@pytest.fixture(scope="module")
def gate(callers: Cluster) -> Iterator[Gate]:
    """A sidecar with the recipe as it is, in a namespace of its own."""
    with guarded_by_recipe(callers, namespace="edge", account="authz") as running:
        yield running


def header_of(token: str) -> dict[str, Any]:
    """The header of a token, unverified."""
    found: dict[str, Any] = json.loads(decode(token.partition(".")[0].encode()))
    return found


def test_keys_come_from_the_service_of_the_api_server(callers: Cluster, gate: Gate) -> None:
    """Discovery names an address that a pod need not reach; the recipe's URL is asked, with the sidecar's own token."""
    discovery = json.loads(callers.kubectl("get", "--raw", "/.well-known/openid-configuration"))
    assert discovery["issuer"] == ISSUER
    assert HOST.partition(":")[0] not in discovery["jwks_uri"]
    assert gate.proxied
    assert all(asked.startswith(f"CONNECT {HOST} ".encode()) for asked in gate.proxied)


def test_any_service_account_may_read_the_keys_and_strangers_may_not(callers: Cluster) -> None:
    """What the page says of the cluster role: the account needs no rights of its own, and without a token it is 403."""
    asked = ("auth", "can-i", "get", "/openid/v1/jwks")
    groups = ("--as-group", "system:serviceaccounts", "--as-group", "system:authenticated")
    callers.kubectl(*asked, "--as", "system:serviceaccount:edge:authz", *groups)
    with pytest.raises(Refused, match="no"):
        callers.kubectl(*asked, "--as", "system:anonymous", "--as-group", "system:unauthenticated")


def test_token_of_a_pod(callers: Cluster, gate: Gate) -> None:
    """A token bound to a pod may write, and the upstream learns account and pod; for other audiences it is refused."""
    running = callers.create(pod("checkout-x7k2p", "checkout"), namespace="shop")
    token = callers.token("shop", "checkout", audience="orders", pod=running)
    assert header_of(token).keys() == {"alg", "kid"}
    assert gate.identity(WRITE, token) == {
        "x-auth-subject": "system:serviceaccount:shop:checkout",
        "x-auth-namespace": "shop",
        "x-auth-account": "checkout",
        "x-auth-pod": "checkout-x7k2p",
    }
    for audience in ("billing", None):
        other = callers.token("shop", "checkout", audience=audience, pod=running)
        assert gate.reason(WRITE, other) == "audience_mismatch"


def test_token_of_kubectl_is_bound_to_no_pod(callers: Cluster, gate: Gate) -> None:
    """It may read as its account may; there is no pod to name."""
    headers = gate.identity(READ, callers.token("reporting", "nightly", audience="orders"))
    assert "x-auth-pod" not in headers
    assert headers["x-auth-account"] == "nightly"


def test_namesake_in_another_namespace(callers: Cluster, gate: Gate) -> None:
    """The namespace is part of the subject, and no other one may read either."""
    token = callers.token("evil", "checkout", audience="orders")
    assert (gate.reason(WRITE, token), gate.reason(READ, token)) == ("policy_denied", "policy_denied")


def test_elliptic_curve_keys(callers: Cluster, cluster_of_ec_keys: Cluster) -> None:
    """An API server that signs with an EC key writes ES256, which the recipe takes beside RS256 while keys rotate."""
    with guarded_by_recipe(callers, namespace="edge", account="authz") as gate:
        for server, algorithm in ((callers, "RS256"), (cluster_of_ec_keys, "ES256")):
            token = server.token("shop", "checkout", audience="orders")
            assert header_of(token)["alg"] == algorithm
            assert gate.reason(WRITE, token) == "authenticated"


def test_only_bound_tokens(callers: Cluster) -> None:
    """`required_claims: [..., kubernetes.io.pod]` refuses what kubectl or a Secret-less script has asked for."""
    required = "[exp, sub, kubernetes.io.pod]"
    running = callers.create(pod("checkout-bound", "checkout"), namespace="shop")
    with guarded_by_recipe(callers, namespace="edge", account="authz", required_claims=required) as gate:
        assert gate.reason(WRITE, callers.token("shop", "checkout", audience="orders", pod=running)) == "authenticated"
        assert gate.reason(WRITE, callers.token("shop", "checkout", audience="orders")) == "claims_malformed"


def test_token_outlives_its_pod_here_and_not_there(callers: Cluster, gate: Gate) -> None:
    """Deleting a pod ends its tokens for the API server, which TokenReview says at once; a signature knows nothing."""
    running = callers.create(pod("checkout-gone", "checkout"), namespace="shop")
    token = callers.token("shop", "checkout", audience="orders", pod=running)

    def review() -> dict[str, Any]:
        asked = {"spec": {"token": token, "audiences": ["orders"]}}
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", **asked}
        status: dict[str, Any] = callers.create(review)["status"]
        return status

    assert review()["authenticated"] is True
    callers.kubectl("delete", "pod", "checkout-gone", "--namespace", "shop")
    wait_until(lambda: not review().get("authenticated"))
    assert gate.reason(WRITE, token) == "authenticated"


def test_token_of_a_deleted_pod(callers: Cluster) -> None:
    """With TokenReview it ends with its pod, if the account of the sidecar has the role for that; without, at exp."""
    review = (
        "[JWT]\n    introspection: {kind: token_review, mode: always, cache: 0s, "
        "url: https://kubernetes.default.svc/apis/authentication.k8s.io/v1/tokenreviews, "
        f"client: {{bearer_token_file: {TOKENS}/issuer}}}}"
    )
    running = callers.create(pod("checkout-ends", "checkout"), namespace="shop")
    token = callers.token("shop", "checkout", audience="orders", pod=running)
    with (
        guarded_by_recipe(callers, namespace="edge", account="authz") as plain,
        guarded_by_recipe(callers, namespace="edge", account="authz", token_types=review) as asking,
    ):
        assert asking.reason(WRITE, token) == "introspection_unavailable"  # our account may not ask yet
        allow = ("create", "clusterrolebinding", "authz-reviews", "--clusterrole", "system:auth-delegator")
        callers.kubectl(*allow, "--serviceaccount", "edge:authz")
        wait_until(lambda: asking.reason(WRITE, token) == "authenticated")
        assert plain.reason(WRITE, token) == "authenticated"
        callers.kubectl("delete", "pod", "checkout-ends", "--namespace", "shop")  # no node runs it: it is gone at once
        wait_until(lambda: asking.reason(WRITE, token) == "token_inactive")
        assert plain.reason(WRITE, token) == "authenticated"
