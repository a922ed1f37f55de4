"""An Envoy that starts with what `authz envoy-config --bootstrap` prints, in front of the real sidecar."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner

from authz.cli import main
from authz.core.claims import LOGOUT_EVENT
from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.loopback import Header
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo_server
from authz.tooling.envoy_config.forwarded_headers import FORWARDED_HEADERS
from tests.e2e.harness import Reply
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until

CONFIG = Template("""version: 1
server: {listen: "unix:$socket", drain: 200ms, workers: $workers}
admin: {listen: "$admin"}
issuers:
  idp: {issuer: "$issuer", audiences: [api], leeway: 0s, logout: {clients: [web]}, insecure: {http: true}}
receivers: {listen: "$receiver"}
token:
  sources: [{header: authorization}, {cookie: session}]
  forward: false
rules:
  - {name: public, match: {paths: ["/public/**"]}, allow: public}
  - {name: items, match: {paths: ["/items/**"]}}
identity:
  headers: {x-auth-subject: sub}
responses: {expose_reason: true}
resource: {identifier: "https://api.test/v1", scopes: [read]}
insecure: {query_token: access_token}
""")


@dataclass(frozen=True, slots=True)
class Front:
    """An Envoy, its sidecar and an issuer."""

    idp: FakeIdp
    envoy: Envoy
    sidecar: Sidecar

    def ask(self, path: str, *headers: Header, token: str | None = None, method: str = "GET") -> Reply:
        """Send one request to Envoy."""
        bearer = [] if token is None else [("Authorization", f"Bearer {token}")]
        return Reply(send(f"{self.envoy.url}{path}", method=method, headers=[*headers, *bearer]))

    def mint(self) -> str:
        """A good token."""
        return self.idp.mint(aud="api", sub="bob")


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """Everything, started with what the command printed."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="authz-")))
        idp, upstream = running.enter_context(FakeIdp()), running.enter_context(echo_server())
        admin = free_address()
        config = CONFIG.substitute(
            socket=folder / "a.sock",
            admin=admin,
            issuer=idp.issuer,
            receiver=free_address(),
            workers=request.param,
        )
        sidecar = Sidecar(config, admin=admin, folder=folder)
        arguments = ["--bootstrap", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        arguments += ["--upstream", f"127.0.0.1:{upstream.port}"]
        printed = CliRunner().invoke(main, ["envoy-config", "--config", str(sidecar.config_file), *arguments])
        assert printed.exit_code == 0, printed.output
        (folder / "envoy.yaml").write_text(printed.stdout, encoding="utf-8")
        envoy = Envoy(folder / "envoy.yaml", folder)
        running.callback(sidecar.stop)
        sidecar.start()
        running.callback(envoy.stop)
        envoy.start()
        started = Front(idp, envoy, sidecar)
        wait_until(lambda: started.ask("/items/1").status != 503)  # until Envoy has seen the sidecar's health
        yield started


def test_a_token_opens_and_its_absence_does_not(front: Front) -> None:
    """With a token the upstream learns the subject and not the token; without one, no one gets there."""
    allowed = front.ask("/items/1", token=front.mint())
    assert allowed.identity == (("x-auth-subject", "bob"),)
    assert allowed.seen is not None
    assert "authorization" not in dict(allowed.seen)
    refused = front.ask("/items/1")
    assert (refused.status, refused.refused, refused.seen) == (401, "token_missing", None)
    assert refused.challenge is not None
    assert refused.challenge["resource_metadata"].endswith("/.well-known/oauth-protected-resource/v1")


def test_a_logout_token_passes_to_the_receiver(front: Front) -> None:
    """Posted without a token, it ends the session at every worker; another method is refused by Envoy itself."""
    token, other = (front.idp.mint(aud="api", sub="bob", sid=sid) for sid in ("ended", "other"))
    assert front.ask("/items/1", token=token).status == 200
    claims = front.idp.claims(aud="web", jti="j", sid="ended", events={LOGOUT_EVENT: {}})
    written = front.idp.key.sign(claims, header={**front.idp.key.header(), "typ": "logout+jwt"})
    body = urlencode({"logout_token": written})
    url, kind = f"{front.envoy.url}/authz/backchannel-logout", [("content-type", "application/x-www-form-urlencoded")]
    assert send(url, method="POST", headers=kind, body=body.encode()).status == 200
    assert [front.ask("/items/1", token=each).status for each in (token, token, token, other)] == [401] * 3 + [200]
    assert [send(url, method=method).status for method in ("GET", "PUT")] == [405, 405]


def test_a_cookie_opens_and_goes_no_further(front: Front) -> None:
    """The mutation rules let the sidecar take the token out of the cookies, and leave the others."""
    reply = front.ask("/items/1", ("Cookie", f"a=1; session={front.mint()}; b=2"))
    assert reply.seen is not None
    assert dict(reply.seen)["cookie"] == "a=1; b=2"
    foreign = front.ask(
        "/items/1", ("Cookie", f"session={front.mint()}"), ("Origin", "https://evil.test"), method="POST"
    )
    assert (foreign.status, foreign.seen) == (403, None)


def test_a_token_in_the_query_goes_no_further(front: Front) -> None:
    """The mutation rules are about headers: the parameter is taken out all the same."""
    reply = front.ask(f"/items/1?a=1&access_token={front.mint()}")
    assert reply.seen is not None
    assert reply.answer.json()["target"] == "/items/1?a=1"


def test_a_cookie_in_the_second_of_two_fields_opens_and_goes_no_further(front: Front) -> None:
    """Envoy joins two Cookie fields by a comma: the token behind it is found, and taken out."""
    reply = front.ask("/items/1", ("Cookie", "a=1"), ("Cookie", f"session={front.mint()}; b=2"))
    assert reply.identity == (("x-auth-subject", "bob"),)
    assert reply.seen is not None
    assert dict(reply.seen)["cookie"] == "a=1; b=2"


@pytest.mark.parametrize("query", ["?b=2&flag&a=1", "?sig=%7e%2F&sig=", "?"])
def test_a_query_without_a_token_stays_as_it_was_signed(front: Front, query: str) -> None:
    """Envoy rebuilds a query from which it is to remove something: order, empty values and escapes are lost."""
    assert front.ask(f"/items/1{query}", token=front.mint()).answer.json()["target"] == f"/items/1{query}"


@pytest.mark.parametrize("path", ["/public/1", "/items/1"])
def test_no_client_writes_an_identity(front: Front, path: str) -> None:
    """What a client sends under the name is gone, and with underscores the request is refused."""
    token = front.mint() if path == "/items/1" else None
    reply = front.ask(path, ("x-auth-subject", "root"), token=token)
    assert reply.identity == ((("x-auth-subject", "bob"),) if token else ())
    assert front.ask(path, ("x_auth_subject", "root"), token=token).status == 400


def test_no_client_claims_another_host_path_or_method(front: Front) -> None:
    """Servers that believe such headers never see them; what the configuration does not name stays."""
    claims = [(name, "DELETE") for name in FORWARDED_HEADERS if "_" not in name]  # a request with one is refused
    reply = front.ask("/public/1", *claims, ("x-forwarded-for", "192.0.2.1"), ("x-mine", "1"))
    assert reply.seen is not None
    assert {name.lower() for name, _ in reply.seen} & {*FORWARDED_HEADERS, "x-mine"} == {"x-mine"}


@pytest.mark.parametrize("path", ["/public/%2e%2e/items/1", "/public/../items/1", "/public//../../items/1"])
def test_no_way_around_by_dots(front: Front, path: str) -> None:
    """Envoy resolves the path before the sidecar sees it."""
    assert (reply := front.ask(path)).seen is None
    assert reply.refused == "token_missing"


@pytest.mark.parametrize("path", ["/public/..%2fitems/1", "/public/%5c..%5citems"])
def test_escaped_slashes_are_refused(front: Front, path: str) -> None:
    """Envoy answers itself, before the sidecar is asked."""
    assert front.ask(path).status == 400


def test_the_metadata_of_the_resource(front: Front) -> None:
    """The sidecar answers through Envoy, and the upstream is not asked."""
    reply = front.ask("/.well-known/oauth-protected-resource/v1")
    assert (reply.status, reply.seen) == (200, None)
    assert reply.answer.json()["resource"] == "https://api.test/v1"


def test_every_worker_is_asked(front: Front) -> None:
    """Envoy holds each socket of the sidecar for healthy."""
    hosts = send(f"{front.envoy.admin_url}/clusters?format=json").json()["cluster_statuses"]
    (authz,) = (cluster for cluster in hosts if cluster["name"] == "authz")
    assert all(host["health_status"] == {"eds_health_status": "HEALTHY"} for host in authz["host_statuses"])


def test_nobody_passes_without_the_sidecar(front: Front) -> None:
    """The last word: with the sidecar gone every request ends in 503, public ones included."""
    front.sidecar.stop()
    assert [front.ask(path, token=front.mint()).status for path in ("/public/1", "/items/1")] == [503, 503]


def test_what_runs_is_reviewed(front: Front, tmp_path: Path) -> None:
    """The admin interface's own `/config_dump` of what was printed is as good as the file: nothing is found in it."""
    dump = tmp_path / "dump.json"
    dump.write_bytes(send(f"{front.envoy.admin_url}/config_dump").body)
    arguments = ["envoy-config", "--config", str(front.sidecar.config_file), "--check", str(dump), "--json"]
    checked = CliRunner().invoke(main, arguments)
    assert [finding["name"] for finding in json.loads(checked.stdout)["findings"]] == []
