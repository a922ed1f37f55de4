"""Proves what the page on gRPC without Envoy says: a real grpc-java, whose own filter asks the real sidecar.

Of the sidecar's half everything is expected, of grpc-java what its release does: a call that the sidecar allows may end
as CANCELLED, by a race between its filter and its own call.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from authz.demo.client import send
from authz.demo.sidecar import Sidecar
from authz.demo.signing import SigningKey
from tests.fakes.ports import free_address
from tests.fakes.waiting import HANG_SECONDS
from tests.tools import TOOLS, path

pytestmark = pytest.mark.needs("java", "peers/grpc-java")

BUILT: Final = TOOLS / "peers/grpc-java/target"
SWITCH: Final = "GRPC_EXPERIMENTAL_XDS_EXT_AUTHZ_ON_CLIENT"
ISSUER: Final = "https://idp.test"
ORDERS: Final = "shop.Orders/Get"
HEALTH: Final = "shop.Health/Check"
TRIES: Final = 20
KEY: Final = SigningKey.create("ES256", kid="one")
CONFIG: Final = """version: 1
server: {{listen: "{listen}"}}
admin: {{listen: "{admin}"}}
issuers:
  idp: {{issuer: "{issuer}", audiences: [orders], algorithms: [ES256], jwks_file: "{jwks}"}}
rules:
  - {{name: health, match: {{paths: ["/shop.Health/**"]}}, allow: public}}
  - {{name: orders, match: {{paths: ["/shop.Orders/**"]}}, require: {{scopes: [read]}}}}
identity: {{headers: {{x-auth-subject: sub}}}}
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make."""

    method: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: its status, and the headers that the backend saw, None where it was not reached."""

    code: str
    description: str | None
    seen: Mapping[str, str] | None


class Deployment:
    """A sidecar on TCP, and grpc-java that asks it."""

    def __init__(self, folder: Path) -> None:
        jwks = folder / "jwks.json"
        jwks.write_text(json.dumps({"keys": [KEY.public()]}), encoding="utf-8")
        self._address: Final = free_address()
        admin = free_address()
        text = CONFIG.format(listen=self._address, admin=admin, issuer=ISSUER, jwks=jwks)
        self.sidecar: Final = Sidecar(text, admin=admin, folder=folder)

    def make(self, calls: Sequence[Call], *options: str, switched_on: bool = True) -> list[Outcome]:
        """Make the calls one after the other, by a client of its own; its filter is *switched_on* or unknown to it."""
        command = [path("java"), "-cp", f"{BUILT}/classes:{BUILT}/dependency/*", "Caller"]
        environment = {name: value for name, value in os.environ.items() if name != SWITCH}
        done = subprocess.run(
            [*command, self._address, *options, *(["patient"] if switched_on else [])],
            input="".join(f"{json.dumps({'method': call.method, 'headers': call.headers})}\n" for call in calls),
            env=environment | ({SWITCH: "true"} if switched_on else {}),
            capture_output=True,
            check=False,
            text=True,
            timeout=HANG_SECONDS * 5,
        )
        assert done.returncode == 0, done.stderr
        return [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]

    def decisions(self) -> list[dict[str, Any]]:
        """What the sidecar decided so far, the oldest first."""
        found: list[dict[str, Any]] = send(f"{self.sidecar.admin_url}/decisions").json()["decisions"]
        return found[::-1]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A sidecar that has decided nothing yet."""
    running = Deployment(tmp_path)
    try:
        running.sidecar.start()
        yield running
    finally:
        running.sidecar.stop()


def bearer(**changes: object) -> dict[str, str]:
    """Write the header of a good token, with changes to its claims."""
    claims = {"iss": ISSUER, "aud": "orders", "sub": "alice", "exp": 4_000_000_000, "scope": "read", **changes}
    return {"authorization": f"Bearer {KEY.sign(claims)}"}


def test_every_call_is_decided_as_through_envoy(deployment: Deployment) -> None:
    """A good token is allowed, a public method too, and a call is denied for the reason that it would have in Envoy."""
    calls = [
        Call(ORDERS, bearer()),
        Call(HEALTH, {}),
        Call(ORDERS, {}),
        Call(ORDERS, {"authorization": "Bearer a.b.c"}),
        Call(ORDERS, bearer(scope="write")),
        Call("shop.Other/Get", bearer()),
    ]
    outcomes = deployment.make(calls)
    assert [outcome.code for outcome in outcomes[2:]] == [
        "UNAUTHENTICATED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
    ]
    assert [
        (each["decision"], each["reason"], each["rule"], each["method"], each["path"])
        for each in deployment.decisions()
    ] == [
        ("allow", "authenticated", "orders", "POST", f"/{ORDERS}"),
        ("allow", "public", "health", "POST", f"/{HEALTH}"),
        ("deny", "token_missing", "orders", "POST", f"/{ORDERS}"),
        ("deny", "token_malformed", "orders", "POST", f"/{ORDERS}"),
        ("deny", "insufficient_scope", "orders", "POST", f"/{ORDERS}"),
        ("deny", "policy_denied", None, "POST", "/shop.Other/Get"),
    ]


def test_a_denied_call_ends_with_its_status_and_decision_id(deployment: Deployment) -> None:
    """The application gets UNAUTHENTICATED or PERMISSION_DENIED and the id to look for; the backend gets nothing."""
    outcomes = deployment.make([Call(ORDERS, {}), Call(ORDERS, bearer(scope="write"))])
    ids = [each["decision_id"] for each in deployment.decisions()]
    said = "RPC denied by external authorization server"  # grpc-java's own words, before those of the answer
    assert outcomes == [
        Outcome("UNAUTHENTICATED", f"{said}: Unauthorized, decision {ids[0]}", None),
        Outcome("PERMISSION_DENIED", f"{said}: Forbidden, decision {ids[1]}", None),
    ]


def test_an_allowed_call_arrives_with_our_identity_or_is_cancelled_by_the_client(deployment: Deployment) -> None:
    """Each is allowed by the sidecar. Whatever grpc-java makes of it, no forged identity reaches the backend."""
    forged = {**bearer(), "x-auth-subject": "root"}
    outcomes = deployment.make([Call(ORDERS, forged)] * TRIES)
    assert [each["reason"] for each in deployment.decisions()] == ["authenticated"] * TRIES
    assert {outcome.code for outcome in outcomes} <= {"OK", "CANCELLED"}
    assert {outcome.seen["x-auth-subject"] for outcome in outcomes if outcome.seen is not None} <= {"alice"}
    assert all(outcome.seen is not None for outcome in outcomes if outcome.code == "OK")


def test_a_client_without_the_variable_makes_no_call(deployment: Deployment) -> None:
    """It does not know the filter and refuses the listener: every call fails, and the sidecar is not asked."""
    (outcome,) = deployment.make([Call(ORDERS, bearer())], switched_on=False)
    assert (outcome.code, outcome.seen) == ("UNAVAILABLE", None)
    assert deployment.decisions() == []


def test_an_optional_filter_without_the_variable_checks_nothing(deployment: Deployment) -> None:
    """As the page warns: every call passes unchecked, with whatever identity the client claims."""
    (outcome,) = deployment.make([Call(ORDERS, {"x-auth-subject": "root"})], "optional", switched_on=False)
    assert outcome.code == "OK"
    assert outcome.seen is not None
    assert outcome.seen["x-auth-subject"] == "root"
    assert deployment.decisions() == []
