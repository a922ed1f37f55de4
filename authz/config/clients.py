"""Which network a client counts as, and when its failures slow it down."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from authz.config.declaring import Field
from authz.config.section import Access, Duration, Items, Section, Setting


class Clients(Section):
    """Networks, for throttle and require.risk."""

    trusted_proxies: Annotated[
        Items[str],
        Field(examples=[["10.0.0.0/8"]]),
        Setting(Access.UNKNOWN, meaning="other addresses count as the client's"),
    ] = ()
    """Proxies before Envoy, which set x-forwarded-for."""
    ipv4_prefix: Annotated[int, Setting(Access.UNKNOWN, bounds=("8", "32"))] = 32
    """Bits of a network."""
    ipv6_prefix: Annotated[int, Setting(Access.UNKNOWN, bounds=("32", "128"))] = 64
    """Bits of a network."""
    max_networks: Annotated[int, Setting(Access.UNAFFECTED, bounds=("8", "1000000"), restart=True)] = 10_000
    """Failing networks in memory (700 octets each)."""
    max_subjects: Annotated[int, Setting(Access.UNAFFECTED, bounds=("8", "1000000"), restart=True)] = 10_000
    """Failing subjects in memory (4,000 octets each)."""
    max_accepted: Annotated[int, Setting(Access.UNAFFECTED, bounds=("64", "1000000"), restart=True)] = 20_000
    """Accepted tokens in memory (400 octets each)."""

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of proxies, parsed. Raises ValueError."""
        return tuple(map(ip_network, self.trusted_proxies))


class Throttle(Section):
    """429 for networks with many bad tokens."""

    failures: Annotated[int, Setting(Access.LIMIT, bounds=("1", "100000"))] = 20
    """Bad tokens per network, window and worker."""
    window: Annotated[Duration, Setting(Access.UNKNOWN, bounds=("1s", "24h"))] = timedelta(minutes=1)
    """Length of the window."""
    shadow: Annotated[bool, Setting(Access.LOOSENED, risk="networks that should be throttled are only reported")] = (
        False
    )
    """Report denials, but allow."""
