"""Proves that addresses and URLs are read strictly: nothing is reachable, or asked, by a typing error."""

from __future__ import annotations

import pytest

from authz.config.address import Address, TcpAddress, UnixAddress, check_url, parse_address, worker_addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/authz/authz.sock", UnixAddress("/run/authz/authz.sock")),
        ("unix:./authz.sock", UnixAddress("./authz.sock")),
        ("unix:/" + "a" * 106, UnixAddress("/" + "a" * 106)),
        ("127.0.0.1:9191", TcpAddress("127.0.0.1", 9191)),
        ("0.0.0.0:0", TcpAddress("0.0.0.0", 0)),  # noqa: S104 - only read
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("localhost:1", TcpAddress("localhost", 1)),
        ("authz.internal:9191", TcpAddress("authz.internal", 9191)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """Sockets, IPv4, IPv6 and names can be listened on."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "unix:run/authz.sock",
        "unix:/run/",
        "unix:./",
        "unix:.",
        "unix:../authz.sock",
        "unix:/run/a\0b",
        "unix:@abstract",
        "unix:/" + "ä" * 54,
        "/run/authz.sock",
        "localhost",
        ":9191",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1:٩",
        "127.0.0.1:80\n",
        "127.0.0.256:80",
        "::1:80",
        "[127.0.0.1]:80",
        "[localhost]:80",
        "[]:80",
        "a b:80",
        "-a:80",
        "http://localhost:80",
        "*:80",
    ],
)
def test_no_addresses(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - only read
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
    ],
)
def test_loopback(host: str, *, loopback: bool) -> None:
    """Only addresses that no other host can reach count as loopback."""
    assert TcpAddress(host, 1).loopback is loopback


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.com",
        "HTTPS://login.example.com/",
        "https://login.example.com:8443/realms/a",
        "https://[2001:db8::1]/keys",
        "https://10.0.0.1/keys",
        "https://login.example.com/keys?p=policy",
    ],
)
def test_urls(url: str) -> None:
    """Absolute https URLs may be fetched."""
    check_url(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "absolute"),
        ("login.example.com", "absolute"),
        ("https:", "absolute"),
        ("https://", "absolute"),
        ("//login.example.com", "absolute"),
        ("file:///etc/passwd", "absolute"),
        ("ftp://login.example.com", "absolute"),
        ("https://login.example.com/a b", "absolute"),
        ("https://login.example.com/\n", "absolute"),
        ("https://löginexample.com/", "absolute"),
        ("http://login.example.com", "begin with https"),
        ("https://user@login.example.com", "user"),
        ("https://login.example.com/#", "fragment"),
        ("https://:443/", "must have a host"),
        ("https:///keys", "must have a host"),
        ("https://login.example.com:99999/", "must have a host"),
        ("https://login.example.com:0/", "must have a host"),
        ("https://login.example.com:port/", "must have a host"),
        ("https://[::1/", "must have a host"),
        ("https://a_b.example.com\\@evil.example.com/", "user"),
    ],
)
def test_no_urls(url: str, why: str) -> None:
    """Nothing else may: no other scheme, no credentials, no fragment, no host that readers would disagree on."""
    with pytest.raises(ValueError, match=why):
        check_url(url)


def test_http_and_query_where_allowed() -> None:
    """Plain HTTP has to be allowed, and a query can be forbidden."""
    check_url("http://login.example.com/", http=True)
    with pytest.raises(ValueError, match="query"):
        check_url("https://login.example.com/?a=1", query=False)


@pytest.mark.parametrize(
    ("listen", "workers", "addresses"),
    [
        ("unix:/run/authz/authz.sock", 1, ["unix:/run/authz/authz.sock"]),
        ("unix:/run/authz/authz.sock", 2, ["unix:/run/authz/authz-0.sock", "unix:/run/authz/authz-1.sock"]),
        ("unix:./authz.sock", 2, ["unix:./authz-0.sock", "unix:./authz-1.sock"]),
        ("unix:/run/a.b/authz", 2, ["unix:/run/a.b/authz-0", "unix:/run/a.b/authz-1"]),
        ("unix:/a.b.sock", 2, ["unix:/a.b-0.sock", "unix:/a.b-1.sock"]),
        ("127.0.0.1:9191", 3, ["127.0.0.1:9191", "127.0.0.1:9192", "127.0.0.1:9193"]),
        ("[::1]:9191", 2, ["[::1]:9191", "[::1]:9192"]),
        ("localhost:0", 2, ["localhost:0", "localhost:0"]),
    ],
)
def test_addresses_of_workers(listen: str, workers: int, addresses: list[str]) -> None:
    """One worker has the address that is written; of several each has one of its own, which can be listened on."""
    assert list(worker_addresses(listen, workers)) == addresses
    assert all(map(parse_address, addresses))
