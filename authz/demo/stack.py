"""The whole stack: identity provider, upstream, sidecar and Envoy, started in order and stopped in reverse order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from authz.core.published_document import KEYS_PATH
from authz.demo.bootstrap import Proxy
from authz.demo.envoy import Envoy
from authz.demo.process import Pause
from authz.demo.provider import Provider
from authz.demo.sidecar import Sidecar, free_address
from authz.demo.upstream import echo_server

AUDIENCE = "orders-api"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoStack:
    """The running parts."""

    provider: Provider
    upstream_url: str
    sidecar: Sidecar
    envoy: Envoy
    folder: Path
    socket: Path

    def check(self) -> None:
        """Raise PartFailed if a process of the stack has ended."""
        self.sidecar.process.check()
        self.envoy.process.check()


@contextmanager
def run_stack(folder: Path, *, rotate_every: float | None, pause: Pause) -> Iterator[DemoStack]:
    """Start every part with its files in `folder`, and stop them all at the end, also after an exception.

    Raises PartFailed if a part does not start, and any exception of `pause`.
    """
    socket = folder / "authz.sock"
    admin = free_address()
    with ExitStack() as running:
        provider = running.enter_context(Provider(audience=AUDIENCE, rotate_every=rotate_every))
        upstream = running.enter_context(echo_server(keys_url=f"http://{admin}{KEYS_PATH}"))
        sidecar = Sidecar(configuration(issuer=provider.issuer, socket=socket, admin=admin), admin=admin, folder=folder)
        running.callback(sidecar.stop)
        sidecar.start(pause=pause)
        sidecars = (f"unix:{socket}",)
        # Long, for slow machines: the demo shows decisions, not Envoy's timeouts.
        proxy = Proxy(upstream=f"127.0.0.1:{upstream.port}", sidecars=sidecars, timeout_ms=60_000)
        envoy = Envoy(proxy, folder)
        running.callback(envoy.stop)
        envoy.start(pause=pause)
        yield DemoStack(
            provider=provider, upstream_url=upstream.url, sidecar=sidecar, envoy=envoy, folder=folder, socket=socket
        )


def configuration(*, issuer: str, socket: Path, admin: str) -> str:
    """Return the sidecar's configuration, as YAML."""
    template = resources.files("authz.demo").joinpath("config.yaml").read_text(encoding="utf-8")
    return Template(template).substitute(issuer=issuer, socket=socket, admin=admin)
