"""Who may see the console, and who may change something from it.

Rules of this file:
1. Without an admin token: only peers on this host, and only with a name of this host in `Host`. That rejects DNS
   rebinding, where a page of another site lets its own name resolve to this host.
2. With an admin token: any client that presents it, as a bearer token or as the password of Basic authentication.
3. A change is a POST from a page of ours: it carries a token that only our pages have, and the browser names no other
   site as its origin.
4. A peer on a Unix socket is our supervisor: only this user can reach the socket.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from authz.admin.routes import AdminRequest, AdminResponse, is_local_peer, names_this_host

MAX_TOKEN_BYTES: Final = 4096
_NOT_HERE: Final = b"this answers peers on this host, under a name such as localhost; or set admin.console.token_file\n"
_NO_TOKEN: Final = b"the token of admin.console.token_file is needed\n"
_NOT_OURS: Final = b"this was not sent by a page of this console; open the page again\n"


class Access:
    """Decides which requests are allowed. *read_token* returns the admin token; with None, only those of this host."""

    def __init__(self, read_token: Callable[[], str] | None, *, csrf: str) -> None:
        self._read_token: Final = read_token
        self.csrf: Final = csrf

    def refuse(self, request: AdminRequest) -> AdminResponse | None:
        """Return the refusal of a request, or None if it may read."""
        if not request.peer:  # a Unix socket
            return None
        if self._read_token is not None:
            if _presents(request.authorization, self._read_token()):
                return None
            challenge = (("www-authenticate", 'Basic realm="authz", charset="UTF-8"'),)
            return AdminResponse(HTTPStatus.UNAUTHORIZED, _NO_TOKEN, headers=challenge)
        if is_local_peer(request.peer) and names_this_host(request.host):
            return None
        return AdminResponse(HTTPStatus.FORBIDDEN, _NOT_HERE)

    def refuse_form(self, request: AdminRequest, csrf: str) -> AdminResponse | None:
        """Return the refusal of a form that was sent with this token, or None if it may change something."""
        if (refusal := self.refuse(request)) is not None:
            return refusal
        is_ours = hmac.compare_digest(csrf.encode(), self.csrf.encode()) and _is_same_origin(request)
        return None if is_ours else AdminResponse(HTTPStatus.FORBIDDEN, _NOT_OURS)

    def refuse_program(self, request: AdminRequest) -> AdminResponse | None:
        """Return the refusal of a POST by a command, or None: a browser adds headers that a command does not."""
        if request.origin is not None or request.fetch_site is not None:
            return AdminResponse(HTTPStatus.FORBIDDEN, _NOT_OURS)
        return self.refuse(request)


def read_token_of(file: str | None) -> Callable[[], str] | None:
    """Return a function that reads the token in *file* at each call, because it may be replaced; or None."""
    return None if file is None else lambda: _read(Path(file))


def _is_same_origin(request: AdminRequest) -> bool:
    if request.fetch_site not in {None, "same-origin", "none"}:
        return False
    return request.origin is None or request.origin in {f"http://{request.host}", f"https://{request.host}"}


def _presents(authorization: str | None, token: str) -> bool:
    scheme, _, value = (authorization or "").partition(" ")
    presented = value.strip()
    if scheme.lower() == "basic":
        try:
            presented = b64decode(presented, validate=True).decode().partition(":")[2]
        except ValueError:  # binascii.Error and UnicodeDecodeError are some
            return False
    elif scheme.lower() != "bearer":
        return False
    return bool(token) and hmac.compare_digest(presented.encode(), token.encode())


def _read(file: Path) -> str:
    """Return the token; if it cannot be read, an empty one, which no client can present."""
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_TOKEN_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""
