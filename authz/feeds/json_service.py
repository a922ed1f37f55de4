"""A service that is asked by a POST of JSON, such as a PDP: connection, credentials, question and answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from authz.config.pdp import Pdp
from authz.config.risk import Risk
from authz.core.strictjson import parse_object
from authz.facts.lane import Bounds, Fact, Heard, SourceError
from authz.feeds.http.client_auth import BasicFile, BearerTokenFile, ClientAuth, NoAuth
from authz.feeds.http.connect import Dialer, Resolve
from authz.feeds.http.fetch import Answer
from authz.feeds.http.post import Done, Outcome, Post, Poster
from authz.feeds.http.tls import ClientCertificate, TlsTrust
from authz.feeds.http.trust import Trust, read_origin
from authz.telemetry.redaction import printable

Service = Pdp | Risk


def poster_to(section: Service, *, resolve: Resolve) -> Poster:
    """Return what posts to the configured URL, and to no other server."""
    certificate = None
    if section.client_cert_file is not None and section.client_key_file is not None:
        certificate = ClientCertificate(section.client_cert_file, section.client_key_file)
    dialer = Dialer(
        trust=Trust(configured_origins=frozenset({read_origin(urlsplit(section.url))}), http=section.allows_http),
        tls=TlsTrust(section.ca_file, certificate),
        resolve=resolve,
    )
    return Poster(dialer, timeout=section.timeout.total_seconds(), max_bytes=section.max_bytes)


def auth_to(section: Service) -> ClientAuth:
    """Return the credentials of *section*, beside a client certificate."""
    if section.bearer_token_file is not None:
        return BearerTokenFile(section.bearer_token_file)
    return BasicFile(section.basic_credentials_file) if section.basic_credentials_file is not None else NoAuth()


def bounds_of(section: Service, max_waiting: int) -> Bounds:
    """Return the bounds of the lane, for which *max_waiting* checks may wait."""
    return Bounds.of(section, max_waiting=max_waiting, max_cached=section.max_cached)


def write_question(body: bytes, auth: ClientAuth) -> Post:
    """Return the request for a question, with credentials. Raises RefreshError."""
    return Post(body, {"content-type": "application/json", **auth.credentials().headers})


def when_heard(hear: Callable[[Outcome], Fact], heard: Heard) -> Done:
    """Return what takes the outcome of a request, and passes it on as *hear* reads it."""
    return lambda outcome: heard(None if outcome is None else partial(hear, outcome))


def parse_json_answer(answer: Answer) -> dict[str, object]:
    """Return the members of an answer, which must be a JSON object, and JSON by its media type. Raises SourceError."""
    if answer.media_type != "application/json":
        raise SourceError("unreadable", f"the answer is {printable(answer.media_type) or 'untyped'}, not JSON")
    try:
        return parse_object(answer.body)
    except ValueError:
        raise SourceError("unreadable", f"the answer is no JSON object, {len(answer.body)} bytes") from None
