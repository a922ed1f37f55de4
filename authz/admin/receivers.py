"""The routes of `receivers.listen`, for messages of issuers; and a worker's route, for what its supervisor received.

Anyone who reaches the port may send; only what an issuer has signed has an effect. Responses reveal no state. A message
that is accepted here fits, in base64, into what a worker accepts.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any, Final, Self

from authz.admin.routes import AdminRequest, AdminResponse, Route

EVENTS_PATH: Final = "/events"
LOGOUT_PATH: Final = "/backchannel-logout"
WORKER_PATH: Final = "/receive"
MAX_MESSAGE_BYTES: Final = 96 * 1024  # above the largest event (core.security_event)
MAX_HEADER_CHARS: Final = 4096  # of each header that is passed on
NO_STORE: Final = (("cache-control", "no-store"),)  # OpenID Connect Back-Channel Logout section 2.8
_LANGUAGE: Final = ("content-language", "en")  # of descriptions (RFC 8935 section 2.3)
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was sent to a *path*."""

    path: str
    body: bytes = field(repr=False)
    content_type: str = ""
    authorization: str | None = field(default=None, repr=False)

    def to_json(self) -> bytes:
        """Write it for a worker."""
        return json.dumps({**asdict(self), "body": b64encode(self.body).decode()}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `to_json` wrote. Raises ValueError."""
        members = json.loads(data)
        return cls(**{**members, "body": b64decode(members["body"])})


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a message: a status, and a JSON document if there is something to say."""

    status: HTTPStatus
    document: Mapping[str, Any] | None = None


Receive = Callable[[Message], Reply]


def make_receiver_routes(receive: Receive, paths: tuple[str, ...] = (LOGOUT_PATH, EVENTS_PATH)) -> Mapping[str, Route]:
    """Return the routes of `receivers.listen`."""

    def route(path: str) -> Route:
        def take(request: AdminRequest) -> AdminResponse:
            if max(len(request.content_type), len(request.authorization or "")) > MAX_HEADER_CHARS:
                return AdminResponse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"a header is too long\n")
            return _answer(receive(Message(path, request.body, request.content_type, request.authorization)))

        return take

    return {f"POST {path}": route(path) for path in paths}


def make_worker_routes(receive: Receive) -> Mapping[str, Route]:
    """Return the route of a worker's admin socket, for what its supervisor received."""

    def take(request: AdminRequest) -> AdminResponse:
        if request.peer:
            return AdminResponse(HTTPStatus.FORBIDDEN, b"for workers only\n")
        return _answer(receive(Message.from_json(request.body)))

    return {f"POST {WORKER_PATH}": take}


def _answer(reply: Reply) -> AdminResponse:
    if reply.document is None:
        return AdminResponse(reply.status, b"", headers=NO_STORE)
    return AdminResponse(reply.status, json.dumps(reply.document).encode(), _JSON, (*NO_STORE, _LANGUAGE))
