"""Proves authz.config.checks.dpop: proofs of possession that could never be accepted are refused in the file."""

from __future__ import annotations

import pytest

from tests.unit.config.sample import configure, problems, small

ALLOWED = "dpop: allowed"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("dpop: {algorithms: []}", "dpop.algorithms: must not be empty"),
        ("dpop: {algorithms: [ES256, HS256]}", "dpop.algorithms[1]: is none of"),
        ("dpop: {algorithms: [none]}", "dpop.algorithms[0]: is none of"),
        ("dpop: {origins: ['https://api.example.com/v1']}", "dpop.origins[0]: must be a scheme and an authority"),
        ("dpop: {origins: [api.example.com]}", "dpop.origins[0]: "),
        ("dpop: {origins: ['https://api.example.com/', 'http://localhost:8080']}", ""),
        ("token: {sources: [{header: dpop, scheme: Bearer}]}", "token.sources[0].header: the header dpop holds"),
        ("token: {sources: [{header: authorization, scheme: dpop}]}", "token.sources[0].scheme: the scheme DPoP is"),
        ("token: {sources: [{cookie: session}]}", "issuers.corporate.dpop: needs a header with the scheme Bearer"),
        ("identity: {headers: {dpop: {claim: sub}}}", "the header dpop holds a proof"),
    ],
)
def test_what_no_proof_can_satisfy(more: str, expected: str) -> None:
    """It is said with its path, before a client fails."""
    found = problems(small(issuer=ALLOWED, more=f"{more}\n"))
    assert bool(found) == bool(expected), found
    assert any(expected in line for line in found or [""])


def test_workers_that_make_nonces_share_their_secret() -> None:
    """A client sends the last nonce that it got, to whichever worker Envoy asks: another's would refuse it."""
    workers = "server: {workers: 2}\n"
    (found,) = problems(small(issuer=ALLOWED, more=workers))
    assert "dpop.nonce_secret_file: is needed with 2 workers: each would refuse the nonces of the others" in found
    configure(issuer=ALLOWED, more=f"{workers}dpop: {{nonce_secret_file: /etc/authz/nonce-secret}}\n")
    configure(issuer=ALLOWED, more=f"{workers}revocation: {{shared: {{secret_file: /etc/authz/secret}}}}\n")
    configure(more=workers)
