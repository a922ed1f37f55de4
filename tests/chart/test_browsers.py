"""Proves what pages in browsers can do through the chart's Envoy: CORS, WebSockets and gRPC-Web, each authorized."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template
from typing import Any, Final

import grpc
import pytest
import websockets.sync.client
import websockets.sync.server
from websockets.exceptions import InvalidStatus

from authz.demo.client import Answer, send
from authz.demo.loopback import LoopbackServer, Request, Response
from tests.chart.harness import Stage, merge, set_stage
from tests.chart.helm import Charts
from tests.fakes.waiting import HANG_SECONDS

pytestmark = [pytest.mark.needs("helm", "envoy"), pytest.mark.xdist_group("chart-browsers")]

CHROMIUM: Final = "/usr/lib/chromium/chromium-headless-shell"  # Debian's command is a shell that passes no signals on
CHANGES: Final[dict[str, Any]] = {
    "authz": {
        "config": {
            "rules": [{"name": "orders", "match": {"paths": ["/orders/**"]}, "allow": "authenticated"}],
            "identity": {"headers": {"x-auth-subject": "sub"}},
        }
    },
}
PAGE: Final = Template("""<!doctype html><script type="module">
const seen = {};
async function ask(name, init) {
  try {
    const answer = await fetch("$front/orders/7", init);
    const body = await answer.json();
    const challenge = answer.headers.get("www-authenticate");
    seen[name] = {status: answer.status, decided: "decision_id" in body, challenge};
  } catch (error) {
    seen[name] = error.name;
  }
}
await ask("with token", {method: "PUT", headers: {authorization: "Bearer $token"}});
await ask("without token", {});
await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
</script>""")


class Site:
    """A server of one page, which reports what its script saw."""

    def __init__(self) -> None:
        self.page = b""
        self.seen: dict[str, Any] = {}
        self._reported = threading.Event()
        self._server = LoopbackServer(self._answer)
        self.origin = self._server.url

    def _answer(self, request: Request) -> Response:
        if request.path == "/seen":
            self.seen = json.loads(request.body)
            self._reported.set()
        return Response(200, (("Content-Type", "text/html"),), self.page)

    def visit(self, page: str, folder: Path) -> dict[str, Any]:
        """Let Chromium open the page; return what its script saw."""
        self.page = page.encode()
        quiet = ("--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}")
        argv = [CHROMIUM, *quiet, self.origin]
        with self._server, (folder / "chromium.log").open("wb") as log:
            browser = subprocess.Popen(argv, stdout=log, stderr=log)
            try:
                assert self._reported.wait(HANG_SECONDS), (folder / "chromium.log").read_text()
            finally:
                browser.terminate()
                browser.wait(HANG_SECONDS)
        return self.seen


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="authz-") as made:
        yield Path(made)


@pytest.mark.needs("chromium-headless-shell")
def test_a_page_of_a_listed_origin_reads_answers_and_denials(charts: Charts, folder: Path) -> None:
    """The preflight passes without a token; the script reads a 401 and its challenge; another page reads nothing."""
    listed, other = Site(), Site()
    changes = merge(CHANGES, {"proxy": {"cors": {"allowOrigins": [listed.origin]}}})
    with set_stage(charts, folder, changes) as stage:
        page = PAGE.substitute(front=stage.front, token=stage.idp.mint())
        for site, name in ((listed, "listed"), (other, "other")):
            (folder / name).mkdir()
            site.visit(page, folder / name)
    assert listed.seen == {
        "with token": {"status": 200, "decided": False, "challenge": None},
        "without token": {"status": 401, "decided": True, "challenge": 'Bearer realm="api"'},
    }
    assert other.seen == {"with token": "TypeError", "without token": "TypeError"}


def preflight(stage: Stage, origin: str) -> Answer:
    """Ask as a browser does before it sends a token across origins."""
    asked = [("Origin", origin), ("Access-Control-Request-Method", "GET")]
    asked += [("Access-Control-Request-Headers", "authorization")]
    return send(f"{stage.front}/orders/7", method="OPTIONS", headers=asked)


def test_envoy_answers_preflights_of_listed_origins_alone(charts: Charts, folder: Path) -> None:
    """The sidecar is not asked about them; another origin's is a request like any other, and denied."""
    origin = "https://app.example.com"
    cors = {"allowOrigins": [origin], "allowCredentials": True, "allowHeaders": ["authorization"]}
    with set_stage(charts, folder, merge(CHANGES, {"proxy": {"cors": cors}})) as stage:
        before = stage.decisions()
        allowed = preflight(stage, origin)
        assert (allowed.status, stage.decisions()) == (200, before)
        for name, value in (
            ("origin", origin),
            ("headers", "authorization"),
            ("methods", "GET,HEAD,POST,PUT,PATCH,DELETE"),
            ("credentials", "true"),
        ):
            assert allowed.header(f"access-control-allow-{name}") == value
        assert allowed.header("access-control-max-age") == "600"
        for other in ("https://evil.example.com", "https://app.example.com.evil.test", "null"):
            denied = preflight(stage, other)
            assert (denied.status, denied.header("access-control-allow-origin")) == (401, None)
        answer = stage.ask("/orders/7", client="203.0.113.1", token=stage.idp.mint(), headers=[("Origin", origin)])
        assert (answer.status, answer.header("vary")) == (200, "origin")


@contextmanager
def echoing_websocket() -> Iterator[int]:
    """A WebSocket server that sends back each message, after the subject that it was given; yields its port."""

    def echo(connection: websockets.sync.server.ServerConnection) -> None:
        assert connection.request is not None
        for message in connection:
            connection.send(f"{connection.request.headers['x-auth-subject']}: {message!s}")

    with websockets.sync.server.serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(HANG_SECONDS)


def refused(url: str) -> websockets.Response:
    """Open a WebSocket that is refused; return the answer."""
    with pytest.raises(InvalidStatus) as raised, websockets.sync.client.connect(url, open_timeout=HANG_SECONDS):
        pass
    return raised.value.response


def test_a_websocket_is_opened_with_a_token_and_no_other(charts: Charts, folder: Path) -> None:
    """The request that opens it is decided on as any: identity goes to the server, a denial has its challenge."""
    with ExitStack() as running:
        port = running.enter_context(echoing_websocket())
        proxy = {"websocket": {"enabled": True}, "upstream": {"port": port}}
        stage = running.enter_context(set_stage(charts, folder, merge(CHANGES, {"proxy": proxy})))
        url = stage.front.replace("http://", "ws://") + "/orders/live"
        bearer = {"Authorization": f"Bearer {stage.idp.mint(sub='alice')}", "X-Auth-Subject": "root"}
        with websockets.sync.client.connect(url, additional_headers=bearer, open_timeout=HANG_SECONDS) as client:
            client.send("hello")
            assert client.recv(HANG_SECONDS) == "alice: hello"
        answer = refused(url)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="api"')
        assert json.loads(answer.body or b"")["decision_id"]
        assert refused(url.replace("/orders/live", "/elsewhere")).status_code == 403


def test_websockets_are_refused_unless_they_are_wanted(charts: Charts, folder: Path) -> None:
    """Envoy itself answers 403 with an empty body, and says why in the access log."""
    with set_stage(charts, folder, CHANGES) as stage:
        answer = refused(stage.front.replace("http://", "ws://") + "/orders/live")
        assert (answer.status_code, answer.body) == (403, b"")
        assert stage.access_log(status=403)["details"] == "upgrade_failed"


@contextmanager
def grpc_server() -> Iterator[int]:
    """A gRPC server that answers each call with the subject that it was given; yields its port."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        subject = dict(context.invocation_metadata())["x-auth-subject"]
        return f"{subject!s}: {request.decode()}".encode()

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            assert handler_call_details.method == "/orders/Get"
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def call(stage: Stage, message: bytes, *headers: tuple[str, str]) -> tuple[Answer, list[tuple[int, bytes]]]:
    """Call over gRPC-Web, as a page does over HTTP/1.1: the answer, and the frames in its body, flag and content."""
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    kind = ("Content-Type", "application/grpc-web+proto")
    answer = send(f"{stage.front}/orders/Get", method="POST", headers=[kind, ("X-Grpc-Web", "1"), *headers], body=body)
    frames, rest = [], answer.body
    while rest:
        size = int.from_bytes(rest[1:5], "big")
        frames.append((rest[0], rest[5 : 5 + size]))
        rest = rest[5 + size :]
    return answer, frames


def test_a_call_over_grpc_web_is_decided_on_as_grpc(charts: Charts, folder: Path) -> None:
    """The upstream gets gRPC with the identity; a denial has a status of HTTP and of gRPC, for a page to read."""
    origin = ("Origin", "https://app.example.com")
    with ExitStack() as running:
        upstream = {"port": running.enter_context(grpc_server()), "protocol": "http2"}
        proxy = {"grpcWeb": {"enabled": True}, "cors": {"allowOrigins": [origin[1]]}, "upstream": upstream}
        stage = running.enter_context(set_stage(charts, folder, merge(CHANGES, {"proxy": proxy})))
        token = ("Authorization", f"Bearer {stage.idp.mint(sub='alice')}")
        answer, frames = call(stage, b"hello", token, origin)
        assert answer.header("content-type") == "application/grpc-web+proto"
        assert frames[0] == (0, b"alice: hello")
        assert frames[1][0] == 0x80  # trailers
        assert b"grpc-status:0" in frames[1][1]
        denied, _ = call(stage, b"hello", origin)
        assert (denied.status, denied.header("grpc-status")) == (401, "16")
        assert denied.header("access-control-allow-origin") == origin[1]
        assert "grpc-status" in (denied.header("access-control-expose-headers") or "")
        assert "x-grpc-web" in (preflight(stage, origin[1]).header("access-control-allow-headers") or "")
