"""TLS for a TCP listener, from files that may be replaced while the server runs."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from authz.files.stamp import FileStamp

log = logging.getLogger(__name__)

_MAX_READS: Final = 5  # because the files may be replaced while they are read


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's chain and key, and the authorities of client certificates, which are then required."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def make_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that are reloaded when *files* change: each handshake uses the current content.

    Raises OSError if a file cannot be read, or does not contain a usable certificate or key.
    """
    reloader = _CertificateReloader(files)
    return grpc.dynamic_ssl_server_credentials(
        reloader.read(),
        reloader.read_if_changed,  # type: ignore[arg-type]  # None means no change, which the stubs leave out
        require_client_authentication=files.client_ca is not None,
    )


class _CertificateReloader:
    """Reads the files again when they change."""

    def __init__(self, files: TlsFiles) -> None:
        self._files: Final = [file for file in (files.certificate, files.key, files.client_ca) if file is not None]
        self._seen: list[FileStamp | None] = []

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read a consistent set of the files. Raises OSError."""
        for _ in range(_MAX_READS):
            self._seen = self._stamps()  # before the content is read; also so that unusable files are reported once
            certificate, key, *client_ca = (file.read_bytes() for file in self._files)
            _check_files(*self._files)
            if self._stamps() == self._seen:
                return grpc.ssl_server_certificate_configuration([(key, certificate)], *client_ca)
        raise OSError(f"{', '.join(map(str, self._files))}: replaced repeatedly while they were read")

    def read_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration if the files changed since the last handshake, else None.

        Unusable files change nothing.
        """
        if self._stamps() == self._seen:
            return None
        try:
            configuration = self.read()
        except OSError as error:
            log.error("TLS files cannot be used, the last ones stay in use: %s", error)  # noqa: TRY400 - no traceback
            return None
        log.info("TLS files were reloaded")
        return configuration

    def _stamps(self) -> list[FileStamp | None]:
        return [FileStamp.of_any(file) for file in self._files]


def _check_files(certificate: Path, key: Path, *client_ca: Path) -> None:
    """Check the files, because gRPC reports no error and then fails every handshake. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise OSError(f"{certificate} and {key} are not a PEM certificate and its key: {error}") from error
    for file in client_ca:
        try:
            context.load_verify_locations(file)
        except ssl.SSLError as error:
            raise OSError(f"{file} contains no PEM certificates: {error}") from error


def _no_password() -> str:
    """Return an empty password. Otherwise OpenSSL would prompt for one on the terminal if the key is encrypted."""
    return ""
