"""Proves deploy/recipes/keycloak.yaml against a real Keycloak, and the facts that the recipe is written for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from authz.core.base64url import decode
from authz.demo.client import send
from tests.fakes.waiting import wait_until
from tests.integration.station import Station
from tests.peers.keycloak import Browser, Keycloak
from tests.recipes.recipe import FOLDER

pytestmark = pytest.mark.needs("java", "peers/keycloak")

READ: Final = "GET api.example.com/orders/7"
WRITE: Final = "POST api.example.com/orders/7"
ADMIN: Final = "GET api.example.com/admin/users"
OTHER_ALGORITHMS: Final = ("PS256", "ES256", "EdDSA")
ROLES: Final = ["reader", "sales, north", "prüfer"]
TO_ORDERS: Final = {
    "name": "to orders-api",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-audience-mapper",
    "config": {"included.client.audience": "orders-api", "access.token.claim": "true", "id.token.claim": "false"},
}


def confidential(client: str, *mappers: object, **attributes: str) -> dict[str, object]:
    """A client that may ask for a token of its own."""
    return {
        "clientId": client,
        "secret": "secret",
        "serviceAccountsEnabled": True,
        "protocolMappers": mappers,
        "attributes": attributes,
    }


def application(client: str, **attributes: str) -> dict[str, object]:
    """A client by which users log in."""
    return {
        "clientId": client,
        "publicClient": True,
        "redirectUris": ["http://127.0.0.1/callback"],
        "protocolMappers": [TO_ORDERS],
        "attributes": attributes,
    }


def service_account(client: str, *roles: str) -> dict[str, object]:
    """The user of such a client, with roles of the service's own client."""
    return {
        "username": f"service-account-{client}",
        "enabled": True,
        "serviceAccountClientId": client,
        "clientRoles": {"orders-api": roles},
    }


REALM: Final = {
    "realm": "example",
    "enabled": True,
    "clients": [
        confidential("orders-api"),
        confidential("batch", TO_ORDERS),
        confidential("no-mapper"),
        confidential("no-mapper-with-role"),
        confidential("no-role", TO_ORDERS),
        *(
            confidential(algorithm, TO_ORDERS, **{"access.token.signed.response.alg": algorithm})
            for algorithm in OTHER_ALGORITHMS
        ),
        confidential("lightweight", TO_ORDERS, **{"client.use.lightweight.access.token.enabled": "true"}),
        application("web"),
        application("web-with-levels", **{"acr.loa.map": '{"2": 1}'}),
    ],
    "roles": {
        "client": {"orders-api": [{"name": name} for name in ROLES]},
        "realm": [{"name": "orders-admin"}],
    },
    "users": [
        service_account("batch", "reader"),
        service_account("no-mapper-with-role", "reader"),
        *(service_account(algorithm, "reader") for algorithm in OTHER_ALGORITHMS),
        {**service_account("lightweight", "reader"), "realmRoles": ["orders-admin"]},
        {
            "username": "jürgen",
            "enabled": True,
            "email": "juergen@example.test",
            "firstName": "Jürgen",
            "lastName": "Müller",
            "credentials": [{"type": "password", "value": "secret"}],
            "clientRoles": {"orders-api": ROLES},
            "realmRoles": ["orders-admin"],
        },
    ],
}


@pytest.fixture(scope="module")
def keycloak(keycloak_url: str) -> Keycloak:
    """A Keycloak with the realm of this file."""
    server = Keycloak(keycloak_url, "example")
    server.create_realm(REALM)
    return server


def recipe_for(keycloak: Keycloak) -> str:
    """The recipe, of which only the issuer's URL is another, and plain HTTP is allowed."""
    recipe = (FOLDER / "keycloak.yaml").read_text(encoding="utf-8")
    issuer = f"    issuer: {keycloak.issuer}\n    insecure: {{http: true}}\n"
    text, changes = re.subn(r"^    issuer: .*\n", issuer, recipe, flags=re.MULTILINE)
    assert changes == 1
    return text


@pytest.fixture
def sidecar(keycloak: Keycloak) -> Iterator[Station]:
    """A sidecar with the recipe."""
    with Station(whole=recipe_for(keycloak)).settle() as running:
        yield running


def claims(token: str) -> dict[str, Any]:
    """Read the claims of a token."""
    found: dict[str, Any] = json.loads(decode(token.encode().split(b".")[1]))
    return found


def kid(token: str) -> str:
    """Read the key id of a token."""
    return str(json.loads(decode(token.encode().split(b".")[0]))["kid"])


def keys_of(sidecar: Station) -> dict[str, Any]:
    """What `/keys` says of the one issuer."""
    described: Any = sidecar.describe()
    (found,) = described["issuers"]
    issuer: dict[str, Any] = found
    return issuer


def test_machine_with_an_audience_mapper(keycloak: Keycloak, sidecar: Station) -> None:
    """It may read by its role, and not write; the upstream learns its subject, client and role."""
    token = keycloak.machine("batch")
    assert claims(token)["aud"] == "orders-api"

    assert sidecar.ask(token, WRITE) == "policy_denied"
    assert sidecar.ask(token, READ) == "authenticated"
    assert sidecar.identity(token, READ) == {
        "x-auth-subject": claims(token)["sub"],
        "x-auth-client": "batch",
        "x-auth-roles": "reader",
    }


def test_machine_without_an_audience_mapper(keycloak: Keycloak, sidecar: Station) -> None:
    """Without a role of the service the token is not for it: 401, where with the mapper it is 403."""
    token = keycloak.machine("no-mapper")
    assert claims(token)["aud"] == "account"

    assert sidecar.ask(token, READ) == "audience_mismatch"
    assert sidecar.ask(keycloak.machine("no-role"), READ) == "policy_denied"


def test_a_role_brings_its_audience(keycloak: Keycloak, sidecar: Station) -> None:
    """Anyone who has a role of the service has the service in aud, mapper or not: why a missing mapper is seen late."""
    assert sidecar.ask(keycloak.machine("no-mapper-with-role"), READ) == "authenticated"


def test_token_of_the_services_own_client(keycloak: Keycloak, sidecar: Station) -> None:
    """A token that the service's own client asked for is not for the service."""
    token = keycloak.machine("orders-api")
    assert claims(token)["aud"] == "account"
    assert sidecar.ask(token, READ) == "audience_mismatch"


def test_lightweight_token(keycloak: Keycloak, sidecar: Station) -> None:
    """It has nothing that a mapper writes: no audience, no roles, no acr."""
    token = keycloak.machine("lightweight")
    assert {"aud", "acr", "realm_access", "resource_access"}.isdisjoint(claims(token))
    assert sidecar.ask(token, READ) == "audience_mismatch"


def test_user(keycloak: Keycloak, sidecar: Station) -> None:
    """A user whose name has an umlaut and whose role a comma gets in, and the upstream can tell the roles apart."""
    tokens = Browser(keycloak, "jürgen").log_in("web")
    found = sidecar.identity(tokens["access_token"], READ)

    assert sidecar.ask(tokens["access_token"], READ) == "authenticated"
    assert set(found.pop("x-auth-roles").split(",")) == {"reader", "sales%2C north", "pr%C3%BCfer"}
    assert found == {"x-auth-subject": claims(tokens["access_token"])["sub"], "x-auth-client": "web"}


def test_other_tokens_of_a_user(keycloak: Keycloak, sidecar: Station) -> None:
    """The ID token is for the application, and the refresh token is signed by a secret: neither opens anything."""
    tokens = Browser(keycloak, "jürgen").log_in("web")
    assert (claims(tokens["id_token"])["typ"], claims(tokens["id_token"])["aud"]) == ("ID", "web")

    assert sidecar.ask(tokens["id_token"], READ) == "audience_mismatch"
    assert sidecar.ask(tokens["refresh_token"], READ) == "alg_not_allowed"


def test_step_up(keycloak: Keycloak, sidecar: Station) -> None:
    """The acr of a login is "1", of single sign-on "0"; a level that no flow reaches costs a login, and brings "1"."""
    browser = Browser(keycloak, "jürgen")
    seen = []
    for wishes in ({}, {}, {"acr_values": "2"}, {"acr_values": "2", "max_age": "900"}):
        token = browser.log_in("web", **wishes)["access_token"]
        seen.append((claims(token)["acr"], browser.forms))
        assert "auth_time" in claims(token)
        assert sidecar.ask(token, ADMIN) == "step_up_required"

    assert seen == [("1", 1), ("0", 1), ("1", 2), ("1", 3)]


def test_step_up_to_a_level_that_can_be_reached(keycloak: Keycloak, sidecar: Station) -> None:
    """Where a login is called "2", an administrator gets in by it, and by single sign-on only after what we ask for."""
    browser = Browser(keycloak, "jürgen")
    assert claims(browser.log_in("web")["access_token"])["acr"] == "1"

    token = browser.log_in("web-with-levels")["access_token"]
    assert (claims(token)["acr"], browser.forms) == ("0", 1)
    assert sidecar.ask(token, ADMIN) == "step_up_required"

    token = browser.log_in("web-with-levels", acr_values="2", max_age="900")["access_token"]
    assert (claims(token)["acr"], browser.forms) == ("2", 2)
    assert sidecar.ask(token, ADMIN) == "authenticated"


def test_machines_have_an_acr(keycloak: Keycloak, sidecar: Station) -> None:
    """A token by client_credentials has an acr and no auth_time."""
    token = keycloak.machine("batch")
    assert claims(token)["acr"] == "1"
    assert "auth_time" not in claims(token)
    assert sidecar.ask(token, ADMIN) == "step_up_required"


def test_key_set(keycloak: Keycloak, sidecar: Station) -> None:
    """It says no-cache, and is not fetched every minute; of its two keys the one for encryption is rejected."""
    answer = send(keycloak.jwks_uri)
    assert answer.header("cache-control") == "no-cache"
    assert sorted((key["use"], key["alg"]) for key in answer.json()["keys"]) == [("enc", "RSA-OAEP"), ("sig", "RS256")]

    keys = keys_of(sidecar)
    assert [(key["kid"], key["alg"], key["notes"]) for key in keys["keys"]] == [
        (kid(keycloak.machine("batch")), "RS256", [])
    ]
    assert [each["kid"] for each in keys["rejected"]] == [
        key["kid"] for key in answer.json()["keys"] if key["use"] == "enc"
    ]
    assert keys["next_refresh_seconds"] > 120


@pytest.mark.parametrize("algorithm", OTHER_ALGORITHMS)
def test_other_algorithms(keycloak: Keycloak, sidecar: Station, algorithm: str) -> None:
    """A client that is set to another algorithm gets its tokens by a key that Keycloak makes for it.

    The recipe does not allow it, and does where its list of algorithms has it.
    """
    token = keycloak.machine(algorithm)
    assert sidecar.ask(token, READ) == "alg_not_allowed"

    text = recipe_for(keycloak).replace("algorithms: [RS256]", f"algorithms: [RS256, {algorithm}]")
    with Station(whole=text).settle() as allowing:
        assert allowing.ask(token, READ) == "authenticated"
        assert allowing.ask(token, WRITE) == "policy_denied"


def test_rotation(keycloak: Keycloak, sidecar: Station) -> None:
    """A new key signs at once and its first tokens are allowed; the old one serves until it is disabled or deleted."""
    old_provider = keycloak.first_key()
    old = keycloak.machine("batch")
    assert sidecar.ask(old, READ) == "authenticated"

    keycloak.add_key("new", priority=200)
    new = keycloak.machine("batch")
    assert kid(new) != kid(old)
    first = sidecar.ask(new, READ)  # which waits for the search no longer than the recipe's max_wait
    assert first in {"keys_unavailable", "authenticated"}
    wait_until(lambda: sidecar.ask(new, READ) == "authenticated")
    assert sidecar.ask(old, READ) == "authenticated"

    keycloak.set_key(old_provider, active="false")
    sidecar.refresh("keycloak")
    assert sidecar.ask(old, READ) == "authenticated"

    keycloak.set_key(old_provider, enabled="false")
    sidecar.refresh("keycloak")
    assert sidecar.ask(old, READ) in {"key_not_found", "keys_unavailable"}

    keycloak.set_key(old_provider, enabled="true")
    sidecar.refresh("keycloak")
    assert sidecar.ask(old, READ) == "authenticated"

    keycloak.delete_key(old_provider)
    sidecar.refresh("keycloak")
    assert sidecar.ask(old, READ) in {"key_not_found", "keys_unavailable"}
    assert sidecar.ask(keycloak.machine("batch"), READ) == "authenticated"
