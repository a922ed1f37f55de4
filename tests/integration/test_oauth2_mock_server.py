"""Proves rotation, outage and recovery against an identity provider that is not ours: npm's oauth2-mock-server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.station import Station
from tests.tools import path

pytestmark = pytest.mark.needs("node", "oauth2-mock-server")

Order = Callable[..., Any]


@pytest.fixture
def order() -> Iterator[Order]:
    """Give the provider orders, such as `rotate k2`."""
    index = Path(path("oauth2-mock-server")).resolve().with_name("index.mjs")
    command = [path("node"), str(Path(__file__).with_name("oauth2_mock.mjs")), str(index)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as provider:
        assert provider.stdin
        assert provider.stdout
        stdin, stdout = provider.stdin, provider.stdout

        def give(*words: str) -> Any:  # noqa: ANN401 - JSON
            print(*words, file=stdin, flush=True)
            return json.loads(stdout.readline())

        yield give
        stdin.close()
        provider.wait(HANG_SECONDS)


def station(issuer: str) -> Station:
    """A sidecar that trusts the provider, and waits for keys that are new."""
    fetch = "{max_wait: 10s}"
    return Station(f"  mock: {{issuer: '{issuer}', audiences: [api], insecure: {{http: true}}, fetch: {fetch}}}\n")


def test_rotation_at_run_time(order: Order) -> None:
    """Its first key works, a key that it makes while running works with the first token, and the old one with it."""
    with station(order("start", "k1")).settle() as sidecar:
        old = order("token", "k1")
        assert sidecar.ask(old) == "authenticated"
        order("rotate", "k2")
        assert sidecar.ask(order("token", "k2")) == "authenticated"
        assert sidecar.ask(old) == "authenticated"


def test_outage_and_a_new_set(order: Order) -> None:
    """While it is down its keys continue to serve; when it is back with another key, only that one works."""
    with station(order("start", "k1")).settle() as sidecar:
        old = order("token", "k1")
        order("stop")
        assert sidecar.ask(old) == "authenticated"
        order("start", "k2")
        new = order("token", "k2")
        wait_until(lambda: sidecar.ask(new) == "authenticated")
        assert sidecar.ask(old) == "key_not_found"
