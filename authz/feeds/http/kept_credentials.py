"""Credentials from a file that are kept for a moment: a thread that must not block uses what another one has read.

Rules of this file:
1. Who may block reads the file for each request, as ever. What was read is used by others for KEPT_SECONDS at most.
2. If the server rejects what was kept, the request is sent once more, with what the file contains then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Final

from authz.feeds.http.client_auth import ClientAuth, Credentials
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome

KEPT_SECONDS: Final = 1.0


class KeptCredentials:
    """The credentials of *auth*, which reads them from a file."""

    is_nonblocking: ClassVar[bool] = False

    def __init__(self, auth: ClientAuth, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.auth: Final = auth
        self._monotonic: Final = monotonic
        self._kept: tuple[Credentials, float] | None = None  # is replaced in one step: any thread may do that

    def credentials(self) -> Credentials:
        """Read the file, and keep what it contains. Raises RefreshError."""
        read = self.auth.credentials()
        self._kept = read, self._monotonic() + KEPT_SECONDS
        return read

    def kept(self) -> Credentials | None:
        """Return what was read a moment ago, if anything was."""
        kept = self._kept
        return kept[0] if kept is not None and self._monotonic() < kept[1] else None

    def forget(self) -> None:
        """Keep nothing."""
        self._kept = None


def at_hand(auth: ClientAuth) -> Credentials | None:
    """Return the credentials of *auth* if that takes neither a file nor a signature."""
    if isinstance(auth, KeptCredentials):
        return auth.kept()
    return auth.credentials() if auth.is_nonblocking else None


def must_read_again(auth: ClientAuth, outcome: Outcome, rejects: Callable[[Response], bool]) -> bool:
    """Return whether a request had kept credentials that the server *rejects*: they are not used again."""
    if not isinstance(auth, KeptCredentials):
        return False
    try:
        response = outcome()
    except Exception:  # noqa: BLE001 - who reads the outcome raises it where it is handled
        return False
    if not rejects(response):
        return False
    auth.forget()
    return True
