"""Proves that common clients of DPoP get along: a token of a real issuer, Envoy, and each answer counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

import pytest

from authz.demo.bootstrap import Proxy
from authz.demo.envoy import Envoy
from authz.demo.sidecar import Sidecar
from authz.demo.signing import SigningKey
from authz.demo.upstream import echo_server
from tests.fakes.ports import free_address
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.oidc_provider import OidcProvider, private_jwk
from tests.tools import TOOLS, path

pytestmark = pytest.mark.needs("node", "oidc-provider", "envoy")

API: Final = "https://api.test/orders"
CONFIG: Final = Template("""version: 1
server: {listen: "unix:$socket"}
admin: {listen: "$admin"}
issuers:
  certified: {issuer: "$issuer", audiences: ["$api"], dpop: required, insecure: {http: true}}
dpop: {origins: ["http://$listen"], nonces: $nonces}
rules:
  - {name: orders, match: {paths: ["/orders/**"]}}
""")
NODE: Final = Path(__file__).with_name("dpop_clients.mjs")
PYTHON: Final = Path(__file__).with_name("dpop_clients.py")
JS: Final = ("oauth4webapi", "oauth4webapi-3.8.7", "openid-client", "oidc-client-ts", "dpop", "jose")
PYTHONS: Final = ("requests_oauth2client", "pydpop")
CLIENTS: Final = [
    *(pytest.param(name, marks=pytest.mark.needs(name)) for name in JS),
    *(pytest.param(name, marks=pytest.mark.needs("dpop-clients")) for name in PYTHONS),
]
# Those that send the nonce of their last challenge with the next proof, and so need no second one.
REMEMBER: Final = {"oauth4webapi", "oauth4webapi-3.8.7", "openid-client", "pydpop", "requests_oauth2client"}


@dataclass(frozen=True, slots=True)
class Gate:
    """An issuer, and Envoy with a sidecar that trusts it."""

    issuer: str
    listen: str

    def ask(self, client: str, *urls: str) -> list[list[int]]:
        """Run a client that asks for each URL in turn; return the statuses of the answers to each."""
        if client in PYTHONS:
            command, environ = [sys.executable, str(PYTHON), client], {"PYTHONPATH": path("dpop-clients")}
        else:
            command, environ = [path("node"), str(NODE), client, str(TOOLS / "node_modules")], {}
        done = subprocess.run(
            [*command, self.issuer, API, *urls],
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
            env={**os.environ, **environ},
        )
        assert done.returncode == 0, done.stderr
        statuses: list[list[int]] = json.loads(done.stdout)
        return statuses

    def url(self, way: str, host: str = "127.0.0.1") -> str:
        """Return a URL of Envoy."""
        return f"http://{host}:{self.listen.rpartition(':')[2]}{way}"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """A provider that binds tokens to keys."""
    with OidcProvider() as provider:
        yield provider.start(private_jwk(SigningKey.create("RS256", kid="k1")))


@pytest.fixture(scope="module", params=["stale", "always"])
def nonces(request: pytest.FixtureRequest) -> str:
    """When clients are given a nonce."""
    return str(request.param)


@pytest.fixture(scope="module")
def gate(issuer: str, nonces: str) -> Iterator[Gate]:
    """Everything."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authz-")))
        upstream = stack.enter_context(echo_server())
        socket, admin, listen = folder / "authz.sock", free_address(), free_address()
        config = CONFIG.substitute(socket=socket, admin=admin, issuer=issuer, api=API, listen=listen, nonces=nonces)
        sidecar = Sidecar(config, admin=admin, folder=folder)
        proxy = Proxy(
            upstream=f"127.0.0.1:{upstream.port}", sidecars=(f"unix:{socket}",), listen=listen, timeout_ms=60_000
        )
        envoy = Envoy(proxy, folder)
        stack.callback(sidecar.stop)
        stack.callback(envoy.stop)
        sidecar.start()
        envoy.start()
        yield Gate(issuer, listen)


@pytest.mark.parametrize("client", CLIENTS)
def test_answers(gate: Gate, nonces: str, client: str) -> None:
    """200 to a good proof; a challenge with a nonce is answered once; a proof for another URL is not sent again."""
    wrong = gate.url("/orders/7", "localhost")

    statuses = gate.ask(client, gate.url("/orders/7"), gate.url("/orders/8?q=%2f"), wrong)

    if nonces == "stale":
        assert statuses == [[200], [200], [401]]
    else:
        assert statuses == [[401, 200], [200] if client in REMEMBER else [401, 200], [401]]
