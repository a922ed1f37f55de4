"""A client of a risk engine: one POST of JSON, answered by a level, a score, or both.

Rules of this file:
1. Only status 200 with JSON of the right types is an answer. Anything else is a failure, which is never cached.
2. `on_error` applies to an absent engine, and not to failures that a client can cause; these open no circuit breaker
   (authz.feeds.health).
3. The URL is the configured one. Redirects are not followed, and no text of the engine is logged.
"""

from __future__ import annotations

import math
import re
from typing import Final

from authz.config.risk import Risk
from authz.core.risk import Assessment
from authz.facts.source import Fact, SourceError
from authz.feeds.failure import RefreshError
from authz.feeds.health import Health
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome
from authz.feeds.json_service import JsonSource, make_service_auth, make_service_poster, parse_json_response

_LEVEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class RiskReader:
    """Reads the responses of one engine. An assessment is kept for *ttl* seconds."""

    def __init__(self, *, ttl: float) -> None:
        self._ttl: Final = ttl
        self._health: Final = Health()

    def read(self, outcome: Outcome) -> Fact:
        """Return the assessment in a response. Raises SourceError."""
        try:
            response = outcome()
        except RefreshError as error:
            raise self._health.no_response_error(error) from error
        if response.status != 200:
            raise self._health.status_error(response.status, f"HTTP status {response.status}")
        try:
            assessment = read_assessment(response)
        except SourceError as error:
            raise self._health.content_error(str(error)) from None
        self._health.record_success()
        return Fact(assessment, self._ttl, 0, "answered")


def read_assessment(response: Response) -> Assessment:
    """Parse the response of the engine. Raises SourceError."""
    members = parse_json_response(response)
    level, score = members.get("level"), members.get("score")
    if level is not None and not (isinstance(level, str) and _LEVEL.fullmatch(level)):
        raise SourceError("unreadable", "level is not a word of at most 64 letters, digits and any of . _ -")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise SourceError("unreadable", "score is not a number")
    if level is None and score is None:
        raise SourceError("unreadable", "the answer has neither level nor score")
    try:
        number = None if score is None else float(score)
    except OverflowError:
        number = math.inf
    if number is not None and not math.isfinite(number):
        raise SourceError("unreadable", "score is not a number")
    return Assessment(level, number)


def make_risk(section: Risk, *, auth: ClientAuth | None = None, resolve: Resolve = resolve) -> JsonSource:
    """Return the source that asks the engine of this section; *auth* replaces its configured credentials."""
    reader = RiskReader(ttl=section.cache.total_seconds())
    poster = make_service_poster(section, resolve=resolve)
    return JsonSource(poster, section.url, auth or make_service_auth(section), reader.read)
