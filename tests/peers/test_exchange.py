"""Proves token exchange (RFC 8693) against a real Keycloak, and the facts that are written of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from authz.core.base64url import decode
from tests.integration.station import Station
from tests.peers.keycloak import Keycloak, running_keycloak

pytestmark = pytest.mark.needs("java", "peers/keycloak")


def to(client: str) -> dict[str, object]:
    """A mapper that puts *client* into aud."""
    return {
        "name": f"to {client}",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.client.audience": client, "access.token.claim": "true"},
    }


def confidential(client: str, *audiences: str, exchanges: bool = False) -> dict[str, object]:
    """A client that gets tokens for these audiences."""
    attributes = {"standard.token.exchange.enabled": "true"} if exchanges else {}
    return {
        "clientId": client,
        "secret": "secret",
        "serviceAccountsEnabled": True,
        "protocolMappers": [to(audience) for audience in audiences],
        "attributes": attributes,
    }


REALM: Final = {
    "realm": "exchange",
    "enabled": True,
    "clients": [
        confidential("orders"),
        confidential("other"),
        confidential("gateway", "orders", exchanges=True),
        confidential("gateway-off", "orders"),
        confidential("batch", "gateway", "gateway-off"),
        confidential("elsewhere", "other"),
    ],
}


@pytest.fixture(scope="module")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """A Keycloak with the realm of this file."""
    with running_keycloak(tmp_path_factory.mktemp("keycloak"), "exchange") as server:
        server.create_realm(REALM)
        yield server


def station(keycloak: Keycloak, folder: Path, *, client: str = "gateway", audience: str = "orders") -> Station:
    """A sidecar that exchanges tokens there as *client*; discovery says where."""
    (folder / "secret").write_text("secret\n")
    exchange = f"issuer: kc, client: {{id: {client}, secret_file: {folder}/secret}}, max_wait: 10s, timeout: 10s"
    whole = f"""version: 1
issuers:
  kc: {{issuer: '{keycloak.issuer}', audiences: [gateway, gateway-off, other], insecure: {{http: true}}}}
rules:
  - match: {{paths: ["/**"]}}
identity:
  token: {{header: authorization, audience: [{audience}], exchange: {{{exchange}}}}}
"""
    return Station(whole=whole).settle()


def claims_of(headers: Mapping[str, str]) -> dict[str, Any]:
    """Read the token that the upstream gets."""
    claims: dict[str, Any] = json.loads(decode(headers["authorization"].split(".")[1].encode()))
    return claims


def test_the_upstream_gets_a_token_for_itself(keycloak: Keycloak, tmp_path: Path) -> None:
    """For its audience alone, and of the same subject as the caller's, which it does not see."""
    with station(keycloak, tmp_path) as sidecar:
        theirs = keycloak.machine("batch")
        ours = claims_of(sidecar.identity(theirs, "GET api.test/orders"))
    assert (ours["aud"], ours["azp"], ours["typ"]) == ("orders", "gateway", "Bearer")
    assert ours["sub"] == claims_of({"authorization": theirs})["sub"]


def test_a_token_that_does_not_name_our_client(keycloak: Keycloak, tmp_path: Path) -> None:
    """It is no fault of ours once an exchange succeeded, and before it may be: it is denied, or tried again."""
    with station(keycloak, tmp_path) as sidecar:
        assert sidecar.ask(keycloak.machine("elsewhere")) == "upstream_token_unavailable"
        assert sidecar.ask(keycloak.machine("batch")) == "authenticated"
        assert sidecar.ask(keycloak.machine("elsewhere")) == "upstream_token_refused"


@pytest.mark.parametrize(
    ("client", "audience"),
    [("gateway-off", "orders"), ("gateway", "other"), ("unknown", "orders")],
    ids=["off for the client", "an audience that it may not have", "no such client"],
)
def test_what_the_operator_must_fix(keycloak: Keycloak, client: str, audience: str, tmp_path: Path) -> None:
    """The client is asked to try again, and nothing is sent upstream."""
    with station(keycloak, tmp_path, client=client, audience=audience) as sidecar:
        assert sidecar.ask(keycloak.machine("batch")) == "upstream_token_unavailable"
