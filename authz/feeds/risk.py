"""A client of a risk engine: one POST of JSON, answered by a level, a score, or both.

Rules of this file:
1. Only status 200 with JSON of the right types is an answer. Anything else is a failure, for which the configuration
   says what it counts as; it is never cached.
2. The URL is the configured one. Redirects are not followed, and no text of the engine is logged.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Final

from authz.config.risk import Risk
from authz.core.risk import Assessment
from authz.facts.source import Fact, SourceError
from authz.feeds.failure import RefreshError
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome
from authz.feeds.json_service import JsonSource, make_service_auth, make_service_poster, parse_json_response
from authz.telemetry.keys import Refresh

_LEVEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_outcome(outcome: Outcome, *, ttl: float) -> Fact:
    """Return what a response says, to be kept for *ttl* seconds. Raises SourceError."""
    try:
        response = outcome()
    except RefreshError as error:
        raise SourceError(error.result.value, str(error)) from error
    if response.status != 200:
        result = "unauthorized" if response.status in {401, 403} else Refresh.STATUS.value
        raise SourceError(result, f"HTTP status {response.status}")
    return Fact(read_assessment(response), ttl, 0, "answered")


def read_assessment(response: Response) -> Assessment:
    """Return what the engine says. Raises SourceError."""
    members = parse_json_response(response)
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


def make_risk(section: Risk, *, auth: ClientAuth | None = None, resolve: Resolve = resolve) -> JsonSource:
    """Return what asks the engine of this section; *auth* is in place of its own credentials."""
    read = partial(read_outcome, ttl=section.cache.total_seconds())
    return JsonSource(
        make_service_poster(section, resolve=resolve), section.url, auth or make_service_auth(section), read
    )
