"""Proves introspection by a real, certified issuer, npm's oidc-provider: opaque tokens, refresh tokens, revocation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from authz.demo.signing import SigningKey
from tests.integration.oidc_provider import OidcProvider, private_jwk
from tests.integration.station import Station

pytestmark = pytest.mark.needs("node", "oidc-provider")

API = "https://api.test/opaque"
JWT_API = "https://api.test/orders"
KEY = SigningKey.create("RS256", kid="one")


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    """The provider, which takes seconds to load."""
    with OidcProvider() as running:
        running.start(private_jwk(KEY))
        yield running


def station(provider: OidcProvider, folder: Path, *more: str, required: str = "exp, sub") -> Station:
    """A sidecar that asks the provider about tokens."""
    (folder / "secret").write_text("a+b%c\n")
    asked = ", ".join((f"client: {{id: rs, secret_file: {folder / 'secret'}}}", "max_wait: 10s", "timeout: 10s", *more))
    lines = (
        f"issuer: {provider.issuer}",
        f"audiences: ['{API}', '{JWT_API}']",
        "insecure: {http: true}",
        f"required_claims: [{required}]",
        f"introspection: {{{asked}}}",
    )
    return Station("  certified:\n" + "".join(f"    {line}\n" for line in lines)).settle()


def test_opaque_tokens_of_users_and_machines(provider: OidcProvider, tmp_path: Path) -> None:
    """A user's is allowed; a machine's has no `sub`, which the operator may not require. Asked once each."""
    token, _ = provider.user(API)
    machine = provider.machine(API)
    assert "." not in token
    with station(provider, tmp_path) as sidecar:
        assert [sidecar.ask(token) for _ in range(3)] == ["authenticated"] * 3
        assert sidecar.ask(machine) == "claims_malformed"
        assert (sidecar.asked("certified", "active"), sidecar.asked("certified", "cached")) == (2, 2)
    with station(provider, tmp_path, required="exp") as sidecar:
        assert sidecar.ask(machine) == "authenticated"


def test_what_is_no_access_token_is_refused(provider: OidcProvider, tmp_path: Path) -> None:
    """The provider calls a refresh token active; garbage is inactive; a revoked token is, once the answer is old."""
    with station(provider, tmp_path, "cache: 0s") as sidecar:
        assert sidecar.ask(provider.refresh_token(API)) == "typ_not_allowed"
        assert sidecar.ask("garbage") == "token_inactive"
        token, _ = provider.user(API)
        assert sidecar.ask(token) == "authenticated"
        provider.revoke(token)
        assert sidecar.ask(token) == "token_inactive"


def test_signed_answers(provider: OidcProvider, tmp_path: Path) -> None:
    """RFC 9701: the answers are verified with the provider's keys, and name us."""
    token, _ = provider.user(API)
    with station(provider, tmp_path, "signed: true") as sidecar:
        assert sidecar.ask(token) == "authenticated"
        assert sidecar.ask("garbage") == "token_inactive"


def test_a_jwt_is_verified_as_ever(provider: OidcProvider, tmp_path: Path) -> None:
    """Only with `mode: always` it is asked about too, which this provider refuses for every JWT, by 400."""
    token, _ = provider.user(JWT_API)
    with station(provider, tmp_path) as sidecar:
        assert sidecar.ask(token) == "authenticated"
        assert sidecar.asked("certified", "active") == 0
    with station(provider, tmp_path, "mode: always") as sidecar:
        assert sidecar.ask(token) == "token_inactive"
        assert sidecar.asked("certified", "refused") == 1


def test_a_wrong_secret_is_our_fault(provider: OidcProvider, tmp_path: Path) -> None:
    """401 from the provider is 503 for the client, for whom the token may well be good."""
    token, _ = provider.user(API)
    with station(provider, tmp_path) as sidecar:
        (tmp_path / "secret").write_text("wrong")
        assert sidecar.ask(token) == "introspection_unavailable"
        assert sidecar.asked("certified", "unauthorized") == 1
        (tmp_path / "secret").write_text("a+b%c")
        assert sidecar.ask(token) == "authenticated"
