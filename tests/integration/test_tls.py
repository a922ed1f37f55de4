"""Proves that keys come over verified TLS or not at all, directly and through a proxy."""

from __future__ import annotations

import os
from base64 import b64encode
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from authz.feeds.http.connect import Proxy
from authz.telemetry.keys import Refresh
from tests.fakes.idp import JWKS, FakeIdp
from tests.fakes.raw import RawServer, forward, say
from tests.fakes.tls import server_context
from tests.integration.fetching import HERE, make_fetcher, old_tls, refuse, result, write_ca

CA = trustme.CA()
OTHER_CA = trustme.CA()


def url_of(idp: FakeIdp, host: str = "idp.test") -> str:
    """The URL of the keys at a fake provider, under a name."""
    return f"https://{host}:{idp.url.rpartition(':')[2]}{JWKS}"


def test_certificate_of_the_configured_ca(tmp_path: Path) -> None:
    """The server is verified by the configured authority, for the name in the URL; the connection goes to its IP."""
    with FakeIdp(tls=server_context(CA, "idp.test")) as idp:
        fetcher = make_fetcher(url_of(idp), ca_file=write_ca(CA, tmp_path))
        assert b'"keys"' in fetcher.get(url_of(idp), {}).body


def test_certificate_for_an_address(tmp_path: Path) -> None:
    """Where the URL has an IP address, the certificate must have it too."""
    ca = write_ca(CA, tmp_path)
    with FakeIdp(tls=server_context(CA, HERE)) as idp, FakeIdp(tls=server_context(CA, "idp.test")) as wrong:
        assert make_fetcher(url_of(idp, HERE), ca_file=ca).get(url_of(idp, HERE), {}).status == 200
        assert result(make_fetcher(url_of(wrong, HERE), ca_file=ca), url_of(wrong, HERE)) is Refresh.TLS


@pytest.mark.parametrize("fault", ["expired", "wrong name", "unknown CA", "system CA", "self-signed", "TLS 1.1"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_bad_certificates_are_refused(fault: str, tmp_path: Path) -> None:
    """E18: the fetch fails, and no request is ever seen, encrypted or not."""
    lone = trustme.CA()
    context = {
        "expired": lambda: server_context(CA, "idp.test", not_after=datetime(2020, 1, 1, tzinfo=UTC)),
        "wrong name": lambda: server_context(CA, "other.test"),
        "unknown CA": lambda: server_context(OTHER_CA, "idp.test"),
        "system CA": lambda: server_context(CA, "idp.test"),
        "self-signed": lambda: server_context(lone, "idp.test"),
        "TLS 1.1": lambda: old_tls(CA, "idp.test"),
    }[fault]()
    with FakeIdp(tls=context) as idp:
        ca_file = None if fault == "system CA" else write_ca(CA, tmp_path)
        assert result(make_fetcher(url_of(idp), ca_file=ca_file, http=True), url_of(idp)) is Refresh.TLS
        assert idp.seen == []


def test_nothing_is_tried_again_without_tls() -> None:
    """E18: a server that speaks plain HTTP on its TLS port hears a TLS greeting, once, and nothing else."""
    with RawServer(say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server:
        url = f"https://idp.test:{server.port}/"
        assert result(make_fetcher(url, http=True), url) is Refresh.TLS
        assert [heard[:1] for heard in server.heard] == [b"\x16"]


def test_new_ca_file_counts_without_a_restart(tmp_path: Path) -> None:
    """The file is read again when it changes, and not before: parsing it for each fetch costs more than the fetch."""
    file = write_ca(OTHER_CA, tmp_path)
    with FakeIdp(tls=server_context(CA, "idp.test")) as idp:
        fetcher = make_fetcher(url_of(idp), ca_file=file)
        assert result(fetcher, url_of(idp)) is Refresh.TLS
        os.replace(write_ca(CA, tmp_path, "next.pem"), file)  # noqa: PTH105 - as kubelet does
        assert fetcher.get(url_of(idp), {}).status == 200
        tls = fetcher._dialer.tls
        assert tls.verifier() is tls.verifier()


def test_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    """A file that holds no certificate is a failure that names it."""
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    url = "https://idp.test:1/"
    failed = refuse(make_fetcher(url, ca_file=file), url)
    assert failed.result is Refresh.MISCONFIGURED
    assert str(file) in str(failed)


def resolve_proxy(host: str, port: int) -> list[str]:
    """Only the proxy has an address here."""
    if host != "proxy.test":
        raise OSError("no such host")
    return [HERE]


def test_proxy_is_a_tunnel(tmp_path: Path) -> None:
    """TLS goes through it to the issuer; the issuer's name is resolved by the proxy alone."""
    with FakeIdp(tls=server_context(CA, "idp.test")) as idp, RawServer(forward()) as server:
        fetcher = make_fetcher(
            url_of(idp),
            ca_file=write_ca(CA, tmp_path),
            proxy=Proxy("proxy.test", server.port),
            resolve=resolve_proxy,
        )
        assert b'"keys"' in fetcher.get(url_of(idp), {}).body
        port = idp.url.rpartition(":")[2]
        assert server.heard[0].startswith(f"CONNECT idp.test:{port} HTTP/1.1\r\n".encode())


def test_server_behind_the_proxy_is_verified(tmp_path: Path) -> None:
    """A proxy that leads elsewhere gains nothing."""
    with FakeIdp(tls=server_context(CA, "evil.test")) as idp, RawServer(forward()) as server:
        proxy = Proxy("proxy.test", server.port)
        ca = write_ca(CA, tmp_path)
        fetcher = make_fetcher(url_of(idp), ca_file=ca, proxy=proxy, resolve=resolve_proxy)
        assert result(fetcher, url_of(idp)) is Refresh.TLS
        assert idp.seen == []


def test_plain_http_through_the_proxy() -> None:
    """Where the operator allowed http, the proxy gets the whole URL (RFC 9112 section 3.2.2)."""
    with FakeIdp() as idp, RawServer(forward()) as server:
        url = f"http://idp.test:{idp.url.rpartition(':')[2]}{JWKS}"
        proxy = Proxy("proxy.test", server.port)
        fetcher = make_fetcher(url, http=True, proxy=proxy, resolve=resolve_proxy)
        assert fetcher.get(url, {}).status == 200


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """A file with a user and a password for the proxy."""
    file = tmp_path / "proxy"
    file.write_text("authz:pass:w\u00f6rd\n", encoding="utf-8")
    return file


BASIC = b"proxy-authorization: Basic " + b64encode("authz:pass:w\u00f6rd".encode())


def test_proxy_gets_its_credentials_and_the_issuer_does_not(credentials: Path, tmp_path: Path) -> None:
    """RFC 7617, in UTF-8: with CONNECT, and read again each time; what goes through the tunnel has none of it."""
    with FakeIdp(tls=server_context(CA, "idp.test")) as idp, RawServer(forward()) as server:
        proxy = Proxy("proxy.test", server.port, credentials_file=str(credentials))
        fetcher = make_fetcher(url_of(idp), ca_file=write_ca(CA, tmp_path), proxy=proxy, resolve=resolve_proxy)
        assert fetcher.get(url_of(idp), {}).status == 200
        credentials.write_text("authz:next")
        assert fetcher.get(url_of(idp), {}).status == 200
        first, second = server.heard
        assert BASIC + b"\r\n" in first
        assert b64encode(b"authz:next") in second
        assert "proxy-authorization" not in {name.lower() for request in idp.seen for name, _ in request.headers}


def test_proxy_gets_its_credentials_with_plain_http(credentials: Path) -> None:
    """Where the operator allowed http there is no CONNECT: the request itself has them."""
    with FakeIdp() as idp, RawServer(forward()) as server:
        url = f"http://idp.test:{idp.url.rpartition(':')[2]}{JWKS}"
        proxy = Proxy("proxy.test", server.port, credentials_file=str(credentials))
        assert make_fetcher(url, http=True, proxy=proxy, resolve=resolve_proxy).get(url, {}).status == 200
        assert BASIC + b"\r\n" in server.heard[0]


def test_proxy_that_wants_credentials_is_told_of(credentials: Path) -> None:
    """407 names the key that is missing or wrong, and repeats no credentials."""
    with RawServer(forward(status=b"407 Proxy Authentication Required")) as server:
        url = "https://idp.test/"
        proxy = Proxy("proxy.test", server.port, credentials_file=str(credentials))
        failed = refuse(make_fetcher(url, proxy=proxy, resolve=resolve_proxy), url)
        assert "status 407; set user and password in fetch.proxy_credentials_file" in str(failed)
        assert "pass:w" not in str(failed)


@pytest.mark.parametrize(
    "content", [b"", b"password", b":password", b"user:pass\nword", b"user:\xff", b"us\rer:password"]
)
def test_broken_proxy_credentials_are_not_repeated(content: bytes, credentials: Path) -> None:
    """A file that does not contain user:password is a failure, its text shows nothing of it, and nothing is sent."""
    credentials.write_bytes(content)
    with RawServer(forward()) as server:
        url = "https://idp.test/"
        proxy = Proxy("proxy.test", server.port, credentials_file=str(credentials))
        failed = refuse(make_fetcher(url, proxy=proxy, resolve=resolve_proxy), url)
        assert failed.result is Refresh.MISCONFIGURED
        assert str(failed) == f"fetch.proxy_credentials_file {credentials}: does not contain user:password"
        assert server.heard == []


@pytest.mark.parametrize("answer", [b"403 Forbidden", b"407 Proxy Authentication Required", b"302 Found", b"x"])
def test_proxy_that_refuses(answer: bytes) -> None:
    """What a proxy says instead of 200 is a failure, and no way to answer in the issuer's place."""
    with RawServer(forward(status=answer)) as server:
        url = "https://idp.test/"
        fetcher = make_fetcher(url, proxy=Proxy("proxy.test", server.port), resolve=resolve_proxy)
        assert result(fetcher, url) is Refresh.UNREACHABLE


def test_proxy_that_floods() -> None:
    """The proxy's own answer is bounded too."""
    with RawServer(say(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * 10_000)) as server:
        url = "https://idp.test/"
        fetcher = make_fetcher(url, proxy=Proxy("proxy.test", server.port), resolve=resolve_proxy)
        assert result(fetcher, url) is Refresh.UNREACHABLE


def test_proxy_is_never_link_local() -> None:
    """The proxy's address is checked; a private one is fine, for it is written in the configuration."""
    url = "https://idp.test/"
    fetcher = make_fetcher(url, proxy=Proxy("proxy.test", 3128), resolve=lambda *_: ["169.254.169.254"])
    assert result(fetcher, url) is Refresh.UNTRUSTED


def test_link_local_proxy_that_the_operator_wrote() -> None:
    """A proxy on the host of a rootless container: its address is allowed as an issuer's would be."""
    url = "https://idp.test/"
    proxy = Proxy("proxy.test", 3128, networks=(ip_network("169.254.1.2"),))
    proxy.trust.check_address("proxy.test", "169.254.1.2")
    other = make_fetcher(url, proxy=proxy, resolve=lambda *_: ["169.254.1.3"])
    assert result(other, url) is Refresh.UNTRUSTED
