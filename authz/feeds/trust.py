"""Where a feed may go: URLs, hosts and, after name resolution, addresses.

Rules of this file:
1. https only, unless the operator allowed http for this issuer.
2. Hosts written in the configuration may have private addresses. A host that only a document names must be listed, and
   its addresses be public or within the listed networks.
3. Link-local addresses, where clouds keep credentials, are never connected to.
4. Addresses are judged after resolution, and the judged address is the one that is connected to.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Untrusted(Exception):
    """Raised for a URL or address that a feed may not use; the text says why, and how to allow it where one may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What one issuer's feed may connect to. *written* are hosts of the issuer's own configured URLs."""

    written: frozenset[str]
    listed: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    http: bool = False

    def check_url(self, url: str) -> SplitResult:
        """Return the parts of *url*. Raises Untrusted."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise Untrusted(f"{url!r} is not a URL: {error}") from None
        if parts.scheme != "https" and not (self.http and parts.scheme == "http"):
            raise Untrusted(f"{url!r} is not https")
        if (
            not host
            or "@" in parts.netloc
            or parts.fragment
            or not url.isascii()
            or not url.isprintable()
            or " " in url
        ):
            raise Untrusted(f"{url!r} has no host, or has user information, a fragment or characters that no URL has")
        if host not in self.written and host not in self.listed:
            raise Untrusted(f"host {host} is not allowed; if it is the issuer's, add it: fetch.allowed_hosts: [{host}]")
        return parts

    def check_address(self, host: str, address: str) -> None:
        """Judge an *address* that *host* resolved to. Raises Untrusted."""
        ip = _unwrap(ip_address(address.partition("%")[0]))
        if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            raise Untrusted(f"{host} resolves to {ip}, which is never connected to")
        if host in self.written or ip.is_global or any(ip in network for network in self.networks):
            return
        raise Untrusted(f"{host} resolves to {ip}, which is not public; to allow it: fetch.allowed_networks: [{ip}]")


def _unwrap(ip: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one (RFC 4291 section 2.5.5.2, RFC 6052, RFC 3056), else *ip*."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.sixtofour is not None:
            return ip.sixtofour
        if ip in _NAT64:
            return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


_NAT64 = IPv6Network("64:ff9b::/96")
