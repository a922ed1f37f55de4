"""Proves authz.envoy.credentials: certificates are taken from their files as these are replaced, by real handshakes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from authz.envoy.credentials import TlsFiles, make_credentials
from tests.fakes.authority import UNUSUAL, Authority, Form
from tests.unit.envoy.asking import told, write_check
from tests.unit.envoy.serving import SECONDS, code_of, make_server, method


class Site:
    """A server on TLS, the files it follows, and who may call it."""

    def __init__(self, folder: Path) -> None:
        self.files = TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
        self.authority, self.clients = trustme.CA(), trustme.CA()
        self.envoy = self.clients.issue_cert("envoy")
        self.write(self.authority)
        self.clients.cert_pem.write_to_path(folder / "ca.crt")
        self.server = make_server()
        self.port = self.server.listen_tcp("127.0.0.1:0", credentials=make_credentials(self.files))
        self.server.start()

    def write(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(self.files.certificate)
        issued.private_key_pem.write_to_path(self.files.key)

    def call(self, trusted: trustme.CA, client: trustme.LeafCert | None = None) -> str | grpc.StatusCode:
        """Check over a new connection; the reason, or the code of a call that failed."""
        pair = (client.cert_chain_pems[0].bytes(), client.private_key_pem.bytes()) if client else (None, None)
        return self.call_with(trusted, *pair)

    def call_with(self, trusted: trustme.CA, chain: bytes | None, key: bytes | None) -> str | grpc.StatusCode:
        """Check over a new connection, with a certificate in PEM."""
        credentials = grpc.ssl_channel_credentials(trusted.cert_pem.bytes(), key, chain)
        with grpc.secure_channel(f"localhost:{self.port}", credentials) as channel:
            try:
                return str(told(method(channel)(write_check(), timeout=SECONDS)))
            except grpc.RpcError as error:
                return code_of(error)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server that follows its files."""
    opened = Site(tmp_path)
    yield opened
    opened.server.stop(grace=0)


def test_client_needs_a_certificate(site: Site) -> None:
    """With a client CA, anyone who has no certificate of it is not even answered."""
    assert site.call(site.authority, site.envoy) == "token_missing"
    assert site.call(site.authority) is grpc.StatusCode.UNAVAILABLE
    assert site.call(site.authority, site.authority.issue_cert("envoy")) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("form", UNUSUAL.values(), ids=UNUSUAL)
def test_authority_of_unusual_form(site: Site, form: Form) -> None:
    """As towards issuers, its clients are verified by signature and time: gRPC's TLS does not ask for the form."""
    clients = Authority(form)
    clients.write(site.files.certificate.parent, "ca.crt")
    assert site.call_with(site.authority, *clients.issue("envoy.test")) == "token_missing"
    assert site.call_with(site.authority, *Authority(form).issue("envoy.test")) is grpc.StatusCode.UNAVAILABLE


def test_client_that_is_no_authority_admits_no_other(site: Site) -> None:
    """A certificate of a client signs no further ones, below an authority of either form."""
    for form in (Form(), UNUSUAL["all of it"]):
        clients = Authority(form, name="clients")
        client = Authority(Form(ca=False, key_usage=False), name="client", parent=clients)
        clients.write(site.files.certificate.parent, "ca.crt")
        assert site.call_with(site.authority, *client.issue("x.test", client)) is grpc.StatusCode.UNAVAILABLE


def test_new_certificate_is_taken_up(site: Site) -> None:
    """The next handshake uses what stands in the files then."""
    renewed = trustme.CA()
    site.write(renewed)
    assert site.call(renewed, site.envoy) == "token_missing"
    assert site.call(site.authority, site.envoy) is grpc.StatusCode.UNAVAILABLE


def test_broken_files_change_nothing(site: Site) -> None:
    """A key that is none, and then no key at all: the last good pair continues to serve."""
    site.files.key.write_text("not a key")
    assert site.call(site.authority, site.envoy) == "token_missing"
    site.files.key.unlink()
    assert site.call(site.authority, site.envoy) == "token_missing"


def test_what_is_unusable_is_reported_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A stranger's handshakes fill no log: the files are looked at again only when they are others."""
    site.files.key.unlink()
    for _ in range(3):
        assert site.call(site.authority, site.envoy) == "token_missing"
    assert [record.message for record in caplog.records if "TLS files cannot be used" in record.message] == [
        f"TLS files cannot be used, the last ones stay in use: [Errno 2] No such file or directory: '{site.files.key}'"
    ]


def test_files_that_differ_only_in_permission_are_read_again(
    site: Site, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A key that is written first and made readable afterwards is taken up, with the same content and times."""
    caplog.set_level("INFO")
    (tmp_path / "tls.key").chmod(0o640)
    assert site.call(site.authority, site.envoy) == "token_missing"
    assert [record.message for record in caplog.records if "TLS files" in record.message] == ["TLS files were reloaded"]


def test_missing_files_are_an_error_at_the_start(tmp_path: Path) -> None:
    """Nothing serves without its certificate."""
    with pytest.raises(FileNotFoundError):
        make_credentials(TlsFiles(tmp_path / "none.crt", tmp_path / "none.key"))


def test_files_that_hold_something_else_are_an_error_at_the_start(site: Site) -> None:
    """Another's key, an encrypted one, and authorities that are none: gRPC would refuse every handshake in silence."""
    files = site.files
    assert files.client_ca is not None
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(files.key)
    with pytest.raises(OSError, match="not a PEM certificate and its key"):
        make_credentials(files)
    key = generate_private_key(SECP256R1())
    secret = BestAvailableEncryption(b"secret")
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    with pytest.raises(OSError, match="not a PEM certificate and its key"):
        make_credentials(files)
    site.write(site.authority)
    files.client_ca.write_text("junk")
    with pytest.raises(OSError, match=r"ca\.crt contains no PEM certificates"):
        make_credentials(files)
