"""The routes of the admin port about the sidecar's own keys: the documents for anyone, the rest for this host.

The upstream in the pod reads the keys here, without Envoy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qs

from authz.admin.routes import AdminRequest, AdminResponse, Route, is_local_peer, names_this_host
from authz.core.published_document import DISCOVERY_PATH, KEYS_PATH, etag_of, is_current

_NOT_HERE: Final = b"/signing answers this host only, and no page in a browser\n"
_OFF: Final = b"nothing is signed: identity.token is not configured\n"
_NO_KEY: Final = b"no signing key is known yet\n"


@dataclass(frozen=True, slots=True)
class PublishedKeys:
    """The documents: the *key_set*, and *discovery* if there is one. Caches may keep them for *max_age* seconds.

    The *key_set* is empty while no key is known: readers get 503 then, and keep what they have.
    """

    key_set: str
    discovery: str | None
    max_age: int


class SigningAdmin(Protocol):
    """The operations behind the routes."""

    def published(self) -> PublishedKeys | None:
        """Return the documents, or None if nothing is signed."""

    def describe(self) -> Mapping[str, object] | None:
        """Describe the keys and their phases, or None if nothing is signed."""

    def rotate(self) -> tuple[HTTPStatus, str]:
        """Begin a rotation; return a status, and a text for the operator."""

    def withdraw(self, kid: str) -> tuple[HTTPStatus, str]:
        """Withdraw a key at once; return a status, and a text for the operator."""


def make_signing_routes(admin: SigningAdmin) -> Mapping[str, Route]:
    """Return the routes by path."""

    def keys(request: AdminRequest) -> AdminResponse:
        published = admin.published()
        if published is not None and not published.key_set:
            return AdminResponse(HTTPStatus.SERVICE_UNAVAILABLE, _NO_KEY)
        return _document(request, published.key_set if published is not None else None, published)

    def discovery(request: AdminRequest) -> AdminResponse:
        published = admin.published()
        return _document(request, published.discovery if published is not None else None, published)

    def describe(request: AdminRequest) -> AdminResponse:
        if not is_local_peer(request.peer) or not names_this_host(request.host):
            return AdminResponse(HTTPStatus.FORBIDDEN, _NOT_HERE)
        described = admin.describe()
        if described is None:
            return AdminResponse(HTTPStatus.NOT_FOUND, _OFF)
        return AdminResponse(HTTPStatus.OK, json.dumps(described, indent=2).encode() + b"\n", "application/json")

    def rotate(request: AdminRequest) -> AdminResponse:
        return _change(request, admin.rotate)

    def withdraw(request: AdminRequest) -> AdminResponse:
        kid = next(iter(parse_qs(request.query).get("kid", [])), "")
        return _change(request, lambda: admin.withdraw(kid))

    return {
        KEYS_PATH: keys,
        DISCOVERY_PATH: discovery,
        "/signing": describe,
        "POST /signing/rotate": rotate,
        "POST /signing/withdraw": withdraw,
    }


def _document(request: AdminRequest, body: str | None, published: PublishedKeys | None) -> AdminResponse:
    if body is None or published is None:
        return AdminResponse(HTTPStatus.NOT_FOUND, _OFF if published is None else b"signing.publish.url is not set\n")
    etag = etag_of(body)
    headers = (("etag", etag), ("cache-control", f"max-age={published.max_age}"))
    if is_current(request.if_none_match, etag):
        return AdminResponse(HTTPStatus.NOT_MODIFIED, b"", "application/json", headers)
    return AdminResponse(HTTPStatus.OK, body.encode(), "application/json", headers)


def _change(request: AdminRequest, change: Callable[[], tuple[HTTPStatus, str]]) -> AdminResponse:
    if not is_local_peer(request.peer) or request.origin is not None:
        return AdminResponse(HTTPStatus.FORBIDDEN, _NOT_HERE)
    status, text = change()
    return AdminResponse(status, f"{text}\n".encode())
