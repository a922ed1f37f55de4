"""The echo upstream, over a real socket."""

from __future__ import annotations

from authz.demo.client import send
from authz.demo.loopback import LoopbackServer, json_response
from authz.demo.signing import SigningKey
from authz.demo.upstream import TOKEN, echo_server, verify


def test_the_upstream_answers_with_what_it_got() -> None:
    """Every header line is shown, repeated and oddly spelled ones too, with the method and the whole target."""
    headers = [("Host", "h"), ("X-Auth-Subject", "a"), ("x-auth-subject", "b"), ("X_Auth_Subject", "c")]
    with echo_server() as upstream:
        seen = send(f"{upstream.url}/orders?x=1", method="DELETE", headers=headers).json()

    assert seen == {
        "method": "DELETE",
        "target": "/orders?x=1",
        "headers": [["host", "h"], ["x-auth-subject", "a"], ["x-auth-subject", "b"], ["x_auth_subject", "c"]],
    }


def test_the_upstream_verifies_the_sidecars_token() -> None:
    """It says whom a good token is about, and refuses one by another key, for another upstream, or without keys."""
    key, other = (SigningKey.create("ES256", kid="k") for _ in range(2))
    claims = {
        "iss": "https://sidecar.example",
        "aud": "orders",
        "sub": "alice",
        "txn": "1",
        "scope": "read",
        "exp": 4_000_000_000,
    }
    header = {"alg": "ES256", "kid": "k", "typ": "JWT"}
    with (
        LoopbackServer(lambda _: json_response({"keys": [key.public()]})) as keys,
        echo_server(keys_url=keys.url) as upstream,
    ):

        def read(*tokens: str) -> object:
            headers = [(TOKEN, token) for token in tokens]
            return send(f"{upstream.url}/", headers=headers).json()["verified"]

        assert read() == []
        assert read(key.sign(claims, header=header)) == ["alice, read"]
        assert read(other.sign(claims, header=header)) == ["refused: signature_invalid"]
        assert read(key.sign({**claims, "aud": "billing"}, header=header)) == ["refused: audience_mismatch"]
        assert read("forged") == ["refused: token_malformed"]
    assert verify(key.sign(claims, header=header), keys.url) == "refused: ConnectionRefusedError"
