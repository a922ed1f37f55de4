"""Proves mutual TLS towards an issuer: the certificate is shown to the issuer's own hosts, and follows its files."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from authz.feeds.http.connect import Dialer, Proxy
from authz.feeds.http.fetch import Fetcher
from authz.feeds.http.tls import ClientCertificate, TlsTrust
from authz.feeds.http.trust import Trust, read_origin
from authz.telemetry.keys import Refresh
from tests.fakes.idp import JWKS, FakeIdp
from tests.fakes.raw import RawServer, forward
from tests.fakes.tls import server_context
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.fetching import HERE, refuse, result, write_ca

CA = trustme.CA()
CLIENTS = trustme.CA()
OTHER_CLIENTS = trustme.CA()


def demanding(*names: str) -> ssl.SSLContext:
    """A server that wants a client certificate of CLIENTS."""
    context = server_context(CA, *names)
    context.verify_mode = ssl.CERT_REQUIRED
    CLIENTS.configure_trust(context)
    return context


def write_pair(folder: Path, issuer: trustme.CA = CLIENTS) -> ClientCertificate:
    """Write a client's certificate and key, each replaced as a whole if it is there."""
    issued = issuer.issue_cert("authz@client.test")
    files = ClientCertificate(str(folder / "tls.crt"), str(folder / "tls.key"))
    for file, blob in ((files.cert_file, issued.cert_chain_pems[0]), (files.key_file, issued.private_key_pem)):
        blob.write_to_path(f"{file}.next")
        os.replace(f"{file}.next", file)  # noqa: PTH105 - as kubelet does
    return files


def url_of(idp: FakeIdp, host: str = "idp.test") -> str:
    """The URL of the keys at a fake provider, under a name."""
    return f"https://{host}:{idp.url.rpartition(':')[2]}{JWKS}"


def make_fetcher(url: str, folder: Path, files: ClientCertificate | None, proxy: Proxy | None = None) -> Fetcher:
    """Make a fetcher for an issuer with such a URL; discovery may lead it to cdn.test."""
    trust = Trust(
        configured_origins=frozenset({read_origin(urlsplit(url))}),
        allowed_hosts=frozenset({"cdn.test"}),
        networks=(ip_network(HERE),),
    )
    dialer = Dialer(trust=trust, tls=TlsTrust(str(write_ca(CA, folder)), files), proxy=proxy, resolve=lambda *_: [HERE])
    return Fetcher(dialer, timeout=HANG_SECONDS, max_bytes=262_144)


REFUSED = {Refresh.TLS, Refresh.UNREACHABLE}  # by an alert, or, where that comes too late, by a connection that ends


def test_issuer_that_wants_a_certificate(tmp_path: Path) -> None:
    """It gives its keys to a client that has one, and to no other."""
    with FakeIdp(tls=demanding("idp.test")) as idp:
        assert make_fetcher(url_of(idp), tmp_path, write_pair(tmp_path)).get(url_of(idp), {}).status == 200
        assert result(make_fetcher(url_of(idp), tmp_path, None), url_of(idp)) in REFUSED
        assert len(idp.seen) == 1


def test_certificate_through_a_proxy(tmp_path: Path) -> None:
    """The proxy passes TLS on: the certificate reaches the issuer."""
    with FakeIdp(tls=demanding("idp.test")) as idp, RawServer(forward()) as server:
        proxy = Proxy("proxy.test", server.port)
        fetcher = make_fetcher(url_of(idp), tmp_path, write_pair(tmp_path), proxy)
        assert fetcher.get(url_of(idp), {}).status == 200


def test_certificate_is_shown_to_the_written_origins_only(tmp_path: Path) -> None:
    """A host that only discovery names does not learn who we are, though it may ask."""
    with FakeIdp(tls=demanding("idp.test", "cdn.test")) as idp:
        fetcher = make_fetcher(url_of(idp), tmp_path, write_pair(tmp_path))
        assert fetcher.get(url_of(idp), {}).status == 200
        assert result(fetcher, url_of(idp, "cdn.test")) in REFUSED
        assert len(idp.seen) == 1


def test_replaced_certificate_counts_with_the_next_fetch(tmp_path: Path) -> None:
    """Certificates of services live for hours: the files are read again when they change, and not before."""
    with FakeIdp(tls=demanding("idp.test")) as idp:
        fetcher = make_fetcher(url_of(idp), tmp_path, write_pair(tmp_path, OTHER_CLIENTS))
        assert result(fetcher, url_of(idp)) in REFUSED
        write_pair(tmp_path)
        assert fetcher.get(url_of(idp), {}).status == 200
        tls = fetcher._dialer.tls
        assert tls.verifier(show_certificate=True) is tls.verifier(show_certificate=True)
        assert tls.verifier(show_certificate=True) is not tls.verifier()


def test_certificate_beside_the_systems_authorities(tmp_path: Path) -> None:
    """It needs no ca_file; the context that other issuers share does not get it."""
    shown = TlsTrust(None, write_pair(tmp_path)).verifier(show_certificate=True)
    assert shown.authorities == TlsTrust().verifier().authorities == ""
    assert shown.context is not TlsTrust().verifier().context
    assert shown.context.cert_store_stats() == TlsTrust().verifier().context.cert_store_stats()


def spoil_key(files: ClientCertificate, key: bytes) -> None:
    """Put something else where the key was."""
    Path(files.key_file).write_bytes(key)


def replace_by_pipe(file: str) -> None:
    """Put a pipe in place of a file, to which no one writes."""
    Path(file).unlink()
    os.mkfifo(file)


def encrypted_key() -> bytes:
    """A key that no one can use without its password."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (
            lambda files: spoil_key(files, CLIENTS.issue_cert("b@client.test").private_key_pem.bytes()),
            "does not match the key in",
        ),
        (lambda files: spoil_key(files, encrypted_key()), "or there is no unencrypted key in"),
        (lambda files: spoil_key(files, b"junk"), "or there is no unencrypted key in"),
        (lambda files: Path(files.cert_file).write_bytes(b"junk"), "is not a PEM certificate"),
        (lambda files: Path(files.key_file).unlink(), "tls.key: No such file"),
        (lambda files: replace_by_pipe(files.key_file), "tls.key: is not a file"),
    ],
    ids=["another key", "encrypted key", "no key", "no certificate", "missing", "a pipe"],
)
def test_pair_that_cannot_serve(spoil: Callable[[ClientCertificate], object], why: str, tmp_path: Path) -> None:
    """The failure names the files, at once: a password is not asked for, and nothing is connected to."""
    files = write_pair(tmp_path)
    spoil(files)
    failed = refuse(make_fetcher("https://idp.test:1/", tmp_path, files), "https://idp.test:1/")
    assert failed.result is Refresh.MISCONFIGURED
    assert why in str(failed)
