"""The network of a client, for which failures are counted before the client has sent a valid token.

Rules of this file:
1. The address is the one of the connection to Envoy (`source.address`), which no client can choose.
2. `x-forwarded-for` is read only behind a trusted proxy, from its end: each address in it was written by the proxy
   behind it. Anything before the last address that is not a trusted proxy was sent by the client.
3. A proxy itself is never the client: if it does not forward the client's address, there is no network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from authz.core.request import Request

MAX_PROXIES: Final = 16  # in a row, between a client and Envoy
FORWARDED_FOR: Final = "x-forwarded-for"
_CACHE_SIZE: Final = 4096  # entries
# RFC 7239 section 6: some proxies add a port, and then brackets to an IPv6 address.
_WITH_PORT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRules:
    """The prefix lengths of networks, in bits, and the networks of the proxies in front of Envoy."""

    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()


def network_of(request: Request, rules: NetworkRules) -> str | None:
    """Return the network of the client of *request*, such as `192.0.2.1` or `2001:db8::/64`; None if it is unknown."""
    address = address_of(request, rules)
    return _network(address, rules.ipv4_prefix, rules.ipv6_prefix) if address else None


def address_of(request: Request, rules: NetworkRules) -> str | None:
    """Return the address of the client of *request*; None or an empty text if it is unknown."""
    return _find_client(request, rules.trusted_proxies) if rules.trusted_proxies else request.source_address


def _find_client(request: Request, proxies: tuple[IPv4Network | IPv6Network, ...]) -> str | None:
    """Return the last address that is not a trusted proxy; None if all known addresses are proxies."""
    sender = _parse(request.source_address)
    if sender is None or not _is_one_of(sender, proxies):
        return request.source_address
    for text in reversed(request.headers.get(FORWARDED_FOR, "").rsplit(",", MAX_PROXIES)[-MAX_PROXIES:]):
        address = text.strip(" \t")
        match = _WITH_PORT.fullmatch(address)
        sender = _parse(match[1] or match[2] if match else address)
        if sender is None:
            return None
        if not _is_one_of(sender, proxies):
            return str(sender)
    return None


def _is_one_of(address: IPv4Address | IPv6Address, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=_CACHE_SIZE)
def _network(address: str, ipv4_prefix: int, ipv6_prefix: int) -> str | None:
    parsed = _parse(address)
    if parsed is None:
        return None
    prefix = ipv4_prefix if parsed.version == 4 else ipv6_prefix
    if prefix == parsed.max_prefixlen:
        return str(parsed)
    return str(ip_network((str(parsed), prefix), strict=False))


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address; an IPv4-mapped IPv6 address is returned as IPv4, and a zone (RFC 4007) is dropped."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
