"""The paths of the admin port for revocations: what there is, and new ones.

Who may read the console may read how many there are. Who may also use it by a program may revoke: a peer on this host,
or one with the token of `admin.console.token_file`, and no page in a browser.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from authz.admin.console.access import Access
from authz.admin.routes import AdminRequest, AdminResponse, Route

PATH: Final = "/revocations"
CATCH_UP_PATH: Final = "/revocations/catch-up"
_JSON: Final = "application/json"


class Refusal(Exception):
    """Raised for entries that are not accepted."""

    def __init__(self, status: HTTPStatus, errors: tuple[str, ...]) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = errors


class RevocationBackend(Protocol):
    """What the paths ask."""

    def describe(self) -> Mapping[str, Any]:
        """Return the sources and how many entries each has."""

    def revoke(self, document: bytes) -> Mapping[str, Any]:
        """Have the entries of a JSON document count; return how many are new. Raises Refusal."""

    def catch_up(self) -> object:
        """Read what another process of this pod has written."""


def make_revocation_routes(backend: RevocationBackend, access: Access) -> Mapping[str, Route]:
    """Return the routes by path."""

    def show(request: AdminRequest) -> AdminResponse:
        return access.refuse(request) or _answer(HTTPStatus.OK, backend.describe())

    def revoke(request: AdminRequest) -> AdminResponse:
        if (refusal := access.refuse_program(request)) is not None:
            return refusal
        try:
            return _answer(HTTPStatus.OK, backend.revoke(request.body))
        except Refusal as refused:
            return _answer(refused.status, {"errors": list(refused.errors)})

    def catch_up(request: AdminRequest) -> AdminResponse:
        if request.peer:  # only the supervisor, on a Unix socket, says so
            return AdminResponse(HTTPStatus.FORBIDDEN, b"for workers only\n")
        backend.catch_up()
        return AdminResponse(HTTPStatus.OK, b"\n")

    return {PATH: show, f"POST {PATH}": revoke, f"POST {CATCH_UP_PATH}": catch_up}


def _answer(status: HTTPStatus, document: Mapping[str, Any]) -> AdminResponse:
    return AdminResponse(status, json.dumps(document).encode() + b"\n", _JSON)
