"""Checks of the addresses that the sidecar listens on, and of who can reach them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from authz.config.address import MAX_SOCKET_PATH_BYTES, TcpAddress, UnixAddress, parse_address, parse_tcp_address
from authz.config.model import Config
from authz.config.problems import Problem

_LISTEN: Final = ("server", "listen")
_OCTAL_MODE: Final = re.compile(r"0?[0-7]{3}")


def check_version(config: Config) -> Iterator[Problem]:
    """Report a file in an unknown format."""
    if config.version != 1:
        yield Problem(path=("version",), message="must be 1")


def check_server(config: Config) -> Iterator[Problem]:
    """Report an invalid address, or one that any caller can reach."""
    server = config.server
    if not _OCTAL_MODE.fullmatch(server.socket_mode):
        yield Problem(path=("server", "socket_mode"), message='must be octal permissions, such as "0660"')
    try:
        address = parse_address(server.listen)
    except ValueError as error:
        yield Problem(path=_LISTEN, message=str(error))
        return
    if isinstance(address, UnixAddress):
        # The socket of the last worker has the longest name: authz-11.sock.
        suffix = f"-{server.workers - 1}" if server.workers > 1 else ""
        if len(address.path.encode()) + len(suffix) > MAX_SOCKET_PATH_BYTES:
            message = (
                f"with the numbers of {server.workers} workers, the path has more than {MAX_SOCKET_PATH_BYTES} bytes"
            )
            yield Problem(path=_LISTEN, message=message)
        return
    if address.port and address.port + server.workers - 1 > 65_535:
        yield Problem(path=_LISTEN, message=f"there are no {server.workers} ports from here on, one for each worker")
    mutual_tls = server.tls is not None and server.tls.client_ca_file is not None
    if not address.loopback and not mutual_tls and not config.insecure.plaintext:
        hint = "set tls with client_ca_file, or insecure.plaintext"
        yield Problem(path=_LISTEN, message="except on loopback, callers must present a client certificate", hint=hint)


def check_admin(config: Config) -> Iterator[Problem]:
    """Report an address for health and metrics that cannot be listened on."""
    try:
        parse_tcp_address(config.admin.listen)
    except ValueError as error:
        yield Problem(path=("admin", "listen"), message=str(error))


def check_ports(config: Config) -> Iterator[Problem]:
    """Report a port that two servers use: they would silently share it."""
    try:
        admin, server = parse_tcp_address(config.admin.listen), parse_address(config.server.listen)
    except ValueError:
        return  # reported above
    if (
        isinstance(server, TcpAddress)
        and admin.port
        and server.port <= admin.port < server.port + config.server.workers
    ):
        yield Problem(path=("admin", "listen"), message="the port is one of the server's")
