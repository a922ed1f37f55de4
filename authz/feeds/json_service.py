"""A service that is asked by a POST of JSON, such as a PDP: connection, credentials, request and response."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from authz.config.pdp import Pdp
from authz.config.risk import Risk
from authz.core.needs import Need
from authz.core.strictjson import parse_object
from authz.facts.bounds import Bounds
from authz.facts.loop import Loop
from authz.facts.source import Fact, FactCallback, SourceError
from authz.feeds.http.cached_credentials import CachedCredentials, invalidate_if_rejected, nonblocking_credentials
from authz.feeds.http.client_auth import (
    NO_CREDENTIALS,
    BasicAuthFile,
    BearerTokenFile,
    ClientAuth,
    Credentials,
    NoAuth,
)
from authz.feeds.http.connect import Dialer, Resolve
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome, Post, Poster
from authz.feeds.http.tls import ClientCertificate, TlsTrust
from authz.feeds.http.trust import Trust, read_origin
from authz.telemetry.redaction import printable

Service = Pdp | Risk


class JsonSource:
    """A source of facts that is asked by a POST of JSON to *url*, and to no other. Redirects are not followed.

    *read* returns the fact in a response, or raises SourceError.
    """

    def __init__(self, poster: Poster, url: str, auth: ClientAuth, read: Callable[[Outcome], Fact]) -> None:
        self._poster: Final = poster
        self._url: Final = url
        self._auth: Final = auth
        self._read: Final = read
        self._headers: tuple[Credentials, Mapping[str, str]] = NO_CREDENTIALS, _JSON  # of the last request

    def __call__(self, need: Need) -> Fact:
        """Ask the question in *need*. Raises SourceError."""
        return self._read(partial(self._poster.post, self._url, lambda: self._write(need, self._auth.credentials())))

    def start(self, need: Need, loop: Loop, callback: FactCallback) -> bool:
        """Ask on an idle connection, without blocking; return False if that is not possible."""
        credentials = nonblocking_credentials(self._auth)
        if credentials is None:
            return False
        sent = self._write(need, credentials)
        return self._poster.start(self._url, sent, loop, partial(self._finish, callback))

    def close(self) -> None:
        """Close the idle connections."""
        self._poster.close()

    def _write(self, need: Need, credentials: Credentials) -> Post:
        sent_with, headers = self._headers
        if credentials is not sent_with:
            headers = {**_JSON, **credentials.headers}
            self._headers = credentials, headers
        return Post(need.payload.encode(), headers)

    def _finish(self, callback: FactCallback, outcome: Outcome | None) -> None:
        must_repeat = outcome is None or invalidate_if_rejected(self._auth, outcome, rejects_credentials)
        callback(None if outcome is None or must_repeat else partial(self._read, outcome))


_JSON: Final[Mapping[str, str]] = {"content-type": "application/json"}


def rejects_credentials(response: Response) -> bool:
    """Return whether the server rejects our credentials."""
    return response.status in {401, 403}


def make_service_poster(section: Service, *, resolve: Resolve) -> Poster:
    """Return a poster to the configured URL, and to no other server."""
    certificate = ClientCertificate.configured(section.client_cert_file, section.client_key_file)
    dialer = Dialer(
        trust=Trust(configured_origins=frozenset({read_origin(urlsplit(section.url))}), http=section.allows_http),
        tls=TlsTrust(section.ca_file, certificate),
        resolve=resolve,
    )
    return Poster(dialer, timeout=section.timeout.total_seconds(), max_bytes=section.max_bytes)


def make_service_auth(section: Service) -> ClientAuth:
    """Return the credentials of *section*, beside a client certificate."""
    if section.bearer_token_file is not None:
        return CachedCredentials(BearerTokenFile(section.bearer_token_file))
    if section.basic_credentials_file is not None:
        return CachedCredentials(BasicAuthFile(section.basic_credentials_file))
    return NoAuth()


def bounds_of(section: Service, max_waiting: int) -> Bounds:
    """Return the bounds of the lane, for which *max_waiting* checks may wait."""
    return Bounds.of(section, max_waiting=max_waiting, max_cached=section.max_cached)


def parse_json_response(response: Response) -> dict[str, object]:
    """Return the members of a response, which must be a JSON object, and JSON by its media type. Raises SourceError."""
    return parse_json_body(response.media_type, response.body)


def parse_json_body(media_type: str, body: bytes) -> dict[str, object]:
    """Return the members of *body*, the same of the two parts that are read. Raises SourceError."""
    if media_type != "application/json":
        raise SourceError("unreadable", f"the answer is {printable(media_type) or 'untyped'}, not JSON")
    try:
        return parse_object(body)
    except ValueError:
        raise SourceError("unreadable", f"the answer is not a JSON object, {len(body)} bytes") from None
