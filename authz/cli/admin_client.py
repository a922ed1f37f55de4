"""A client of the admin listener of a sidecar that runs on this host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from authz.cli.files import FILE, load_or_exit, read_bytes_or_exit

DEFAULT: Final = "http://127.0.0.1:9192"
ADMIN: Final = click.option("--admin", help=f"The sidecar's admin listener, instead of --config.  [default: {DEFAULT}]")
CONFIG_OF_ADMIN: Final = click.option(
    "--config", "file", type=FILE, help="The sidecar's configuration, for its admin.listen."
)
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - the address of one that listens on all
_TIMEOUT_SECONDS: Final = 5.0
_MAX_BYTES: Final = 64 * 1024 * 1024
_MAX_REASON_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class AdminPort:
    """The admin listener at *url*, and the *token* that it requires, or None."""

    url: str
    token: str | None = field(default=None, repr=False)

    def request(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send one request; return the status and the body. Raises OSError."""
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection(*_parse_address(self.url), timeout=_TIMEOUT_SECONDS)
        try:
            headers = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            return response.status, response.read(_MAX_BYTES)
        except HTTPException as error:
            raise OSError(f"not an admin listener: {type(error).__name__}") from error
        finally:
            connection.close()

    def read(self, method: str, target: str, body: bytes | None = None) -> Mapping[str, Any]:
        """Send one request, and return the JSON object of the answer. Raises OSError, ValueError."""
        status, answer = self.request(method, target, body)
        if status != HTTPStatus.OK:
            raise OSError(f"HTTP status {status}: {_printable(answer)}")
        document = json.loads(answer)
        if not isinstance(document, dict):
            raise ValueError("not an admin listener: no JSON object")  # noqa: TRY004 - bad data
        return document


def find_admin(file: Path | None, url: str | None) -> AdminPort:
    """Return the admin listener at *url*, or that of the configuration in *file*, or of the default configuration."""
    if file is not None and url is not None:
        raise click.UsageError("--admin and --config exclude each other: give one")
    if file is None:
        return AdminPort(url or DEFAULT)
    from authz.config.address import parse_tcp_address, write_authority

    section = load_or_exit(file).admin
    address = parse_tcp_address(section.listen)
    if not address.port:
        raise click.UsageError(
            f"{file}: admin.listen is any free port: give --admin; the log of serve shows the address"
        )
    host = _LOOPBACK.get(address.host, address.host)
    token_file = section.console.token_file
    token = None if token_file is None else read_bytes_or_exit(Path(token_file)).decode("latin-1").strip()
    return AdminPort(f"http://{write_authority(host, address.port)}", token)


def _parse_address(admin: str) -> tuple[str, int]:
    parts = urlsplit(admin)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme != "http" or not host:
        raise click.BadParameter(f"{admin!r}: write a URL such as http://127.0.0.1:9192", param_hint="--admin")
    return host, port or 80


def _printable(answer: bytes) -> str:
    from authz.telemetry.redaction import printable

    return printable(answer[:_MAX_REASON_CHARS].decode("utf-8", "replace").strip()) or "no reason"
