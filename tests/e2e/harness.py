"""A stage for end-to-end tests: fake issuers, the real sidecar, the real Envoy, an upstream that echoes."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.loopback import Header
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo_server, headers_seen, identity_in
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address

CONFIG = Path(__file__).with_name("authz.yaml")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client of Envoy got."""

    answer: Answer

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def seen(self) -> tuple[Header, ...] | None:
        """Header lines that the upstream saw; None where it was not reached."""
        return headers_seen(self.answer)

    @property
    def identity(self) -> tuple[Header, ...] | None:
        """Identity headers that the upstream saw, in any spelling."""
        return None if self.seen is None else identity_in(self.seen)

    @property
    def allowed(self) -> str | None:
        """The reason that Envoy sent to the upstream; None where it was not reached."""
        return None if self.seen is None else dict(self.seen).get("x-authz-reason")

    @property
    def refused(self) -> str | None:
        """The reason that the sidecar sent to the client; None where the upstream was reached."""
        document = self.answer.json()
        return document.get("reason") if self.seen is None and isinstance(document, dict) else None

    @property
    def challenge(self) -> dict[str, str] | None:
        """The parameters of the Bearer challenge; None where there is none."""
        text = self.answer.header("www-authenticate")
        if text is None:
            return None
        assert text.startswith("Bearer "), text
        return dict(re.findall(r'(\w+)="([^"]*)"', text))


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs. `alpha` and `beta` are good issuers, `gone` one that never answered."""

    alpha: FakeIdp
    beta: FakeIdp
    gone: FakeIdp
    sidecar: Sidecar
    envoy: Envoy

    def ask(
        self,
        path: str = "/orders/7",
        *,
        token: str | None = None,
        method: str = "GET",
        headers: Sequence[Header] = (),
        tls: ssl.SSLContext | None = None,
    ) -> Reply:
        """Send one request to Envoy, as spelled."""
        bearer = [] if token is None else [("Authorization", f"Bearer {token}")]
        return Reply(send(f"{self.envoy.url}{path}", method=method, headers=[*headers, *bearer], tls=tls))

    @property
    def logs(self) -> list[Path]:
        """What to read when a test fails."""
        return [self.sidecar.process.log, self.envoy.process.log]


@contextmanager
def set_stage(
    folder: Path,
    *,
    unavailable: str = "deny",
    max_wait: str = "10s",
    **differences: Any,  # noqa: ANN401 - as Proxy takes them
) -> Iterator[Stage]:
    """Start everything, and stop it in the end.

    `unavailable` and `max_wait` are settings of the configuration; `differences` are fields of Proxy, for an Envoy
    unlike the usual.
    """
    socket, admin = folder / "authz.sock", free_address()
    with FakeIdp(algorithm="RS256") as alpha, FakeIdp() as beta, echo_server() as upstream:
        gone = FakeIdp()
        gone.stop()
        config = Template(CONFIG.read_text(encoding="utf-8")).substitute(
            alpha=alpha.issuer,
            beta=beta.issuer,
            gone=gone.issuer,
            socket=socket,
            admin=admin,
            unavailable=unavailable,
            max_wait=max_wait,
        )
        sidecar = Sidecar(config, admin=admin, folder=folder)
        usual = {"upstream": f"127.0.0.1:{upstream.port}", "sidecars": (f"unix:{socket}",)}
        envoy = Envoy(Proxy(**{**usual, "timeout_ms": 60_000, **differences}), folder)
        try:
            sidecar.start()
            envoy.start()
            yield Stage(alpha, beta, gone, sidecar, envoy)
        finally:
            envoy.stop()
            sidecar.stop()
