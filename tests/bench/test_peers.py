"""Proves that other servers are set up for what the sidecar is set up for, and that a wrong one is not measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from authz.demo.loopback import LoopbackServer, Request, Response
from tests.bench.deployments import Deployments
from tests.bench.load import SpoiltError
from tests.bench.peers.servers import PEERS, Addresses, prove
from tests.bench.setups import SETUPS, Kind
from tests.bench.tokens import AUDIENCE, ISSUER, create_key

KEY = create_key("RS256")
AT = Addresses(grpc="127.0.0.1:1", health="127.0.0.1:2", jwks_url="http://127.0.0.1:3/jwks")


@pytest.mark.parametrize("name", [name for name, setup in SETUPS.items() if setup.kind in PEERS])
def test_each_has_the_policy_of_the_sidecar(name: str, tmp_path: Path) -> None:
    """Issuer, audience, algorithm, scope and as many rules as the row says are in its files; it listens for Envoy."""
    setup = SETUPS[name]
    arguments = PEERS[setup.kind].write(setup, tmp_path, AT, '{"keys": []}')
    written = "".join([*arguments, *(file.read_text() for file in tmp_path.iterdir())])
    for needed in (ISSUER, AUDIENCE, "RS256", "orders:read", "x-auth-subject", "x-auth-scopes"):
        assert needed in written
    rules = json.loads((tmp_path / ("rules.json" if setup.kind is Kind.HEIMDALL else "data.json")).read_text())
    assert len(rules["rules"] if setup.kind is Kind.HEIMDALL else rules["bench"]["rules"]) == setup.rules


def test_a_missing_binary_is_said(tmp_path: Path) -> None:
    """The row of a server that is not built says so, and the others are measured."""
    assert KEY is not None
    for kind, peer in PEERS.items():
        setup = next(setup for setup in SETUPS.values() if setup.kind is kind)
        assert Deployments(tmp_path, {"RS256": KEY}).why_not(setup) == peer.why_not()
        assert peer.why_not() in {"", f"no .tools/peers/{peer.binary}: see the README beside"}


ALWAYS_WRONG: dict[str, Callable[[Request], int]] = {
    "a good token was answered 403": lambda _: 403,
    "no token was answered 200": lambda _: 200,
    "a forged token was answered 200": lambda request: 200 if dict(request.headers).get("authorization") else 401,
}


@pytest.mark.parametrize("said", ALWAYS_WRONG)
def test_a_server_that_decides_wrongly_is_not_measured(said: str) -> None:
    """One that allows or denies everything would be fast."""
    assert KEY is not None
    server = LoopbackServer(lambda request: Response(ALWAYS_WRONG[said](request)))
    with server, pytest.raises(SpoiltError, match=said):
        prove(server.url, KEY, now=int(time.time()))
