"""Which URLs, hosts and, after name resolution, addresses a feed may connect to.

Rules of this file:
1. https only, unless the operator allowed http for this issuer.
2. Hosts of configured URLs may have private addresses. A host that comes from a discovery document must be in
   `allowed_hosts`, and its addresses public or in `allowed_networks`. The same holds for other ports of a configured
   host: they may belong to services of others.
3. Link-local addresses are allowed only if the operator configured the address itself, as the host of a URL, or a
   link-local network that contains it; a larger network, such as 0.0.0.0/0, does not count. The metadata addresses of
   clouds, which return credentials, must be configured individually.
4. Addresses are checked after resolution, and the checked address is the one that is connected to.
5. Credentials are sent only to the origins of the issuer's own configured URLs.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from authz.config.address import write_authority
from authz.telemetry.redaction import printable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Origin = tuple[str, str, int]  # scheme, host, port

MAX_URL_CHARS: Final = 2048
_PORTS: Final = {"https": 443, "http": 80}


class Untrusted(Exception):
    """Raised for a URL or address that a feed must not use; the message says how to allow it, if that is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The hosts and addresses for one issuer's feed. *configured_origins* are those of its configured URLs.

    *allowed_hosts* are in lower case, with a port, or without one for any port.
    """

    configured_origins: frozenset[Origin]
    allowed_hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    http: bool = False

    def check_url(self, url: str) -> SplitResult:
        """Return the parts of *url*. Raises Untrusted."""
        # This text may come from a discovery document: it is escaped and truncated.
        shown = printable(url)
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise Untrusted(f"{shown} is not a URL") from None
        if parts.scheme != "https" and not (self.http and parts.scheme == "http"):
            raise Untrusted(f"{shown} is not https")
        if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
            raise Untrusted(f"{shown} is too long, or has invalid characters")
        if not host or "@" in parts.netloc or parts.fragment:
            raise Untrusted(f"{shown} has no host, or has user information or a fragment")
        _, _, port = read_origin(parts)
        authority = write_authority(host, port)
        if self.allowed_hosts.isdisjoint((host, authority)) and not any(
            (host, port) == origin[1:] for origin in self.configured_origins
        ):
            default_port = port == _PORTS[parts.scheme] and not self._is_configured(host)
            part, entry = ("host", host) if default_port else ("host and port", f'"{authority}"')
            raise Untrusted(
                f"{part} {printable(entry)} is not allowed; "
                f"if it is the issuer's, add it: fetch.allowed_hosts: [{printable(entry)}]"
            )
        return parts

    def check_address(self, host: str, address: str) -> None:
        """Check an *address* that *host* resolved to. Raises Untrusted."""
        ip = _unwrap(ip_address(address.partition("%")[0]))
        containing = [network for network in self.networks if ip in network]
        is_literal = host == str(ip) and self._is_configured(host)
        if ip.is_multicast or ip.is_unspecified:
            raise Untrusted(f"{host} resolves to {ip}, which is never allowed")
        if ip in _METADATA:
            if not is_literal and not any(network.num_addresses == 1 for network in containing):
                raise Untrusted(f"{host} resolves to {ip}, a cloud metadata address, which is never allowed")
            return
        if ip.is_link_local:
            if is_literal or any(network.is_link_local for network in containing):
                return
            kind = "link-local"
        elif self._is_configured(host) or ip.is_global or containing:
            return
        else:
            kind = "not public"
        raise Untrusted(f"{host} resolves to {ip}, which is {kind}; to allow it: fetch.allowed_networks: [{ip}]")

    def may_have_credentials(self, parts: SplitResult) -> bool:
        """Return whether credentials may be sent to the origin of *parts*: only to configured URLs."""
        return read_origin(parts) in self.configured_origins

    def _is_configured(self, host: str) -> bool:
        return any(host == configured for _, configured, _ in self.configured_origins)


def read_origin(parts: SplitResult) -> Origin:
    """Return scheme, host and port of a URL (RFC 6454 section 4)."""
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


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
# Metadata services: most clouds; ECS; EKS; then with IPv6: EC2, EKS, Google.
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
