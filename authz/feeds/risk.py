"""A client of a risk engine: one POST of JSON, answered by a level, a score, or both.

Rules of this file:
1. Only status 200 with JSON of the right types is an answer. Anything else is a failure, for which the configuration
   says what it counts as; it is never cached.
2. The URL is the configured one. Redirects are not followed, and no text of the engine is logged.
"""

from __future__ import annotations

import math
import re
from typing import Final
from urllib.parse import urlsplit

from authz.config.risk import Risk
from authz.core.needs import Need
from authz.core.risk import Assessment
from authz.core.strictjson import parse_object
from authz.facts.lane import Bounds, Fact, SourceError
from authz.feeds.failure import RefreshError
from authz.feeds.http.client_auth import BasicFile, BearerTokenFile, ClientAuth, NoAuth
from authz.feeds.http.connect import Dialer, Resolve, resolve
from authz.feeds.http.fetch import Answer
from authz.feeds.http.post import Post, Poster
from authz.feeds.http.tls import ClientCertificate, TlsTrust
from authz.feeds.http.trust import Trust, read_origin
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

_LEVEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class RiskSource:
    """Asks the engine at *url*. An answer is kept for *keep* seconds."""

    def __init__(self, poster: Poster, url: str, auth: ClientAuth, *, keep: float) -> None:
        self._poster: Final = poster
        self._url: Final = url
        self._auth: Final = auth
        self._keep: Final = keep

    def __call__(self, need: Need) -> Fact:
        """Ask the question in *need*. Raises SourceError."""
        body = need.sent.encode()
        try:
            answer = self._poster.post(self._url, lambda: self._write(body))
        except RefreshError as error:
            raise SourceError(error.result.value, str(error)) from error
        if answer.status != 200:
            result = "unauthorized" if answer.status in {401, 403} else Refresh.STATUS.value
            raise SourceError(result, f"HTTP status {answer.status}")
        return Fact(read_assessment(answer), self._keep, 0, "answered")

    def close(self) -> None:
        """Close the idle connections."""
        self._poster.close()

    def _write(self, body: bytes) -> Post:
        return Post(body, {"content-type": "application/json", **self._auth.prove().headers})


def read_assessment(answer: Answer) -> Assessment:
    """Return what the engine says. Raises SourceError."""
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise SourceError("unreadable", f"the answer is {printable(media_type) or 'untyped'}, not JSON")
    try:
        members = parse_object(answer.body)
    except ValueError:
        raise SourceError("unreadable", f"the answer is no JSON object, {len(answer.body)} bytes") from None
    level, score = members.get("level"), members.get("score")
    if level is not None and not (isinstance(level, str) and _LEVEL.fullmatch(level)):
        raise SourceError("unreadable", "level is no word of at most 64 letters, digits and any of . _ -")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise SourceError("unreadable", "score is no number")
    if level is None and score is None:
        raise SourceError("unreadable", "the answer has neither level nor score")
    try:
        number = None if score is None else float(score)
    except OverflowError:
        number = math.inf
    if number is not None and not math.isfinite(number):
        raise SourceError("unreadable", "score is no number")
    return Assessment(level, number)


def make_risk(section: Risk, *, resolve: Resolve = resolve) -> RiskSource:
    """Return what asks the engine of this section."""
    certificate = None
    if section.client_cert_file is not None and section.client_key_file is not None:
        certificate = ClientCertificate(section.client_cert_file, section.client_key_file)
    dialer = Dialer(
        trust=Trust(configured_origins=frozenset({read_origin(urlsplit(section.url))}), http=section.allows_http),
        tls=TlsTrust(section.ca_file, certificate),
        resolve=resolve,
    )
    auth: ClientAuth = NoAuth()
    if section.bearer_token_file is not None:
        auth = BearerTokenFile(section.bearer_token_file)
    elif section.basic_credentials_file is not None:
        auth = BasicFile(section.basic_credentials_file)
    poster = Poster(dialer, timeout=section.timeout.total_seconds(), max_bytes=section.max_bytes)
    return RiskSource(poster, section.url, auth, keep=section.cache.total_seconds())


def risk_bounds(section: Risk, max_waiting: int) -> Bounds:
    """Return the bounds of the lane, for which *max_waiting* checks may wait."""
    return Bounds(
        max_asked=section.max_concurrent,
        max_waiting=max_waiting,
        max_wait=section.max_wait.total_seconds(),
        burst=section.max_per_second,
        refill=1.0 / section.max_per_second,
        max_kept=section.max_cached,
    )
