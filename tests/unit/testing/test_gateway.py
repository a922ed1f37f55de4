"""Judging requests in a test, with tokens of the test's own making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from authz.config.load import load
from authz.config.problems import ConfigError
from authz.config.rules import Rule
from authz.testing import Gateway, Reason, SigningKey
from tests.tools import ROOT

URL: Final = "https://api.example.com/orders/7"
CONFIG: Final = """
version: 1
issuers:
  corporate:
    issuer: https://login.example.com/
    audiences: [orders-api]
    token_types: [at+jwt]
    algorithms: [ES256, RS256]
  partner:
    issuer: https://partner.example.net
    audiences: [orders-api]
    algorithms: [ES256]
rules:
  - name: public
    match: {paths: [/healthz]}
    allow: public
  - name: routed
    match: {paths: ["/orders/**"], context: {authz.rule: routed}}
    allow: deny
  - name: orders
    match: {paths: ["/orders/**"]}
    require: {issuers: [corporate], scopes: [orders:read]}
  - name: tried
    match: {paths: [/tried]}
    require: {claims: {groups: [staff]}}
    shadow: true
identity:
  headers:
    x-auth-subject: sub
    x-auth-issuer: iss
resource:
  identifier: https://api.example.com
"""
GATEWAY: Final = Gateway.from_text(CONFIG)


def configure(text: str) -> Gateway:
    """Judge by a small configuration with *text* in it, whose one rule takes every good token."""
    return Gateway.from_text(f"version: 1\n{text}\nrules:\n  - {{name: all, match: {{paths: ['/**']}}}}\n")


@pytest.mark.parametrize("file", [ROOT / "tests/data/config.yaml", *sorted((ROOT / "deploy/recipes").glob("*.yaml"))])
def test_a_minted_token_is_good(file: Path) -> None:
    """What a configuration asks of every token of an issuer is filled in from it."""
    config = load(file)
    gateway = Gateway.from_config(config.model_copy(update={"rules": (Rule(name="all"),)}))

    for issuer in config.issuers:
        verdict = gateway.decide("GET", URL, token=gateway.mint(issuer), answer={"active": True, "typ": "Bearer"})
        assert (verdict.reason, verdict.issuer, verdict.detail) == (Reason.AUTHENTICATED, issuer, "")


@pytest.mark.parametrize(
    "section",
    [
        "{issuer: any, audiences: [api], algorithms: [HS256], jwks_file: /nowhere}",
        "{issuer: 'https://a.test', audiences: [api], algorithms: [PS256]}",
        "{issuer: 'https://a.test', audiences: [api], max_lifetime: 10s}",
        "{issuer: 'https://a.test', audiences: [api], required_claims: [exp, sub, nbf, auth_time, jti, client_id]}",
        "{issuer: 'https://a.test', audiences: [web], audience_claim: client_id}",
        "{issuer: 'https://a.test', insecure: {any_audience: true}}",
    ],
)
def test_a_minted_token_is_good_for_any_issuer(section: str) -> None:
    """Secrets, short lives, required claims and other audience claims are seen to as well, and no file is read."""
    gateway = configure(f"issuers:\n  one: {section}")

    verdict = gateway.decide("GET", URL, token=gateway.mint("one"))

    assert verdict.allowed, verdict.detail


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scope": "orders:write"}, Reason.INSUFFICIENT_SCOPE),
        ({"exp": GATEWAY.at - 60}, Reason.TOKEN_EXPIRED),
        ({"nbf": GATEWAY.at + 60}, Reason.TOKEN_NOT_YET_VALID),
        ({"aud": "other"}, Reason.AUDIENCE_MISMATCH),
        ({"aud": None}, Reason.AUDIENCE_MISMATCH),
        ({"sub": None}, Reason.CLAIMS_MALFORMED),
        ({"iss": "https://other.example.com/"}, Reason.ISSUER_UNKNOWN),
        ({"header": {"typ": "JWT"}}, Reason.TYP_NOT_ALLOWED),
        ({"header": {"typ": None}}, Reason.TYP_NOT_ALLOWED),
        ({"header": {"alg": "none"}}, Reason.ALG_NOT_ALLOWED),
        ({"header": {"alg": "RS256"}}, Reason.KEY_UNUSABLE),
        ({"header": {"kid": "unknown"}}, Reason.KEY_NOT_FOUND),
        ({"key": SigningKey.create("ES256")}, Reason.KEY_NOT_FOUND),
        ({"key": SigningKey.create("ES256", kid=GATEWAY.keys["corporate"].kid)}, Reason.SIGNATURE_INVALID),
    ],
)
def test_a_token_is_as_wrong_as_it_is_made(changes: Mapping[str, Any], reason: Reason) -> None:
    """One change to a good token gives the one reason that the sidecar has for it."""
    good: dict[str, Any] = {"scope": "orders:read"}

    assert GATEWAY.decide("GET", URL, token=GATEWAY.mint("corporate", **good)).allowed
    assert GATEWAY.decide("GET", URL, token=GATEWAY.mint("corporate", **{**good, **changes})).reason is reason


def test_claims_may_have_any_name() -> None:
    """Names that Python has not are given in a mapping, and those after it win."""
    gateway = configure(
        """issuers: {one: {issuer: 'https://a.test', audiences: [api], claims: {tenant: '["https://b.test/c"]'}}}
identity: {headers: {x-tenant: tenant, x-header: header, x-sub: sub}}"""
    )

    token = gateway.mint("one", {"https://b.test/c": "acme", "header": "h", "sub": "bob"}, sub="carol")

    assert gateway.decide("GET", URL, token=token).headers == {"x-tenant": "acme", "x-header": "h", "x-sub": "carol"}


def test_an_issuer_that_is_not_configured() -> None:
    """An error about a misspelt name lists the names that there are."""
    with pytest.raises(KeyError, match="no issuer is configured as 'corporat', but 'corporate', 'partner'"):
        GATEWAY.mint("corporat")


def test_issuers_have_keys_of_their_own() -> None:
    """A token of one issuer, signed by another's key, is no token of either."""
    token = GATEWAY.mint("corporate", key=GATEWAY.keys["partner"])

    assert GATEWAY.decide("GET", URL, token=token).reason is Reason.KEY_NOT_FOUND
    assert GATEWAY.decide("GET", URL, token=GATEWAY.mint("partner")).reason is Reason.INSUFFICIENT_SCOPE


def test_a_verdict_tells_the_upstream() -> None:
    """Identity headers are the sidecar's in every spelling, and what else the client sent goes on."""
    sent = {"X-Auth-Subject": "root", "x-auth_issuer": "me", "Accept": "*/*"}
    token = GATEWAY.mint("corporate", scope="orders:read")

    verdict = GATEWAY.decide("GET", URL, token=token, headers=sent)

    assert verdict.headers == {"x-auth-subject": "alice", "x-auth-issuer": "https://login.example.com/"}
    assert verdict.request_headers == {**verdict.headers, "accept": "*/*", "authorization": f"Bearer {token}"}
    assert (verdict.status, verdict.challenge, verdict.body) == (None, None, None)
    assert (verdict.rule, verdict.issuer, verdict.subject) == ("orders", "corporate", "alice")
    assert verdict.metadata["reason"] == "authenticated"


def test_a_verdict_tells_the_client() -> None:
    """A denial has its status, challenge and body, and nothing reaches the upstream."""
    verdict = GATEWAY.decide("GET", URL, headers={"x-auth-subject": "root"})

    assert (verdict.allowed, verdict.status, verdict.reason) == (False, 401, "token_missing")
    assert verdict.challenge is not None
    assert verdict.challenge.startswith('Bearer realm="api"')
    assert verdict.body is not None
    assert '"title": "Unauthorized"' in verdict.body
    assert (verdict.headers, verdict.request_headers) == ({}, {})


def test_a_public_rule_lets_nobody_through_as_somebody() -> None:
    """Anyone who passes without a token has no identity headers, whatever they sent."""
    verdict = GATEWAY.decide("GET", "http://api.example.com/healthz", headers={"x_auth_subject": "root"})

    assert (verdict.allowed, verdict.reason, verdict.headers) == (True, "public", {})
    assert verdict.request_headers == {}


def test_a_shadow_lets_pass_and_says_so() -> None:
    """What a shadow would deny is allowed, and marked."""
    verdict = GATEWAY.decide("GET", "https://api.example.com/tried", token=GATEWAY.mint("corporate"))

    assert (verdict.allowed, verdict.would_deny, verdict.reason) == (True, True, "policy_denied")
    assert verdict.headers["x-auth-subject"] == "alice"


def test_what_the_sidecar_answers_itself_has_a_status() -> None:
    """The resource metadata (RFC 9728) is for the client: nothing goes on."""
    verdict = GATEWAY.decide("GET", "https://api.example.com/.well-known/oauth-protected-resource")

    assert (verdict.allowed, verdict.status, verdict.request_headers) == (False, 200, {})
    assert verdict.body is not None
    assert "https://login.example.com/" in verdict.body


def test_routes_have_context() -> None:
    """The context_extensions of a route reach the rules."""
    token = GATEWAY.mint("corporate", scope="orders:read")

    assert GATEWAY.decide("GET", URL, token=token, context={"authz.rule": "routed"}).rule == "routed"
    assert GATEWAY.decide("GET", URL, token=token).rule == "orders"


def test_time_moves_when_it_is_told_to() -> None:
    """A token is good at the gateway's time, and not an hour later; by default that is one and the same instant."""
    token = GATEWAY.mint("corporate", scope="orders:read")
    later = replace(GATEWAY, at=GATEWAY.at + 3600)

    assert GATEWAY.decide("GET", URL, token=token).allowed
    assert GATEWAY.decide("GET", URL, token=token, at=later.at).reason is Reason.TOKEN_EXPIRED
    assert later.decide("GET", URL, token=token).reason is Reason.TOKEN_EXPIRED
    assert later.decide("GET", URL, token=later.mint("corporate", scope="orders:read")).allowed
    assert Gateway.from_text(CONFIG, at=later.at).at == later.at


def test_a_bound_token_needs_its_certificate() -> None:
    """A token is bound to a client's certificate, and good with that one alone (RFC 8705)."""
    ca = trustme.CA()
    own, other = (ca.issue_cert(name).cert_chain_pems[0].bytes().decode() for name in ("own.test", "other.test"))
    token = GATEWAY.mint("corporate", scope="orders:read", certificate=own)

    assert GATEWAY.decide("GET", URL, token=token, certificate=own).allowed
    assert GATEWAY.decide("GET", URL, token=token, certificate=other).reason is Reason.TOKEN_BOUND
    assert GATEWAY.decide("GET", URL, token=token).reason is Reason.TOKEN_BOUND


ONE_ISSUER: Final = "issuers: {one: {issuer: 'https://a.test', audiences: [api]}}\n"


@pytest.mark.parametrize(
    "token",
    [
        "token: {sources: [{cookie: access_token}]}",
        "token: {sources: [{header: x-token}]}",
        "token: {sources: [{header: authorization, scheme: Token}]}",
    ],
)
def test_a_token_goes_where_it_is_looked_for(token: str) -> None:
    """A cookie, a header of its own or another scheme: the first source of the configuration is served."""
    gateway = configure(ONE_ISSUER + token)

    verdict = gateway.decide("GET", URL, token=gateway.mint("one"), headers={"cookie": "theme=dark"})

    assert verdict.allowed, verdict.detail


def test_a_token_that_is_not_forwarded_is_seen_by_nobody() -> None:
    """What the configuration withholds is not among the upstream's headers."""
    gateway = configure(ONE_ISSUER + "token: {forward: false, sources: [{cookie: access_token}]}")

    verdict = gateway.decide("GET", URL, token=gateway.mint("one"), headers={"cookie": "theme=dark"})

    assert verdict.request_headers == {"cookie": "theme=dark"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://api.example.com/a/%2e%2e/orders/7", Reason.PATH_AMBIGUOUS),
        ("https://api.example.com//orders/7", Reason.PATH_AMBIGUOUS),
        ("https://api.example.com/orders/7#x", Reason.PATH_AMBIGUOUS),
        ("https://api.example.com/orders/7?x=/../", Reason.AUTHENTICATED),
        ("https://API.example.com:8443/orders/7/", Reason.AUTHENTICATED),
        ("https://api.example.com", Reason.POLICY_DENIED),
        ("https://api.example.com?x", Reason.POLICY_DENIED),
        ("https://user@api.example.com/orders/7", Reason.REQUEST_MALFORMED),
    ],
)
def test_a_url_is_taken_as_it_is_spelled(url: str, reason: Reason) -> None:
    """Nothing puts a path in order on its way to the rules: what is ambiguous is evaluated so."""
    token = GATEWAY.mint("corporate", scope="orders:read")

    assert GATEWAY.decide("GET", url, token=token).reason is reason


def test_mistakes_are_told() -> None:
    """A text that is no URL, an issuer that is not configured, and a broken configuration are the test's own fault."""
    with pytest.raises(ValueError, match="is not an http or https URL"):
        GATEWAY.decide("GET", "/orders/7")
    with pytest.raises(KeyError):
        GATEWAY.mint("corporat")
    with pytest.raises(ConfigError, match="rules: is required"):
        Gateway.from_text("version: 1\nissuers: {one: {issuer: 'https://a.test', audiences: [api]}}")


def test_an_error_for_envoy_to_decide_about_has_a_status_too() -> None:
    """Without keys, and with `unavailable: error`, the client gets 503 unless Envoy says otherwise."""
    gateway = configure(ONE_ISSUER + "responses: {unavailable: error}")
    issuers = {iss: replace(issuer, keys=None) for iss, issuer in gateway.snapshot.issuers.items()}
    without_keys = replace(gateway, snapshot=replace(gateway.snapshot, issuers=issuers))

    verdict = without_keys.decide("GET", URL, token=gateway.mint("one"))

    assert (verdict.allowed, verdict.status, verdict.reason) == (False, 503, "keys_unavailable")


def test_nothing_secret_is_shown() -> None:
    """A failed assertion prints a verdict and a gateway: no token and no key is in that."""
    token = GATEWAY.mint("corporate", scope="orders:read")

    assert token not in repr(GATEWAY.decide("GET", URL, token=token))
    assert json.loads(GATEWAY.keys["corporate"].jwk.export())["d"] not in repr(GATEWAY)


BOUND: Final = configure("issuers: {corporate: {issuer: 'https://a.test', audiences: [api], dpop: allowed}}")


def test_a_token_bound_to_a_key() -> None:
    """It is good with a proof by that key for that request, each time; not as a bearer token, nor by another key."""
    ours, other = SigningKey.create("ES256"), SigningKey.create("Ed25519")
    token = BOUND.mint("corporate", bound_to=ours)
    proof = BOUND.prove(ours, "GET", URL, token=token)

    verdicts = [BOUND.decide("GET", URL, token=token, proof=proof) for _ in range(2)]
    assert [(verdict.reason, verdict.detail) for verdict in verdicts] == [(Reason.AUTHENTICATED, "")] * 2
    assert "dpop" not in verdicts[0].request_headers
    assert BOUND.decide("GET", URL, token=token).reason is Reason.TOKEN_BOUND
    for wrong in (
        BOUND.prove(other, "GET", URL, token=token),
        BOUND.prove(ours, "POST", URL, token=token),
        BOUND.prove(ours, "GET", URL, token=token, iat=BOUND.at - 3600, nonce="x"),
        BOUND.prove(ours, "GET", URL, token=token, jti=None),
    ):
        refused = BOUND.decide("GET", URL, token=token, proof=wrong)
        assert (refused.status, refused.allowed) == (401, False)
        assert refused.reason in {Reason.PROOF_INVALID, Reason.NONCE_REQUIRED}


def test_a_token_bound_to_both() -> None:
    """A key and a certificate: each is asked for."""
    ours, certificate = SigningKey.create("ES256"), trustme.CA().cert_pem.bytes().decode()
    token = BOUND.mint("corporate", bound_to=ours, certificate=certificate)
    proof = BOUND.prove(ours, "GET", URL, token=token)

    assert BOUND.decide("GET", URL, token=token, proof=proof, certificate=certificate).allowed
    assert BOUND.decide("GET", URL, token=token, proof=proof).reason is Reason.TOKEN_BOUND
