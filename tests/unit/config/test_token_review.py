"""Proves what is required of `introspection.kind: token_review`: an API server answers less than RFC 7662 does."""

from __future__ import annotations

import pytest

from authz.config.build import build_snapshot
from tests.unit.config.sample import configure, problems, small

URL = "url: 'https://kubernetes.default.svc/apis/authentication.k8s.io/v1/tokenreviews'"
CLIENT = "client: {bearer_token_file: /token}"
WHOLE = f"kind: token_review, mode: always, {URL}, {CLIENT}"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (WHOLE, ""),
        (f"kind: token_review, {URL}, {CLIENT}", "introspection.mode: must be always"),
        (f"kind: token_review, mode: always, {CLIENT}", "introspection.url: must be given"),
        (WHOLE.replace("https", "http"), "introspection.url: must begin with https://"),
        (f"{WHOLE}, signed: true", "introspection.signed: is for kind: rfc7662"),
        (f"{WHOLE}, token_prefix: k8s_", "introspection.token_prefix: is for kind: rfc7662"),
        (WHOLE.replace("bearer_token_file", "secret_file"), "introspection.client: an API server takes"),
    ],
)
def test_what_an_api_server_is_asked(asked: str, expected: str) -> None:
    """It is said with its path."""
    found = problems(small(issuer=f"introspection: {{{asked}}}"))
    assert bool(found) == bool(expected), found
    assert any(expected in line for line in found or [""])


def test_it_needs_audiences() -> None:
    """Without one, a token for the API server itself would be authenticated."""
    text = small(issuer=f"insecure: {{any_audience: true}}\n    introspection: {{{WHOLE}}}")
    [problem] = problems(text.replace("    audiences: [orders-api]\n", ""))
    assert "introspection.kind: needs audiences" in problem


def test_opaque_tokens_are_not_for_it() -> None:
    """Only JWTs are shown to an API server, after their own checks: another issuer may have the opaque ones."""
    snapshot = build_snapshot(configure(issuer=f"introspection: {{{WHOLE}}}"))
    assert snapshot.opaque == ()
    [issuer] = snapshot.issuers.values()
    assert issuer.introspection is not None
    assert issuer.introspection.proof == {}
