"""Remembers used proofs of possession for all workers and replicas (RFC 9449 section 11.1).

Rules of this file:
1. The shared state is the truth: a proof is used for the first time if its key could be created there.
2. Each check gets its own answer, never that of another check with the same proof.
3. If the shared state does not answer, it is not known whether a proof was used before: that is no denial for good, and
   no allow, unless the operator has loosened it to what this process remembers. That is counted.
4. A proof that this process knows to be used causes no further question to the shared state, and no need of its
   request is answered: a replay costs each process one question.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import Final

from authz.core.dpop import ProofUse
from authz.core.needs import Need, Unanswered
from authz.facts.bounds import Bounds
from authz.facts.lane import DoneCallback, LaneObserver, SourceLane
from authz.facts.proofs import MAX_CHECK_SECONDS, ProofMemory, read_proof_payload
from authz.facts.source import Fact, SourceError
from authz.feeds.shared.state import SharedState, SharedStateError

SOURCE: Final = "shared_state"
_CONNECTIONS: Final = 8
_UNLIMITED: Final = 1_000_000  # questions a second: each is a request whose signatures are valid


class SharedProofs:
    """Asks the shared *state* whether a proof is used for the first time. *now* is in seconds since the epoch."""

    def __init__(self, state: SharedState, *, now: Callable[[], float]) -> None:
        self._state: Final = state
        self._now: Final = now

    def __call__(self, need: Need) -> Fact:
        """Create the key of the proof, until after its end. Raises SourceError."""
        until, _ = read_proof_payload(need)
        seconds = max(until - self._now(), 0.0) + MAX_CHECK_SECONDS  # clocks of replicas may differ by as much
        try:
            created = self._state.create(
                self._state.key("proof", need.identifier or ""), milliseconds=ceil(seconds * 1000)
            )
        except SharedStateError as error:
            raise SourceError(error.result, str(error)) from error
        use = ProofUse.FIRST if created else ProofUse.REPLAYED
        return Fact(use, result=use.value)


class SharedProofLane:
    """Answers from *lane*, which asks the shared state; *used* has the proofs that this process knows to be used.

    With *falls_back*, *used* answers in place of a shared state that does not; *count_local* is called each time.
    """

    def __init__(
        self,
        lane: SourceLane,
        *,
        used: ProofMemory,
        falls_back: bool = False,
        count_local: Callable[[], None] = lambda: None,
    ) -> None:
        self._lane: Final = lane
        self._used: Final = used
        self._falls_back: Final = falls_back
        self._count_local: Final = count_local

    @property
    def max_waiting(self) -> int:
        """How many checks may wait at one time."""
        return self._lane.max_waiting

    def max_wait(self, need: Need) -> float:
        """Return how long a check may wait, in seconds."""
        return self._lane.max_wait(need)

    def recall(self, need: Need) -> ProofUse | None:
        """Return that a proof was used before, if this process knows it: its request needs no other facts."""
        return ProofUse.REPLAYED if self._used.was_used(need.identifier or "") else None

    def find(self, need: Need) -> object | None:
        """Return an answer only while the circuit breaker is open: nothing else is known without asking."""
        fact = self._lane.find(need)
        return None if fact is None else self._settle(need, fact)

    def ask(self, need: Need, done: DoneCallback) -> None:
        """Ask the shared state; *done* is called with a ProofUse, or with Unanswered."""
        self._lane.ask(need, lambda fact: done(self._settle(need, fact)))

    def _settle(self, need: Need, fact: object | None) -> object | None:
        """Return the answer to a check, and remember that its proof is used."""
        is_answered = isinstance(fact, ProofUse)
        if not (is_answered or self._falls_back):
            return fact
        if fact is ProofUse.REPLAYED and self._falls_back:
            return fact  # the check that was the first may not be noted yet, and must not find this
        until, thumbprint = read_proof_payload(need)
        remembered = self._used.record(need.identifier or "", thumbprint, until)
        if not self._falls_back:
            return fact
        if is_answered:  # while the shared state did not answer, the proof may have been used here
            return fact if isinstance(remembered, Unanswered) else remembered
        self._count_local()
        return remembered


def make_proof_source_lane(
    state: SharedState, *, timeout: float, max_waiting: int, observer: LaneObserver
) -> SourceLane:
    """Return the lane that asks the shared state; each of its answers takes at most *timeout* seconds."""
    return SourceLane(
        "shared state for proofs",
        SharedProofs(state, now=time.time),
        bounds=Bounds(
            max_concurrent=_CONNECTIONS,
            max_waiting=max_waiting,
            max_wait=2 * timeout,
            burst=_UNLIMITED,
            refill=1.0 / _UNLIMITED,
            max_cached=1,
        ),
        monotonic=time.monotonic,
        observer=observer,
    )
