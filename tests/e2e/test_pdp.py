"""Proves external decisions from end to end: the real Envoy, the real sidecar, and Cerbos, a real PDP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from authz.cli import main
from authz.demo.bootstrap import Proxy
from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo_server
from tests.e2e.harness import Reply
from tests.fakes.idp import FakeIdp
from tests.fakes.pdp import VECTORS
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.integration.cerbos import TOOL, Cerbos
from tests.unit.envoy.serving import short_folder

pytestmark = pytest.mark.needs("envoy", TOOL)

CONFIG = """version: 1
server: {{listen: "unix:{socket}"}}
admin: {{listen: "{admin}"}}
issuers:
  a: {{issuer: "{issuer}", audiences: [api], insecure: {{http: true}}}}
pdps:
  cerbos: {{url: "{url}", max_wait: 10s, timeout: 10s}}
rules:
  - {{name: open, match: {{paths: [/open]}}}}
  - name: records
    match: {{paths: ["/records/{{id}}/{{action}}"]}}
    require:
      pdp:
        name: cerbos
        subject: {{properties: {{role: "${{claims.role}}"}}}}
        action: {{name: "${{params.action}}"}}
        resource: {{type: record, id: "${{params.id}}", properties: {{status: "${{claims.status}}"}}}}
identity: {{headers: {{x-user: sub}}}}
responses: {{expose_reason: true}}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs."""

    idp: FakeIdp
    cerbos: Cerbos
    envoy: Envoy
    config: Path

    def ask(self, path: str, token: str) -> Reply:
        """Send one request to Envoy."""
        return Reply(send(f"{self.envoy.url}{path}", headers=[("Authorization", f"Bearer {token}")]))


@contextmanager
def set_stage() -> Iterator[Stage]:
    """Start everything, and stop it in the end."""
    with short_folder() as folder, FakeIdp() as idp, Cerbos(folder) as cerbos, echo_server() as upstream:
        socket, admin = folder / "authz.sock", free_address()
        config = CONFIG.format(socket=socket, admin=admin, issuer=idp.issuer, url=cerbos.url)
        (folder / "authz.yaml").write_text(config)
        sidecar = Sidecar(config, admin=admin, folder=folder)
        proxy = Proxy(upstream=f"127.0.0.1:{upstream.port}", sidecars=(f"unix:{socket}",), timeout_ms=60_000)
        envoy = Envoy(proxy, folder)
        try:
            sidecar.start()
            envoy.start()
            yield Stage(idp, cerbos, envoy, folder / "authz.yaml")
        finally:
            envoy.stop()
            sidecar.stop()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The stage of the tests after which Cerbos is as it was before."""
    with set_stage() as everything:
        yield everything


@pytest.mark.parametrize("name", [name for name in VECTORS if name in {f"rule {number}" for number in range(1, 7)}])
def test_cerbos_decides_as_the_certification_scenario_says(stage: Stage, name: str) -> None:
    """What it allows reaches the upstream, with the identity; what it denies is 403."""
    question, decision = VECTORS[name]
    asked = {key: question[key].get("properties", {}) for key in ("subject", "resource")}
    claims = {key: value for properties in asked.values() for key, value in properties.items()}
    token = stage.idp.mint(sub=question["subject"]["id"], **claims)
    reply = stage.ask(f"/records/{question['resource']['id']}/{question['action']['name']}", token)
    if decision:
        assert reply.status == 200
        assert dict(reply.seen or ())["x-user"] == question["subject"]["id"]
    else:
        assert (reply.status, reply.refused, reply.seen) == (403, "pdp_denied", None)


def test_an_unknown_action_is_denied_by_cerbos(stage: Stage) -> None:
    """Its answer is a denial, and no error."""
    assert stage.ask("/records/record-1/fly", stage.idp.mint(sub="alice")).refused == "pdp_denied"


def test_a_crash_of_cerbos_is_try_again_and_then_over() -> None:
    """No request passes meanwhile, those that need no decision do, and after its restart all is as before."""
    with set_stage() as stage:
        token = stage.idp.mint(sub="alice")
        assert stage.ask("/records/record-1/read", token).status == 200
        stage.cerbos.stop()
        for _ in range(8):
            reply = stage.ask("/records/record-1/read", token)
            assert (reply.status, reply.refused) == (503, "pdp_unavailable")
        assert stage.ask("/open", token).status == 200
        stage.cerbos.start()
        wait_until(lambda: stage.ask("/records/record-1/read", token).status == 200)


def test_check_config_asks_cerbos(stage: Stage) -> None:
    """It denies what is made up, and looks at no credentials."""
    done = CliRunner().invoke(main, ["check-config", "--fetch", str(stage.config)])
    assert done.exit_code == 0, done.output
    assert "pdp cerbos: answers" in done.output
    assert "a made-up subject and resource are denied" in done.output
