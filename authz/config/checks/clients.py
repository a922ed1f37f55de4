"""Checks of which networks clients count as."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from authz.config.model import Config
from authz.config.problems import Problem


def check_clients(config: Config) -> Iterator[Problem]:
    """Report trusted proxies that are no networks, or all of them."""
    for index, text in enumerate(config.clients.trusted_proxies):
        path = ("clients", "trusted_proxies", index)
        try:
            network = ip_network(text)
        except ValueError as error:
            hint = "write a network such as 10.0.0.0/8, or an address"
            yield Problem(path=path, message=_explain(str(error)), hint=hint)
            continue
        if network.prefixlen == 0:
            yield Problem(path=path, message="trusts every client to name its own address")


def _explain(error: str) -> str:
    return "has bits set behind the prefix" if "host bits" in error else "is not a network"
