"""Proves what a real, certified issuer does, against npm's oidc-provider: its metadata, keys, tokens and restarts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache

import pytest

from authz.core.base64url import decode
from authz.demo.signing import SigningKey
from tests.fakes.waiting import wait_until
from tests.integration.oidc_provider import OidcProvider, private_jwk
from tests.integration.station import Station
from tests.recipes.recipe import FOLDER

pytestmark = pytest.mark.needs("node", "oidc-provider")

API = "https://api.test/orders"
OTHER = "https://api.test/billing"
READ, WRITE = "GET api.example.com/orders/7", "POST api.example.com/orders/7"
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
NOT_THERE = {"key_not_found", "keys_unavailable"}  # the second until it has been looked for


@pytest.fixture(scope="module")
def process() -> Iterator[OidcProvider]:
    """The process, which takes seconds to load."""
    with OidcProvider() as running:
        yield running


@pytest.fixture
def provider(process: OidcProvider) -> Iterator[OidcProvider]:
    """The process, which does not serve yet."""
    yield process
    process.stop()


@cache
def key(kid: str, algorithm: str = "RS256") -> SigningKey:
    """The key of this name."""
    return SigningKey.create(algorithm, kid=kid)


def station(issuer: str, *settings: str) -> Station:
    """A sidecar that trusts the issuer, finds its keys by discovery, and waits for those that are new."""
    lines = [
        f"issuer: {issuer}",
        "insecure: {http: true}",
        "fetch: {max_wait: 10s}",
        *settings,
    ]
    if not any(line.startswith("audiences") for line in settings):
        lines.append(f"audiences: ['{API}']")
    return Station("  certified:\n" + "".join(f"    {line}\n" for line in lines)).settle()


def parts(token: str) -> tuple[dict[str, object], dict[str, object]]:
    """Read the header and the claims of a token."""
    header, claims, _ = token.encode().split(b".")
    return json.loads(decode(header)), json.loads(decode(claims))


def altered(token: str) -> str:
    """The token with another signature, of the same length."""
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_algorithms(provider: OidcProvider, algorithm: str) -> None:
    """A token by each algorithm is allowed; with another signature it is not, nor where its algorithm is forbidden."""
    issuer = provider.start(private_jwk(key("k1", algorithm)), algorithm=algorithm)
    token = provider.machine(API)
    assert parts(token)[0] == {"alg": algorithm, "typ": "at+jwt", "kid": "k1"}

    with station(issuer, f"algorithms: [{algorithm}]") as sidecar:
        assert sidecar.ask(token) == "authenticated"
        assert sidecar.ask(altered(token)) == "signature_invalid"
    with station(issuer, f"algorithms: [{', '.join({*ALGORITHMS} - {algorithm})}]") as sidecar:
        assert sidecar.ask(token) == "alg_not_allowed"
    with station(issuer) as sidecar:
        assert sidecar.ask(token) == "authenticated"


def test_audiences(provider: OidcProvider) -> None:
    """A token for the API is allowed, and one of the same client for another API is not, until that is named too."""
    issuer = provider.start(private_jwk(key("k1")))
    ours, others = provider.machine(API), provider.machine(OTHER)
    assert [parts(token)[1]["aud"] for token in (ours, others)] == [API, OTHER]

    with station(issuer) as sidecar:
        assert [sidecar.ask(token) for token in (ours, others)] == ["authenticated", "audience_mismatch"]
    with station(issuer, f"audiences: ['{OTHER}', '{API}']") as sidecar:
        assert [sidecar.ask(token) for token in (ours, others)] == ["authenticated", "authenticated"]


def test_users_and_machines(provider: OidcProvider) -> None:
    """The subject of a machine is its client id (RFC 9068 section 2.2), that of a user the user: both are allowed."""
    issuer = provider.start(private_jwk(key("k1")))
    machine, (user, _) = provider.machine(API), provider.user(API)
    assert [parts(token)[1]["sub"] for token in (machine, user)] == ["web", "alice"]

    with station(issuer) as sidecar:
        assert [sidecar.ask(token) for token in (machine, user)] == ["authenticated", "authenticated"]


def test_machine_without_a_subject(provider: OidcProvider) -> None:
    """Where machines have no sub, their tokens are refused by default, and allowed where client_id is asked instead."""
    issuer = provider.start(private_jwk(key("k1")), sub=False)
    token = provider.machine(API)
    assert "sub" not in parts(token)[1]

    with station(issuer) as sidecar:
        assert sidecar.ask(token) == "claims_malformed"
    with station(issuer, "required_claims: [exp, client_id]") as sidecar:
        assert sidecar.ask(token) == "authenticated"


def test_id_token(provider: OidcProvider) -> None:
    """The ID token beside an access token is refused: by its audience, and where that is trusted by what it lacks."""
    issuer = provider.start(private_jwk(key("k1")))
    access, identity = provider.user(API)
    header, claims = parts(identity)
    assert (header.get("typ"), claims["aud"], claims["sub"]) == (None, "web", "alice")

    with station(issuer) as sidecar:
        assert [sidecar.ask(token) for token in (access, identity)] == ["authenticated", "audience_mismatch"]
    both = f"audiences: ['{API}', web]"
    with station(issuer, both, "token_types: [at+jwt]") as sidecar:
        assert [sidecar.ask(token) for token in (access, identity)] == ["authenticated", "typ_not_allowed"]
    with station(issuer, both, "required_claims: [exp, sub, client_id]") as sidecar:
        assert [sidecar.ask(token) for token in (access, identity)] == ["authenticated", "claims_malformed"]


@pytest.mark.parametrize(
    ("written", "algorithm", "reason"),
    [
        ("", "RS256", "authenticated"),
        ("", "PS256", "key_unusable"),
        ("algorithms: [PS256]", "PS256", "authenticated"),
        ("algorithms: [PS256]", "RS256", "alg_not_allowed"),
        ("algorithms: [RS256, PS256]", "PS256", "authenticated"),
        ("algorithms: [RS256, PS256]", "RS256", "authenticated"),
    ],
)
def test_rsa_key_without_alg(provider: OidcProvider, written: str, algorithm: str, reason: str) -> None:
    """An RSA key that names no algorithm serves what the operator wrote, and RS256 alone where nothing was written."""
    issuer = provider.start(private_jwk(key("k1"), alg=False), algorithm=algorithm)
    assert [jwk.get("alg") for jwk in provider.published()] == [None]

    with station(issuer, written) as sidecar:
        assert sidecar.ask(provider.machine(API)) == reason


def test_ec_key_without_alg(provider: OidcProvider) -> None:
    """An EC key has one algorithm only, which the provider writes beside it where its operator did not."""
    issuer = provider.start(private_jwk(key("k1", "ES256"), alg=False), algorithm="ES256")
    assert [jwk.get("alg") for jwk in provider.published()] == ["ES256"]

    with station(issuer) as sidecar:
        assert sidecar.ask(provider.machine(API)) == "authenticated"


def test_okp_key_without_alg(provider: OidcProvider) -> None:
    """An Ed25519 key that names no algorithm serves both of its names, as the provider uses it."""
    bare = private_jwk(key("k1", "Ed25519"), alg=False)
    issuer = provider.start(bare, algorithm="EdDSA")
    assert [jwk.get("alg") for jwk in provider.published()] == [None]
    old_name = provider.machine(API)

    with station(issuer) as sidecar:
        assert sidecar.ask(old_name) == "authenticated"
        provider.stop()
        provider.start(bare, algorithm="Ed25519")
        assert sidecar.ask(provider.machine(API)) == "authenticated"


def test_recipe(provider: OidcProvider) -> None:
    """The recipe, with the issuer's real URL, lets each token do what its scope says, and no ID token in."""
    api = "https://api.example.com/orders"
    issuer = provider.start(private_jwk(key("k1"), alg=False))
    reader, writer = provider.machine(api), provider.machine(api, "orders:read orders:write")
    user, identity = provider.user(api)
    trusted = f"    issuer: {issuer}\n    insecure: {{http: true}}\n"
    recipe = (FOLDER / "oidc-provider.yaml").read_text(encoding="utf-8")
    whole, changes = re.subn(r"^    issuer: .*\n", trusted, recipe, flags=re.MULTILINE)
    assert changes == 1

    with Station(whole=whole).settle() as sidecar:
        seen = [[sidecar.ask(token, what) for what in (READ, WRITE)] for token in (reader, writer, user, identity)]
        assert seen == [
            ["authenticated", "insufficient_scope"],
            ["authenticated", "authenticated"],
            ["authenticated", "insufficient_scope"],
            ["typ_not_allowed", "typ_not_allowed"],
        ]
        assert sidecar.identity(reader, READ) == {"x-auth-subject": "web", "x-auth-client": "web"}
        assert sidecar.identity(user, READ) == {"x-auth-subject": "alice", "x-auth-client": "web"}


def test_rotation_with_an_overlap(provider: OidcProvider) -> None:
    """The new key signs at once and the old one is still published: the tokens of both are allowed, with one search."""
    issuer = provider.start(private_jwk(key("k1")))
    old = provider.machine(API)
    with station(issuer) as sidecar:
        assert sidecar.ask(old) == "authenticated"
        provider.stop()
        provider.start(private_jwk(key("k2")), private_jwk(key("k1")))
        assert [jwk["kid"] for jwk in provider.published()] == ["k2", "k1"]
        new = provider.machine(API)

        assert [sidecar.ask(token) for token in (new, old, new)] == ["authenticated"] * 3


def test_rotation_without_an_overlap(provider: OidcProvider) -> None:
    """The first token by the new key is allowed, and from then on nothing by the old one, which is gone."""
    issuer = provider.start(private_jwk(key("k1")))
    old = provider.machine(API)
    with station(issuer) as sidecar:
        assert sidecar.ask(old) == "authenticated"
        provider.stop()
        provider.start(private_jwk(key("k2")))

        assert sidecar.ask(provider.machine(API)) == "authenticated"
        assert sidecar.ask(old) in NOT_THERE
        wait_until(lambda: sidecar.ask(old) == "key_not_found")


def test_rotation_to_another_algorithm(provider: OidcProvider) -> None:
    """A new key of another type is found like any other, and the old one serves its own algorithm still."""
    issuer = provider.start(private_jwk(key("k1")))
    old = provider.machine(API)
    with station(issuer) as sidecar:
        provider.stop()
        provider.start(private_jwk(key("k2", "ES256")), private_jwk(key("k1")), algorithm="ES256")
        new = provider.machine(API)

        assert [parts(token)[0]["alg"] for token in (old, new)] == ["RS256", "ES256"]
        assert [sidecar.ask(token) for token in (new, old)] == ["authenticated", "authenticated"]


def test_new_key_under_an_old_name(provider: OidcProvider) -> None:
    """Where the new key has the kid of the old one, tokens of both are never allowed together, and the new one wins."""
    issuer = provider.start(private_jwk(key("k1")))
    old = provider.machine(API)
    renamed = SigningKey.create("RS256", kid="k1")
    with station(issuer) as sidecar:
        provider.stop()
        provider.start(private_jwk(renamed))
        new = provider.machine(API)

        sidecar.refresh("certified")

        assert [sidecar.ask(token) for token in (new, old)] == ["authenticated", "signature_invalid"]


def test_crash_and_restart_while_serving() -> None:
    """While the issuer is down its keys continue to serve, and unknown ones do not; afterwards all is as before."""
    with OidcProvider() as first:
        issuer = first.start(private_jwk(key("k1")))
        before = first.machine(API)
        with station(issuer) as sidecar:
            assert sidecar.ask(before) == "authenticated"
            first.kill()
            stranger = SigningKey.create("RS256", kid="k2")
            forged = stranger.sign(parts(before)[1])
            assert sidecar.ask(before) == "authenticated"
            assert sidecar.ask(forged) in NOT_THERE

            with OidcProvider(issuer) as second:
                second.start(private_jwk(key("k1")))
                sidecar.refresh("certified")
                assert [sidecar.ask(token) for token in (before, second.machine(API))] == ["authenticated"] * 2
                assert sidecar.ask(forged) in NOT_THERE

                second.stop()
                second.start(private_jwk(key("k3")), private_jwk(key("k1")))
                sidecar.refresh("certified")
                assert sidecar.ask(second.machine(API)) == "authenticated"
                assert sidecar.ask(forged) in NOT_THERE


def test_sidecar_that_starts_first(provider: OidcProvider) -> None:
    """Where the issuer is not up yet nothing is allowed, and its first answer is enough."""
    provider.start(private_jwk(key("k1")))
    token = provider.machine(API)
    provider.stop()
    with station(provider.issuer) as sidecar:
        assert sidecar.ask(token) == "keys_unavailable"
        provider.start(private_jwk(key("k1")))
        wait_until(lambda: sidecar.ask(token) == "authenticated")
