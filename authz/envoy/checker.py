"""One Check, from request bytes to response bytes: decide; gather the missing facts; decide again.

Rules of this file:
1. Every call gets a response. Any exception becomes a denial with internal_error, without details for the caller.
2. A decision uses one snapshot and one time, and is encoded with the same snapshot.
3. Nothing here blocks. A check that lacks facts is passed to the gatherer, which waits at most as long as the lanes
   allow, and ends 50 ms before the caller's deadline.
4. A check waits for facts in at most MAX_ROUNDS rounds, within the caller's deadline. Facts that a lane has cached cost
   no round. If a fact is still missing then, or a lane reports that it is not available now, the denial is retryable.
   If the fact is optional and was requested, the request is first decided once more with Unanswered as the fact.
5. No kind of need is known by name. If there is no lane for a need, the decision is final.
6. The `rechecks` of a decision are requested after the response, for later decisions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from authz.core.authorize import authorize, decide_again
from authz.core.decision import AuditTrail, Decision, Deny, as_unanswered, deny
from authz.core.needs import MAX_ROUNDS, Facts, Need, Unanswered
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request
from authz.core.snapshot import Responses, Snapshot
from authz.envoy.codec import decode_request, encode_decision
from authz.envoy.gathering import Gatherer, is_wanted
from authz.envoy.transport.port import Deferred, Respond
from authz.telemetry.check_record import CheckRecord, Metadata

log = logging.getLogger(__name__)

DEADLINE_RESERVE: Final = 0.050  # seconds before the caller's deadline, reserved for the response
MAX_FACTS: Final = 8  # of one check


class Decide(Protocol):
    """The function that decides: `authz.core.authorize.authorize`."""

    def __call__(self, request: Request, snapshot: Snapshot, now: float, facts: Facts, /) -> Decision:
        """Evaluate *request* against *snapshot* at *now*, given *facts*."""


@dataclass(slots=True)
class _Pending:
    """A check that lacks facts: its request, the facts so far, and the last decision with its snapshot.

    *unanswered* are needs without an answer, and why; *requested* are all that were passed to a lane, each with the
    reason to give if no answer comes.
    """

    request: Request
    now: float
    received: float
    deadline: float | None
    metadata: Metadata
    decision: Decision
    snapshot: Snapshot
    facts: dict[Need, object] = field(default_factory=dict)
    unanswered: dict[Need, Unanswered] = field(default_factory=dict)
    requested: dict[Need, Unanswered] = field(default_factory=dict)
    rounds: int = 0

    def record_answer(self, need: Need, fact: object) -> None:
        """Record the answer of a lane."""
        if isinstance(fact, Unanswered):
            self.unanswered[need] = fact
        else:
            self.facts[need] = fact


class Checker:
    """Evaluates Checks against the current snapshot, with facts from the *gatherer*."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        gatherer: Gatherer,
        report: Callable[[CheckRecord], None],
        now: Callable[[], float],
        elapsed: Callable[[], float],
        new_id: Callable[[], str],
        decide: Decide = authorize,
    ) -> None:
        self._snapshot: Final = snapshot
        self._gatherer: Final = gatherer
        self._report: Final = report
        self._now: Final = now
        self._elapsed: Final = elapsed
        self._new_id: Final = new_id
        self._decide: Final = decide

    def check(
        self, data: bytes, *, received: float, time_left: float | None, metadata: Metadata = ()
    ) -> bytes | Deferred:
        """Answer the CheckRequest *data*, received at *received* with *time_left* seconds to its deadline.

        *metadata* of the call is for the report. If facts are missing that can be gathered, return a deferred answer,
        which starts to gather them.
        """
        request: Request | None = None
        try:
            deadline = None if time_left is None else self._elapsed() + time_left
            snapshot = self._snapshot()
            try:
                request = decode_request(data)
            except Rejected as rejected:
                return self._answer(deny(rejected, AuditTrail()), None, snapshot.responses, received, metadata)
            now = self._now()
            decision = self._decide(request, snapshot, now, self._gatherer.known_facts)
            if decision.trail.needs:
                return self._advance(_Pending(request, now, received, deadline, metadata, decision, snapshot))
            return self._answer(decision, request, snapshot.responses, received, metadata)
        except BaseException as error:  # noqa: BLE001 - an exception that escapes may become an allow in Envoy
            return self._fail(error, request, received, metadata)

    def reject(self, reason: Reason, *, received: float, metadata: Metadata = ()) -> bytes:
        """Deny a CheckRequest that was neither read nor evaluated."""
        try:
            return self._answer(Deny(reason), None, self._snapshot().responses, received, metadata)
        except BaseException as error:  # noqa: BLE001 - as above
            return self._fail(error, None, received, metadata)

    def _advance(self, pending: _Pending) -> bytes | Deferred:
        """Answer if no facts are missing, else return a deferred answer that gathers them."""
        if self._snapshot() is not pending.snapshot:  # the newer snapshot may have the fact
            self._redecide(pending)
        needs = pending.decision.trail.needs
        if not needs:
            return self._respond(pending)
        lanes = self._gatherer.lanes
        if any(need.kind not in lanes for need in needs):  # without a lane the decision is final
            return self._respond(pending)
        # A decision that still names a need whose fact it has, or one need after another, would never end.
        if len(pending.facts) >= MAX_FACTS or any(need in pending.facts for need in needs):
            return self._respond_unanswered(pending)
        missing = []
        for need in needs:
            if (fact := self._gatherer.find(need)) is not None:
                pending.record_answer(need, fact)
            else:
                missing.append(need)
        if pending.unanswered and (refused := [need for need in needs if need in pending.unanswered]):
            return self._decide_again(pending, refused)
        if missing and pending.rounds == MAX_ROUNDS:
            return self._respond_unanswered(pending)
        if missing and (seconds := self._wait_budget(missing, pending)) > 0:
            pending.rounds += 1
            for need in missing:
                pending.requested[need] = (
                    _TIMED_OUT if seconds >= lanes[need.kind].max_wait(need) else _LITTLE_TIME_LEFT
                )
            return partial(self._gather, pending, missing, seconds)
        return self._decide_again(pending, missing)

    def _wait_budget(self, missing: Sequence[Need], pending: _Pending) -> float:
        seconds = max(self._gatherer.lanes[need.kind].max_wait(need) for need in missing)
        if pending.deadline is not None:
            seconds = min(seconds, pending.deadline - self._elapsed() - DEADLINE_RESERVE)
        return seconds

    def _gather(self, pending: _Pending, missing: Sequence[Need], seconds: float, respond: Respond) -> None:
        try:
            self._gatherer.gather(missing, seconds, partial(self._resume, pending, missing, respond))
        except BaseException as error:  # noqa: BLE001 - as above
            respond(self._fail(error, pending.request, pending.received, pending.metadata))

    def _resume(self, pending: _Pending, missing: Sequence[Need], respond: Respond, facts: Facts) -> None:
        """Continue, on the gathering thread, with those of the *missing* facts that arrived."""
        try:
            for need, fact in facts.items():
                pending.record_answer(need, fact)
            answer = self._decide_again(pending, missing)
        except BaseException as error:  # noqa: BLE001 - as above
            answer = self._fail(error, pending.request, pending.received, pending.metadata)
        if isinstance(answer, bytes):
            respond(answer)
        else:
            answer(respond)

    def _decide_again(self, pending: _Pending, requested: Sequence[Need]) -> bytes | Deferred:
        """Decide with all known facts; those that were *requested* without an answer are not requested again."""
        self._redecide(pending)
        needs = pending.decision.trail.needs
        if needs and any(need in requested for need in needs):
            return self._respond_unanswered(pending)
        return self._advance(pending)

    def _redecide(self, pending: _Pending) -> None:
        pending.snapshot = self._snapshot()
        facts = self._gatherer.known_with(pending.facts)
        decision = decide_again(pending.decision, pending.snapshot, facts)
        if decision is None:
            decision = self._decide(pending.request, pending.snapshot, pending.now, facts)
        pending.decision = decision

    def _respond_unanswered(self, pending: _Pending) -> bytes | Deferred:
        """Respond without the missing facts; if some are optional, first decide with Unanswered in their place."""
        reasons = {**pending.requested, **pending.unanswered}
        optional = [need for need in pending.decision.trail.needs if need.optional and need in reasons]
        if any(need not in pending.facts for need in optional):
            pending.facts |= {need: reasons[need] for need in optional}
            self._redecide(pending)
            return self._advance(pending)
        pending.decision = as_unanswered(pending.decision, pending.unanswered)
        return self._respond(pending)

    def _respond(self, pending: _Pending) -> bytes:
        responses = pending.snapshot.responses
        pending.decision.trail.checkpoint = None  # a decision may be kept for long, and its snapshot must not
        return self._answer(pending.decision, pending.request, responses, pending.received, pending.metadata)

    def _answer(
        self, decision: Decision, request: Request | None, responses: Responses, received: float, metadata: Metadata
    ) -> bytes:
        decision_id = self._new_id()
        answer = encode_decision(decision, request, responses, decision_id)
        self._report(CheckRecord(decision, decision_id, request, self._elapsed() - received, metadata))
        if decision.trail.rechecks:
            self._request_rechecks(decision.trail.rechecks)
        return answer

    def _request_rechecks(self, rechecks: Sequence[Need]) -> None:
        """Request the facts that may be requested now, without waiting for them."""
        lanes = self._gatherer.lanes
        if wanted := [need for need in rechecks if need.kind in lanes and is_wanted(lanes[need.kind], need)]:
            self._gatherer.gather(wanted, 0.0, _ignore)

    def _fail(self, error: BaseException, request: Request | None, received: float, metadata: Metadata) -> bytes:
        try:
            log.error("check failed", exc_info=error)
            return self._answer(Deny(Reason.INTERNAL_ERROR), request, Responses(), received, metadata)
        except BaseException:  # noqa: BLE001 - the report itself fails
            return FALLBACK_RESPONSE


_TIMED_OUT: Final = Unanswered("not answered in time", absent=True)
# Most of the caller's time was spent before, on other facts or by an overloaded process: clients can cause both.
_LITTLE_TIME_LEFT: Final = Unanswered("not answered in the little time that was left")


def _ignore(_facts: Facts) -> None:
    """Do nothing: no caller waits."""


# Encoded at import: the response if even the report of a failure fails.
FALLBACK_RESPONSE: Final = encode_decision(Deny(Reason.INTERNAL_ERROR), None, Responses(), "")
