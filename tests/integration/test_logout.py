"""Proves the receiver of logout tokens at real processes: with npm's oidc-provider, two workers, and attackers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from authz.core.claims import LOGOUT_EVENT
from authz.demo.client import Answer, send
from authz.demo.signing import SigningKey
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.integration.crew import crew
from tests.integration.oidc_provider import OidcProvider, private_jwk
from tests.integration.sidecars import issuer, running
from tests.unit.envoy.serving import short_folder

_FORM = [("content-type", "application/x-www-form-urlencoded")]
_LOGOUT = {"typ": "logout+jwt"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer."""
    with FakeIdp() as provider:
        yield provider


def with_logout(idp: FakeIdp, scope: str = "session") -> str:
    """Write the section of an issuer that may log out sessions of the client web."""
    return f"{issuer('a', idp)}    logout: {{clients: [web], revokes: {scope}}}\n"


def logout_token(idp: FakeIdp, *, typ: str = "logout+jwt", **claims: object) -> str:
    """Write a logout token as Keycloak does."""
    events = {LOGOUT_EVENT: {}, "revoke_offline_access": True}
    written = {"aud": "web", "jti": "j", "sid": "s1", "events": events, **claims}
    return idp.key.sign(idp.claims(**written), header={**idp.key.header(), "typ": typ})


def post(address: str, body: bytes, path: str = "/backchannel-logout") -> Answer:
    """Send something to the receiver."""
    return send(f"http://{address}{path}", method="POST", headers=_FORM, body=body)


def form(token: str) -> bytes:
    """Write the body that carries a logout token."""
    return urlencode({"logout_token": token}).encode()


@pytest.mark.needs("node", "oidc-provider")
def test_a_certified_provider_logs_out(folder: Path) -> None:
    """Its own token about a user ends what that user had, and nothing of another; a client that is not ours is refused.

    Its access tokens have no sid, so that a logout by session would end nothing: only the subject matches.
    """
    address = free_address()
    key, api = SigningKey.create("ES256", kid="k"), "https://api.test/orders"
    with OidcProvider() as provider:
        iss = provider.start(private_jwk(key), algorithm="ES256", logout=f"http://{address}/backchannel-logout")
        alice, bob = (provider.user(api, name)[0] for name in ("alice", "bob"))
        section = f"""  a:
    issuer: {iss}
    audiences: ["{api}"]
    insecure: {{http: true}}
    logout: {{clients: [web], revokes: subject}}
"""
        with running(folder, section, more=f"receivers: {{listen: {address}}}\n") as sidecar:
            sidecar.await_ready()
            assert (sidecar.check(alice), sidecar.check(bob)) == ("authenticated", "authenticated")
            assert provider.logout("alice", "session-1") == ""
            assert (sidecar.check(alice), sidecar.check(bob)) == ("token_revoked", "authenticated")
        other = section.replace("[web]", "[another]")
        with running(folder, other, more=f"receivers: {{listen: {address}}}\n") as sidecar:
            sidecar.await_ready()
            assert "got: 400" in provider.logout("bob", "session-2")
            assert sidecar.check(bob) == "authenticated"


def test_what_anyone_may_send(folder: Path, idp: FakeIdp) -> None:
    """Forgeries, access tokens, replays and garbage: each answer says the same, and none ends a session."""
    address = free_address()
    head = {**idp.key.header(), **_LOGOUT}
    stranger = SigningKey.create("ES256", kid=idp.key.kid)
    token = idp.mint(sid="s1", sub="alice")
    refused = {
        "a forgery": form(idp.mint(header=head, key=stranger, aud="web", jti="j", sid="s1", events={LOGOUT_EVENT: {}})),
        "an access token": form(token),
        "an access token, dressed up": form(idp.mint(header=head, sid="s1", jti="j")),
        "expired": form(logout_token(idp, exp=1, iat=1)),
        "for the API": form(logout_token(idp, aud="api")),
        "with a nonce": form(logout_token(idp, nonce="n")),
        "nothing": b"",
        "garbage": b"\xff" * 4096,
    }
    more = f"receivers: {{listen: {address}}}\nrevocation: {{file: {folder / 'events'}}}\n"
    with running(folder, with_logout(idp), more=more) as sidecar:
        sidecar.await_ready()
        for what, body in refused.items():
            answer = post(address, body)
            assert (answer.status, answer.json()) == (400, {"error": "invalid_request"}), what
            assert answer.header("cache-control") == "no-store"
        assert post(address, b"x", "/").status == 404
        assert post(address, b"", "/revocations").status == 404
        assert post(address, b"x" * 300_000).status == 413
        assert send(f"http://{address}/backchannel-logout").status == 404
        assert sidecar.check(token) == "authenticated"
        good = logout_token(idp)
        assert sidecar.check(good) == "claims_malformed"
        for _ in range(2):  # the second time its sender has missed the answer
            answer = post(address, form(good))
            assert (answer.status, answer.body, answer.header("cache-control")) == (200, b"", "no-store")
        assert sidecar.check(token) == "token_revoked"
        assert sidecar.check(idp.mint(sid="s2")) == "authenticated"
    with running(folder, with_logout(idp), more=more) as sidecar:
        sidecar.await_ready()
        assert sidecar.check(token) == "token_revoked"


def test_a_logout_reaches_both_workers(folder: Path, idp: FakeIdp) -> None:
    """The supervisor receives, a worker verifies, and both refuse when the provider has its answer."""
    address, token = free_address(), idp.mint(sid="s1")
    with crew(folder, with_logout(idp), more=f"receivers: {{listen: {address}}}\n") as two:
        two.await_ready()
        wait_until(lambda: post(address, b"").status == 400)
        assert [two.check(number, token) for number in (0, 1)] == ["authenticated"] * 2
        assert post(address, form(logout_token(idp))).status == 200
        assert [two.check(number, token) for number in (0, 1)] == ["token_revoked"] * 2
        assert json.loads(two.admin("/revocations").body)["sources"][0]["by"]["sid"] == 1
