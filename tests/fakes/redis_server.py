"""A real server of shared state, Debian's redis-server, on loopback: plain, or by TLS with a password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from authz.config.shared_state import SharedState as SharedStateSection
from authz.demo.process import Process
from authz.feeds.shared.connect import open_shared_state
from authz.feeds.shared.state import SharedState, SharedStateError
from tests import tools
from tests.fakes.ports import free_address

PASSWORD: Final = "of-the-store"
PATIENT: Final = "10s"  # the longest that may be configured


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server that runs, and the section of a configuration that reaches it."""

    process: Process
    section: SharedStateSection

    def settings(self) -> str:
        """Write the section as a line of YAML."""
        given = self.section.model_dump(mode="json", exclude_defaults=True)
        return f"shared_state: {{{', '.join(f'{key}: {_write(value)}' for key, value in given.items())}}}\n"

    def client(self) -> SharedState:
        """Return a client of the server."""
        return open_shared_state(self.section)

    def await_ready(self) -> None:
        """Wait until it answers."""
        client = self.client()
        try:
            self.process.wait_until(lambda: _answers(client))
        finally:
            client.close()


@contextmanager
def redis_server(
    folder: Path, *, tls: bool = False, timeout: str = PATIENT, address: str = "", more: tuple[str, ...] = ()
) -> Iterator[RedisServer]:
    """Run a server, whose files are in *folder*; *more* are lines of its configuration."""
    host, _, port = (address or free_address()).partition(":")
    lines = ["bind 127.0.0.1", f"dir {folder}", 'save ""', "appendonly no", "daemonize no", *more]
    files: dict[str, str] = {}
    if tls:
        authority = trustme.CA()
        (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
        for name, identity in (("server", host), ("client", "authz@example.com")):
            issued = authority.issue_cert(identity)
            issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
            issued.private_key_pem.write_to_path(folder / f"{name}.key")
        (folder / "password").write_text(f"{PASSWORD}\n")
        lines += [
            "port 0",
            f"tls-port {port}",
            *(f"tls-{key} {folder / file}" for key, file in _TLS_FILES.items()),
            f"user default off\nuser authz on >{PASSWORD} ~* &* +@all",
        ]
        files = {
            "username": "authz",
            "password_file": str(folder / "password"),
            "ca_file": str(folder / "ca.pem"),
            "client_cert_file": str(folder / "client.pem"),
            "client_key_file": str(folder / "client.key"),
        }
    else:
        lines.append(f"port {port}")
    (folder / "redis.conf").write_text("\n".join(lines) + "\n")
    process = Process(
        "redis-server",
        [tools.path("redis-server"), str(folder / "redis.conf")],
        log=folder / "redis.log",
        fix="read the log",
    )
    url = f"{'rediss' if tls else 'redis'}://{host}:{port}"
    section = SharedStateSection.model_validate({"url": url, "timeout": timeout, **files})
    server = RedisServer(process, section)
    process.start()
    try:
        server.await_ready()
        yield server
    finally:
        process.kill()


_TLS_FILES: Final = {"cert-file": "server.pem", "key-file": "server.key", "ca-cert-file": "ca.pem"}


def _answers(client: SharedState) -> bool:
    try:
        return client.execute("PING") == b"PONG"
    except SharedStateError:
        return False


def _write(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
