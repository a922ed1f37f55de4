"""The routes of the admin port: a table of paths.

A new path is a function from a request to a response, and a line in `make_routes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """A GET request: the *peer* as `socket.accept` returns it, and the `Accept` header, empty if there is none."""

    peer: object
    accept: str


@dataclass(frozen=True, slots=True)
class AdminResponse:
    """A response with its media type."""

    status: HTTPStatus
    body: bytes
    media_type: str = "text/plain; charset=utf-8"


Route = Callable[[AdminRequest], AdminResponse]


def make_routes(
    *, waiting_for: Callable[[], list[str]], registry: CollectorRegistry, keys: Callable[[], Mapping[str, object]]
) -> Mapping[str, Route]:
    """Return the routes by path; *waiting_for* lists what readiness still waits for. Liveness depends on nothing."""

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
        if not is_here(request.peer):
            return AdminResponse(HTTPStatus.FORBIDDEN, b"/keys answers this host only\n")
        return AdminResponse(HTTPStatus.OK, json.dumps(keys(), indent=2).encode() + b"\n", "application/json")

    return {"/livez": livez, "/readyz": readyz, "/metrics": metrics, "/keys": keys_}


def answer(routes: Mapping[str, Route], target: str, request: AdminRequest) -> AdminResponse:
    """Answer a request for *target*, a path with or without a query; a 404 lists the known paths."""
    route = routes.get(target.partition("?")[0])
    if route is None:
        return AdminResponse(HTTPStatus.NOT_FOUND, f"{' '.join(routes)}\n".encode())
    return route(request)


def is_here(peer: object) -> bool:
    """Return whether a *peer* is on this host: on loopback, or on a Unix socket, where it has no address."""
    return not peer or (isinstance(peer, tuple) and is_loopback(str(peer[0])))


def is_loopback(address: str) -> bool:
    """Return whether an *address* is a loopback address, also if it is an IPv4 address mapped to IPv6."""
    ip = ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
