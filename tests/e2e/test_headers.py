"""What the upstream really receives, header by header, through the real Envoy: identity, tokens, tricks, metadata."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import unquote

import pytest

from authz.core import base64url
from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.loopback import Header, LoopbackServer, Request, Response
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address

CONFIG = Template("""version: 1
server: {listen: "unix:$socket"}
admin: {listen: "$admin"}
issuers:
  idp: {issuer: "$issuer", audiences: [api], leeway: 0s, insecure: {http: true}}
token:
  sources: [{header: authorization}, {cookie: session}]
  forward: $forward
rules:
  - {name: public, match: {paths: ["/public/**"]}, allow: public}
  - {name: mixed, match: {paths: ["/mixed/**"]}, allow: optional}
  - {name: trial, match: {paths: ["/trial/**"]}, require: {scopes: [trial]}, shadow: true}
  - {name: items, match: {paths: ["/items/**"]}}
identity:
  headers:
    x-user-id: sub
    x-user-groups: {claim: groups, join: ","}
    x-user-org: {claim: org, format: json}
    x-user-raw: {claim: org, format: base64url}
    x-user-deep: realm_access.level
    x-user-gate: {value: edge}
  metadata: [sub, decision, reason, decision_id]
  unsafe_values: $unsafe
responses: {expose_reason: true}
resource: {identifier: "https://api.test/v1", scopes: [read]}
insecure: {query_token: access_token}
""")


@dataclass(frozen=True, slots=True)
class Front:
    """Envoy with a sidecar behind it, and every request that came through."""

    idp: FakeIdp
    envoy: Envoy
    came: list[Request] = field(default_factory=list)

    def ask(
        self, path: str, *, token: str | None = None, headers: Sequence[Header] = (), method: str = "GET"
    ) -> Answer:
        """Send one request; what came through before is forgotten."""
        self.came.clear()
        bearer = [] if token is None else [("Authorization", f"Bearer {token}")]
        return send(f"{self.envoy.url}{path}", method=method, headers=[*headers, *bearer])

    @property
    def headers(self) -> list[Header]:
        """The header lines of the one request that came through, names in lower case."""
        (request,) = self.came
        return [(name.lower(), value) for name, value in request.headers]

    @property
    def identity(self) -> dict[str, str]:
        """The identity headers that came through, in any spelling; each once."""
        found = [(name, value) for name, value in self.headers if name.replace("_", "-").startswith("x-user-")]
        assert len(dict(found)) == len(found)
        return dict(found)


@contextmanager
def set_front(*, forward: bool = True, unsafe: str = "deny", **differences: Any) -> Iterator[Front]:  # noqa: ANN401
    """Start everything, with an Envoy that differs in the given fields of Proxy."""
    came: list[Request] = []

    def answer(request: Request) -> Response:
        came.append(request)
        return echo(request)

    with (
        tempfile.TemporaryDirectory(prefix="authz-") as folder,
        FakeIdp() as idp,
        LoopbackServer(answer) as upstream,
        ExitStack() as stack,
    ):
        socket, admin = Path(folder) / "authz.sock", free_address()
        names = {"socket": socket, "admin": admin, "issuer": idp.issuer, "unsafe": unsafe}
        config = CONFIG.substitute(names, forward="true" if forward else "false")
        sidecar = Sidecar(config, admin=admin, folder=Path(folder))
        usual = {"upstream": f"127.0.0.1:{upstream.port}", "sidecars": (f"unix:{socket}",), "timeout_ms": 60_000}
        envoy = Envoy(Proxy(**{**usual, **differences}), Path(folder))
        stack.callback(sidecar.stop)
        stack.callback(envoy.stop)
        sidecar.start()
        envoy.start()
        yield Front(idp, envoy, came)


@pytest.fixture(scope="module", params=[False, True], ids=["headers-as-text", "encode_raw_headers"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """The usual front, with headers in either of the two forms in which Envoy sends them."""
    with set_front(encode_raw_headers=request.param) as usual:
        yield usual


@pytest.fixture(scope="module")
def keeping() -> Iterator[Front]:
    """A front that keeps tokens from the upstream, encodes unsafe values and lets WebSockets through."""
    with set_front(forward=False, unsafe="encode", websockets=True) as other:
        yield other


GOOD: dict[str, Any] = {
    "sub": "alice",
    "groups": ["a", "b c"],
    "org": {"id": 7, "name": "Zoë"},
    "realm_access": {"level": 3},
}
FORGED = [
    (name, "forged")
    for name in ("x-user-id", "X_User_Id", "x-user_id", "x_user-id", "X-USER-GROUPS", "x_user_org", "x_user_gate")
]


def test_every_form_of_a_claim(front: Front) -> None:
    """Text, list, JSON, base64url, nested and fixed values arrive as configured; forged ones never do."""
    assert front.ask("/items/1", token=front.idp.mint(**GOOD), headers=FORGED).status == 200
    raw = front.identity.pop("x-user-raw")
    assert base64url.decode(raw.encode()) == b'{"id":7,"name":"Zo\\u00eb"}'
    assert front.identity == {
        "x-user-id": "alice",
        "x-user-groups": "a,b c",
        "x-user-org": '{"id":7,"name":"Zo\\u00eb"}',
        "x-user-raw": raw,
        "x-user-deep": "3",
        "x-user-gate": "edge",
    }


def test_absent_claims_leave_no_header(front: Front) -> None:
    """What the token does not say, no one says."""
    token = front.idp.mint(sub="alice")
    every = [(name, "forged") for name in ("x-user-groups", "x-user-org", "x-user-raw", "x-user-deep")]
    assert front.ask("/items/1", token=token, headers=[*FORGED, *every]).status == 200
    assert front.identity == {"x-user-id": "alice", "x-user-gate": "edge"}


@pytest.mark.parametrize("path", ["/public/1", "/mixed/1", "/trial/1"])
def test_nobody_has_no_headers(front: Front, path: str) -> None:
    """Public, anonymous and shadowed requests carry no one's name, whatever the client sent."""
    assert front.ask(path, headers=FORGED).status == 200
    assert front.identity == {}


def test_a_shadow_tells_who_calls_where_the_token_is_good(front: Front) -> None:
    """A scope that is missing changes nothing about who calls; a bad token makes no one."""
    assert front.ask("/trial/1", token=front.idp.mint(sub="alice"), headers=FORGED).status == 200
    assert front.identity == {"x-user-id": "alice", "x-user-gate": "edge"}
    assert front.ask("/trial/1", token=front.idp.mint(sub="alice", aud="other"), headers=FORGED).status == 200
    assert front.identity == {}


UNSAFE = ["a\r\nx-user-groups: admin", "a\nb", "a\0b", "a\x7f", " a", "Zoë", "漢", "👩‍🚀", "a\u2028b"]


@pytest.mark.parametrize("sub", UNSAFE, ids=ascii)
def test_unsafe_values_are_denied(front: Front, sub: str) -> None:
    """A value that no header can carry never reaches the upstream, nor the client."""
    answer = front.ask("/items/1", token=front.idp.mint(sub=sub))
    assert (answer.status, answer.json()["reason"]) == (403, "header_unsafe")
    assert front.came == []
    assert not any(sub in value for _, value in answer.headers)


@pytest.mark.parametrize("sub", UNSAFE, ids=ascii)
def test_unsafe_values_are_encoded(keeping: Front, sub: str) -> None:
    """Where encoding is chosen, the upstream can decode the very value, and gets nothing but that header."""
    token = keeping.idp.mint(sub=sub, groups=["x,y", "z"])
    assert keeping.ask("/items/1", token=token).status == 200
    assert keeping.identity["x-user-id"].isascii()
    assert unquote(keeping.identity["x-user-id"]) == sub
    assert [unquote(element) for element in keeping.identity["x-user-groups"].split(",")] == ["x,y", "z"]


def test_metadata_cannot_be_forged_by_claims(front: Front) -> None:
    """Claims named as the sidecar's own values lie below `claims`; Envoy reads the sidecar's."""
    token = front.idp.mint(decision="deny", reason="forged", decision_id="forged")
    front.ask("/items/1", token=token, headers=[("x-authz-reason", "forged")])
    told = dict(front.headers)
    assert (told["x-authz-reason"], told["x-authz-decision-id"] == "forged") == ("authenticated", False)


CONNECTIONS = ["x-user-id", "close, X-User-Id", "X-User-Id, x-user-groups", "keep-alive, x_user_id, x-user-gate"]


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_connection_drops_no_identity(front: Front, connection: str) -> None:
    """Envoy takes `connection` and what it names out before it asks: what the sidecar sets comes later and stays."""
    token = front.idp.mint(sub="alice")
    assert front.ask("/items/1", token=token, headers=[*FORGED, ("Connection", connection)]).status == 200
    assert front.identity == {"x-user-id": "alice", "x-user-gate": "edge"}
    assert "connection" not in dict(front.headers)


WEBSOCKET = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "eA==")]


@pytest.mark.parametrize("path", ["/items/1", "/public/1", "/trial/1"])
@pytest.mark.parametrize("named", ["x-user-id", "X-User-Id", "x_user_id", "foo , x-user-gate"])
def test_connection_of_a_websocket_names_no_identity(keeping: Front, path: str, named: str) -> None:
    """With a WebSocket handshake Envoy passes `connection` on, and the next proxy would drop what it names: refused."""
    headers = [*WEBSOCKET, ("Connection", f"Upgrade, {named}")]
    answer = keeping.ask(path, token=keeping.idp.mint(), headers=headers)
    assert (answer.status, answer.json()["reason"]) == (400, "request_malformed")
    assert keeping.came == []


def test_a_websocket_passes(keeping: Front) -> None:
    """A handshake as browsers send it reaches the upstream, with the identity."""
    keeping.ask("/items/1", token=keeping.idp.mint(sub="alice"), headers=[*WEBSOCKET, ("Connection", "Upgrade")])
    assert dict(keeping.headers)["connection"].lower() == "upgrade"
    assert keeping.identity == {"x-user-id": "alice", "x-user-gate": "edge"}


def test_the_token_goes_on_where_it_may(front: Front) -> None:
    """By default the upstream sees the token where the client put it."""
    token = front.idp.mint()
    front.ask("/items/1", token=token)
    assert dict(front.headers)["authorization"] == f"Bearer {token}"
    front.ask("/items/1", headers=[("cookie", f"a=1; session={token}")])
    assert dict(front.headers)["cookie"] == f"a=1; session={token}"


def ways_to_send(token: str) -> dict[str, tuple[str, list[Header]]]:
    """Each place where this front looks for a token: the path and the headers."""
    return {
        "header": ("/items/1?a=1", [("Authorization", f"Bearer {token}")]),
        "cookie": ("/items/1?a=1", [("Cookie", f'a="1"; session={token}; b=2')]),
        "query": (f"/items/1?a=1&access_token={token}", []),
    }


@pytest.mark.parametrize("place", ways_to_send(""))
def test_the_token_is_kept_back(keeping: Front, place: str) -> None:
    """With `forward: false` the token is gone from wherever it was, and all else beside it stays."""
    token = keeping.idp.mint(sub="alice")
    path, headers = ways_to_send(token)[place]
    assert keeping.ask(path, headers=headers).status == 200
    (request,) = keeping.came
    assert token not in repr(request)
    assert request.target == "/items/1?a=1"
    assert dict(keeping.headers).get("cookie") == ('a="1"; b=2' if place == "cookie" else None)
    assert keeping.identity["x-user-id"] == "alice"


@pytest.mark.parametrize("path", ["/public/1", "/trial/1"])
def test_a_token_that_nobody_looked_at_is_kept_back_too(keeping: Front, path: str) -> None:
    """Public and shadowed requests keep tokens from the upstream as well; other credentials stay."""
    keeping.ask(path, headers=[("Authorization", "Bearer whatever"), ("Cookie", "session=whatever")])
    assert not {"authorization", "cookie"} & {name for name, _ in keeping.headers}
    keeping.ask(path, headers=[("Authorization", "Basic YTpi"), ("Cookie", "other=1")])
    assert {("authorization", "Basic YTpi"), ("cookie", "other=1")} <= set(keeping.headers)


def test_a_token_in_the_second_of_two_cookie_headers_is_kept_back(keeping: Front) -> None:
    """Envoy joins two Cookie lines by a comma; neither line brings the token to the upstream."""
    token = keeping.idp.mint()
    keeping.ask("/public/1", headers=[("Cookie", "a=1"), ("Cookie", f"session={token}; b=2")])
    assert [value for name, value in keeping.headers if name == "cookie"] == ["a=1; b=2"]


WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize("path", [WELL_KNOWN, f"{WELL_KNOWN}/v1", f"{WELL_KNOWN}/"])
def test_the_metadata_document(front: Front, path: str) -> None:
    """Envoy passes the sidecar's own answer on: status 200, JSON, no one's token needed, the upstream not asked."""
    answer = front.ask(path, headers=[("Authorization", "Bearer bad")])
    assert (answer.status, answer.header("content-type"), front.came) == (200, "application/json", [])
    assert answer.json() == {
        "resource": "https://api.test/v1",
        "scopes_supported": ["read"],
        "bearer_methods_supported": ["header", "query"],
    }


def test_the_metadata_document_by_head(front: Front) -> None:
    """HEAD gets the same without the body; another method is for the rules."""
    head = front.ask(WELL_KNOWN, method="HEAD")
    assert (head.status, head.body, front.came) == (200, b"", [])
    assert front.ask(WELL_KNOWN, method="POST").status == 403


def test_challenges_name_the_metadata(front: Front) -> None:
    """Anyone who is refused learns where to find out how to get a token (RFC 9728 section 5.1)."""
    url = f'resource_metadata="https://api.test{WELL_KNOWN}/v1"'
    missing = front.ask("/items/1").header("www-authenticate")
    assert missing == f'Bearer realm="api", {url}'
    bad = front.ask("/items/1", token="bad").header("www-authenticate")
    assert bad == f'Bearer realm="api", error="invalid_token", {url}'


def test_nothing_of_a_token_comes_back(front: Front) -> None:
    """No denial repeats anything that the client sent."""
    token = front.idp.mint(sub="confidential", aud="other")
    answer = front.ask("/items/confidential-path", token=token)
    said = repr(answer)
    assert answer.status == 401
    assert not any(secret in said for secret in (token, token.split(".")[1], "confidential"))
