"""Proves what `authz check-config --fetch` finds out about signing keys and token exchange."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authz.config.load import parse
from authz.config.model import Config
from authz.demo.loopback import Responder, json_response
from authz.tooling.signing_probe import ProbedSigning, probe_signing
from tests.fakes.idp import FakeIdp, fail

KEY = ec.generate_private_key(ec.SECP256R1())


def configured(idp: FakeIdp, token: str, signing: str = "") -> Config:
    """Load a configuration with a token for the upstream."""
    return parse(
        f"""version: 1
issuers:
  a: {{issuer: '{idp.issuer}', audiences: [api], insecure: {{http: true}}}}
rules:
  - match: {{paths: ["/**"]}}
identity:
  token: {{audience: [orders], {token}}}
{signing}""",
        file="authz.yaml",
    )


def test_keys(tmp_path: Path) -> None:
    """A key that signs is verified by its public one; one that cannot be had is named with the cause."""
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    keys = {
        "memory": "kind: memory",
        "file": f"kind: file, file: {tmp_path}/key.pem, kid: ours",
        "absent": f"kind: file, file: {tmp_path}/none.pem",
        "hsm": f"kind: pkcs11, module: {tmp_path}/none.so, token: t, pin_file: {tmp_path}/key.pem, key: k",
    }
    signing = "signing:\n  keys:\n" + "".join(f"    {name}: {{{key}}}\n" for name, key in keys.items())
    with FakeIdp() as idp:
        memory, file, absent, hsm = probe_signing(configured(idp, "issuer: 'https://us.test'", signing))
    assert next(memory.lines()).startswith("signing key memory: signs by ES256, and key ")
    assert file == ProbedSigning("signing key file", ok=True, finding="signs by ES256, and key ours verifies it")
    assert (absent.ok, hsm.ok) == (False, False)
    assert absent.document()["finding"].startswith("misconfigured: ")
    assert hsm.finding == f"misconfigured: module {tmp_path}/none.so: no such file"


@pytest.mark.parametrize(
    ("answer", "ok", "finding"),
    [
        (
            lambda _: json_response({"error": "invalid_grant"}, status=400),
            True,
            "refuses a token that was never issued: HTTP status 400, invalid_grant",
        ),
        (
            lambda _: json_response({"error": "invalid_request"}, status=400),
            True,
            "refuses a token that was never issued, or our client: HTTP status 400, invalid_request: our client",
        ),
        (
            lambda _: json_response({"error": "invalid_client"}, status=401),
            False,
            "unauthorized: HTTP status 401, invalid_client: the server rejects our client",
        ),
        (fail(500), False, "status: HTTP status 500"),
        (
            lambda _: json_response(
                {
                    "access_token": "opaque",
                    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    "token_type": "Bearer",
                }
            ),
            False,
            "gives a token for one that was never issued: this proves nothing",
        ),
    ],
)
def test_exchange(answer: Responder, ok: bool, finding: str, tmp_path: Path) -> None:  # noqa: FBT001 - what is expected
    """A server that refuses the token knows us; one that refuses us, or anything else, is a failure."""
    (tmp_path / "secret").write_text("s\n")
    with FakeIdp() as idp:
        client = f"{{id: gw, secret_file: {tmp_path}/secret}}"
        config = configured(idp, f"exchange: {{issuer: a, url: '{idp.url}/token', client: {client}}}")
        idp.answers["/token"] = answer
        (tried,) = probe_signing(config)
    assert (tried.what, tried.ok) == ("token exchange at a", ok)
    assert tried.finding.startswith(finding)
