"""Proves what a real Keycloak decides as a PDP (AuthZEN, experimental), as the page on recipes says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.waiting import wait_until
from tests.integration.station import Station
from tests.peers.keycloak import Browser, Keycloak
from tests.peers.test_keycloak import TO_ORDERS, application, confidential

pytestmark = pytest.mark.needs("java", "peers/keycloak")

USERS: Final = ("alice", "bob")
RESOURCE: Final = {"name": "7", "type": "order", "scopes": [{"name": "GET"}, {"name": "DELETE"}]}
AUTHORIZATION: Final = {
    "policyEnforcementMode": "ENFORCING",
    "decisionStrategy": "UNANIMOUS",
    "scopes": [{"name": "GET"}, {"name": "DELETE"}],
    "resources": [RESOURCE],
    "policies": [
        {"name": "alice", "type": "user", "logic": "POSITIVE", "config": {"users": '["alice"]'}},
        {
            "name": "alice reads",
            "type": "scope",
            "config": {"resources": '["7"]', "scopes": '["GET"]', "applyPolicies": '["alice"]'},
        },
    ],
}
REALM: Final = {
    "realm": "deciding",
    "enabled": True,
    "clients": [
        {**confidential("gateway"), "authorizationServicesEnabled": True, "authorizationSettings": AUTHORIZATION},
        confidential("bare"),
        confidential("orders-api"),
        confidential("batch", TO_ORDERS),
        application("web"),
    ],
    "users": [
        {
            "username": name,
            "enabled": True,
            "email": f"{name}@example.test",
            "firstName": name,
            "lastName": "Example",
            "credentials": [{"type": "password", "value": "secret"}],
        }
        for name in USERS
    ],
}


@pytest.fixture(scope="module")
def keycloak(keycloak_url: str) -> Keycloak:
    """A Keycloak with the realm of this file."""
    server = Keycloak(keycloak_url, "deciding")
    server.create_realm(REALM)
    return server


@pytest.fixture
def sidecar(keycloak: Keycloak, tmp_path: Path) -> Iterator[Station]:
    """A sidecar that asks Keycloak with the token of the client in `bearer`: at first that with the policies."""
    (tmp_path / "bearer").write_text(keycloak.machine("gateway"))
    text = f"""version: 1
issuers:
  keycloak: {{issuer: "{keycloak.issuer}", audiences: [orders-api], algorithms: [RS256], insecure: {{http: true}}}}
pdps:
  keycloak:
    url: {keycloak.issuer}/authzen/access/v1/evaluation
    bearer_token_file: {tmp_path / "bearer"}
    max_wait: 10s
    timeout: 10s
rules:
  - name: orders
    match: {{paths: ["/orders/{{id}}"]}}
    require:
      pdp: {{name: keycloak, subject: {{id: "id:${{claims.sub}}"}}, resource: {{type: order, id: "${{params.id}}"}}}}
"""
    with Station(whole=text).settle() as running:
        yield running


def token(keycloak: Keycloak, user: str) -> str:
    """The access token of a user."""
    return Browser(keycloak, user).log_in("web")["access_token"]


def test_its_policies_decide(keycloak: Keycloak, sidecar: Station) -> None:
    """By user, resource and scope; what it does not know is denied."""
    alice, bob = token(keycloak, "alice"), token(keycloak, "bob")
    assert sidecar.ask(alice, "GET api.example.com/orders/7") == "authenticated"
    assert sidecar.ask(bob, "GET api.example.com/orders/7") == "pdp_denied"
    assert sidecar.ask(alice, "DELETE api.example.com/orders/7") == "pdp_denied"
    assert sidecar.ask(alice, "GET api.example.com/orders/8") == "pdp_denied"
    assert sidecar.ask(keycloak.machine("batch"), "GET api.example.com/orders/7") == "pdp_denied"


def test_the_client_that_asks_decides_whose_policies_apply(
    keycloak: Keycloak, sidecar: Station, tmp_path: Path
) -> None:
    """Without policies of its own it gets no allow; without a token that is good, the caller gets 503."""
    alice = token(keycloak, "alice")
    (tmp_path / "bearer").write_text(keycloak.machine("bare"))
    assert sidecar.ask(alice, "GET api.example.com/orders/7") != "authenticated"
    (tmp_path / "bearer").write_text("none")  # credentials that Keycloak accepts are read again after a second
    wait_until(lambda: sidecar.ask(alice, "GET api.example.com/orders/7") == "pdp_unavailable")
    assert sidecar.asked("keycloak", "unauthorized", "pdp") >= 1
    (tmp_path / "bearer").write_text(keycloak.machine("gateway"))
    assert sidecar.ask(alice, "GET api.example.com/orders/7") == "authenticated"
