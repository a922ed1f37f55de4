"""The routes of the admin port: a table of paths.

A new path is a function from the request to the response, and a line in `make_routes`. A route that changes something
is a POST, and only for this host. A route that is not for everyone also rejects other hosts' names: a page of another
site may let its own name resolve to this host (DNS rebinding).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """A request: the *peer* as a socket names it, and the `Accept` header, empty if there is none.

    *method* is GET or POST, *query* the text after the question mark of the path, *body* the posted data, of the type
    *content_type* if it has one. *origin*, *fetch_site* (`Sec-Fetch-Site`), *host* and *authorization* are headers, or
    None; browsers send the first with each POST of a page, and the second with every request.
    """

    peer: object
    accept: str
    method: str = "GET"
    query: str = ""
    origin: str | None = None
    fetch_site: str | None = None
    host: str | None = None
    authorization: str | None = field(default=None, repr=False)
    content_type: str = ""
    if_none_match: str | None = None
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class AdminResponse:
    """A response with its media type, and further *headers*."""

    status: HTTPStatus
    body: bytes
    media_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Route = Callable[[AdminRequest], AdminResponse]


def make_routes(
    *,
    waiting_for: Callable[[], list[str]],
    registry: CollectorRegistry,
    keys: Callable[[], Mapping[str, object]],
    refresh: Callable[[str | None], Mapping[str, object] | None],
) -> Mapping[str, Route]:
    """Return the routes by path; *waiting_for* names what readiness still waits for. Liveness depends on nothing.

    *refresh* begins to fetch the keys of the issuer with this configured name, or of all, and describes what it began;
    None if it fetches none of that name.
    """

    def livez(_: AdminRequest) -> AdminResponse:
        return AdminResponse(HTTPStatus.OK, b"alive\n")

    def readyz(_: AdminRequest) -> AdminResponse:
        if missing := waiting_for():
            text = f"waiting for {', '.join(missing)}\n"
            return AdminResponse(HTTPStatus.SERVICE_UNAVAILABLE, text.encode())
        return AdminResponse(HTTPStatus.OK, b"ready\n")

    def metrics(request: AdminRequest) -> AdminResponse:
        # OpenMetrics for scrapers that accept it: only this format has exemplars.
        encode, media_type = choose_encoder(request.accept)
        return AdminResponse(HTTPStatus.OK, encode(registry), media_type)

    def keys_(request: AdminRequest) -> AdminResponse:
        if not is_local_peer(request.peer) or not names_this_host(request.host):
            return AdminResponse(
                HTTPStatus.FORBIDDEN, b"/keys answers this host only, under a name such as localhost\n"
            )
        return AdminResponse(HTTPStatus.OK, json.dumps(keys(), indent=2).encode() + b"\n", "application/json")

    def refresh_(request: AdminRequest) -> AdminResponse:
        if not is_local_peer(request.peer) or request.origin is not None:
            return AdminResponse(HTTPStatus.FORBIDDEN, _NOT_HERE)
        name = next(iter(parse_qs(request.query).get("issuer", [])), None)
        begun = refresh(name)
        if begun is None:
            return AdminResponse(HTTPStatus.NOT_FOUND, b"no keys are fetched for an issuer of this name\n")
        return AdminResponse(HTTPStatus.ACCEPTED, json.dumps(begun).encode() + b"\n", "application/json")

    return {
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": metrics,
        "/keys": keys_,
        f"{_POST} /keys/refresh": refresh_,
    }


_POST: Final = "POST"
_NOT_HERE: Final = b"/keys/refresh answers this host only, and no page in a browser\n"


def dispatch(routes: Mapping[str, Route], target: str, request: AdminRequest) -> AdminResponse:
    """Call the route of *target*, a path with or without a query; without a route, 404 lists the paths."""
    path, _, query = target.partition("?")
    posted = request.method == _POST
    route = routes.get(f"{_POST} {path}" if posted else path)
    if route is not None:
        return route(replace(request, query=query))
    if posted and path in routes:
        return AdminResponse(HTTPStatus.METHOD_NOT_ALLOWED, b"nothing to change here\n")
    return AdminResponse(HTTPStatus.NOT_FOUND, f"{' '.join(routes)}\n".encode())


def is_local_peer(peer: object) -> bool:
    """Return whether a *peer* is on this host: on loopback, or on a Unix socket, where it has no address.

    Only the first loopback address is meant, which connections on this host come from, whatever they connect to.
    Istio's sidecar passes on connections from anywhere under 127.0.0.6.
    """
    return not peer or (isinstance(peer, tuple) and _unmapped(str(peer[0])) in _LOOPBACK)


def is_loopback(address: str) -> bool:
    """Return whether an *address* is a loopback address, also if it is an IPv4 address mapped to IPv6."""
    return _unmapped(address).is_loopback


def _unmapped(address: str) -> IPv4Address | IPv6Address:
    ip = ip_address(address.partition("%")[0])
    return (ip.ipv4_mapped if isinstance(ip, IPv6Address) else None) or ip


_LOOPBACK: Final = frozenset(map(ip_address, ("127.0.0.1", "::1")))


def names_this_host(host: str | None) -> bool:
    """Return whether a `Host` header names this host; a client that sends none is no browser."""
    if host is None:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or is_loopback(str(ip_address(name)))
    except ValueError:
        return False
