"""Proves what `authz check-config --fetch` finds out about an issuer that is asked about tokens."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from authz.config.load import parse
from authz.config.model import Config
from authz.demo.loopback import Request, Response, json_response
from authz.tooling.introspection_probe import ProbedIntrospection, probe_introspection
from tests.fakes.idp import FakeIdp, fail, html, say
from tests.integration.asking import INTROSPECT

RIGHT = "Basic " + b64encode(b"rs:right").decode()


class Server:
    """An issuer whose endpoints answer as configured."""

    def __init__(self, *, looks: bool = True, gives: bool = True, own: object = None, token: str = "ours") -> None:
        self.looks, self.gives, self.ours = looks, gives, token
        self.own = own or {"active": True, "client_id": "rs"}

    def introspect(self, request: Request) -> Response:
        if self.looks and dict(request.headers).get("authorization") != RIGHT:
            return json_response({"error": "invalid_client"}, status=401)
        return json_response(self.own if request.parameters["token"] == self.ours else {"active": False})

    def token(self, _request: Request) -> Response:
        return json_response({"access_token": self.ours}) if self.gives else Response(400)


def configure(idp: FakeIdp, folder: Path, more: str = "") -> Config:
    """Have the fake provider asked."""
    (folder / "secret").write_text("right")
    client = f"client: {{id: rs, secret_file: {folder / 'secret'}}}"
    return parse(
        f"""version: 1
issuers:
  a:
    issuer: {idp.issuer}
    audiences: [api]
    insecure: {{http: true}}
    introspection: {{{client}{more}}}
rules:
  - match: {{paths: [/**]}}
""",
        file="authz.yaml",
    )


def probe(server: Server, folder: Path) -> ProbedIntrospection:
    """Probe an issuer with these endpoints."""
    with FakeIdp() as idp:
        idp.discovery |= {"introspection_endpoint": f"{idp.url}{INTROSPECT}", "token_endpoint": f"{idp.url}/token"}
        idp.answers |= {INTROSPECT: server.introspect, "/token": server.token}
        (found,) = probe_introspection(configure(idp, folder))
    return found


def test_an_issuer_that_answers_us(tmp_path: Path) -> None:
    """Three proofs: it answers, it looks at our credentials, and we may ask about tokens."""
    found = probe(Server(), tmp_path)
    assert found.ok
    assert found.findings == (
        "a token that was never issued is called inactive",
        "a wrong secret is refused (unauthorized), so ours is right",
        "a token of our own is called active, with active, client_id",
    )
    assert next(iter(found.lines())) == "a: introspection answers"
    assert found.document()["ok"] is True


@pytest.mark.parametrize(
    ("server", "finding"),
    [
        (Server(looks=False), "the server does not look at it, and ours is not proved right"),
        (Server(gives=False), "was not tried: the server gives our client none"),
        (Server(own={"active": False}), "called inactive: our client may not ask about it"),
    ],
)
def test_what_it_cannot_prove_is_said(server: Server, finding: str, tmp_path: Path) -> None:
    """A wrong secret that goes unnoticed, no token to try with, a token that we may not ask about."""
    assert any(finding in said for said in probe(server, tmp_path).findings)


@pytest.mark.parametrize(
    ("aud", "host", "mode", "finding"),
    [
        (["account", "api"], "127.0.0.1", "always", "its aud is account, api, and does not name our client rs"),
        (None, "127.0.0.1", "always", "its aud is absent, and does not name our client rs"),
        ("rs", "127.0.0.1", "always", "the server may take no JWTs"),
        (["api", "rs"], "localhost", "always", "For Keycloak each token is inactive that has another host name"),
        (["api", "rs"], "localhost", "opaque", "For Keycloak each token is inactive that has another host name"),
    ],
)
def test_why_keycloak_calls_our_token_inactive(aud: object, host: str, mode: str, finding: str, tmp_path: Path) -> None:
    """Its aud and the host name are compared with ours; under another host name every JWT is inactive: a failure."""
    with FakeIdp() as idp:
        server = Server(own={"active": False}, token=idp.mint(aud=aud))
        endpoint = f"{idp.url}{INTROSPECT}"
        idp.discovery |= {"introspection_endpoint": endpoint, "token_endpoint": f"{idp.url}/token"}
        idp.answers |= {INTROSPECT: server.introspect, "/token": server.token}
        more = f", mode: {mode}, url: '{endpoint.replace('127.0.0.1', host)}'"
        (found,) = probe_introspection(configure(idp, tmp_path, more))
    assert finding in found.findings[-1]
    assert found.ok is not (host == "localhost" and mode == "always")
    if not found.ok:
        assert len(found.findings) == 1
        assert found.findings[0].startswith("a token of our own is called inactive: it was asked about at localhost:")


def test_an_issuer_that_cannot_be_asked(tmp_path: Path) -> None:
    """No endpoint, a login page, an answer that calls everything active."""
    with FakeIdp() as idp:
        config = configure(idp, tmp_path)
        (found,) = probe_introspection(config)
        assert (found.ok, "has no introspection_endpoint" in found.findings[0]) == (False, True)
        idp.discovery["introspection_endpoint"] = f"{idp.url}{INTROSPECT}"
        for answer, words in ((html(), "not JSON"), (fail(500), "500"), (say(b'{"active":true}'), "proves nothing")):
            idp.answers[INTROSPECT] = answer
            (found,) = probe_introspection(config)
            assert (found.ok, words in found.findings[0]) == (False, True)
