"""One Check, from bytes to bytes: decide, where a key is missing refresh, decide again.

Rules of this file:
1. Every call ends in an answer. Whatever is raised on the way is a denial with internal_error, and nothing of it is
   told.
2. A decision is made from one snapshot at one instant, and encoded by the same snapshot.
3. Only an unknown key id ever waits: once, at most `max_wait`, never into the last 50 ms before the caller gives up,
   and never on the last thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import Final, Protocol

from authz.core.authorize import authorize
from authz.core.decision import Decision, Deny, Findings, await_keys, deny
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request
from authz.core.snapshot import Responses, Snapshot
from authz.envoy.codec import decode_request, encode_decision
from authz.telemetry.judged import Judged, Metadata

log = logging.getLogger(__name__)

DEADLINE_RESERVE: Final = 0.050  # seconds before the caller's deadline that are kept for the answer


class Flight(Protocol):
    """A refresh under way."""

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds; tell whether the refresh has ended."""


class KeyFeeds(Protocol):
    """Whoever keeps the key sets fresh."""

    def find_unknown_key(self, issuer: str) -> Flight | None:
        """Ask for a refresh of the configured *issuer*; None where its budget allows none and none is under way."""

    def max_wait(self, issuer: str) -> float:
        """Return the seconds that a request may wait for a refresh of *issuer*."""


class Checker:
    """Answers Checks by the current snapshot."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        feeds: KeyFeeds,
        report: Callable[[Judged], None],
        now: Callable[[], float],
        elapsed: Callable[[], float],
        new_id: Callable[[], str],
        max_waiters: int,
    ) -> None:
        self._snapshot: Final = snapshot
        self._feeds: Final = feeds
        self._report: Final = report
        self._now: Final = now
        self._elapsed: Final = elapsed
        self._new_id: Final = new_id
        self._waiters: Final = BoundedSemaphore(max_waiters) if max_waiters else None

    def check(self, data: bytes, *, received: float, time_left: float | None, metadata: Metadata = ()) -> bytes:
        """Answer the CheckRequest *data*, which came at *received* with *time_left* seconds to its deadline.

        *metadata* of the call is for those who report it.
        """
        request: Request | None = None
        try:
            deadline = None if time_left is None else self._elapsed() + time_left
            snapshot = self._snapshot()
            try:
                request = decode_request(data)
            except Rejected as rejected:
                return self._answer(deny(rejected, Findings()), None, snapshot.responses, received, metadata)
            now = self._now()
            decision = authorize(request, snapshot, now)
            if decision.reason is Reason.KEY_NOT_FOUND:
                decision, snapshot = self._look_again(decision, request, snapshot, now, deadline)
            return self._answer(decision, request, snapshot.responses, received, metadata)
        except BaseException as error:  # noqa: BLE001 - whatever escapes here may become an allow in Envoy
            return self._fail(error, request, received, metadata)

    def refuse(self, reason: Reason, *, received: float, metadata: Metadata = ()) -> bytes:
        """Answer a CheckRequest that was neither judged nor read."""
        try:
            return self._answer(Deny(reason), None, self._snapshot().responses, received, metadata)
        except BaseException as error:  # noqa: BLE001 - as above
            return self._fail(error, None, received, metadata)

    def _look_again(
        self, decision: Decision, request: Request, snapshot: Snapshot, now: float, deadline: float | None
    ) -> tuple[Decision, Snapshot]:
        """Decide by a newer snapshot, where there is one; else wait for a refresh that could bring the missing key."""
        decision, snapshot = self._decide_anew(decision, request, snapshot, now)
        issuer = decision.findings.issuer
        if decision.reason is not Reason.KEY_NOT_FOUND or issuer is None:
            return decision, snapshot
        flight = self._feeds.find_unknown_key(issuer)
        if flight is not None and not self._wait(flight, self._feeds.max_wait(issuer), deadline):
            return (await_keys(decision) if isinstance(decision, Deny) else decision), snapshot
        # Also without a flight: one may have ended after the look above.
        return self._decide_anew(decision, request, snapshot, now)

    def _decide_anew(
        self, decision: Decision, request: Request, snapshot: Snapshot, now: float
    ) -> tuple[Decision, Snapshot]:
        fresh = self._snapshot()
        return (decision, snapshot) if fresh is snapshot else (authorize(request, fresh, now), fresh)

    def _wait(self, flight: Flight, max_wait: float, deadline: float | None) -> bool:
        if deadline is not None:
            max_wait = min(max_wait, deadline - self._elapsed() - DEADLINE_RESERVE)
        if max_wait <= 0 or self._waiters is None or not self._waiters.acquire(blocking=False):
            return flight.wait(0)
        try:
            return flight.wait(max_wait)
        finally:
            self._waiters.release()

    def _answer(
        self, decision: Decision, request: Request | None, responses: Responses, received: float, metadata: Metadata
    ) -> bytes:
        decision_id = self._new_id()
        answer = encode_decision(decision, request, responses, decision_id)
        self._report(Judged(decision, decision_id, request, self._elapsed() - received, metadata))
        return answer

    def _fail(self, error: BaseException, request: Request | None, received: float, metadata: Metadata) -> bytes:
        try:
            log.error("check failed", exc_info=error)
            return self._answer(Deny(Reason.INTERNAL_ERROR), request, Responses(), received, metadata)
        except BaseException:  # noqa: BLE001 - the report itself fails
            return LAST_RESORT


# Made before anything can fail: the answer when even the report of a failure fails.
LAST_RESORT: Final = encode_decision(Deny(Reason.INTERNAL_ERROR), None, Responses(), "")
