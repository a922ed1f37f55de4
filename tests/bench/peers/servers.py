"""Start heimdall or OPA-Envoy with the policy of the sidecar: RS256, issuer, audience, a scope by path, two headers.

Their binaries are in .tools/peers. Each is proved to allow and to deny what it should before it is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final

from authz.demo.client import send
from authz.demo.loopback import LoopbackServer, json_response
from authz.demo.process import Process
from authz.demo.signing import SigningKey
from tests.bench.load import SpoiltError
from tests.bench.machine import on_cores
from tests.bench.setups import Kind, Setup
from tests.bench.tokens import AUDIENCE, ISSUER, write_claims
from tests.fakes.ports import free_address
from tests.tools import TOOLS

_SCOPE: Final = "orders:read"
_HEADERS: Final = {"x-auth-subject": "sub", "x-auth-scopes": "scope"}
_FOLDER: Final = TOOLS / "peers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a server listens for Envoy and for questions about its health, and where it finds the keys."""

    grpc: str
    health: str
    jwks_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server: its *binary* in .tools/peers, and how it is configured.

    *write* writes the files into a folder and returns the arguments; *ready* is the path that is answered 200.
    """

    binary: str
    write: Callable[[Setup, Path, Addresses, str], Sequence[str]]
    ready: str

    def why_not(self) -> str:
        """Return why it cannot be measured; empty if it can."""
        return "" if (_FOLDER / self.binary).exists() else f"no .tools/peers/{self.binary}: see the README beside"


@contextmanager
def serving(setup: Setup, folder: Path, key: SigningKey, cores: Collection[int]) -> Iterator[tuple[str, Process]]:
    """Start the peer of *setup*; yield the address for Envoy, and the process. Raises PartFailed."""
    peer = PEERS[setup.kind]
    jwks = {"keys": [key.public()]}
    with LoopbackServer(lambda _: json_response(jwks)) as keys:
        at = Addresses(grpc=free_address(), health=free_address(), jwks_url=f"{keys.url}/jwks")
        argv = [str(_FOLDER / peer.binary), *peer.write(setup, folder, at, json.dumps(jwks))]
        process = Process(peer.binary, argv, log=folder / f"{peer.binary}.log", fix="read its log")
        try:
            with on_cores(cores):
                process.start()
            process.wait_until(lambda: _answers(f"http://{at.health}{peer.ready}"))
            yield at.grpc, process
        finally:
            process.stop()


def _answers(url: str) -> bool:
    try:
        return send(url).status == 200
    except (OSError, HTTPException):
        return False


def prove(url: str, key: SigningKey, *, now: int) -> None:
    """Send one request that must be allowed, and one of each kind that must not be. Raises SpoiltError."""
    claims = write_claims(0, now)
    good = key.sign(claims)
    denied = {
        "no token": None,
        "a forged token": f"{good[:-8]}AAAAAAA{good[-1]}",
        "an expired token": key.sign({**claims, "exp": now - 3600}),
        "another issuer": key.sign({**claims, "iss": "https://other.bench.test"}),
        "another audience": key.sign({**claims, "aud": "other"}),
        "another scope": key.sign({**claims, "scope": "other"}),
    }
    if (status := _ask(url, good)) != 200:
        raise SpoiltError(f"a good token was answered {status}")
    for what, token in denied.items():
        if (status := _ask(url, token)) not in {401, 403}:
            raise SpoiltError(f"{what} was answered {status}")


def _ask(url: str, token: str | None) -> int:
    return send(f"{url}/orders/5", headers=[] if token is None else [("authorization", f"Bearer {token}")]).status


def write_heimdall(setup: Setup, folder: Path, at: Addresses, _jwks: str) -> list[str]:
    """Write the mechanisms, which every rule names, and the rules."""
    host, _, port = at.grpc.rpartition(":")
    admin_host, _, admin_port = at.health.rpartition(":")
    identity = {name: f'{{{{ index .Subject.Attributes "{claim}" }}}}' for name, claim in _HEADERS.items()}
    jwt = {
        "jwks_endpoint": {"url": at.jwks_url},
        "assertions": {"issuers": [ISSUER], "audience": [AUDIENCE], "allowed_algorithms": ["RS256"]},
    }
    config = {
        "serve": {"host": host, "port": int(port)},
        "management": {"host": admin_host, "port": int(admin_port)},
        "log": {"level": "error"},
        "metrics": {"enabled": False},
        "tracing": {"enabled": False},
        "mechanisms": {
            "authenticators": [{"id": "none", "type": "unauthorized"}, {"id": "jwt", "type": "jwt", "config": jwt}],
            "authorizers": [{"id": "any", "type": "allow"}],
            "finalizers": [{"id": "identity", "type": "header", "config": {"headers": identity}}],
        },
        "default_rule": {"execute": [{"authenticator": "none"}]},
        "providers": {"file_system": {"src": str(folder / "rules.json")}},
    }
    ending = [{"authorizer": "any"}, {"finalizer": "identity"}]
    others = [
        _heimdall_rule(f"other-{number}", f"/other-{number}/:id/**", [{"authenticator": "jwt"}, *ending])
        for number in range(setup.rules - 1)
    ]
    scoped = {"authenticator": "jwt", "config": {"assertions": {"scopes": [_SCOPE]}}}
    rules = [*others, _heimdall_rule("orders", "/orders/**", [scoped, *ending])]
    _write(folder / "rules.json", {"version": "1alpha4", "name": "bench", "rules": rules})
    _write(folder / "heimdall.json", config)
    return ["serve", "decision", "--envoy-grpc", "--insecure", "--config", str(folder / "heimdall.json")]


def _heimdall_rule(name: str, path: str, execute: Sequence[object]) -> dict[str, object]:
    return {"id": name, "match": {"routes": [{"path": path}]}, "execute": list(execute)}


def write_opa(setup: Setup, folder: Path, at: Addresses, jwks: str) -> list[str]:
    """Write the policy, with the keys in it, and the rules as data, by their first segment."""
    (folder / "policy.rego").write_text(_REGO, encoding="utf-8")
    required: dict[str, list[str]] = {f"other-{number}": [] for number in range(setup.rules - 1)}
    constraints = {"cert": jwks, "alg": "RS256", "iss": ISSUER, "aud": AUDIENCE}
    _write(
        folder / "data.json",
        {"bench": {"constraints": constraints, "rules": {**required, "orders": [_SCOPE]}, "headers": _HEADERS}},
    )
    plugin = "plugins.envoy_ext_authz_grpc"
    return [
        *("run", "--server", "--addr", at.health, "--log-level", "error", "--disable-telemetry"),
        *("--set", f"{plugin}.addr={at.grpc}", "--set", f"{plugin}.path=bench/authz/allow"),
        *(str(folder / "policy.rego"), str(folder / "data.json")),
    ]


_REGO: Final = """\
package bench.authz

default allow := {"allowed": false}

http := input.attributes.request.http

token := substring(http.headers.authorization, 7, -1) if startswith(http.headers.authorization, "Bearer ")

verified := io.jwt.decode_verify(token, data.bench.constraints)

required := data.bench.rules[input.parsed_path[0]]

allow := {"allowed": true, "headers": headers} if {
    verified[0]
    granted := split(verified[2].scope, " ")
    every scope in required { scope in granted }
    headers := {name: verified[2][claim] | some name, claim in data.bench.headers}
}
"""


def _write(file: Path, document: Mapping[str, object]) -> None:
    file.write_text(json.dumps(document, indent=1), encoding="utf-8")


PEERS: Final[Mapping[Kind, Peer]] = {
    Kind.HEIMDALL: Peer(binary="heimdall", write=write_heimdall, ready="/.well-known/health"),
    Kind.OPA: Peer(binary="opa-envoy", write=write_opa, ready="/health"),
}
