"""Certificate authorities in the forms that are found in the field: trustme makes the perfect form only."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_SIGNS: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a certificate is written. *ca* is cA of basicConstraints; the extension is absent if it is None."""

    ca: bool | None = True
    critical: bool = True
    key_usage: bool = True
    key_identifiers: bool = True
    expired: bool = False


UNUSUAL: Final = {
    "no key identifiers": Form(key_identifiers=False),
    "basicConstraints not critical": Form(critical=False),
    "no keyUsage": Form(key_usage=False),
    "all of it": Form(key_identifiers=False, critical=False, key_usage=False),
}
"""Forms that VERIFY_X509_STRICT of OpenSSL refuses, and that are in use."""


class Authority:
    """An authority with a certificate in *form*: a root, or one below *parent*."""

    def __init__(self, form: Form | None = None, *, name: str = "private", parent: Authority | None = None) -> None:
        self.form: Final = form or Form()
        self.key: Final = ec.generate_private_key(ec.SECP256R1())
        self._name: Final = _name(name)
        self.certificate: Final = (parent or self)._sign(self._name, self.key.public_key(), self.form)

    def write(self, folder: Path, name: str = "authority.pem") -> Path:
        """Write the certificate to a file."""
        file = folder / name
        file.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return file

    def issue(self, host: str, *chain: Authority) -> tuple[bytes, bytes]:
        """Return PEM of a certificate for *host*, with *chain* between it and the root, and PEM of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        form = Form(ca=False, key_usage=False, key_identifiers=self.form.key_identifiers)
        shown = (self._sign(_name(host), key.public_key(), form, host=host), *(each.certificate for each in chain))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return b"".join(each.public_bytes(Encoding.PEM) for each in shown), private

    def server_context(self, host: str, *chain: Authority) -> ssl.SSLContext:
        """Return the context of a server with a certificate for *host*, as `issue` makes it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "server.pem"
            file.write_bytes(b"".join(self.issue(host, *chain)))
            context.load_cert_chain(file)
        return context

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, form: Form, *, host: str | None = None
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now + timedelta(days=-1 if form.expired else 9))
        )
        if form.ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(form.ca, None), critical=form.critical)
        if form.key_usage:
            builder = builder.add_extension(_SIGNS, critical=True)
        if form.key_identifiers:
            own, ours = x509.SubjectKeyIdentifier.from_public_key(key), self.key.public_key()
            builder = builder.add_extension(own, critical=False)
            builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ours), critical=False)
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
