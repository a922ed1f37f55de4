"""Who is the cause of a failure: a service that is asked, or the question, in which clients have a part.

Rules of this file:
1. A service that answered well in the last HEALTHY_SECONDS is not the cause of a response that is no answer: that
   opens no circuit breaker, or one client would leave all others without answers.
2. A service is absent only if it cannot be reached, or does not answer in time. An error in response to a question is
   no absence: where absence is tolerated, clients would otherwise write questions that fail.
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
"""By which a service says that it does not take a question."""

_ABSENT_STATUSES: Final = frozenset({502, 503, 504})  # of a proxy before it, or while it starts
_ABSENT: Final = frozenset(
    {Refresh.MISCONFIGURED, Refresh.TIMEOUT, Refresh.TLS, Refresh.UNREACHABLE, Refresh.UNTRUSTED}
)

_BY_THE_QUESTION: Final = frozenset({"unreadable", Refresh.TOO_LARGE.value})


def name_result(error: RefreshError) -> str:
    """Return the result for metrics: a server whose response cannot be read was reached, and did answer."""
    cause = error.__cause__
    answered = isinstance(cause, MalformedResponse) and not isinstance(cause, NotHttp)
    return "unreadable" if answered else error.result.value


class Health:
    """Remembers when one service last answered well. *monotonic* is a clock in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic: Final = monotonic
        self._until = 0.0

    @property
    def is_good(self) -> bool:
        """Whether it answered well lately."""
        return self._monotonic() < self._until

    def note(self) -> None:
        """Note a good answer."""
        self._until = self._monotonic() + HEALTHY_SECONDS

    def fail_without_response(self, error: RefreshError) -> SourceError:
        """Return the failure to get a response that can be read."""
        result = name_result(error)
        absent = result in _ABSENT
        why = str(error).removeprefix("fetch.")
        return SourceError(result, why, counts=absent or not self.is_good, absent=absent)

    def fail_by_status(self, status: int, shown: str) -> SourceError:
        """Return the failure that a *status* other than 200 means; *shown* is for the operator."""
        if status in REFUSED_STATUSES:
            result = "refused" if self.is_good else "bad_request"  # this question, or perhaps all that we ask
            return SourceError(result, f"{shown}: it does not take this question", counts=False)
        if status in {401, 403}:
            return SourceError("unauthorized", f"{shown}: it rejects our credentials")
        counts = not (status == 500 and self.is_good)
        return SourceError(Refresh.STATUS.value, shown, counts=counts, absent=status in _ABSENT_STATUSES)

    def fail_by_content(self, why: str) -> SourceError:
        """Return the failure that a response with status 200 is no answer."""
        return SourceError("unreadable", why, counts=not self.is_good)

    def excuse(self, error: SourceError) -> SourceError:
        """Return *error*, which does not count if the service answers well, and this question may be the cause."""
        if not self.is_good or error.result not in _BY_THE_QUESTION:
            return error
        return SourceError(error.result, str(error), counts=False, absent=error.absent)
