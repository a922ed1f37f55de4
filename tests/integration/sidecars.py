"""The sidecar as a process, its configuration, and callers that speak to it as Envoy does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from authz.demo.client import send
from authz.demo.process import Process, tail
from authz.demo.sidecar import Sidecar
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.fixtures import ask
from tests.unit.envoy.asking import told, write_check
from tests.unit.envoy.serving import SECONDS, health_of, method

_CONFIG: Final = """version: 1
server:
  listen: {listen}
  drain: {drain}
{server}
admin:
  listen: {admin}
issuers:
{issuers}
rules:
  - name: public
    match: {{paths: ["/public/**"]}}
    allow: public
  - name: items
    match: {{paths: ["/items/**"]}}
{rule}telemetry:
  decisions: all
"""
_ISSUER: Final = """  {name}:
    issuer: {issuer}
    audiences: [api]
    algorithms: [ES256]
    required: {required}
    fetch: {{{fetch}}}
    insecure: {{http: true}}
"""


def issuer(
    name: str, idp: FakeIdp, *, required: bool = True, fetch: str = "max_wait: 100ms", introspection: str = ""
) -> str:
    """Write the section of one issuer; with *introspection*, its settings, it is asked about tokens."""
    text = _ISSUER.format(name=name, issuer=idp.issuer, required=str(required).lower(), fetch=fetch)
    return f"{text}    introspection: {{{introspection}}}\n" if introspection else text


def config(*issuers: str, listen: str, admin: str, drain: str = "4s", server: str = "", require: str = "") -> str:
    """Write a configuration; *require* is what its rule for items requires."""
    lines = f"  {server}" if server else ""
    rule = f"    require: {require}\n" if require else ""
    return _CONFIG.format(listen=listen, admin=admin, drain=drain, server=lines, rule=rule, issuers="".join(issuers))


@dataclass(frozen=True, slots=True)
class Running:
    """A sidecar that was started, and a channel to it."""

    sidecar: Sidecar
    socket: Path
    channel: grpc.Channel

    @property
    def process(self) -> Process:
        return self.sidecar.process

    def check(self, token: str | None = None, path: str = "/items/1", *, timeout: float = SECONDS) -> str:
        """Make one Check; return its reason."""
        return str(told(method(self.channel)(write_check(ask(token, path=path)), timeout=timeout)))

    def health(self) -> str | None:
        """What the health service says; None where no one answers."""
        try:
            return health_of(self.channel)
        except grpc.RpcError:
            return None

    def admin(self, path: str) -> tuple[int, bytes]:
        """Ask the admin listener."""
        answer = send(f"{self.sidecar.admin_url}{path}")
        return answer.status, answer.body

    def await_ready(self) -> None:
        """Wait until the sidecar serves."""
        wait_until(lambda: self.health() == "SERVING")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        child = self.process._child
        assert child is not None
        child.send_signal(number)

    def await_end(self) -> int:
        """Wait until the process has ended; return its status."""
        wait_until(lambda: self.process.status is not None)
        status = self.process.status
        assert status is not None
        return status


@contextmanager
def running(  # noqa: PLR0913 - each is a part of the configuration
    folder: Path,
    *issuers: str,
    listen: str = "",
    drain: str = "4s",
    server: str = "",
    telemetry: str = "",
    more: str = "",
    require: str = "",
    awaits_socket: bool = True,
) -> Iterator[Running]:
    """Start a sidecar, and end it whatever happens; its log is shown where a test fails.

    It listens on a Unix socket, or at *listen*, `host:port`.
    """
    admin, path = free_address(), folder / "authz.sock"
    target = listen or f"unix:{path}"
    text = config(*issuers, listen=target, admin=admin, drain=drain, server=server, require=require)
    text += f"  {telemetry}\n" if telemetry else ""
    text += more
    sidecar = Sidecar(text, admin=admin, folder=folder)
    sidecar.process.start()
    try:
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
        with grpc.insecure_channel(target, options) as channel:
            if awaits_socket and not listen:
                sidecar.process.wait_until(path.exists)
            yield Running(sidecar, path, channel)
    except BaseException:
        print("\n".join(tail(sidecar.process.log, lines=40)))  # noqa: T201 - shown with the failure
        raise
    finally:
        sidecar.process.kill()
