"""One Check, from bytes to bytes: decide, where a key is missing refresh, decide again.

Rules of this file:
1. Every call ends in an answer. Whatever is raised on the way is a denial with internal_error, and nothing of it is
   told.
2. A decision is made from one snapshot at one instant, and encoded by the same snapshot.
3. Only an unknown key id ever waits: once, at most `max_wait`, never into the last 50 ms before the caller gives up,
   and never on the thread that judges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from threading import BoundedSemaphore
from typing import Final, Protocol, TypeAlias, cast

from authz.core.authorize import authorize
from authz.core.decision import Decision, Deny, Findings, await_keys, deny
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request
from authz.core.snapshot import Responses, Snapshot
from authz.envoy.codec import decode_request, encode_decision
from authz.telemetry.judged import Judged, Metadata

log = logging.getLogger(__name__)

Later: TypeAlias = Callable[[], bytes]

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


@dataclass(frozen=True, slots=True)
class _Case:
    """A request whose key is missing, and what was decided so far."""

    request: Request
    now: float
    received: float
    metadata: Metadata
    decision: Decision
    snapshot: Snapshot


def _await_keys(case: _Case) -> _Case:
    return replace(case, decision=await_keys(case.decision)) if isinstance(case.decision, Deny) else case


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

    def check(self, data: bytes, *, received: float, time_left: float | None, metadata: Metadata = ()) -> bytes | Later:
        """Answer the CheckRequest *data*, which came at *received* with *time_left* seconds to its deadline.

        *metadata* of the call is for those who report it. Where an answer may be had by waiting, return what waits for
        it: to be called once, on a thread that may wait.
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
                case = _Case(request, now, received, metadata, decision, snapshot)
                return self._look_again(case, deadline)
            return self._answer(decision, request, snapshot.responses, received, metadata)
        except BaseException as error:  # noqa: BLE001 - whatever escapes here may become an allow in Envoy
            return self._fail(error, request, received, metadata)

    def refuse(self, reason: Reason, *, received: float, metadata: Metadata = ()) -> bytes:
        """Answer a CheckRequest that was neither judged nor read."""
        try:
            return self._answer(Deny(reason), None, self._snapshot().responses, received, metadata)
        except BaseException as error:  # noqa: BLE001 - as above
            return self._fail(error, None, received, metadata)

    def _look_again(self, case: _Case, deadline: float | None) -> bytes | Later:
        """Decide by a newer snapshot, where there is one; else wait for a refresh that could bring the missing key."""
        case = self._decide_anew(case)
        issuer = case.decision.findings.issuer
        if case.decision.reason is not Reason.KEY_NOT_FOUND or issuer is None:
            return self._close(case)
        flight = self._feeds.find_unknown_key(issuer)
        if flight is None:  # one may have ended after the look above
            return self._close(self._decide_anew(case))
        patience = self._feeds.max_wait(issuer)
        if deadline is not None:
            patience = min(patience, deadline - self._elapsed() - DEADLINE_RESERVE)
        if patience > 0 and self._waiters is not None and self._waiters.acquire(blocking=False):
            return partial(self._wait, case, flight, patience)
        return self._close(self._decide_anew(case) if flight.wait(0) else _await_keys(case))

    def _wait(self, case: _Case, flight: Flight, patience: float) -> bytes:
        """Answer when *flight* has ended, or after *patience* seconds, on a thread that may wait."""
        try:
            try:
                ended = flight.wait(patience)
            finally:
                cast("BoundedSemaphore", self._waiters).release()
            return self._close(self._decide_anew(case) if ended else _await_keys(case))
        except BaseException as error:  # noqa: BLE001 - as above
            return self._fail(error, case.request, case.received, case.metadata)

    def _decide_anew(self, case: _Case) -> _Case:
        fresh = self._snapshot()
        if fresh is case.snapshot:
            return case
        return replace(case, decision=authorize(case.request, fresh, case.now), snapshot=fresh)

    def _close(self, case: _Case) -> bytes:
        return self._answer(case.decision, case.request, case.snapshot.responses, case.received, case.metadata)

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
