"""Proves that clients of DPoP in Java and Go get along, with tokens that Keycloak binds: each answer is counted.

Nimbus' OAuth SDK, Spring Security, and indigo, by which programs reach the AT protocol. What they are given is signed
by their own code; where a library leaves something to the application, dpop/ has the least that does it.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final, Self

import pytest

from authz.core.base64url import decode
from authz.demo.bootstrap import Proxy
from authz.demo.envoy import Envoy
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo_server
from tests.fakes.ports import free_address
from tests.peers.keycloak import Keycloak
from tests.peers.test_keycloak import TO_ORDERS, confidential
from tests.tools import TOOLS, path

pytestmark = pytest.mark.needs("java", "envoy", "peers/keycloak", "peers/dpop")

BUILT: Final = TOOLS / "peers/dpop"
CONFIG: Final = Template("""version: 1
server: {listen: "unix:$socket"}
admin: {listen: "$admin"}
issuers:
  keycloak: {issuer: "$issuer", audiences: [orders-api], dpop: required, insecure: {http: true}}
dpop: {origins: ["http://api.test", "http://$listen"], nonces: $nonces}
rules:
  - {name: orders, match: {paths: ["/", "/orders/**"]}}
""")
REALM: Final = {
    "realm": "bound",
    "enabled": True,
    "accessTokenLifespan": 3600,
    "clients": [confidential("orders-api"), confidential("batch", TO_ORDERS)],
}
CLIENTS: Final = ("nimbus", "spring", "indigo")
LATE: Final = 400
"""Seconds, more than a proof may be old, or ahead."""
SPELLINGS: Final = {
    "as it is": "http://api.test/orders/7",
    "default port": "http://api.test:80/orders/7",
    "upper-case host": "http://API.Test/orders/7",
    "empty path": "http://api.test",
    "query": "http://api.test/orders/7?a=1&b=%2f",
    "needless escape": "http://api.test/orders/%7ealice",
    "lower-case escape": "http://api.test/orders/caf%c3%a9",
    "dot segments": "http://api.test/orders/a/../7",
}
REWRITTEN: Final = ("empty path", "needless escape", "dot segments")
"""Those that Envoy writes otherwise than the client: a resource server that compares texts refuses them."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of a client, and its answer."""

    status: int
    challenges: list[str]
    nonce: str
    body: str
    authorization: str
    proof: str

    @property
    def token(self) -> str:
        """The token that was sent."""
        return self.authorization.partition(" ")[2]

    @property
    def seen(self) -> str:
        """The URL as the upstream saw it: what a resource server behind Envoy compares a proof with."""
        echo = json.loads(self.body)
        return f"http://{dict(echo['headers'])['host']}{echo['target']}"

    @property
    def error(self) -> str:
        """The error of a 401. Its challenge must stand alone, and only with `use_dpop_nonce` there is a nonce."""
        (challenge,) = self.challenges
        found = re.fullmatch(r'DPoP realm="api", error="(\w+)", algs="[\w ]+"', challenge)
        assert found, challenge
        assert self.status == 401
        assert (found[1] == "use_dpop_nonce") == (self.nonce != "")
        return found[1]


class Program:
    """A process that answers each line of JSON with one."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=120)

    def answer(self, order: Mapping[str, str]) -> dict[str, Any]:
        """Send a line; return the one that comes back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


class Client(Program):
    """One client, which has its own key and token."""

    tokens = 0
    """How many tokens it asked Keycloak for."""

    def ask(self, url: str, *, signed: str = "GET") -> list[Exchange]:
        """Ask for a URL by GET, with proofs for another method if *signed* says so; return what came of it."""
        answer = self.answer({"url": url, "method": signed})
        self.tokens = answer["tokens"]
        return [Exchange(**exchange) for exchange in answer["exchanges"]]

    def statuses(self, url: str) -> list[int]:
        """Ask; return the status of each answer."""
        return [exchange.status for exchange in self.ask(url)]


def java(*arguments: str) -> tuple[str, ...]:
    """The command of the program in Java."""
    return path("java"), "-cp", f"{BUILT / 'java/target/classes'}:{BUILT / 'java/target/dependency'}/*", *arguments


@dataclass(frozen=True, slots=True)
class Gate:
    """Keycloak, and Envoy with a sidecar that trusts it."""

    keycloak: Keycloak
    listen: str

    def client(self, name: str, *, ahead: int = 0) -> Client:
        """Start a client; its clock is *ahead* by so many seconds once it has a token."""
        arguments = (f"{self.keycloak.issuer}/protocol/openid-connect/token", self.listen, str(ahead))
        if name == "indigo":
            return Client(str(BUILT / "go/dpop"), *arguments)
        return Client(*java("clients.Clients", name, *arguments))

    def url(self, way: str) -> str:
        """Return a URL of Envoy itself."""
        return f"http://{self.listen}{way}"


@contextmanager
def gate(keycloak: Keycloak, nonces: str) -> Iterator[Gate]:
    """Run Envoy and a sidecar that gives nonces so often."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authz-")))
        upstream = stack.enter_context(echo_server())
        socket, admin, listen = folder / "authz.sock", free_address(), free_address()
        config = CONFIG.substitute(socket=socket, admin=admin, issuer=keycloak.issuer, listen=listen, nonces=nonces)
        sidecar = Sidecar(config, admin=admin, folder=folder)
        proxy = Proxy(
            upstream=f"127.0.0.1:{upstream.port}", sidecars=(f"unix:{socket}",), listen=listen, timeout_ms=60_000
        )
        envoy = Envoy(proxy, folder)
        stack.callback(sidecar.stop)
        stack.callback(envoy.stop)
        sidecar.start()
        envoy.start()
        yield Gate(keycloak, listen)


@pytest.fixture(scope="module")
def keycloak(keycloak_url: str) -> Keycloak:
    """A Keycloak with the realm of this file."""
    server = Keycloak(keycloak_url, "bound")
    server.create_realm(REALM)
    return server


@pytest.fixture(scope="module")
def stale(keycloak: Keycloak) -> Iterator[Gate]:
    """A gate that gives nonces in answer to wrong clocks only."""
    with gate(keycloak, "stale") as running:
        yield running


@pytest.fixture(scope="module")
def always(keycloak: Keycloak) -> Iterator[Gate]:
    """A gate that wants a nonce in every proof."""
    with gate(keycloak, "always") as running:
        yield running


def test_a_token_that_keycloak_binds(stale: Gate) -> None:
    """It says more of its key than the thumbprint, and is allowed by a proof; the upstream sees no proof."""
    with stale.client("nimbus") as client:
        (exchange,) = client.ask(stale.url("/orders/7"))

    claims = json.loads(decode(exchange.token.encode().split(b".")[1]))
    assert claims["typ"] == "DPoP"
    assert set(claims["cnf"]) == {"jkt", "kc-jkt-type"}
    assert exchange.status == 200
    assert "dpop" not in dict(json.loads(exchange.body)["headers"])


@pytest.mark.parametrize("name", CLIENTS)
def test_a_good_proof_needs_one_request(stale: Gate, name: str) -> None:
    """The first one and the next."""
    with stale.client(name) as client:
        assert client.statuses(stale.url("/orders/7")) == [200]
        assert client.statuses(stale.url("/orders/8")) == [200]
        assert client.tokens == 1


@pytest.mark.parametrize("name", CLIENTS)
def test_where_nonces_are_required_the_first_request_is_repeated_once(always: Gate, name: str) -> None:
    """The challenge stands alone; the nonce serves for the next request too."""
    with always.client(name) as client:
        first, second = client.ask(always.url("/orders/7"))
        assert first.error == "use_dpop_nonce"
        assert second.status == 200
        assert client.statuses(always.url("/orders/8")) == [200]
        assert client.tokens == 1


@pytest.mark.parametrize("name", CLIENTS)
def test_a_proof_for_another_method_is_refused(stale: Gate, name: str) -> None:
    """For good: no client sends it again."""
    with stale.client(name) as client:
        (exchange,) = client.ask(stale.url("/orders/7"), signed="POST")
        assert exchange.error == "invalid_dpop_proof"


@pytest.mark.parametrize("name", CLIENTS)
def test_however_a_client_spells_the_url(stale: Gate, name: str) -> None:
    """What it signs is what it asked for."""
    with stale.client(name) as client:
        refused = [spelling for spelling, url in SPELLINGS.items() if client.statuses(url) != [200]]
    assert not refused


@pytest.mark.parametrize("ahead", [-LATE, LATE])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_nonce_repairs_a_wrong_clock(stale: Gate, name: str, ahead: int) -> None:
    """The proof is refused with a challenge that stands alone; the one with its nonce is good, and so is the next.

    All but indigo's where its clock is behind: it writes `exp` into its proofs, which has passed, nonce or not.
    """
    with stale.client(name, ahead=ahead) as client:
        first, *others = client.ask(stale.url("/orders/7"))
        if name == "indigo" and ahead < 0:
            assert first.error == "invalid_dpop_proof"
            assert not others
        else:
            assert first.error == "use_dpop_nonce"
            assert [exchange.status for exchange in others] == [200]
            assert client.statuses(stale.url("/orders/8")) == [200]


def test_spring_alone_sends_a_bound_token_as_a_bearer_token(stale: Gate) -> None:
    """It reads in Keycloak's answer that the token is bound, and sends it with the scheme Bearer: we refuse it.

    It takes that for the token's fault, and gets another one, which it sends in the same way.
    """
    with stale.client("spring-alone") as client:
        for number in (1, 2):
            (exchange,) = client.ask(stale.url("/orders/7"))
            assert exchange.authorization.startswith("Bearer ")
            assert exchange.error == "invalid_token"
            assert client.tokens == number


def test_a_resource_server_with_nimbus_accepts_no_more(stale: Gate) -> None:
    """Nimbus' verifier behind the same Envoy refuses some spellings that we accept, and accepts none that we refuse."""
    refused: dict[str, list[str]] = {}
    with Program(*java("clients.Clients", "verify")) as nimbus:

        def accepts(exchange: Exchange, url: str) -> bool:
            sent = {"proof": exchange.proof, "token": exchange.token, "url": url}
            return bool(nimbus.answer(sent)["refused"] == "")

        for name in CLIENTS:
            with stale.client(name) as client:
                for spelling, url in SPELLINGS.items():
                    (exchange,) = client.ask(url)
                    if not accepts(exchange, exchange.seen):
                        refused.setdefault(spelling, []).append(name)
                wrong = stale.url("/orders/7")
                (exchange,) = client.ask(wrong, signed="POST")
                assert not accepts(exchange, wrong)
    assert refused == {spelling: list(CLIENTS) for spelling in REWRITTEN}
