"""Where a feed may go: URLs, hosts and, after name resolution, addresses.

Rules of this file:
1. https only, unless the operator allowed http for this issuer.
2. Hosts written in the configuration may have private addresses. A host that only a document names must be listed, and
   its addresses be public or within the listed networks. So must another port of a written host: other services of one
   machine are none of the issuer's.
3. Link-local addresses are connected to only if the operator wrote the address, as the host of a URL, or a link-local
   network that holds it: a wider one, such as 0.0.0.0/0, does not count. Where clouds hand out credentials, only that
   very address counts, and no network.
4. Addresses are checked after resolution, and the checked address is the one that is connected to.
5. Credentials go to the origins of the issuer's own configured URLs, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from authz.telemetry.redaction import printable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Origin = tuple[str, str, int]  # scheme, host, port

MAX_URL_CHARS: Final = 2048
_PORTS: Final = {"https": 443, "http": 80}


class Untrusted(Exception):
    """Raised for a URL or address that a feed may not use; the text says why, and how to allow it where one may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What one issuer's feed may connect to. *configured_origins* are those of the issuer's own configured URLs.

    *allowed_hosts* are in lower case, with a port or, for any port, without.
    """

    configured_origins: frozenset[Origin]
    allowed_hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    http: bool = False

    def check_url(self, url: str) -> SplitResult:
        """Return the parts of *url*. Raises Untrusted."""
        # A discovery document chooses this text: none of it is repeated unescaped or at length.
        shown = printable(url)
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise Untrusted(f"{shown} is not a URL") from None
        if parts.scheme != "https" and not (self.http and parts.scheme == "http"):
            raise Untrusted(f"{shown} is not https")
        if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
            raise Untrusted(f"{shown} is too long, or has characters that no URL has")
        if not host or "@" in parts.netloc or parts.fragment:
            raise Untrusted(f"{shown} has no host, or has user information or a fragment")
        _, _, port = read_origin(parts)
        authority = write_authority(host, port)
        if self.allowed_hosts.isdisjoint((host, authority)) and not any(
            (host, port) == origin[1:] for origin in self.configured_origins
        ):
            usual = port == _PORTS[parts.scheme] and not self._is_configured(host)
            what, entry = ("host", host) if usual else ("host and port", f'"{authority}"')
            raise Untrusted(
                f"{what} {printable(entry)} is not allowed; "
                f"if it is the issuer's, add it: fetch.allowed_hosts: [{printable(entry)}]"
            )
        return parts

    def check_address(self, host: str, address: str) -> None:
        """Check an *address* that *host* resolved to. Raises Untrusted."""
        ip = _unwrap(ip_address(address.partition("%")[0]))
        holding = [network for network in self.networks if ip in network]
        written = host == str(ip) and self._is_configured(host)
        if ip.is_multicast or ip.is_unspecified:
            raise Untrusted(f"{host} resolves to {ip}, which is never connected to")
        if ip in _METADATA:
            if not written and not any(network.num_addresses == 1 for network in holding):
                raise Untrusted(f"{host} resolves to {ip}, where a cloud hands out credentials: never connected to")
            return
        if ip.is_link_local:
            if written or any(network.is_link_local for network in holding):
                return
            kind = "link-local"
        elif self._is_configured(host) or ip.is_global or holding:
            return
        else:
            kind = "not public"
        raise Untrusted(f"{host} resolves to {ip}, which is {kind}; to allow it: fetch.allowed_networks: [{ip}]")

    def may_have_credentials(self, parts: SplitResult) -> bool:
        """Tell whether credentials may go to the origin of *parts*: a document alone never decides that."""
        return read_origin(parts) in self.configured_origins

    def _is_configured(self, host: str) -> bool:
        return any(host == configured for _, configured, _ in self.configured_origins)


def read_origin(parts: SplitResult) -> Origin:
    """Return scheme, host and port of a URL (RFC 6454 section 4)."""
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def write_authority(host: str, port: int) -> str:
    """Write a host and its port (RFC 3986 section 3.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unwrap(ip: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one (RFC 4291 section 2.5.5, RFC 6052, RFC 3056), else *ip*."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.sixtofour is not None:
            return ip.sixtofour
        if any(ip in network for network in _EMBEDDING) and int(ip) > 1:
            return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


# NAT64 (RFC 6052), local NAT64 (RFC 8215), and IPv4-compatible addresses (RFC 4291 section 2.5.5.1).
_EMBEDDING: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"))
# Metadata and credentials: of most clouds; of ECS and EKS; of EC2 and EKS, then of Google, by IPv6.
_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
        ),
    )
)
