"""Bind the server that Envoy calls: a Unix socket, or a port with or without TLS."""

from __future__ import annotations

from pathlib import Path

import grpc

from authz.config.address import Address, UnixAddress, write_authority
from authz.config.model import Server, Tls
from authz.envoy.credentials import TlsFiles, make_credentials
from authz.envoy.server import AuthorizationServer


def listen(server: AuthorizationServer, address: Address, section: Server) -> str:
    """Bind *server* to *address* with the settings of *section*; return the bound address. Raises OSError."""
    if isinstance(address, UnixAddress):
        server.listen_unix(Path(address.path), mode=int(section.socket_mode, 8))
        return f"unix:{address.path}"
    credentials = _make_credentials(section.tls) if section.tls is not None else None
    port = server.listen_tcp(write_authority(address.host, address.port), credentials=credentials)
    return write_authority(address.host, port)


def _make_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return credentials that are reloaded when the files of *tls* change. Raises OSError."""
    client_ca = Path(tls.client_ca_file) if tls.client_ca_file is not None else None
    try:
        return make_credentials(TlsFiles(Path(tls.cert_file), Path(tls.key_file), client_ca))
    except OSError as error:
        raise OSError(f"server.tls: {error}") from error
