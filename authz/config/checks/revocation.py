"""Checks of the sources of revocations, and of the listener for their senders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.config.address import TcpAddress, check_url, parse_address, parse_tcp_address
from authz.config.checks.issuers import NAME
from authz.config.checks.outbound import check_called_url, check_client_certificate
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote
from authz.config.revocation import RevocationList, Transmitter

_RESERVED_NAMES: Final = frozenset({"events", "operator", "shared_state"})  # names of other sources
_LISTEN: Final = ("receivers", "listen")


def check_revocation(config: Config) -> Iterator[Problem]:
    """Report lists that cannot be loaded, and logout tokens that cannot arrive."""
    for name, section in config.revocation.lists.items():
        path = ("revocation", "lists", name)
        if not NAME.fullmatch(name) or name in _RESERVED_NAMES:
            message = "the name of a list has at most 64 letters, digits, dots, hyphens and underscores"
            message = "is the name of another source" if name in _RESERVED_NAMES else message
            yield Problem(path=path, message=message)
        yield from _check_list(section, path)
    for name, transmitter in config.revocation.transmitters.items():
        yield from _check_transmitter(name, transmitter, config)
    for name, issuer in config.issuers.items():
        if issuer.logout is not None:
            logout = ("issuers", name, "logout")
            if config.receivers.listen is None:
                yield Problem(path=logout, message="needs receivers.listen: nothing receives logout tokens")
            if not issuer.logout.clients or not all(issuer.logout.clients):
                yield Problem(path=(*logout, "clients"), message="must name the OAuth clients that are logged out")


def check_receivers(config: Config) -> Iterator[Problem]:
    """Report an address that cannot be listened on, or that another server has."""
    if config.receivers.listen is None:
        return
    try:
        own_address = parse_tcp_address(config.receivers.listen)
    except ValueError as error:
        yield Problem(path=_LISTEN, message=str(error))
        return
    try:
        admin, server = parse_tcp_address(config.admin.listen), parse_address(config.server.listen)
    except ValueError:
        return  # reported elsewhere
    if not own_address.port:
        return
    if own_address.port == admin.port:
        yield Problem(path=_LISTEN, message="the port is that of admin.listen")
    if isinstance(server, TcpAddress) and server.port <= own_address.port < server.port + config.server.workers:
        yield Problem(path=_LISTEN, message="the port is one of the server's")


def _check_transmitter(name: str, section: Transmitter, config: Config) -> Iterator[Problem]:
    path: KeyPath = ("revocation", "transmitters", name)
    if not NAME.fullmatch(name) or name in config.issuers:
        message = "the name of a transmitter has at most 64 letters, digits, dots, hyphens and underscores"
        message = "is the name of an issuer" if name in config.issuers else message
        yield Problem(path=path, message=message)
    for key in ("audiences", "revokes_for"):
        if not getattr(section, key):
            yield Problem(path=(*path, key), message="must not be empty")
    for index, issuer in enumerate(section.revokes_for):
        if issuer not in config.issuers:
            yield Problem(path=(*path, "revokes_for", index), message=f"{quote(issuer)} is no issuer of this file")
    yield from _check_urls(section, path)
    for other, before in config.revocation.transmitters.items():
        if other == name:
            break
        if before.issuer == section.issuer:
            yield Problem(path=(*path, "issuer"), message=f"is the issuer of {quote(other)} already")
    if section.poll_url is None and config.receivers.listen is None:
        yield Problem(path=path, message="needs receivers.listen, or a poll_url: nothing receives its events")


def _check_urls(section: Transmitter, path: KeyPath) -> Iterator[Problem]:
    for key in ("issuer", "jwks_uri", "poll_url"):
        url = getattr(section, key)
        if url is None or (key == "issuer" and section.jwks_uri is not None):
            continue
        try:
            check_url(url, http=section.insecure.http)
        except ValueError as error:
            yield Problem(path=(*path, key), message=str(error))


def _check_list(section: RevocationList, path: KeyPath) -> Iterator[Problem]:
    if (section.url is None) == (section.file is None):
        yield Problem(path=path, message="must have one of url and file")
    if section.url is not None:
        yield from check_called_url(section.url, (*path, "url"), http=section.insecure.http, section=path)
    yield from check_client_certificate(section, path)
