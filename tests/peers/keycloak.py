"""Keycloak on loopback and in memory: its process, its admin API, its logins."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from authz.demo.client import Answer, send
from authz.demo.process import Process
from tests.fakes.waiting import HANG_SECONDS
from tests.tools import path

_CALLBACK: Final = "http://127.0.0.1/callback"
_ADMIN: Final = {"client_id": "admin-cli", "grant_type": "password", "username": "admin", "password": "admin"}
_FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")
_KEYS: Final = "/components?type=org.keycloak.keys.KeyProvider"


class Keycloak:
    """A running Keycloak, and one realm of it."""

    def __init__(self, url: str, realm: str) -> None:
        self.url: Final = url
        self.issuer: Final = f"{url}/realms/{realm}"
        self.jwks_uri: Final = f"{self.issuer}/protocol/openid-connect/certs"
        self._admin: Final = f"{url}/admin/realms/{realm}"

    def create_realm(self, realm: Mapping[str, object]) -> None:
        """Make the realm as its JSON says."""
        self._manage("POST", f"{self.url}/admin/realms", realm)

    def _manage(self, method: str, url: str, document: object = None) -> Answer:
        """Ask the admin API, as the administrator whose token lives for a minute."""
        token = _post(f"{self.url}/realms/master/protocol/openid-connect/token", _ADMIN)["access_token"]
        headers = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json")]
        answer = send(url, method=method, headers=headers, body=json.dumps(document).encode() if document else b"")
        assert 200 <= answer.status < 300, answer.body
        return answer

    # Users.

    def set_user(self, name: str, *, enabled: bool) -> None:
        """Disable a user, or enable one again."""
        (user,) = self._manage("GET", f"{self._admin}/users?exact=true&username={quote(name)}").json()
        self._manage("PUT", f"{self._admin}/users/{user['id']}", {**user, "enabled": enabled})

    def log_out(self, name: str) -> None:
        """End all sessions of a user."""
        (user,) = self._manage("GET", f"{self._admin}/users?exact=true&username={quote(name)}").json()
        self._manage("POST", f"{self._admin}/users/{user['id']}/logout")

    # Keys.

    def first_key(self) -> str:
        """The id of what made the realm's first key for signatures. Those for other algorithms are `fallback-...`."""
        found = self._manage("GET", f"{self._admin}{_KEYS}").json()
        (provider,) = [str(each["id"]) for each in found if each["name"] == "rsa-generated"]
        return provider

    def add_key(self, name: str, *, priority: int) -> None:
        """Add a key; the one with the highest priority signs."""
        config = {"priority": [str(priority)]}
        kind = "org.keycloak.keys.KeyProvider"
        component = {"name": name, "providerId": "rsa-generated", "providerType": kind, "config": config}
        self._manage("POST", f"{self._admin}/components", component)

    def set_key(self, provider: str, **config: str) -> None:
        """Change a key: with `active="false"` it signs no more, with `enabled="false"` it is not published either."""
        url = f"{self._admin}/components/{provider}"
        component = self._manage("GET", url).json()
        component["config"] |= {name: [value] for name, value in config.items()}
        self._manage("PUT", url, component)

    def delete_key(self, provider: str) -> None:
        """Delete a key, by the id of what made it."""
        self._manage("DELETE", f"{self._admin}/components/{provider}")

    # Tokens.

    def machine(self, client: str) -> str:
        """Get a token by client_credentials."""
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": "secret"}
        return str(self._token(**form)["access_token"])

    def _token(self, **form: str) -> dict[str, Any]:
        return _post(f"{self.issuer}/protocol/openid-connect/token", form)


class Browser:
    """A browser of one user, with its cookies."""

    def __init__(self, keycloak: Keycloak, user: str) -> None:
        self._keycloak = keycloak
        self._user = user
        self._cookies: dict[str, str] = {}
        self.forms = 0
        """How often the user had to write a password."""

    def log_in(self, client: str, **wishes: str) -> dict[str, str]:
        """Log in to an application, which may wish for `acr_values` or `max_age`; return the tokens that it gets."""
        query = {"client_id": client, "response_type": "code", "scope": "openid", "redirect_uri": _CALLBACK, **wishes}
        answer = self._send(f"{self._keycloak.issuer}/protocol/openid-connect/auth?{urlencode(query)}")
        if answer.status == 200:
            self.forms += 1
            action = re.search(r'action="([^"]+)"', answer.body.decode())
            assert action, answer.body
            answer = self._send(html.unescape(action[1]), {"username": self._user, "password": "secret"})
        (code,) = parse_qs(urlsplit(answer.header("location") or "").query)["code"]
        form = {"grant_type": "authorization_code", "client_id": client, "code": code, "redirect_uri": _CALLBACK}
        return self._keycloak._token(**form)

    def _send(self, url: str, form: Mapping[str, str] | None = None) -> Answer:
        headers = [("Cookie", "; ".join(f"{name}={value}" for name, value in self._cookies.items())), _FORM]
        body = urlencode(form).encode() if form else b""
        answer = send(url, method="POST" if form else "GET", headers=headers, body=body)
        for name, value in answer.headers:
            if name == "set-cookie":
                cookie, _, content = value.partition(";")[0].partition("=")
                self._cookies[cookie] = content
        return answer


def _post(url: str, form: Mapping[str, str]) -> dict[str, Any]:
    answer = send(url, method="POST", headers=[_FORM], body=urlencode(form).encode())
    assert answer.status == 200, answer.body
    document: dict[str, Any] = answer.json()
    return document


@contextmanager
def running_keycloak(folder: Path) -> Iterator[str]:
    """Start Keycloak, which forgets everything when it ends, and yield its URL; its log is in *folder*."""
    admin = [f"KC_BOOTSTRAP_ADMIN_{name.upper()}={_ADMIN[name]}" for name in ("username", "password")]
    start = [f"{path('peers/keycloak')}/bin/kc.sh", "start", "--optimized"]
    command = [path("env"), *admin, path("bash"), *start]
    process = Process("Keycloak", command, log=folder / "keycloak.log", fix="read its log")
    process.start()
    try:
        process.wait_until(lambda: _address(process.log) is not None, seconds=HANG_SECONDS * 2)
        yield str(_address(process.log))
    finally:
        process.stop()


def _address(log: Path) -> str | None:
    """Where Keycloak says that it listens; None if it has not said so yet."""
    found = re.search(r"Listening on: (http://127\.0\.0\.1:[1-9]\d*)", log.read_text(encoding="utf-8"))
    return found[1] if found else None
