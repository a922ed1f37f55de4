"""Faults below a real Envoy: whatever breaks in the sidecar, and whatever a client sends to break it, no one passes.

Each story is told three times: to an Envoy that lets no one pass on errors, and to two that were told to let everybody
pass, one for each transport.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import pytest

from authz.core.reasons import Reason
from authz.core.snapshot import Responses
from authz.demo.bootstrap import Proxy
from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.loopback import Header
from authz.demo.upstream import echo_server
from authz.envoy.checker import Checker
from authz.envoy.server import AuthorizationServer
from authz.envoy.transport.choice import TransportFactory
from authz.envoy.transport.cygrpc import CygrpcTransport
from authz.envoy.transport.pool import PoolTransport
from authz.envoy.transport.port import Deferred
from authz.telemetry.check_record import Metadata
from tests.e2e.harness import Reply
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.fixtures import make_snapshot, mint
from tests.unit.envoy.asking import AFTER, NEW, UNKNOWN, FakeLane, HeldLane, make_checker, told
from tests.unit.envoy.breaking import ERRORS, SECRET, STAGES
from tests.unit.envoy.serving import SECONDS, method, short_folder

pytestmark = [pytest.mark.needs("envoy"), pytest.mark.xdist_group("faults")]

MAX_CONCURRENT = 2
TOKEN = mint(NEW)


class Sabotaged(Checker):
    """A Checker that a test may replace while Envoy is connected."""

    def __init__(self) -> None:
        self.current = make_checker()

    def check(
        self, data: bytes, *, received: float, time_left: float | None, metadata: Metadata = ()
    ) -> bytes | Deferred:
        return self.current.check(data, received=received, time_left=time_left)

    def reject(self, reason: Reason, *, received: float, metadata: Metadata = ()) -> bytes:
        return self.current.reject(reason, received=received)


@dataclass(frozen=True, slots=True)
class Front:
    """One Envoy before the sidecar that is sabotaged."""

    envoy: Envoy
    checker: Sabotaged
    socket: Path

    def ask(self, token: str | None = TOKEN, *, path: str = "/items/1", headers: Sequence[Header] = ()) -> Reply:
        """Send one request to Envoy."""
        bearer = [] if token is None else [("Authorization", f"Bearer {token}")]
        return Reply(send(f"{self.envoy.url}{path}", headers=[*headers, *bearer]))

    @property
    def errors(self) -> int:
        """How often Envoy took an answer for an error, which may fail open."""
        return self.stat("http.front.ext_authz.authz.error")

    def stat(self, name: str) -> int:
        """Read one of Envoy's numbers."""
        body = send(f"{self.envoy.admin_url}/stats?filter=^{re.escape(name)}$").body.decode()
        return int(body.rpartition(" ")[2])


FRONTS: Final[dict[str, tuple[TransportFactory, bool]]] = {
    "failing closed": (CygrpcTransport, False),
    "failing open": (CygrpcTransport, True),
    "failing open, on grpcio's public API": (PoolTransport, True),
}


@pytest.fixture(scope="module", params=list(FRONTS.values()), ids=list(FRONTS))
def running(request: pytest.FixtureRequest) -> Iterator[Front]:
    """A sidecar in this process, and an Envoy that traces, and pings the sidecar ten times a second."""
    with ExitStack() as parts:
        folder = parts.enter_context(short_folder())
        checker, socket = Sabotaged(), folder / "authz.sock"
        transport, failure_mode_allow = request.param
        server = AuthorizationServer(checker, transport=transport, max_concurrent=MAX_CONCURRENT)
        server.listen_unix(socket, mode=0o600)
        server.start()
        parts.callback(server.stop, grace=0)
        upstream = parts.enter_context(echo_server())
        proxy = Proxy(
            upstream=f"127.0.0.1:{upstream.port}",
            sidecars=(f"unix:{socket}",),
            failure_mode_allow=failure_mode_allow,
            timeout_ms=60_000,
            trace_collector=free_address(),
            max_request_headers_kb=96,
        )
        envoy = Envoy(proxy, folder)
        let_ping(folder / "envoy.json")
        parts.callback(envoy.stop)
        envoy.start()
        yield Front(envoy, checker, socket)


def let_ping(bootstrap: Path) -> None:
    """Add keep-alive pings to the connection to the sidecar."""
    document = json.loads(bootstrap.read_text())
    (authz,) = (each for each in document["static_resources"]["clusters"] if each["name"] == "authz")
    (options,) = authz["typed_extension_protocol_options"].values()
    options["explicit_http_config"]["http2_protocol_options"] = {
        "connection_keepalive": {"interval": "0.1s", "timeout": "60s"}
    }
    bootstrap.write_text(json.dumps(document))


@pytest.fixture
def front(running: Front) -> Iterator[Front]:
    """The front with a sidecar in order; it is so again afterwards."""
    running.checker.current = make_checker(snapshot=lambda: AFTER)
    yield running
    running.checker.current = make_checker()


def test_in_order_it_lets_pass_and_refuses(front: Front) -> None:
    """The stage of these stories works: without sabotage the same requests have other ends."""
    assert (front.ask().status, front.ask().allowed) == (200, "authenticated")
    assert front.ask(None).status == 401


@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_at_any_stage_lets_nobody_pass(front: Front, stage: str) -> None:
    """Each kind of exception, raised at this stage: 500, the upstream is not reached, and the client learns nothing."""
    for error in ERRORS:
        front.checker.current = make_checker(**STAGES[stage](error))
        for _ in range(2):
            reply = front.ask()
            assert (reply.status, reply.seen) == (500, None), error
            assert SECRET.encode() not in reply.answer.body
            assert SECRET not in str(reply.answer.headers)
    assert front.errors == 0


def test_missing_keys_are_an_error_only_where_the_operator_said_so(front: Front) -> None:
    """`responses.unavailable: deny` refuses under both kinds of Envoy."""
    front.checker.current = make_checker(lane=FakeLane(silent=True, wait=0.0))
    reply = front.ask()
    assert (reply.status, reply.seen, reply.answer.header("retry-after")) == (503, None, "1")


def test_overload_lets_nobody_pass(front: Front) -> None:
    """While as many calls are held as may be, each further request is refused at once."""
    lane = HeldLane()
    front.checker.current = make_checker(
        snapshot=lambda: make_snapshot(responses=Responses(expose_reason=True)), lane=lane
    )
    with grpc.insecure_channel(f"unix:{front.socket}") as channel:
        held = [method(channel).future(UNKNOWN, timeout=SECONDS) for _ in range(MAX_CONCURRENT)]
        try:
            wait_until(lambda: len(lane.found) == MAX_CONCURRENT)
            replies = [front.ask(mint()) for _ in range(20)]
        finally:
            lane.release()
        assert {(reply.status, reply.seen, reply.refused) for reply in replies} == {(503, None, "overloaded")}
        assert {told(call.result()) for call in held} == {"key_not_found"}
    front.checker.current = make_checker()
    assert front.ask(mint()).status == 200


@pytest.mark.parametrize("kilobytes", [20, 60])
def test_a_huge_tracestate_decides_nothing(front: Front, kilobytes: int) -> None:
    """A tracing Envoy copies the client's tracestate into our metadata: the decision is as without it."""
    parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    state = ("tracestate", ",".join(f"k{number}={'x' * 240}" for number in range(kilobytes * 4)))
    for _ in range(5):
        allowed, denied = front.ask(headers=[parent, state]), front.ask(None, headers=[parent, state])
        assert (allowed.status, allowed.allowed) == (200, "authenticated")
        assert (denied.status, denied.seen) == (401, None)


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", "x" * 9000)],
        [("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"), ("tracestate", "=,=,")],
        [("baggage", "k=" + "x" * 60_000)],
        [("grpc-timeout", "1n"), ("grpc-encoding", "gzip"), ("te", "trailers")],
        [("x-envoy-upstream-rq-timeout-ms", "1"), ("x-envoy-expected-rq-timeout-ms", "1")],
        [(f"x-{number}", "v") for number in range(60)],
        [("grpc-trace-bin", "!!"), ("x-b3-traceid", "x"), ("b3", "0")],
    ],
    ids=lambda headers: str(headers[0][0]),
)
def test_headers_that_mean_something_to_grpc_decide_nothing(front: Front, headers: list[Header]) -> None:
    """What a client writes for tracers, gRPC or Envoy itself makes no error of a Check."""
    assert front.ask(None, headers=headers).status == 401
    assert front.ask(headers=headers).status == 200
    assert front.errors == 0


def test_pings_leave_the_connection_open(front: Front) -> None:
    """Envoy pings an idle connection for as long as it likes: it is neither closed nor opened again."""
    assert front.ask().status == 200
    sent = front.stat("cluster.authz.upstream_cx_tx_bytes_total")
    connections = front.stat("cluster.authz.upstream_cx_total")

    wait_until(lambda: front.stat("cluster.authz.upstream_cx_tx_bytes_total") > sent + 10 * PING_BYTES)

    assert front.ask().status == 200
    assert front.stat("cluster.authz.upstream_cx_total") == connections
    assert front.stat("cluster.authz.upstream_cx_destroy") == 0


PING_BYTES = 17  # RFC 9113 section 6.7
