"""A client of an OAuth endpoint: its URL, a POST of a form with client authentication, and errors in responses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Final
from urllib.parse import urlencode

from authz.core.strictjson import parse_object
from authz.facts.loop import Loop
from authz.facts.source import SourceError
from authz.feeds.discovery import read_url
from authz.feeds.failure import RefreshError
from authz.feeds.health import result_of
from authz.feeds.http.cached_credentials import invalidate_if_rejected, nonblocking_credentials
from authz.feeds.http.client_auth import ClientAuth, Credentials
from authz.feeds.http.fetch import Fetch, Response
from authz.feeds.http.post import Outcome, OutcomeCallback, Post, Poster
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

CLIENT_ERRORS: Final = frozenset({"invalid_client", "unauthorized_client", "access_denied", "insufficient_scope"})
"""Errors that concern the client, which is us, and not the token that it sends."""

TOO_LARGE_STATUSES: Final = frozenset({413, 414, 431})
Fields = Sequence[tuple[str, str]]
"""The names and values of a form."""

_ERROR_CODE: Final = re.compile(r"[a-z_]{1,64}")


class Endpoint:
    """The URL of an endpoint: configured, or the *member* of the issuer's discovery document."""

    def __init__(
        self,
        url: str | None,
        *,
        fetch: Fetch,
        discovery_url: str,
        issuer: str,
        refresh_interval: float,
        monotonic: Callable[[], float],
        member: str = "introspection_endpoint",
    ) -> None:
        self._url = url
        self._fetch: Final = fetch
        self._discovery_url: Final = discovery_url
        self._issuer: Final = issuer
        self._refresh_interval: Final = refresh_interval
        self._monotonic: Final = monotonic
        self._member: Final = member
        self._until = float("inf") if url is not None else 0.0
        self._lock: Final = Lock()

    def locate(self) -> str:
        """Return the URL; if a new discovery fails, the last one that was discovered. Raises RefreshError.

        Only one request waits for a new discovery; the others use the last URL.
        """
        url = self._url
        if not self._lock.acquire(blocking=url is None):
            return url or ""
        try:
            if self._url is None or self._monotonic() >= self._until:
                try:
                    document = self._fetch(self._discovery_url, {}).body
                    self._url = read_url(self._member, document, issuer=self._issuer)
                except RefreshError:
                    if self._url is None:
                        raise
                except ValueError as error:
                    if self._url is None:
                        text = f"{printable(self._discovery_url)}: {error}"
                        raise RefreshError(Refresh.DISCOVERY_REJECTED, text) from None
                self._until = self._monotonic() + self._refresh_interval
            return self._url
        finally:
            self._lock.release()

    def cached_url(self) -> str | None:
        """Return the URL, or None if a discovery is due."""
        return self._url if self._monotonic() < self._until else None


class OAuthClient:
    """Posts forms to one *endpoint*, authenticated by *auth*."""

    def __init__(self, poster: Poster, endpoint: Endpoint, auth: ClientAuth) -> None:
        self._poster: Final = poster
        self._endpoint: Final = endpoint
        self._auth: Final = auth

    def post(self, fields: Fields, *, accept: str) -> Response:
        """Post *fields* and the client's own; *accept* is the media type of the response. Raises SourceError."""
        return read_outcome(lambda: self._post(fields, accept))

    def start(self, fields: Fields, *, accept: str, loop: Loop, callback: OutcomeCallback) -> bool:
        """Do the same on an idle connection, without blocking: see `Poster.start`."""
        url, credentials = self._endpoint.cached_url(), nonblocking_credentials(self._auth)
        if url is None or credentials is None:
            return False
        return self._poster.start(url, _write(fields, accept, credentials), loop, partial(self._finish, callback))

    def close(self) -> None:
        """Close the idle connections."""
        self._poster.close()

    def _post(self, fields: Fields, accept: str) -> Response:
        url = self._endpoint.locate()
        return self._poster.post(url, lambda: _write(fields, accept, self._auth.credentials()))

    def _finish(self, callback: OutcomeCallback, outcome: Outcome | None) -> None:
        must_repeat = outcome is not None and invalidate_if_rejected(self._auth, outcome, rejects_client)
        callback(None if must_repeat else outcome)


def _write(fields: Fields, accept: str, credentials: Credentials) -> Post:
    body = urlencode([*fields, *credentials.fields.items()]).encode("ascii")
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": accept}
    return Post(body, {**headers, **credentials.headers})


def read_outcome(outcome: Outcome) -> Response:
    """Return the response, if there is one. Raises SourceError."""
    try:
        return outcome()
    except RefreshError as error:
        raise SourceError(result_of(error), str(error)) from error


def rejects_client(response: Response) -> bool:
    """Return whether the server rejects our credentials."""
    status = response.status
    return status in {401, 403} or (status == 400 and read_error(response) in CLIENT_ERRORS)


def read_error(response: Response) -> str:
    """Return the `error` of an OAuth response (RFC 6749 section 5.2) if it has the form of a code; otherwise ""."""
    try:
        error = parse_object(response.body).get("error")
    except ValueError:
        return ""
    return error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else ""
