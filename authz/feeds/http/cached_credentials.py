"""Credentials from a file, cached for a second: a thread that must not block uses what another one has read.

Rules of this file:
1. A thread that may block reads the file for each request. Others use what it read for at most CACHE_SECONDS.
2. If the server rejects cached credentials, the request is sent once more, with the current content of the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Final

from authz.feeds.http.client_auth import ClientAuth, Credentials
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome

CACHE_SECONDS: Final = 1.0


class CachedCredentials:
    """The credentials of *auth*, which reads them from a file."""

    is_nonblocking: ClassVar[bool] = False

    def __init__(self, auth: ClientAuth, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.auth: Final = auth
        self._monotonic: Final = monotonic
        self._cached: tuple[Credentials, float] | None = None  # with its expiry; replaced as a whole, by any thread

    def credentials(self) -> Credentials:
        """Read the file, and cache its content. Raises RefreshError."""
        read = self.auth.credentials()
        self._cached = read, self._monotonic() + CACHE_SECONDS
        return read

    def cached(self) -> Credentials | None:
        """Return the cached credentials, or None if they have expired."""
        cached = self._cached
        return cached[0] if cached is not None and self._monotonic() < cached[1] else None

    def invalidate(self) -> None:
        """Remove the cached credentials."""
        self._cached = None


def nonblocking_credentials(auth: ClientAuth) -> Credentials | None:
    """Return the credentials of *auth* if they need neither a file nor a signature, else None."""
    if isinstance(auth, CachedCredentials):
        return auth.cached()
    return auth.credentials() if auth.is_nonblocking else None


def invalidate_if_rejected(auth: ClientAuth, outcome: Outcome, rejects: Callable[[Response], bool]) -> bool:
    """Remove cached credentials that the server *rejects*; return whether the request must be sent again."""
    if not isinstance(auth, CachedCredentials):
        return False
    try:
        response = outcome()
    except Exception:  # noqa: BLE001 - it is raised again where the outcome is read
        return False
    if not rejects(response):
        return False
    auth.invalidate()
    return True
