"""Proves authz.core.client_network: no client chooses the network that it counts as."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.client_network import MAX_PROXIES, NetworkRules, network_of
from authz.core.request import Request

PROXIES = NetworkRules(trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
WIDE = NetworkRules(ipv4_prefix=24, ipv6_prefix=48)


def count_as(address: str, forwarded: str | None = None, rules: NetworkRules = PROXIES) -> str | None:
    """Return the network of a client whose peer is *address*, with a header x-forwarded-for."""
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    return network_of(Request(source_address=address, headers=headers), rules)


@pytest.mark.parametrize(
    ("address", "rules", "network"),
    [
        ("192.0.2.7", NetworkRules(), "192.0.2.7"),
        ("192.0.2.7", WIDE, "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", NetworkRules(), "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::ffff", NetworkRules(), "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", WIDE, "2001:db8:1::/48"),
        ("2001:db8::1", NetworkRules(ipv6_prefix=128), "2001:db8::1"),
        ("::ffff:192.0.2.7", NetworkRules(), "192.0.2.7"),
        ("fe80::1%eth0", NetworkRules(), "fe80::/64"),
        ("", NetworkRules(), None),
        ("", PROXIES, None),
        ("/run/envoy.sock", NetworkRules(), None),
        ("/run/envoy.sock", PROXIES, None),
    ],
)
def test_an_address_counts_as_its_network(address: str, rules: NetworkRules, network: str | None) -> None:
    """All addresses of a prefix are one network, however they are written; without an address there is none."""
    assert count_as(address, rules=rules) == network


@pytest.mark.parametrize(
    ("address", "forwarded", "network"),
    [
        # The peer is the client: what it sends says nothing.
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("192.0.2.7", "10.0.0.1", "192.0.2.7"),
        # The peer is a proxy: it wrote the last address, and what is in front came from the client.
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9,198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2, 10.0.0.1", "198.51.100.1"),
        ("fd00::1", "10.0.0.9, 2001:db8::1, fd00::2", "2001:db8::/64"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        # Some proxies write a port.
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::/64"),
        ("10.0.0.1", "[2001:db8::1]", "2001:db8::/64"),
        # A proxy that names no client is not the client itself.
        ("10.0.0.1", None, None),
        ("10.0.0.1", "", None),
        ("10.0.0.1", "unknown", None),
        ("10.0.0.1", "198.51.100.1, unknown", None),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", None),
        ("10.0.0.1", "198.51.100.1,", None),
    ],
)
def test_only_trusted_proxies_name_a_client(address: str, forwarded: str | None, network: str | None) -> None:
    """The last address that no trusted proxy has is the client's; what it sends itself stands in front of that."""
    assert count_as(address, forwarded) == network


def test_a_chain_of_proxies_is_bounded() -> None:
    """Behind more proxies than there can be, there is no client; a long header costs no more than a short one."""
    assert count_as("10.0.0.1", ", ".join(["198.51.100.1", *["10.0.0.2"] * (MAX_PROXIES - 1)])) == "198.51.100.1"
    assert count_as("10.0.0.1", ", ".join(["198.51.100.1", *["10.0.0.2"] * MAX_PROXIES])) is None
    assert count_as("10.0.0.1", "203.0.113.9," * 5000 + "198.51.100.1") == "198.51.100.1"


@given(st.lists(st.from_regex(r"[0-9a-z.:, \[\]]{0,20}", fullmatch=True)).map(",".join))
def test_no_header_of_a_client_moves_it_to_another_network(forwarded: str) -> None:
    """Whatever a client sends, directly or through the proxy, it counts as the address that Envoy or the proxy saw."""
    assert count_as("192.0.2.7", forwarded) == "192.0.2.7"
    assert count_as("10.0.0.1", f"{forwarded}, 198.51.100.1") == "198.51.100.1"
