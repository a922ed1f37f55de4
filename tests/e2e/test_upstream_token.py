"""The upstream's own verifiers accept what the sidecar signs: Envoy's jwt_authn, PyJWT and jose, also over a rotation.

The upstream has an Envoy of its own in front, which lets nothing pass without a token of the sidecar.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Final

import jwt
import pytest

from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo_server, headers_seen
from authz.tooling.envoy_config import fragments
from authz.tooling.envoy_config.fragments import MANAGER, V3, router, socket_address
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.tools import TOOLS, path

ISSUER: Final = "http://gateway.test"
KEYS: Final = "/.well-known/jwks.json"
DISCOVERY: Final = "/.well-known/openid-configuration"
NODE: Final = Path(__file__).with_name("readers.mjs")

CONFIG: Final = Template("""version: 1
server: {listen: "unix:$socket"}
admin: {listen: "$admin"}
issuers:
  idp: {issuer: "$issuer", audiences: [api], leeway: 0s, insecure: {http: true}}
rules:
  - {name: public, match: {paths: ["/public/**"]}, allow: public}
  - {name: orders, match: {paths: ["/orders/**"]}, require: {scopes: [read]}}
identity:
  token: {header: $header, issuer: "http://gateway.test", audience: [orders], lifetime: 10s, claims: {tenant: org}}
signing:
  keys: {main: {kind: memory, algorithm: $algorithm}}
  rotation: {ahead: 4s}
  publish: {url: "http://keys.test/.well-known/jwks.json", discovery: true, max_age: 1s}
responses: {expose_reason: true}
""")


@dataclass(frozen=True, slots=True)
class Stack:
    """Envoy, the sidecar, and the guarded upstream."""

    idp: FakeIdp
    front: Envoy
    guard: Envoy
    admin: str
    reader: str = field(default="")

    def ask(self, target: str = "/orders/1", *, headers: dict[str, str] | None = None, **claims: Any) -> Answer:  # noqa: ANN401 - claims
        """Send a request with a token of the caller."""
        token = self.idp.mint(**{"sub": "alice", "scope": "read write", "org": "acme", **claims})
        return send(
            f"{self.front.url}{target}", headers=[("Authorization", f"Bearer {token}"), *(headers or {}).items()]
        )

    def token(self, answer: Answer, header: str = "txn-token") -> str:
        """Return the token that the upstream got."""
        (value,) = [value for name, value in headers_seen(answer) or () if name == header]
        return value.removeprefix("Bearer ")

    def keys(self) -> dict[str, Any]:
        """Return what the admin port says of the keys."""
        described: dict[str, Any] = send(f"{self.admin}/signing").json()
        return described


@contextmanager
def run(*, header: str = "txn-token", algorithm: str = "ES256") -> Iterator[Stack]:
    """Start everything."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, ExitStack() as running:
        idp, upstream = running.enter_context(FakeIdp()), running.enter_context(echo_server())
        socket, admin = Path(folder) / "authz.sock", free_address()
        names = {"socket": socket, "admin": admin, "issuer": idp.issuer, "header": header, "algorithm": algorithm}
        sidecar = Sidecar(CONFIG.substitute(names), admin=admin, folder=Path(folder))
        running.callback(sidecar.stop)
        sidecar.start()
        (own := Path(folder) / "guard").mkdir()
        file = own / "guard.json"
        file.write_text(json.dumps(guard(f"127.0.0.1:{upstream.port}", admin, header)), encoding="utf-8")
        upstream_envoy = Envoy(file, own)
        running.callback(upstream_envoy.stop)
        upstream_envoy.start()
        address = upstream_envoy.url.removeprefix("http://")
        front = Envoy(Proxy(upstream=address, sidecars=(f"unix:{socket}",), timeout_ms=60_000), Path(folder))
        running.callback(front.stop)
        front.start()
        yield Stack(idp, front, upstream_envoy, f"http://{admin}")


def guard(upstream: str, keys: str, header: str) -> dict[str, Any]:
    """Return the bootstrap of an Envoy that verifies the sidecar's tokens, by the keys on its admin port."""
    provider = {
        "issuer": ISSUER,
        "audiences": ["orders"],
        "remote_jwks": {
            "http_uri": {"uri": f"http://{keys}{KEYS}", "cluster": "keys", "timeout": "60s"},
            "cache_duration": "1s",
            "async_fetch": {"fast_listener": False},
        },
        "from_headers": [{"name": header, "value_prefix": "Bearer " if header == "authorization" else ""}],
        "forward": True,
        "clock_skew_seconds": 1,
    }
    manager = {
        "@type": f"{V3}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "guard",
        "http_filters": [
            {
                "name": "envoy.filters.http.jwt_authn",
                "typed_config": {
                    "@type": f"{V3}.filters.http.jwt_authn.v3.JwtAuthentication",
                    "providers": {"sidecar": provider},
                    "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "sidecar"}}],
                },
            },
            router(),
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "guard",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                }
            ]
        },
    }
    chain = {"filters": [{"name": MANAGER, "typed_config": manager}]}
    listener = {"name": "guard", "address": socket_address("127.0.0.1:0"), "filter_chains": [chain]}
    clusters = [fragments.upstream_cluster("upstream", (upstream,)), fragments.upstream_cluster("keys", (keys,))]
    return {
        "admin": {"address": socket_address("127.0.0.1:0")},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The usual one."""
    with run() as usual:
        yield usual


def test_the_upstreams_envoy_verifies_it(stack: Stack) -> None:
    """Envoy's jwt_authn, by our published keys, lets the request pass; what it says is what the caller may."""
    answer = stack.ask()
    assert answer.status == 200
    token = stack.token(answer)
    keys = jwt.PyJWKClient(f"{stack.admin}{KEYS}")
    claims = jwt.decode(
        token, keys.get_signing_key_from_jwt(token), algorithms=["ES256"], audience="orders", issuer=ISSUER
    )
    assert {name: claims[name] for name in ("sub", "scope", "tenant")} == {
        "sub": "alice",
        "scope": "read",
        "tenant": "acme",
    }
    assert claims["exp"] - claims["iat"] == 10


def test_it_never_outlives_the_callers(stack: Stack) -> None:
    """A caller whose token ends in five seconds gets one that ends then."""
    ends = int(stack.idp.claims()["iat"]) + 5  # type: ignore[call-overload]
    token = stack.token(stack.ask(exp=ends))
    assert jwt.decode(token, options={"verify_signature": False})["exp"] == ends


@pytest.mark.parametrize("name", ["Txn-Token", "txn_token", "TXN_Token"])
def test_no_client_can_send_one(stack: Stack, name: str) -> None:
    """A good token of before, from a client, is removed where none is minted, and overwritten where one is."""
    stolen = stack.token(stack.ask())
    assert send(f"{stack.guard.url}/x", headers=[("txn-token", stolen)]).status == 200
    assert send(f"{stack.front.url}/public/1", headers=[(name, stolen)]).status == 401
    assert send(f"{stack.front.url}/public/1").status == 401
    answer = stack.ask(headers={name: "forged"}, sub="bob")
    assert (answer.status, [each for each in headers_seen(answer) or () if each[1] == "forged"]) == (200, [])
    assert jwt.decode(stack.token(answer), options={"verify_signature": False})["sub"] == "bob"


def test_the_callers_token_is_none_for_the_upstream(stack: Stack) -> None:
    """Around the sidecar no caller comes in."""
    caller = stack.idp.mint(sub="alice", scope="read")
    assert send(f"{stack.guard.url}/orders/1", headers=[("txn-token", caller)]).status == 401


def test_keys_through_envoy(stack: Stack) -> None:
    """The set is served at its URL with a strong tag, 304 for who has it; at another host the rules decide."""
    at = [("Host", "keys.test")]
    answer = send(f"{stack.front.url}{KEYS}", headers=at)
    assert (answer.status, answer.header("cache-control")) == (200, "max-age=1")
    assert answer.body == send(f"{stack.admin}{KEYS}").body
    etag = answer.header("etag")
    assert etag is not None
    assert etag.startswith('"')
    again = send(f"{stack.front.url}{KEYS}", headers=[*at, ("If-None-Match", etag)])
    assert (again.status, again.body, again.header("etag")) == (304, b"", etag)
    assert send(f"{stack.admin}{KEYS}", headers=[("If-None-Match", etag)]).status == 304
    head = send(f"{stack.front.url}{KEYS}", headers=at, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert send(f"{stack.front.url}{KEYS}").status == 403
    found = send(f"{stack.front.url}{DISCOVERY}", headers=[("Host", "gateway.test")]).json()
    assert (found["issuer"], found["jwks_uri"]) == (ISSUER, f"http://keys.test{KEYS}")


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256", "PS256"])
def test_in_place_of_the_callers(algorithm: str) -> None:
    """In `authorization` the upstream's Envoy verifies ours, by each algorithm that it knows."""
    with run(header="authorization", algorithm=algorithm) as other:
        answer = other.ask()
        assert answer.status == 200
        token = other.token(answer, "authorization")
        assert jwt.get_unverified_header(token)["alg"] == algorithm
        assert jwt.decode(token, options={"verify_signature": False})["iss"] == ISSUER


class Jose:
    """A reader on Node, with a cache of its own."""

    def __init__(self, url: str, max_age_ms: int = 1000) -> None:
        command = [path("node"), str(NODE), str(TOOLS / "node_modules"), url, ISSUER, "orders", str(max_age_ms)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def verify(self, token: str) -> str:
        """Return "ok", or why the token is refused."""
        (said,) = self.verify_all([token])
        return said

    def verify_all(self, tokens: Sequence[str]) -> list[str]:
        """Return the same for each of some tokens; both pipes must have room for them."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("".join(f"{token}\n" for token in tokens))
        self.process.stdin.flush()
        return [self.process.stdout.readline().strip() for _ in tokens]

    def close(self) -> None:
        """End it."""
        self.process.communicate(timeout=120)


@pytest.mark.needs("node", "jose")
def test_a_rotation_under_load() -> None:
    """Over a whole rotation no reader refuses one token: Envoy, jose and PyJWT, each with a cache of its own."""
    with run() as stack, ThreadPoolExecutor(4) as clients:
        jose = Jose(f"{stack.admin}{KEYS}")
        python = jwt.PyJWKClient(f"{stack.admin}{KEYS}", lifespan=1)
        seen: dict[str, int] = {}

        def use(number: int) -> None:
            answer = stack.ask(sub=f"user-{number}")
            assert answer.status == 200, answer.body  # Envoy's jwt_authn
            token = stack.token(answer)
            assert jose.verify(token) == "ok"
            key = python.get_signing_key_from_jwt(token)
            jwt.decode(token, key, algorithms=["ES256"], audience="orders", issuer=ISSUER)
            kid = jwt.get_unverified_header(token)["kid"]
            seen[kid] = seen.get(kid, 0) + 1

        try:
            use(0)
            (first,) = seen
            assert send(f"{stack.admin}/signing/rotate", method="POST").status == 202
            number = 0
            while first in {key["kid"] for key in stack.keys()["keys"]}:
                list(clients.map(lambda _: stack.ask(), range(8)))  # and more, which share a token
                number += 1
                use(number)
        finally:
            jose.close()
        assert len(seen) == 2
        assert min(seen.values()) > 1
