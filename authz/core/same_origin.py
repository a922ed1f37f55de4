"""Same-origin check for tokens in cookies, against cross-site request forgery (CSRF)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from authz.core.reasons import Reason, Rejected
from authz.core.request import Request
from authz.core.token import CookieSource, Source

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1; browsers never send TRACE
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def require_same_origin(request: Request, source: Source) -> None:
    """Reject an unsafe method with a token in a cookie, unless a header proves the same origin.

    `Sec-Fetch-Site` (Fetch Metadata) and `Origin` (RFC 6454) must agree if both are present; without either the request
    is rejected. A WebSocket handshake is a GET request, but counts as unsafe: another site could use the connection.

    Raises Rejected(POLICY_DENIED).
    """
    if not isinstance(source, CookieSource):
        return
    if request.method in _SAFE_METHODS and "websocket" not in request.headers.get("upgrade", "").lower():
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    proved = site is not None or origin is not None
    if not proved or site not in {None, "same-origin"} or (origin is not None and not _is_own(origin, request)):
        raise Rejected(Reason.POLICY_DENIED, "a token in a cookie came without proof of the same origin")


def _is_own(origin: str, request: Request) -> bool:
    """Return whether *origin* has the host and port of the request.

    The scheme decides only the default port, and must be https if Envoy itself saw https: behind a proxy that
    terminates TLS, Envoy sees http.
    """
    try:
        own_site, site = urlsplit(f"//{request.host}"), urlsplit(origin)
        default = _DEFAULT_PORTS.get(site.scheme)
        same = default is not None and own_site.hostname == site.hostname
        return (
            same
            and site.hostname is not None
            and (own_site.port or default) == (site.port or default)
            and (site.scheme == "https" or request.scheme != "https")
        )
    except ValueError:
        return False
