"""The routes of the admin port for revocations: to show them, to revoke, and to take back.

A client that may read the console may read them. A program that may use the console may revoke: a peer on this host, or
one with the token of `admin.console.token_file`, and no page in a browser.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from authz.admin.console.access import Access
from authz.admin.routes import AdminRequest, AdminResponse, Route

PATH: Final = "/revocations"
UNDO_PATH: Final = "/revocations/undo"
FIND_PATH: Final = "/revocations/find"
CATCH_UP_PATH: Final = "/revocations/catch-up"
_JSON: Final = "application/json"


class Refusal(Exception):
    """Raised for entries that are not accepted."""

    def __init__(self, status: HTTPStatus, errors: tuple[str, ...]) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = errors


class RevocationBackend(Protocol):
    """The operations behind the routes."""

    def describe(self) -> Mapping[str, Any]:
        """Return the sources and how many entries each has."""

    def revoke(self, document: bytes) -> Mapping[str, Any]:
        """Apply the entries of a JSON document; return how many are new. Raises Refusal.

        With a member `unshared`, which says why, other replicas do not know them yet.
        """

    def undo(self, document: bytes) -> Mapping[str, Any]:
        """Take back what operators have revoked by the targets in a JSON document. Raises Refusal; as above."""

    def find(self, document: bytes) -> Mapping[str, Any]:
        """Return which sources revoke the targets in a JSON document. Raises Refusal."""

    def catch_up(self) -> object:
        """Read what another process of this pod has written."""


def make_revocation_routes(backend: RevocationBackend, access: Access) -> Mapping[str, Route]:
    """Return the routes by path."""

    def show(request: AdminRequest) -> AdminResponse:
        return access.refuse(request) or _answer(HTTPStatus.OK, backend.describe())

    def take(do: Callable[[bytes], Mapping[str, Any]]) -> Route:
        def route(request: AdminRequest) -> AdminResponse:
            if (refusal := access.refuse_program(request)) is not None:
                return refusal
            try:
                done = do(request.body)
            except Refusal as refused:
                return _answer(refused.status, {"errors": list(refused.errors)})
            return _answer(HTTPStatus.ACCEPTED if done.get("unshared") else HTTPStatus.OK, done)

        return route

    def catch_up(request: AdminRequest) -> AdminResponse:
        if request.peer:  # only the supervisor, on a Unix socket, says so
            return AdminResponse(HTTPStatus.FORBIDDEN, b"for workers only\n")
        backend.catch_up()
        return AdminResponse(HTTPStatus.OK, b"\n")

    return {
        PATH: show,
        f"POST {PATH}": take(backend.revoke),
        f"POST {UNDO_PATH}": take(backend.undo),
        f"POST {FIND_PATH}": take(backend.find),
        f"POST {CATCH_UP_PATH}": catch_up,
    }


def _answer(status: HTTPStatus, document: Mapping[str, Any]) -> AdminResponse:
    return AdminResponse(status, json.dumps(document).encode() + b"\n", _JSON)
