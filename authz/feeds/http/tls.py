"""TLS settings of the feeds: trusted certificate authorities, and the client certificate.

Rules of this file:
1. All settings of the context are explicit: Python's defaults differ between releases (3.13 added VERIFY_X509_STRICT
   and VERIFY_X509_PARTIAL_CHAIN).
2. A chain is verified by signatures, names, times and basicConstraints (CA:TRUE), up to a trusted certificate, root or
   not. Other requirements of RFC 5280 (key identifiers, critical bits, keyUsage) are not enforced: private CAs often
   violate them, and they add no protection if the operator trusts the CA.
3. Files are read again when they change. A context and the digest of its CAs always have the same content.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from authz.feeds.failure import RefreshError
from authz.files.stamp import FileStamp
from authz.telemetry.keys import Refresh

UNREADABLE: Final = "unreadable"
"""Used instead of the digest of a file that cannot be read."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The PEM files of a client certificate, with its chain, and of its key (RFC 8446 section 4.4.2)."""

    cert_file: str
    key_file: str

    @classmethod
    def configured(cls, cert_file: str | None, key_file: str | None) -> ClientCertificate | None:
        """Return the certificate in these files, or None if none is configured."""
        return None if cert_file is None or key_file is None else cls(cert_file, key_file)

    def load(self, context: ssl.SSLContext) -> None:
        """Load the certificate into *context*. Raises RefreshError."""
        for name, file in (("client_cert_file", self.cert_file), ("client_key_file", self.key_file)):
            try:
                with Path(file).open("rb"):
                    pass
            except OSError as error:
                raise RefreshError(Refresh.MISCONFIGURED, f"fetch.{name} {file}: {error.strerror}") from None
        try:
            # Without a password OpenSSL would prompt for one on the terminal if the key is encrypted.
            context.load_cert_chain(self.cert_file, self.key_file, password="")
        except OSError as error:
            mismatch = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
            why = (
                "does not match the key in"
                if mismatch
                else "is not a PEM certificate, or there is no unencrypted key in"
            )
            text = f"fetch.client_cert_file {self.cert_file}: {why} fetch.client_key_file {self.key_file}"
            raise RefreshError(Refresh.MISCONFIGURED, text) from None


@dataclass(frozen=True, slots=True)
class Verifier:
    """A TLS context, and the digest of its CAs, as returned by `digest_of`."""

    context: ssl.SSLContext
    authorities: str


class TlsTrust:
    """The CAs that servers are verified by, the system's or those of a file, and the client certificate."""

    def __init__(self, ca_file: str | None = None, client: ClientCertificate | None = None) -> None:
        self._ca_file: Final = ca_file
        self._client: Final = client
        self._verifiers: dict[bool, tuple[list[FileStamp], Verifier]] = {}

    def verifier(self, *, show_certificate: bool = False) -> Verifier:
        """Return the TLS context, with or without the client certificate. Raises RefreshError."""
        client = self._client if show_certificate else None
        if self._ca_file is None and client is None:
            return _system_verifier()
        stamps = list(self._stamps(client))  # before the content is read
        cached = self._verifiers.get(client is not None)
        if cached is None or cached[0] != stamps:
            verifier = _make_verifier(self._ca_file)
            if client is not None:
                client.load(verifier.context)
            cached = self._verifiers[client is not None] = stamps, verifier
        return cached[1]

    def authorities(self) -> str:
        """Return the digest of the current CAs."""
        return digest_of(self._ca_file)

    def _stamps(self, client: ClientCertificate | None) -> Iterator[FileStamp]:
        files = {"ca_file": self._ca_file}
        if client is not None:
            files |= {"client_cert_file": client.cert_file, "client_key_file": client.key_file}
        for name, file in files.items():
            if file is None:
                continue
            try:
                stamp = FileStamp.of(file)
            except OSError as error:
                raise RefreshError(Refresh.MISCONFIGURED, f"fetch.{name} {file}: {error.strerror}") from None
            if not stamp.is_regular:  # reading a pipe could block
                raise RefreshError(Refresh.MISCONFIGURED, f"fetch.{name} {file}: is not a file")
            yield stamp


def digest_of(ca_file: str | None) -> str:
    """Return a digest of the current content of *ca_file*; empty for None, the system's CAs."""
    if ca_file is None:
        return ""
    try:
        return sha256(Path(ca_file).read_bytes()).hexdigest()
    except OSError:
        return UNREADABLE


@cache
def _system_verifier() -> Verifier:
    return _make_verifier(None)


def _make_verifier(ca_file: str | None) -> Verifier:
    """Create a context with the CAs of *ca_file*. Raises RefreshError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if ca_file is None:
        context.load_default_certs()
        return Verifier(context, digest_of(None))
    try:
        content = Path(ca_file).read_bytes()
        # Certificates are ASCII (RFC 7468), but bundles may contain comments in any language.
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        text = f"fetch.ca_file {ca_file}: contains no PEM certificate"
        raise RefreshError(Refresh.MISCONFIGURED, text) from None
    except OSError as error:
        raise RefreshError(Refresh.MISCONFIGURED, f"fetch.ca_file {ca_file}: {error.strerror}") from None
    return Verifier(context, sha256(content).hexdigest())
