"""Proves how a real Keycloak answers questions about its tokens, and the row of the page on recipes that says so.

Its tokens are JWTs: they are verified as ever, and with `mode: always` they must be active too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.integration.station import Station
from tests.peers.keycloak import Browser, Keycloak
from tests.peers.test_keycloak import TO_ORDERS, application, confidential

pytestmark = pytest.mark.needs("java", "peers/keycloak")

ASKS: Final = "GET api.example.com/orders/7"
USER: Final = "alice"
REALM: Final = {
    "realm": "asked",
    "enabled": True,
    "clients": [
        confidential("orders-api"),
        confidential("another-api"),
        confidential("batch", TO_ORDERS),
        application("web"),
    ],
    "users": [
        {
            "username": USER,
            "enabled": True,
            "email": "alice@example.test",
            "firstName": "Alice",
            "lastName": "Example",
            "credentials": [{"type": "password", "value": "secret"}],
        }
    ],
}


@pytest.fixture(scope="module")
def keycloak(keycloak_url: str) -> Keycloak:
    """A Keycloak with the realm of this file."""
    server = Keycloak(keycloak_url, "asked")
    server.create_realm(REALM)
    return server


def asking(keycloak: Keycloak, folder: Path, *more: str, client: str = "orders-api", mode: str = "always") -> Station:
    """A sidecar that asks Keycloak about every token, as *client*; *more* are settings of introspection."""
    (folder / "secret").write_text("secret\n")
    who = f"client: {{id: {client}, secret_file: {folder / 'secret'}}}"
    settings = (who, f"mode: {mode}", "token_kind: typ", "cache: 0s", "cache_inactive: 0s", "max_wait: 10s", *more)
    lines = (
        f"issuer: {keycloak.issuer}",
        "audiences: [orders-api]",
        "algorithms: [RS256]",
        "insecure: {http: true}",
        f"introspection: {{{', '.join(settings)}}}",
    )
    return Station("  keycloak:\n" + "".join(f"    {line}\n" for line in lines)).settle()


def test_a_token_of_ours_is_active(keycloak: Keycloak, tmp_path: Path) -> None:
    """A machine's and a user's: verified, asked about, and allowed."""
    with asking(keycloak, tmp_path) as sidecar:
        assert sidecar.ask(keycloak.machine("batch"), ASKS) == "authenticated"
        assert sidecar.ask(Browser(keycloak, USER).log_in("web")["access_token"], ASKS) == "authenticated"
        assert sidecar.asked("keycloak", "active") == 2


def test_every_token_is_inactive_for_a_client_that_it_is_not_for(keycloak: Keycloak, tmp_path: Path) -> None:
    """Keycloak answers a client that is not in `aud` as if the token were revoked: ours must be the one in `aud`."""
    with asking(keycloak, tmp_path, client="another-api") as sidecar:
        assert sidecar.ask(keycloak.machine("batch"), ASKS) == "token_inactive"
        assert sidecar.asked("keycloak", "inactive") == 1


def test_every_token_is_inactive_under_another_host_name(keycloak: Keycloak, tmp_path: Path) -> None:
    """Keycloak compares `iss` with the name that it was asked under."""
    url = f"{keycloak.issuer}/protocol/openid-connect/token/introspect".replace("127.0.0.1", "localhost")
    with asking(keycloak, tmp_path, f"url: '{url}'") as sidecar:
        assert sidecar.ask(keycloak.machine("batch"), ASKS) == "token_inactive"


def test_a_logged_out_user_is_out_at_once(keycloak: Keycloak, tmp_path: Path) -> None:
    """Though the signature and the times of the token are as good as before."""
    with asking(keycloak, tmp_path) as sidecar, asking(keycloak, tmp_path, mode="opaque") as unasked:
        token = Browser(keycloak, USER).log_in("web")["access_token"]
        assert sidecar.ask(token, ASKS) == "authenticated"
        keycloak.log_out(USER)
        assert sidecar.ask(token, ASKS) == "token_inactive"
        assert unasked.ask(token, ASKS) == "authenticated"


def test_a_user_who_is_enabled_again_revives_tokens(keycloak: Keycloak, tmp_path: Path) -> None:
    """Disabled is inactive; but nothing is revoked by it."""
    with asking(keycloak, tmp_path) as sidecar:
        token = Browser(keycloak, USER).log_in("web")["access_token"]
        keycloak.set_user(USER, enabled=False)
        assert sidecar.ask(token, ASKS) == "token_inactive"
        keycloak.set_user(USER, enabled=True)
        assert sidecar.ask(token, ASKS) == "authenticated"


def test_a_wrong_secret_is_our_fault(keycloak: Keycloak, tmp_path: Path) -> None:
    """The client is answered 503, for the token may well be good."""
    with asking(keycloak, tmp_path) as sidecar:
        (tmp_path / "secret").write_text("wrong")
        assert sidecar.ask(keycloak.machine("batch"), ASKS) == "introspection_unavailable"
        assert sidecar.asked("keycloak", "unauthorized") == 1


def test_it_signs_no_answers(keycloak: Keycloak, tmp_path: Path) -> None:
    """RFC 9701 is not served by this release: with `signed`, its plain answer is not taken for one."""
    with asking(keycloak, tmp_path, "signed: true") as sidecar:
        assert sidecar.ask(keycloak.machine("batch"), ASKS) == "introspection_unavailable"
