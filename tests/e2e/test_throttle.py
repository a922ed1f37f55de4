"""Networks that send bad tokens, through the real Envoy: who gets 429, and which address counts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from string import Template
from typing import Any

import pytest

from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.loopback import Header
from authz.demo.sidecar import Sidecar
from authz.demo.signing import SigningKey
from authz.demo.upstream import echo_server, headers_seen
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address

LIMIT = 5
CONFIG = Template("""version: 1
server: {listen: "unix:$socket"}
admin: {listen: "$admin"}
issuers:
  idp: {issuer: "$issuer", audiences: [api], leeway: 0s, insecure: {http: true}}
clients: {trusted_proxies: [$proxies]}
throttle: {failures: 5, window: 24h, shadow: $shadow}
rules:
  - {name: public, match: {paths: ["/public/**"]}, allow: public}
  - {name: items, match: {paths: ["/items/**"]}}
responses: {expose_reason: true}
telemetry: {decisions: all}
""")
STRANGER = SigningKey.create("ES256", kid="stranger")


@dataclass(frozen=True, slots=True)
class Door:
    """Envoy with a sidecar behind it."""

    idp: FakeIdp
    envoy: Envoy
    admin: str

    def ask(self, token: str | None, *headers: Header, path: str = "/items/1") -> Answer:
        """Send one request."""
        bearer = [] if token is None else [("Authorization", f"Bearer {token}")]
        return send(f"{self.envoy.url}{path}", headers=[*headers, *bearer])

    def forge(self, *headers: Header, **claims: Any) -> Answer:  # noqa: ANN401 - JSON
        """Send a token with the id of the issuer's key that a stranger has signed."""
        forged = self.idp.mint(key=STRANGER, header=self.idp.key.header(), **{"sub": "mallory", **claims})
        return self.ask(forged, *headers)

    def scrape(self) -> str:
        """Return the metrics."""
        return send(f"http://{self.admin}/metrics").body.decode()


@contextmanager
def open_door(*, proxies: str = "", shadow: bool = False) -> Iterator[Door]:
    """Start everything. Envoy's only peer is 127.0.0.1: with *proxies* of it, clients are those that it names."""
    with (
        tempfile.TemporaryDirectory(prefix="authz-") as folder,
        FakeIdp() as idp,
        echo_server() as upstream,
        ExitStack() as stack,
    ):
        path, admin = Path(folder) / "authz.sock", free_address()
        config = CONFIG.substitute(
            socket=path, admin=admin, issuer=idp.issuer, proxies=proxies, shadow=str(shadow).lower()
        )
        sidecar = Sidecar(config, admin=admin, folder=Path(folder))
        settings = Proxy(upstream=f"127.0.0.1:{upstream.port}", sidecars=(f"unix:{path}",), timeout_ms=60_000)
        envoy = Envoy(settings, Path(folder))
        stack.callback(sidecar.stop)
        stack.callback(envoy.stop)
        sidecar.start()
        envoy.start()
        yield Door(idp, envoy, str(admin))


@pytest.fixture
def door() -> Iterator[Door]:
    """One whose peers are its clients."""
    with open_door() as usual:
        yield usual


def own_address() -> str:
    """Return the address of this host that Envoy takes for its own; nothing is sent to find it."""
    with socket(AF_INET, SOCK_DGRAM) as unconnected:
        unconnected.connect(("192.0.2.1", 9))
        address: str = unconnected.getsockname()[0]
    return address


def said(answer: Answer) -> tuple[int, str | None]:
    """Return the status and the reason that the client got."""
    document = answer.json()
    return answer.status, document.get("reason") if isinstance(document, dict) else None


def test_a_network_that_sends_bad_tokens_gets_429(door: Door) -> None:
    """After five forgeries the sixth is not looked at: 429 with Retry-After, and nothing reaches the upstream."""
    early = door.idp.mint(sub="alice")
    assert door.ask(early).status == 200

    answers = [door.forge() for _ in range(LIMIT + 1)]

    assert [said(answer) for answer in answers] == [(401, "signature_invalid")] * LIMIT + [(429, "throttled")]
    last = answers[-1]
    assert 1 <= int(last.header("retry-after") or 0) <= 24 * 3600 // LIMIT + 1
    assert last.header("www-authenticate") is None
    assert last.header("cache-control") == "no-store"
    assert headers_seen(last) is None
    assert said(door.ask(door.idp.mint(sub="newcomer"))) == (429, "throttled")

    # Who was accepted before passes: with the same token, and with the next one.
    assert door.ask(early).status == 200
    assert door.ask(door.idp.mint(sub="alice", jti="next")).status == 200
    # What needs no token is answered as ever, and a request without one is asked for it.
    assert door.ask(None, path="/public/x").status == 200
    assert said(door.ask(None)) == (401, "token_missing")
    # A lie about the subject only earns the answer that it deserves.
    assert said(door.forge(sub="alice")) == (401, "signature_invalid")


@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "x-real-ip", "x-envoy-external-address", "forwarded", "true-client-ip"]
)
def test_no_header_gives_a_client_another_address(door: Door, header: str) -> None:
    """The address that counts is that of the connection: a new one in each request changes nothing."""
    answers = [door.forge((header, f"198.51.100.{number}")) for number in range(LIMIT + 1)]

    assert said(answers[-1]) == (429, "throttled")


def test_behind_a_trusted_proxy_its_clients_are_told_apart() -> None:
    """The proxy's last word counts: one client is slowed down and others are not, whatever it sends in front of it.

    For a peer on the loopback interface, Envoy appends this host's own address to x-forwarded-for.
    """
    with open_door(proxies=f"127.0.0.0/8, {own_address()}") as door:
        answers = [door.forge(("x-forwarded-for", f"203.0.113.{number}, 198.51.100.1")) for number in range(LIMIT + 1)]
        assert [said(answer) for answer in answers] == [(401, "signature_invalid")] * LIMIT + [(429, "throttled")]

        assert door.ask(door.idp.mint(), ("x-forwarded-for", "198.51.100.2")).status == 200
        # The stranger names another client in front, and slows down itself only.
        assert said(door.forge(("x-forwarded-for", "198.51.100.2, 198.51.100.1"))) == (429, "throttled")
        # A proxy that names no client is none.
        assert [said(door.forge()) for _ in range(LIMIT + 2)] == [(401, "signature_invalid")] * (LIMIT + 2)


def test_in_shadow_nothing_is_denied_and_metrics_count_it() -> None:
    """An operator sees what a limit would do before it does it."""
    with open_door(shadow=True) as door:
        assert [said(door.forge()) for _ in range(LIMIT + 2)] == [(401, "signature_invalid")] * (LIMIT + 2)
        assert door.ask(door.idp.mint()).status == 200

        scraped = door.scrape()

    assert 'authz_throttled_total{enforced="false"} 3.0' in scraped
    assert 'authz_throttled_total{enforced="true"} 0.0' in scraped
    assert "authz_throttled_networks 1.0" in scraped
