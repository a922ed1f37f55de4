"""TLS for a TCP listener, from files that may be replaced while the server runs."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's chain and key, and the authorities of client certificates, which are then required."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def make_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that follow *files*: each handshake uses what stands there then.

    Raises OSError where a file cannot be read, or holds nothing to serve with.
    """
    follower = _Follower(files)
    return grpc.dynamic_ssl_server_credentials(
        follower.read(),
        follower.read_again,  # type: ignore[arg-type]  # None means no change, which the stubs leave out
        require_client_authentication=files.client_ca is not None,
    )


class _Follower:
    def __init__(self, files: TlsFiles) -> None:
        self._files: Final = [file for file in (files.certificate, files.key, files.client_ca) if file is not None]
        self._seen: tuple[tuple[int, int, int], ...] = ()

    def read(self) -> grpc.ServerCertificateConfiguration:
        self._seen = self._look()  # also of what cannot be used: it is read, and told of, once
        _refuse_unusable(*self._files)
        certificate, key, *client_ca = (file.read_bytes() for file in self._files)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], *client_ca)

    def read_again(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what changed since the last handshake, or None. Files that cannot be used change nothing."""
        try:
            if self._look() == self._seen:
                return None
            configuration = self.read()
        except OSError as error:
            log.error("TLS files cannot be used, the last ones serve on: %s", error)  # noqa: TRY400 - no traceback
            return None
        log.info("TLS files were read anew")
        return configuration

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        stats = [file.stat() for file in self._files]  # an OSError that names the file
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def _refuse_unusable(certificate: Path, key: Path, *client_ca: Path) -> None:
    """Try the files before gRPC, which would say nothing and then refuse every handshake. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise OSError(f"{certificate} and {key} are no certificate in PEM with its key: {error}") from error
    for file in client_ca:
        try:
            context.load_verify_locations(file)
        except ssl.SSLError as error:
            raise OSError(f"{file} holds no certificates in PEM: {error}") from error


def _no_password() -> str:
    """Without this, a key that is encrypted would be asked for at the terminal."""
    return ""
