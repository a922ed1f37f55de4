"""What rules require of the risk, through the real Envoy: an engine that answers, and one that is away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo_server
from tests.fakes.idp import FakeIdp, say
from tests.fakes.ports import free_address

ASSESS = "/v1/assess"
CONFIG = Template("""version: 1
server: {listen: "unix:$socket"}
admin: {listen: "$admin"}
issuers:
  idp: {issuer: "$issuer", audiences: [api], leeway: 0s, insecure: {http: true}}
risk: {url: "$engine$path", cache: 0s, send_headers: [user-agent]$on_error}
rules:
  - {name: plain, match: {paths: ["/plain"]}}
  - {name: low, match: {paths: ["/low"]}, require: {risk: {levels: [low], step_up: {acr: ["urn:mfa"]}}}}
  - {name: calm, match: {paths: ["/calm"]}, require: {risk: {max_failures_1m: 1000, known_network: true}}}
responses: {expose_reason: true}
telemetry: {decisions: all}
""")


@dataclass(frozen=True, slots=True)
class Door:
    """Envoy with a sidecar behind it, and a risk engine that the sidecar asks."""

    idp: FakeIdp
    engine: FakeIdp
    envoy: Envoy

    def ask(self, path: str, **claims: Any) -> Answer:  # noqa: ANN401 - JSON
        """Send one request with a good token."""
        bearer = ("Authorization", f"Bearer {self.idp.mint(**claims)}")
        return send(f"{self.envoy.url}{path}", headers=[("User-Agent", "curl/8"), bearer])

    def reason(self, path: str, **claims: Any) -> tuple[int, object]:  # noqa: ANN401 - JSON
        """Return status and reason of the answer."""
        answer = self.ask(path, **claims)
        document = answer.json()
        return answer.status, document.get("reason") if isinstance(document, dict) else None


@contextmanager
def open_door(on_error: str = "") -> Iterator[Door]:
    """Start everything."""
    with (
        tempfile.TemporaryDirectory(prefix="authz-") as folder,
        FakeIdp() as idp,
        FakeIdp() as engine,
        echo_server() as upstream,
        ExitStack() as stack,
    ):
        path, admin = Path(folder) / "authz.sock", free_address()
        config = CONFIG.substitute(
            socket=path, admin=admin, issuer=idp.issuer, engine=engine.url, path=ASSESS, on_error=on_error
        )
        sidecar = Sidecar(config, admin=admin, folder=Path(folder))
        settings = Proxy(upstream=f"127.0.0.1:{upstream.port}", sidecars=(f"unix:{path}",), timeout_ms=60_000)
        envoy = Envoy(settings, Path(folder))
        stack.callback(sidecar.stop)
        stack.callback(envoy.stop)
        sidecar.start()
        envoy.start()
        yield Door(idp, engine, envoy)


def test_a_rule_follows_what_the_engine_says() -> None:
    """Low passes, high needs a stronger login, and a page is 503; rules that do not read it ask nothing."""
    with open_door() as door:
        door.engine.answers[ASSESS] = say(b'{"level":"low"}')
        assert door.reason("/low")[0] == 200
        door.engine.answers[ASSESS] = say(b'{"level":"high"}')
        answer = door.ask("/low")
        assert (answer.status, answer.json()["reason"]) == (401, "step_up_required")
        assert 'acr_values="urn:mfa"' in (answer.header("www-authenticate") or "")
        assert door.reason("/low", acr="urn:mfa")[0] == 200
        asked = door.engine.count(ASSESS)
        assert door.reason("/plain")[0] == 200
        assert door.reason("/calm")[0] == 200
        assert door.engine.count(ASSESS) == asked == 3
        door.engine.answers[ASSESS] = say(b"<html>", content_type="text/html")
        answer = door.ask("/low")
        assert (answer.status, answer.json()["reason"]) == (503, "risk_unavailable")
        assert answer.header("retry-after") == "1"


def test_a_failure_counts_as_what_is_configured() -> None:
    """With on_error, an engine that is away is an answer of its own: here one that needs the stronger login."""
    with open_door(on_error=", on_error: {level: medium}") as door:
        door.engine.stop()
        assert door.reason("/low") == (401, "step_up_required")
        assert door.reason("/low", acr="urn:mfa")[0] == 200
