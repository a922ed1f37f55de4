"""Decides whether a failure is caused by a service, or by the request to it, which clients can influence.

Rules of this file:
1. An error response opens no circuit breaker: otherwise a client could choose a request that a service, or a firewall
   in front of it, answers with an error, and make the service unavailable for all others. Exceptions are 429, which
   asks for fewer requests, and rejected credentials, except by status 403, if no valid response shows that they are
   good.
2. A service is healthy for HEALTHY_SECONDS after a valid response. An invalid response of a healthy service does not
   count as its failure.
3. A service is absent only if it cannot be reached, does not respond in time, or a proxy says so (502, 503, 504). Any
   other error response is no absence: if absence is tolerated, clients could otherwise send requests that cause one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from authz.facts.source import SourceError
from authz.feeds.failure import RefreshError
from authz.feeds.http.response import MalformedResponse, NotHttp
from authz.telemetry.keys import Refresh

HEALTHY_SECONDS: Final = 300.0
REFUSED_STATUSES: Final = frozenset({400, 413, 414, 422, 431})
"""The statuses by which a service refuses one request."""

_ABSENT_STATUSES: Final = frozenset({502, 503, 504})  # of a proxy in front of it, or while it starts
_FORBIDDEN: Final = 403
_TOO_MANY_REQUESTS: Final = 429
_ABSENT: Final = frozenset(
    {Refresh.MISCONFIGURED, Refresh.TIMEOUT, Refresh.TLS, Refresh.UNREACHABLE, Refresh.UNTRUSTED}
)

_POSSIBLY_THE_REQUEST: Final = frozenset({"unreadable", Refresh.TOO_LARGE.value, Refresh.REDIRECT_REFUSED.value})


def result_of(error: RefreshError) -> str:
    """Return the result for metrics: "unreadable" if the server was reached, and its response is invalid HTTP."""
    cause = error.__cause__
    answered = isinstance(cause, MalformedResponse) and not isinstance(cause, NotHttp)
    return "unreadable" if answered else error.result.value


class Health:
    """Remembers when one service last sent a valid response. *monotonic* is a clock in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic: Final = monotonic
        self._until = 0.0

    @property
    def is_healthy(self) -> bool:
        """Whether it sent a valid response in the last HEALTHY_SECONDS."""
        return self._monotonic() < self._until

    def record_success(self) -> None:
        """Record a valid response."""
        self._until = self._monotonic() + HEALTHY_SECONDS

    def no_response_error(self, error: RefreshError) -> SourceError:
        """Return the failure if there is no readable response, because of *error*."""
        result = result_of(error)
        absent = result in _ABSENT
        why = str(error).removeprefix("fetch.")
        responded = result in _POSSIBLY_THE_REQUEST
        return SourceError(result, why, counts=absent or not self.is_healthy, absent=absent, responded=responded)

    def status_error(self, status: int, shown: str) -> SourceError:
        """Return the failure for a *status* other than 200; *shown* is for the operator."""
        if status in REFUSED_STATUSES:
            result = "refused" if self.is_healthy else "bad_request"  # this request, or perhaps all of ours
            return SourceError(result, f"{shown}: it does not take this question", counts=False, responded=True)
        if status in {401, 403}:
            return self.rejection_error(status, f"{shown}: it rejects our credentials")
        return self.failure_of_service(status, shown)

    def rejection_error(self, status: int, why: str) -> SourceError:
        """Return the failure for a response by which the service seems to reject our credentials."""
        responded = self.is_healthy or status == _FORBIDDEN
        return SourceError("unauthorized", why, counts=not self.is_healthy, responded=responded)

    def failure_of_service(self, status: int, shown: str) -> SourceError:
        """Return the failure for any other *status*."""
        absent = status in _ABSENT_STATUSES
        responded = not absent and status != _TOO_MANY_REQUESTS
        counts = not (responded and self.is_healthy)
        return SourceError(Refresh.STATUS.value, shown, counts=counts, absent=absent, responded=responded)

    def content_error(self, why: str) -> SourceError:
        """Return the failure for an invalid response with status 200."""
        return SourceError("unreadable", why, counts=not self.is_healthy, responded=True)

    def classify(self, error: SourceError) -> SourceError:
        """Return *error*; it opens no circuit breaker if this request may be the cause."""
        if error.result not in _POSSIBLY_THE_REQUEST:
            return error
        return SourceError(
            error.result, str(error), counts=error.counts and not self.is_healthy, absent=error.absent, responded=True
        )
