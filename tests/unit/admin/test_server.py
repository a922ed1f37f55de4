"""Proves authz.admin: what probes and scrapers get, and what no one gets."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.client import HTTPException
from threading import Event, Semaphore

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from authz.admin.routes import AdminRequest, AdminResponse, dispatch, is_local_peer, make_routes
from authz.admin.server import MAX_BODY_BYTES, MAX_CONNECTIONS, MAX_SECONDS, MAX_THREADS, AdminServer
from authz.config.address import TcpAddress, UnixAddress
from authz.demo.client import Answer, send
from authz.runtime.worker_sockets import request_all
from tests.fakes.clock import FakeClock
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.unit.envoy.serving import short_folder

ROUTES = make_routes(waiting_for=list, registry=CollectorRegistry(), keys=dict, refresh=lambda _: None)


def make_admin(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    waiting_for: Callable[[], list[str]] = list,
    registry: CollectorRegistry | None = None,
    keys: Callable[[], Mapping[str, object]] = lambda: {"issuers": []},
    refresh: Callable[[str | None], Mapping[str, object] | None] = lambda _: None,
    clock: FakeClock | None = None,
) -> AdminServer:
    """Bind an admin server."""
    return AdminServer(
        TcpAddress(host, port),
        make_routes(waiting_for=waiting_for, registry=registry or CollectorRegistry(), keys=keys, refresh=refresh),
        monotonic=(clock or FakeClock()).monotonic,
    )


@contextmanager
def answering(admin: AdminServer, host: str = "127.0.0.1") -> Iterator[Callable[[str], Answer]]:
    """Start *admin*, and give a way to ask it; then stop it."""
    admin.start()
    try:
        yield lambda path: send(f"http://{host}:{admin.port}{path}")
    finally:
        admin.stop()


@pytest.fixture(scope="module")
def usual() -> Iterator[Callable[..., Answer]]:
    """A way to ask one admin server for all tests that leave it as it was."""
    admin = make_admin()
    with answering(admin):
        yield lambda path, **how: send(f"http://127.0.0.1:{admin.port}{path}", **how)


def test_it_is_alive_whatever_it_waits_for() -> None:
    """Liveness never depends on an issuer: a restart would not fix it."""
    with answering(make_admin(waiting_for=lambda: ["keys of a"])) as ask:
        assert (ask("/livez").status, ask("/livez").body) == (200, b"alive\n")


def test_it_is_ready_when_it_waits_for_nothing() -> None:
    """Readiness names what is missing, and follows it."""
    missing = ["keys of a", "keys of b"]
    with answering(make_admin(waiting_for=lambda: missing)) as ask:
        assert (ask("/readyz").status, ask("/readyz").body) == (503, b"waiting for keys of a, keys of b\n")
        missing.clear()
        assert (ask("/readyz").status, ask("/readyz").body) == (200, b"ready\n")
        assert ask("/readyz?verbose=1").status == 200


def test_metrics_are_in_prometheus_text() -> None:
    """A scraper can parse them, and they are those of the registry alone."""
    registry = CollectorRegistry()
    Counter("seen", "What was seen.", registry=registry).inc(3)
    with answering(make_admin(registry=registry)) as ask:
        answer = ask("/metrics")
    assert (answer.status, answer.header("content-type")) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert [sample.value for sample in families["seen"].samples if sample.name == "seen_total"] == [3.0]
    assert families.keys() <= {"seen", "seen_created"}


def test_metrics_are_openmetrics_for_those_who_ask() -> None:
    """That form alone carries exemplars: Prometheus asks for it, others get the one that all can read."""
    registry = CollectorRegistry()
    Counter("seen", "What was seen.", registry=registry).inc(1, {"trace_id": "t1"})
    with answering(make_admin(registry=registry)) as ask:
        assert b"t1" not in ask("/metrics").body
    admin = make_admin(registry=registry)
    with answering(admin):
        headers = [("Accept", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2")]
        answer = send(f"http://127.0.0.1:{admin.port}/metrics", headers=headers)
    assert (answer.header("content-type") or "").startswith("application/openmetrics-text; version=1.0.0")
    assert b'# {trace_id="t1"}' in answer.body
    assert answer.body.endswith(b"# EOF\n")


def test_keys_are_told_to_this_host() -> None:
    """The document that `authz keys` prints."""
    with answering(make_admin(keys=lambda: {"issuers": [1]})) as ask:
        assert json.loads(ask("/keys").body) == {"issuers": [1]}


@pytest.mark.parametrize("path", ["/", "/readyz/", "/metrics/x", "/READYZ", "/debug", "/%6civez", "/..%2fkeys"])
def test_there_is_nothing_else(usual: Callable[..., Answer], path: str) -> None:
    """404 with the list of what there is."""
    assert usual(path).status == 404
    assert b"/livez /readyz /metrics" in usual(path).body


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(usual: Callable[..., Answer], method: str) -> None:
    """Only GET is answered, and POST where it is meant."""
    assert usual("/readyz", method=method).status == 501
    assert usual("/readyz", method="POST").status == 405
    assert usual("/nowhere", method="POST").status == usual("/keys/refresh").status == 404


def test_an_operator_has_keys_fetched() -> None:
    """A POST with the configured name, or without one for all; it names what was started, or the unknown name."""
    asked: list[str | None] = []

    def refresh(name: str | None) -> Mapping[str, object] | None:
        asked.append(name)
        return None if name == "nobody" else {"issuers": [name or "all"]}

    admin = make_admin(refresh=refresh)
    with answering(admin):
        url = f"http://127.0.0.1:{admin.port}/keys/refresh"
        one, every, none = (send(f"{url}{query}", method="POST") for query in ("?issuer=a%20b", "", "?issuer=nobody"))
    assert (one.status, json.loads(one.body)) == (202, {"issuers": ["a b"]})
    assert (every.status, json.loads(every.body)) == (202, {"issuers": ["all"]})
    assert none.status == 404
    assert asked == ["a b", None, "nobody"]


def test_no_page_in_a_browser_has_keys_fetched() -> None:
    """Anyone who forwards the port to their desk also lets their browser reach it, and with it any page."""
    asked: list[str | None] = []

    def refresh(name: str | None) -> Mapping[str, object]:
        asked.append(name)
        return {}

    admin = make_admin(refresh=refresh)
    with answering(admin):
        url = f"http://127.0.0.1:{admin.port}/keys/refresh"
        assert send(url, method="POST", headers=[("Origin", "https://evil.test")]).status == 403
    request = AdminRequest(("192.0.2.1", 1), "", "POST")
    assert dispatch(ROUTES, "/keys/refresh", request).status == 403
    assert asked == []


def test_it_does_not_say_what_runs_it(usual: Callable[..., Answer]) -> None:
    """No version of Python in the Server header."""
    assert (usual("/livez").header("server") or "").strip() == "authz"


def test_a_caller_that_says_nothing_holds_up_nobody() -> None:
    """Each connection has a thread of its own."""
    with answering(admin := make_admin()) as ask, socket.create_connection(("127.0.0.1", admin.port)) as silent:
        silent.sendall(b"GET /live")
        assert ask("/livez").status == 200


def test_what_breaks_ends_one_request() -> None:
    """An error behind one path leaves the others alone."""

    def broken() -> dict[str, object]:
        raise BrokenPipeError

    with answering(make_admin(keys=broken)) as ask:
        with pytest.raises(OSError, match="without response"):
            ask("/keys")
        assert ask("/livez").status == 200


def test_it_listens_on_ipv6() -> None:
    """[::1]:9192 is an address that the configuration allows."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this host has no IPv6")
    with answering(make_admin("::1"), "[::1]") as ask:
        assert ask("/livez").status == 200


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1"])
def test_every_address_is_of_both_kinds(host: str) -> None:
    """[::]:9192 takes IPv4 too, and knows its own host by either address."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this host has no IPv6")
    with answering(make_admin("::"), host) as ask:
        assert ask("/livez").status == 200
        assert ask("/keys").status == 200


def test_a_port_that_is_taken_is_named() -> None:
    """The message names the address, for there are two listeners in one process."""
    first = make_admin()
    with answering(first), pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{first.port}: .*in use"):
        make_admin(port=first.port)


def connect(admin: AdminServer) -> socket.socket:
    """Open a connection that says nothing yet."""
    return socket.create_connection(("127.0.0.1", admin.port), timeout=HANG_SECONDS)


def test_connections_are_bounded_in_number() -> None:
    """For one too many the oldest is ended, and no other."""
    with ExitStack() as open_, answering(admin := make_admin()) as ask_it:
        oldest, *others = [open_.enter_context(connect(admin)) for _ in range(MAX_CONNECTIONS)]
        assert ask_it("/livez").status == 200
        assert oldest.recv(1) == b""
        for connection in others:
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert connection.recv(1) == b"H"


def test_silent_connections_that_are_opened_anew_keep_no_probe_out() -> None:
    """An attacker who fills every place, and fills it again, is who makes room."""
    with ExitStack() as open_, answering(admin := make_admin()) as ask_it:
        for _ in range(5):
            for _ in range(MAX_CONNECTIONS):
                open_.enter_context(connect(admin))
            assert answers(ask_it)


def test_threads_are_bounded_in_number() -> None:
    """Who was ended may compute an answer still: there is an end to how many do."""
    computing, done = Semaphore(0), Event()

    def compute() -> dict[str, object]:
        computing.release()
        done.wait()
        return {}

    with ExitStack() as open_, answering(admin := make_admin(keys=compute)) as ask_it:
        for _ in range(MAX_THREADS):
            open_.enter_context(connect(admin)).sendall(b"GET /keys HTTP/1.0\r\n\r\n")
            assert computing.acquire(timeout=HANG_SECONDS)
        assert not answers(ask_it)
        done.set()
        wait_until(lambda: answers(ask_it))


def test_connections_are_bounded_in_time() -> None:
    """Who sends a byte now and then is cut off all the same."""
    clock = FakeClock()
    with ExitStack() as open_, answering(admin := make_admin(clock=clock)) as ask_it:
        slow = [open_.enter_context(connect(admin)) for _ in range(MAX_CONNECTIONS - 1)]
        for connection in slow:
            connection.sendall(b"GET /livez")
        assert answers(ask_it)
        clock.advance(MAX_SECONDS)
        assert [connection.recv(1) for connection in slow] == [b""] * len(slow)
        assert answers(ask_it)


def answers(ask_it: Callable[[str], Answer]) -> bool:
    """Whether there is room for a probe."""
    try:
        return ask_it("/livez").status == 200
    except (OSError, HTTPException):
        return False


def test_it_listens_on_a_socket_whose_callers_are_here() -> None:
    """A worker is asked over its own socket, also for keys; what a killed one left behind is replaced."""
    with short_folder() as folder:
        path = folder / "0.sock"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        admin = AdminServer(UnixAddress(str(path)), ROUTES)
        assert admin.address == str(path)
        admin.start()
        assert request_all([path], "/keys", seconds=HANG_SECONDS)[0].status == 200
        admin.stop()
        assert not path.exists()


def test_a_socket_that_cannot_be_is_named() -> None:
    """The message names the path, whatever is wrong with it."""
    for path in ("/nowhere/0.sock", f"/tmp/{'a' * 120}"):  # noqa: S108 - nothing is made there
        with pytest.raises(OSError, match=f"cannot listen on {path}: "):
            AdminServer(UnixAddress(path), ROUTES)


def test_what_was_never_started_can_be_stopped() -> None:
    """A start that fails later gives the port back."""
    admin = make_admin()
    admin.stop()
    make_admin(port=admin.port).stop()


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        ("", True),
        (("127.0.0.1", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("10.0.0.1", 1), False),
        (("127.0.0.6", 1), False),  # another peer, by way of Istio's sidecar
        (("::ffff:127.0.0.6", 1, 0, 0), False),
        (("::6", 1, 0, 0), False),
    ],
)
def test_who_is_here(peer: object, *, here: bool) -> None:
    """Loopback, and any process that can open a socket in a folder of ours."""
    assert is_local_peer(peer) is here


def test_what_is_posted_is_read_up_to_a_bound() -> None:
    """A route has the body; one that is too large, or of no length that can be read, is refused unread."""
    seen: list[bytes] = []

    def echo(request: AdminRequest) -> AdminResponse:
        seen.append(request.body)
        return AdminResponse(HTTPStatus.OK, b"", headers=(("x-host", request.host or ""),))

    admin = AdminServer(TcpAddress("127.0.0.1", 0), {"POST /echo": echo}, monotonic=FakeClock().monotonic)
    with answering(admin):
        url = f"http://127.0.0.1:{admin.port}/echo"
        good = send(url, method="POST", body=b"x" * MAX_BODY_BYTES)
        assert (good.status, good.header("x-host")) == (200, f"127.0.0.1:{admin.port}")
        for length in (str(MAX_BODY_BYTES + 1), "9" * 30):
            assert send(url, method="POST", headers=[("Content-Length", length)]).status == 413
        for length in ("-1", "x", "1.5"):
            assert send(url, method="POST", headers=[("Content-Length", length)]).status == 400
        chunked = [("Transfer-Encoding", "chunked")]  # a body that would be taken for none
        assert send(url, method="POST", headers=chunked, body=b"0\r\n\r\n").status == 411
    assert [len(body) for body in seen] == [MAX_BODY_BYTES]


def test_keys_are_told_under_a_name_of_this_host() -> None:
    """A page elsewhere whose own name was made to resolve to this host (DNS rebinding) reads nothing."""
    for host, status in (("localhost:9192", 200), ("127.0.0.1", 200), ("evil.test:9192", 403)):
        request = AdminRequest(("127.0.0.1", 1), "", host=host)
        assert dispatch(ROUTES, "/keys", request).status == status
