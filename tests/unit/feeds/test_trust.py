"""Proves where a feed may go, and where credentials may."""

from __future__ import annotations

from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest

from authz.feeds.http.trust import Trust, Untrusted, read_origin

TRUST = Trust(
    configured_origins=frozenset({("https", "login.test", 443), ("https", "fd00::1", 8443)}),
    allowed_hosts=frozenset({"cdn.test", "login.test:9443", "one.test:8443", "[fd00::2]:8443"}),
    networks=(ip_network("10.1.0.0/16"),),
)


@pytest.mark.parametrize(
    "url",
    [
        "https://login.test/keys",
        "https://LOGIN.test:443/keys?a=b",
        "https://login.test:9443/keys",
        "https://cdn.test",
        "https://cdn.test:8443/",
        "https://one.test:8443/",
        "https://[fd00::1]:8443/keys",
        "https://[fd00::2]:8443/keys",
    ],
)
def test_good_urls(url: str) -> None:
    """Hosts written, at the port written with them; hosts listed, at any port or at the one listed."""
    assert TRUST.check_url(url).hostname


@pytest.mark.parametrize(
    "url",
    [
        "http://login.test/keys",
        "ftp://login.test/keys",
        "file:///etc/passwd",
        "data:,{}",
        "https:///keys",
        "https://login.test@evil.test/",
        "https://evil.test\\@login.test/",
        "https://user:pass@login.test/",
        "https://login.test/#x",
        "https://login.test./",
        "https://login.test:8443/keys",
        "https://login.test:9192/metrics",
        "https://one.test/",
        "https://one.test:9443/",
        "https://[fd00::1]/keys",
        "https://[fd00::2]/keys",
        "https://login.test.evil.test/",
        "https://evil.test",
        "https://login.test/\nkeys",
        "https://log\tin.test/",
        "https://login.test/ü",
        "https://login.test/a b",
        "https://[login.test/",
        "https://login.test:99999/",
        "https://login.test/" + "x" * 3000,
        "",
    ],
)
def test_bad_urls(url: str) -> None:
    """Everything else is refused, and repeated in no way that could forge a log line."""
    with pytest.raises(Untrusted) as refused:
        TRUST.check_url(url)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


def test_http_only_where_allowed() -> None:
    """Plain http is the operator's choice, for this issuer; its port is another, and has to be named."""
    assert (
        Trust(configured_origins=TRUST.configured_origins, http=True).check_url("http://login.test:443/").scheme
        == "http"
    )
    assert Trust(configured_origins=frozenset({("http", "login.test", 80)}), http=True).check_url("http://login.test/")
    with pytest.raises(Untrusted):
        Trust(configured_origins=TRUST.configured_origins, http=True).check_url("http://login.test/")


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("https://evil.test/", "host evil.test is not allowed; .*: [evil.test]"),
        ("https://evil.test:8443/", 'host and port "evil.test:8443" is not allowed; .*: ["evil.test:8443"]'),
        ("https://login.test:8443/", 'host and port "login.test:8443" is not allowed; .*: ["login.test:8443"]'),
        ("https://[fd00::1]/", 'host and port "[fd00::1]:443" is not allowed; .*: ["[fd00::1]:443"]'),
    ],
)
def test_refusal_prints_the_line_to_add(url: str, line: str) -> None:
    """It allows what was refused and no more: a port is named where it is not the usual one of another host."""
    said, _, added = line.partition(".*")
    with pytest.raises(Untrusted) as refused:
        TRUST.check_url(url)
    assert str(refused.value).startswith(said)
    assert str(refused.value).endswith(added)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd00::1", "93.184.216.34"])
def test_written_hosts_may_be_private(address: str) -> None:
    """In-cluster providers have private addresses."""
    TRUST.check_address("login.test", address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "10.1.2.3", "::ffff:10.1.2.3"])
def test_listed_hosts_may_be_public_or_in_the_networks(address: str) -> None:
    """Beyond that there is nothing for a host that a document names."""
    TRUST.check_address("cdn.test", address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.2.0.1",
        "192.168.1.1",
        "100.100.100.200",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "::",
        "::1",
        "fd00::2",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "255.255.255.255",
        "240.0.0.1",
    ],
)
def test_listed_hosts_may_not_be_private(address: str) -> None:
    """Also not in the disguises that IPv6 has for IPv4."""
    with pytest.raises(Untrusted):
        TRUST.check_address("cdn.test", address)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",  # noqa: S104 - an address to refuse
    ],
)
@pytest.mark.parametrize("host", ["login.test", "cdn.test"])
def test_link_local_is_in_no_wider_network(host: str, address: str) -> None:
    """Where clouds keep credentials, and on the link beside them, no address is allowed by a network of all."""
    trust = Trust(
        configured_origins=TRUST.configured_origins,
        allowed_hosts=TRUST.allowed_hosts,
        networks=(ip_network("0.0.0.0/0"), ip_network("::/0")),
    )
    with pytest.raises(Untrusted, match=r"never allowed|is link-local"):
        trust.check_address(host, address)


def trust_of(*urls: str, networks: tuple[str, ...] = ()) -> Trust:
    """What an issuer with these URLs and allowed networks may reach."""
    return Trust(
        configured_origins=frozenset(read_origin(urlsplit(url)) for url in urls),
        allowed_hosts=frozenset({"cdn.test"}),
        networks=tuple(map(ip_network, networks)),
    )


@pytest.mark.parametrize("network", ["169.254.1.2", "169.254.1.0/24", "169.254.0.0/16"])
@pytest.mark.parametrize("host", ["host.containers.internal", "cdn.test"])
def test_link_local_address_that_the_operator_wrote(host: str, network: str) -> None:
    """Rootless Podman has its host at 169.254.1.2: the address is allowed by itself, or by a link-local network."""
    trust = trust_of("https://host.containers.internal/", networks=(network,))
    trust.check_address(host, "169.254.1.2")
    trust.check_address(host, "::ffff:169.254.1.2")
    with pytest.raises(Untrusted, match=r"169\.254\.169\.254, a cloud metadata address"):
        trust.check_address(host, "169.254.169.254")


def test_link_local_refusal_prints_the_line_to_add() -> None:
    """Of a host that is written by its name, too."""
    with pytest.raises(Untrusted, match=r"to allow it: fetch\.allowed_networks: \[169\.254\.1\.2\]$"):
        trust_of("https://podman.test/").check_address("podman.test", "169.254.1.2")


def test_link_local_address_as_the_host_of_a_url() -> None:
    """It is written there as exactly as can be; another name that resolves to it is not."""
    trust = trust_of("https://169.254.1.2:8443/keys")
    trust.check_address("169.254.1.2", "169.254.1.2")
    for host in ("cdn.test", "169.254.1.2"):
        with pytest.raises(Untrusted):
            trust.check_address(host, "169.254.1.3")
    with pytest.raises(Untrusted):
        trust.check_address("cdn.test", "169.254.1.2")


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd20:ce::254"])
def test_metadata_of_a_cloud_needs_its_very_address(address: str) -> None:
    """Networks that hold it do not allow it, not even for a host that may be private."""
    host = f"[{address}]" if ":" in address else address
    for networks in (
        (),
        ("169.254.0.0/16", "fd00::/8"),
        ("169.254.169.254/31", "169.254.170.2/31", "fd00:ec2::254/127"),
    ):
        with pytest.raises(Untrusted, match="never"):
            trust_of("https://login.test/", networks=networks).check_address("login.test", address)
    trust_of("https://login.test/", networks=(address,)).check_address("login.test", address)
    trust_of(f"https://{host}/").check_address(address, address)


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://login.test/keys", True),
        ("https://login.test:443/keys", True),
        ("https://login.test:8443/keys", False),
        ("http://login.test/keys", False),
        ("https://cdn.test/keys", False),
    ],
)
def test_credentials_go_to_written_origins(url: str, *, may: bool) -> None:
    """Scheme, host and port must be those of a configured URL."""
    assert TRUST.may_have_credentials(urlsplit(url)) is may
