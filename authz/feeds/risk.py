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
from authz.core.needs import Need
from authz.core.risk import Assessment
from authz.facts.lane import Fact, Heard, SourceError
from authz.facts.loop import Loop
from authz.feeds.failure import RefreshError
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.fetch import Answer
from authz.feeds.http.post import Outcome, Post, Poster
from authz.feeds.json_service import auth_to, parse_json_answer, poster_to, when_heard, write_question
from authz.telemetry.keys import Refresh

_LEVEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class RiskSource:
    """Asks the engine at *url*. An answer is kept for *ttl* seconds."""

    def __init__(self, poster: Poster, url: str, auth: ClientAuth, *, ttl: float) -> None:
        self._poster: Final = poster
        self._url: Final = url
        self._auth: Final = auth
        self._ttl: Final = ttl

    def __call__(self, need: Need) -> Fact:
        """Ask the question in *need*. Raises SourceError."""
        return self._hear(partial(self._poster.post, self._url, partial(self._write, need.sent.encode())))

    def begin(self, need: Need, loop: Loop, heard: Heard) -> bool:
        """Ask on an idle connection, without waiting; return False if that is not possible."""
        if not self._auth.is_prompt:
            return False
        return self._poster.begin(self._url, self._write(need.sent.encode()), loop, when_heard(self._hear, heard))

    def _hear(self, respond: Outcome) -> Fact:
        """Return what a response says. Raises SourceError."""
        try:
            answer = respond()
        except RefreshError as error:
            raise SourceError(error.result.value, str(error)) from error
        if answer.status != 200:
            result = "unauthorized" if answer.status in {401, 403} else Refresh.STATUS.value
            raise SourceError(result, f"HTTP status {answer.status}")
        return Fact(read_assessment(answer), self._ttl, 0, "answered")

    def close(self) -> None:
        """Close the idle connections."""
        self._poster.close()

    def _write(self, body: bytes) -> Post:
        return write_question(body, self._auth)


def read_assessment(answer: Answer) -> Assessment:
    """Return what the engine says. Raises SourceError."""
    members = parse_json_answer(answer)
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


def make_risk(section: Risk, *, auth: ClientAuth | None = None, resolve: Resolve = resolve) -> RiskSource:
    """Return what asks the engine of this section; *auth* is in place of its own credentials."""
    poster = poster_to(section, resolve=resolve)
    return RiskSource(poster, section.url, auth or auth_to(section), ttl=section.cache.total_seconds())
