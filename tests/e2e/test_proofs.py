"""Tokens bound to a key (DPoP, RFC 9449), through the real Envoy: what is accepted, once, and what comes back."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from string import Template
from typing import Any

import pytest
from click.testing import CliRunner

from authz.cli import main
from authz.core.key import thumbprint_of
from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.loopback import Header, LoopbackServer, Request, Response
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.proofs import key, prove, token_hash

# Envoy speaks HTTP here and clients sign https: it stands behind a TLS terminator.
OUTSIDE = "https://api.test"
CONFIG = Template("""version: 1
server: {listen: "unix:$socket"}
admin: {listen: "$admin"}
issuers:
  idp: {issuer: "$issuer", audiences: [api], leeway: 0s, dpop: allowed, insecure: {http: true}}
dpop: {origins: ["https://api.test"], nonces: $nonces}
rules:
  - {name: public, match: {paths: ["/public/**"]}, allow: public}
  - {name: bound, match: {paths: ["/bound/**"]}, require: {bound: true}}
  - {name: items, match: {paths: ["/items/**"]}}
identity: {headers: {x-user-id: sub}}
responses: {expose_reason: true}
telemetry: {decisions: all}
""")
USE_NONCE = 'DPoP realm="api", error="use_dpop_nonce", algs='
INVALID_PROOF = 'DPoP realm="api", error="invalid_dpop_proof", algs='
INVALID_TOKEN = 'DPoP realm="api", error="invalid_token", algs='
_IDS = count()


@dataclass(frozen=True, slots=True)
class Door:
    """Envoy with a sidecar behind it, and every request that came through."""

    idp: FakeIdp
    envoy: Envoy
    log: Path
    came: list[Request] = field(default_factory=list)

    def token(self, **claims: Any) -> str:  # noqa: ANN401 - JSON
        """Issue a token that is bound to our key."""
        return self.idp.mint(**{"cnf": {"jkt": thumbprint_of(dict(key().public()))}, **claims})

    def send(self, headers: Sequence[Header], path: str = "/items/1", method: str = "GET") -> Answer:
        """Send one request; what came through before is forgotten."""
        self.came.clear()
        return send(f"{self.envoy.url}{path}", method=method, headers=headers)

    def ask(self, token: str, proof: str, path: str = "/items/1", method: str = "GET") -> Answer:
        """Send one request as a client of DPoP does."""
        return self.send([("Authorization", f"DPoP {token}"), ("DPoP", proof)], path, method)


@contextmanager
def open_door(nonces: str, *, printed: bool = False, **differences: Any) -> Iterator[Door]:  # noqa: ANN401 - of Proxy
    """Start everything, with an Envoy that differs in fields of Proxy, or with what `authz envoy-config` printed."""
    came: list[Request] = []

    def answer(request: Request) -> Response:
        came.append(request)
        return echo(request)

    with (
        tempfile.TemporaryDirectory(prefix="authz-") as folder,
        FakeIdp() as idp,
        LoopbackServer(answer) as upstream,
        ExitStack() as stack,
    ):
        socket, admin = Path(folder) / "authz.sock", free_address()
        config = CONFIG.substitute(socket=socket, admin=admin, issuer=idp.issuer, nonces=nonces)
        sidecar = Sidecar(config, admin=admin, folder=Path(folder))
        to = f"127.0.0.1:{upstream.port}"
        usual = {"upstream": to, "sidecars": (f"unix:{socket}",), "timeout_ms": 60_000}
        settings = print_envoy(sidecar, to) if printed else Proxy(**{**usual, **differences})
        envoy = Envoy(settings, Path(folder))
        stack.callback(sidecar.stop)
        stack.callback(envoy.stop)
        sidecar.start()
        envoy.start()
        yield Door(idp, envoy, sidecar.process.log, came)


def print_envoy(sidecar: Sidecar, upstream: str) -> Path:
    """Write what `authz envoy-config` prints for an Envoy in front of *sidecar*."""
    arguments = ["--bootstrap", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", upstream]
    printed = CliRunner().invoke(main, ["envoy-config", "--config", str(sidecar.config_file), *arguments])
    assert printed.exit_code == 0, printed.output
    file = sidecar.config_file.with_name("envoy.yaml")
    file.write_text(printed.stdout, encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=[False, True], ids=["headers-as-text", "encode_raw_headers"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """The usual, with headers in either of the two forms in which Envoy sends them."""
    with open_door("stale", encode_raw_headers=request.param) as usual:
        yield usual


@pytest.fixture(scope="module")
def strict_door() -> Iterator[Door]:
    """One that has every client use a nonce."""
    with open_door("always") as strict:
        yield strict


def proof(token: str, path: str = "/items/1", **changes: Any) -> str:  # noqa: ANN401 - JSON
    """Write a new proof for GET and *token*, with changes."""
    usual = {"htu": OUTSIDE + path, "ath": token_hash(token), "iat": int(time.time()), "jti": f"id {next(_IDS)}"}
    return prove(**{**usual, **changes})


def challenges(answer: Answer) -> list[str]:
    """Return the values of all header lines www-authenticate."""
    return [value for name, value in answer.headers if name == "www-authenticate"]


def assert_refused(door: Door, answer: Answer, reason: str, challenge: str) -> None:
    """The upstream got nothing; the client got the reason, one challenge of DPoP alone, and no nonce."""
    assert (answer.status, answer.json()["reason"], door.came) == (401, reason, [])
    (line,) = challenges(answer)
    assert line.startswith(challenge)
    assert "Bearer" not in line
    assert answer.header("dpop-nonce") is None


def test_proof_is_accepted_once(door: Door) -> None:
    """A new proof passes with the identity of the token; the same one again is refused, and a new one passes again."""
    token = door.token(sub="alice")
    first = proof(token)

    assert door.ask(token, first).status == 200
    assert ("x-user-id", "alice") in [(name.lower(), value) for name, value in door.came[0].headers]
    assert_refused(door, door.ask(token, first), "proof_invalid", INVALID_PROOF)
    assert door.ask(token, proof(token)).status == 200


@pytest.mark.parametrize("path", ["/items/1", "/public/1"])
def test_upstream_sees_no_proof(door: Door, path: str) -> None:
    """The proof is for the sidecar: the header DPoP is gone on every way to the upstream; the token is passed on."""
    token = door.token()

    assert door.ask(token, proof(token, path), path).status == 200

    headers = [(name.lower(), value) for name, value in door.came[0].headers]
    assert "dpop" not in dict(headers)
    assert ("authorization", f"DPoP {token}") in headers


def test_url_as_the_client_wrote_it(door: Door) -> None:
    """Query, dot segments, encoding of unreserved characters, port and upper case make no other URL."""
    token = door.token()
    for sent, signed in [
        ("/items/1?q=a", "https://api.test/items/1"),
        ("/items/1?q=a", "https://api.test/items/1?q=a#f"),
        ("/items/a/../1", "https://api.test/items/a/../1"),
        ("/items/%7e", "https://API.test:443/items/~"),
    ]:
        assert door.ask(token, proof(token, htu=signed), sent).status == 200, (sent, signed)


def test_proof_of_the_inner_hop(door: Door) -> None:
    """The URL by which Envoy was called behind the TLS terminator is not the one that clients know."""
    token = door.token()
    inner = f"{door.envoy.url}/items/1"

    assert_refused(door, door.ask(token, proof(token, htu=inner)), "proof_invalid", INVALID_PROOF)


def test_bound_token_as_a_bearer_token(door: Door) -> None:
    """A stolen token is worth nothing without its key, with or without a proof beside it."""
    token = door.token()
    bearer = ("Authorization", f"Bearer {token}")

    assert_refused(door, door.send([bearer]), "token_bound", INVALID_TOKEN)
    assert_refused(door, door.send([bearer, ("DPoP", proof(token))]), "proof_invalid", INVALID_PROOF)


def test_free_token(door: Door) -> None:
    """Bearer tokens pass where they are allowed; a rule that requires a bound token refuses them."""
    token = door.idp.mint()
    bearer = [("Authorization", f"Bearer {token}")]

    assert door.send(bearer).status == 200
    assert (door.send(bearer, "/bound/1").status, door.came) == (401, [])
    bound = door.token()
    assert door.ask(bound, proof(bound, "/bound/1"), "/bound/1").status == 200


def test_token_without_its_proof(door: Door) -> None:
    """None at all, two header lines, and one by another key: each is a fault of the proof, not of the token."""
    token = door.token()
    scheme = ("Authorization", f"DPoP {token}")

    assert_refused(door, door.send([scheme]), "proof_invalid", INVALID_PROOF)
    two = [("DPoP", proof(token)), ("dpop", proof(token))]
    assert_refused(door, door.send([scheme, *two]), "proof_invalid", INVALID_PROOF)
    other = prove(key("Ed25519"), htu=f"{OUTSIDE}/items/1", ath=token_hash(token), iat=int(time.time()))
    assert_refused(door, door.ask(token, other), "proof_invalid", INVALID_PROOF)


def test_wrong_clock(door: Door) -> None:
    """A client an hour behind is given a nonce, alone with its challenge, and passes with it, once."""
    token = door.token()
    late = int(time.time()) - 3600

    asked = door.ask(token, proof(token, iat=late))

    nonce = assert_nonce_required(door, asked)
    repaired = proof(token, iat=late, nonce=nonce)
    answer = door.ask(token, repaired)
    assert (answer.status, answer.header("dpop-nonce")) == (200, None)
    assert_refused(door, door.ask(token, repaired), "proof_invalid", INVALID_PROOF)


def test_nonces_for_every_client(strict_door: Door) -> None:
    """The first proof is answered with a nonce, the second has it and passes; an unknown nonce is answered again."""
    token = strict_door.token()

    nonce = assert_nonce_required(strict_door, strict_door.ask(token, proof(token)))

    assert strict_door.ask(token, proof(token, nonce=nonce)).status == 200
    assert_nonce_required(strict_door, strict_door.ask(token, proof(token, nonce="of nobody")))


def assert_nonce_required(door: Door, answer: Answer) -> str:
    """Clients retry only if use_dpop_nonce stands alone: one header line, one challenge. Return the nonce."""
    assert (answer.status, answer.json()["reason"], door.came) == (401, "nonce_required", [])
    (line,) = challenges(answer)
    assert line.startswith(USE_NONCE)
    assert line.count("realm=") == 1
    (nonce,) = [value for name, value in answer.headers if name == "dpop-nonce"]
    return nonce


def test_client_that_sends_no_token(door: Door) -> None:
    """Who sends nothing learns of both schemes, and of the algorithms of proofs."""
    answer = door.send([])

    assert answer.status == 401
    (line,) = challenges(answer)
    assert line.startswith("Bearer ")
    assert ', DPoP realm="api", algs="' in line


def test_envoy_as_it_is_printed() -> None:
    """An Envoy by `authz envoy-config` shows the sidecar the proof, and lets it be removed."""
    with open_door("stale", printed=True) as door:
        token = door.token()
        wait_until(lambda: door.send([]).status != 503)  # until Envoy has seen the sidecar's health

        answer = door.ask(token, proof(token))

        assert (answer.status, len(door.came)) == (200, 1), answer.body
        assert "dpop" not in {name.lower() for name, _ in door.came[0].headers}
