"""A client of a policy decision point (PDP): AuthZEN Authorization API 1.0, or OPA's data API.

Rules of this file:
1. One question is one POST of JSON, to the configured URL and no other. Redirects are not followed.
2. Only status 200 with JSON and a boolean is a decision. OPA answers `{}` if a rule is undefined, and while its bundle
   is not loaded: that is a failure, not a denial.
3. A PDP that has answered lately and refuses a question (400, 413, 422) refuses this question: that is a fact, and
   denies. Before, the question or its configuration may be the cause: that is a failure.
4. A failure is never cached. It opens the circuit breaker only if no client can be the cause (authz.feeds.health). Of
   the PDP's text, only a short error code is logged.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from authz.config.pdp import Pdp
from authz.core.pdp import PdpDecision, PdpKind, PdpResponse, read_response
from authz.core.strictjson import parse_object
from authz.facts.source import Fact, SourceError
from authz.feeds.failure import RefreshError
from authz.feeds.health import REFUSED_STATUSES, Health
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome
from authz.feeds.json_service import JsonSource, make_service_auth, make_service_poster, parse_json_body

_MAX_SHORT: Final = 64  # short responses whose parsed answers are cached
_MAX_SHORT_BYTES: Final = 512  # of each
_ERROR_CODE: Final = re.compile(r"[A-Za-z_]{1,64}")


class PdpReader:
    """Reads the responses of one PDP. A decision is kept for *ttl* seconds."""

    def __init__(self, *, kind: PdpKind, ttl: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._kind: Final = kind
        self._ttl: Final = ttl
        self._health: Final = Health(monotonic)

    def read(self, outcome: Outcome) -> Fact:
        """Return the fact in a response. Raises SourceError."""
        try:
            response = outcome()
        except RefreshError as error:
            raise self._health.no_response_error(error) from error
        if response.status != 200:
            return self._read_refusal(response)
        answer = self._read_decision(response)
        self._health.record_success()
        size = len(answer.note) + len(answer.reason)
        return Fact(answer, self._ttl, size, answer.decision.value)

    def _read_decision(self, response: Response) -> PdpResponse:
        # A PDP answers many questions alike: most responses are equal to an earlier one, octet by octet.
        read = _read_short if len(response.body) <= _MAX_SHORT_BYTES else _read
        try:
            return read(response.media_type, response.body, self._kind)
        except (SourceError, ValueError) as error:
            raise self._health.content_error(str(error)) from None

    def _read_refusal(self, response: Response) -> Fact:
        """Return that the PDP refuses this question. Raises SourceError for other causes."""
        status, code = response.status, _read_code(response)
        shown = f"HTTP status {status}{f', {code}' if code else ''}"
        if status in REFUSED_STATUSES and self._health.is_healthy:
            return Fact(PdpResponse(PdpDecision.REFUSED, shown), result=PdpDecision.REFUSED.value)
        raise self._health.status_error(status, shown)


def _read(media_type: str, body: bytes, kind: PdpKind) -> PdpResponse:
    """Read a response. Raises SourceError, ValueError."""
    return read_response(parse_json_body(media_type, body), kind)


_read_short: Final = lru_cache(maxsize=_MAX_SHORT)(_read)


def make_pdp(pdp: Pdp, *, auth: ClientAuth | None = None, resolve: Resolve = resolve) -> JsonSource:
    """Return the source that asks the PDP of this section; *auth* replaces its configured credentials."""
    reader = PdpReader(kind=pdp.kind, ttl=pdp.cache.total_seconds())
    return JsonSource(make_service_poster(pdp, resolve=resolve), pdp.url, auth or make_service_auth(pdp), reader.read)


def _read_code(response: Response) -> str:
    """Return the `code` of an error, as OPA and OpenFGA write it, if it has the form of one; otherwise ""."""
    try:
        code = parse_object(response.body).get("code")
    except ValueError:
        return ""
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else ""
