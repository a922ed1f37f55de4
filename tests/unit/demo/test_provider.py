"""The embedded identity provider, over a real socket, evaluated by another JWT library."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import jwt
import pytest

from authz.demo.client import Answer, send
from authz.demo.provider import Provider
from tests.fakes.clock import FakeClock
from tests.fakes.waiting import wait_until

FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture
def clock() -> FakeClock:
    """A clock for the times in tokens."""
    return FakeClock()


@pytest.fixture
def provider(clock: FakeClock) -> Iterator[Provider]:
    """A provider that serves and does not rotate by itself."""
    with Provider(audience="api", now=clock.time) as provider:
        yield provider


def ask(provider: Provider, path: str, **parameters: str) -> Answer:
    """GET a path of the provider."""
    return send(f"{provider.issuer}{path}?{urlencode(parameters)}")


def read(provider: Provider, token: str) -> dict[str, object]:
    """The claims of a token that verifies under the keys that discovery leads to, whatever its times."""
    jwks_uri = ask(provider, "/.well-known/openid-configuration").json()["jwks_uri"]
    keys = jwt.PyJWKSet.from_dict(send(jwks_uri).json())
    header = jwt.get_unverified_header(token)
    claims: dict[str, object] = jwt.decode(
        token,
        keys[header["kid"]].key,
        algorithms=[header["alg"]],
        audience="api",
        options={"verify_exp": False, "verify_iat": False},
    )
    return claims


def test_discovery_names_the_issuer_as_tokens_do(provider: Provider) -> None:
    """The issuer of the document, of the tokens and of the URL are one string."""
    document = ask(provider, "/.well-known/openid-configuration").json()

    assert document["issuer"] == provider.issuer
    assert read(provider, ask(provider, "/token").body.decode())["iss"] == provider.issuer


def test_a_token_carries_what_was_asked_for(provider: Provider, clock: FakeClock) -> None:
    """GET answers a bare token for any subject, scope and lifetime."""
    token = ask(provider, "/token", sub="bob", scope="orders:read", expires_in="60").body.decode("ascii")

    claims = read(provider, token)
    assert (claims["sub"], claims["scope"], claims["exp"]) == ("bob", "orders:read", clock.time() + 60)
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


def test_a_token_can_be_expired_at_birth(provider: Provider, clock: FakeClock) -> None:
    """A negative lifetime makes a token that was issued, and ended, in the past."""
    claims = read(provider, ask(provider, "/token", expires_in="-60").body.decode())

    assert claims["exp"] == clock.time() - 60
    assert claims["iat"] == clock.time() - 360


def test_post_is_a_client_credentials_grant(provider: Provider) -> None:
    """POST answers as RFC 6749 section 4.4.3 says."""
    answer = send(
        f"{provider.issuer}/token", method="POST", headers=[FORM], body=b"grant_type=client_credentials&sub=bob"
    )

    granted = answer.json()
    assert (granted["token_type"], granted["expires_in"]) == ("Bearer", 300)
    assert read(provider, granted["access_token"])["sub"] == "bob"
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"grant_type=password", "unsupported_grant_type"),
        (b"", "unsupported_grant_type"),
        (b"grant_type=client_credentials&expires_in=soon", "invalid_request"),
    ],
)
def test_a_bad_grant_is_refused(provider: Provider, body: bytes, error: str) -> None:
    """What the token endpoint does not understand is a 400 with the error of RFC 6749 section 5.2."""
    answer = send(f"{provider.issuer}/token", method="POST", headers=[FORM], body=body)

    assert (answer.status, answer.json()) == (400, {"error": error})


def test_a_rotation_changes_the_signer_and_keeps_the_key_before(provider: Provider) -> None:
    """After a rotation new tokens are by a new key of the other algorithm, and old tokens still verify."""
    before = provider.mint({})
    provider.rotate()
    after = provider.mint({})

    assert jwt.get_unverified_header(before)["alg"] == "ES256"
    assert jwt.get_unverified_header(after)["alg"] == "RS256"
    assert read(provider, before)["sub"] == read(provider, after)["sub"] == "alice"


def test_a_key_is_gone_after_two_rotations(provider: Provider) -> None:
    """Only the signing key and the one before it are published."""
    [first] = provider.kids
    provider.rotate()
    provider.rotate()

    published = [jwk["kid"] for jwk in ask(provider, "/jwks").json()["keys"]]
    assert published == provider.kids
    assert len(published) == 2
    assert first not in published


def test_a_rotation_can_be_asked_for(provider: Provider) -> None:
    """POST to /rotate publishes a new key, names what is published now, and a GET changes nothing."""
    [first] = provider.kids
    assert ask(provider, "/rotate").status == 404
    answer = send(f"{provider.issuer}/rotate", method="POST")

    assert answer.json() == {"kids": provider.kids}
    assert len(provider.kids) == 2
    assert first in provider.kids


def test_whoever_rotates_by_hand_rotates_alone() -> None:
    """A provider that rotated by itself no more does so once it was asked to."""
    with Provider(audience="api", algorithms=("ES256",), rotate_every=0.005) as provider:
        published = send(f"{provider.issuer}/rotate", method="POST").json()["kids"]

        for _ in range(100):
            assert [key["kid"] for key in ask(provider, "/jwks").json()["keys"]] == published


def test_keys_rotate_by_themselves_while_it_runs() -> None:
    """A running provider signs with a new key every so often, and stops to do so when it is stopped."""
    with Provider(audience="api", algorithms=("ES256",), rotate_every=0.02) as provider:
        [first] = provider.kids
        wait_until(lambda: first not in provider.kids)


def test_an_unknown_path_is_not_found(provider: Provider) -> None:
    """There is nothing else to find."""
    assert ask(provider, "/admin").status == 404
