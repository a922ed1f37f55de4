"""Attacks on proofs whose requests wait for others: a proof is used up by an answer, never by "try again"."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Final

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Allow, Decision
from authz.core.dpop import ProofUse
from authz.core.needs import PROOF, Facts, Need, Unanswered
from authz.core.pdp import PDP, PdpDecision, PdpResponse
from authz.core.policy import Policy
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer, Lane
from authz.facts.lane import SourceLane
from authz.facts.proofs import ProofLane, ProofMemory
from authz.feeds.shared.proofs import SharedProofLane, make_proof_source_lane
from authz.telemetry.check_record import CheckRecord
from tests.cases.external import question
from tests.cases.proofs import BOUND, proof, world
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.fixtures import T, ask, rule
from tests.unit.envoy.asking import FakeLane, HeldLane, told, write_check
from tests.unit.feeds.test_shared_proofs import FakeState, Observer

ALLOWED: Final = PdpResponse(PdpDecision.ALLOWED)
DENIED: Final = PdpResponse(PdpDecision.DENIED)


def asking(**others: Any) -> Snapshot:  # noqa: ANN401 - fields of a rule
    """A world whose rule asks a PDP."""
    return replace(world(), policy=Policy((rule("items", "/items/{id}", external=question(), **others),)))


def message(written: str = proof()) -> bytes:
    """A request with the bound token and this proof."""
    return write_check(ask(headers={"authorization": f"DPoP {BOUND}", "dpop": written}))


def ask_store() -> SourceLane:
    """Make what asks a store of replicas, which has its own threads: each check asks for itself."""
    return make_proof_source_lane(FakeState(), timeout=HANG_SECONDS, max_waiting=64, observer=Observer())


class Sidecar:
    """A checker that may be asked without waiting for its answers."""

    def __init__(self, pdp: Lane, *, shared: bool, snapshot: Snapshot | None = None) -> None:
        memory = ProofMemory(max_proofs=100, now=lambda: float(T), monotonic=lambda: 0.0, secret=b"of this process")
        self.memory: Final = memory
        self.decided: Final[list[Decision]] = []
        proofs: Lane = SharedProofLane(ask_store(), used=memory) if shared else ProofLane(memory)
        self.gatherer: Final = Gatherer({PROOF: proofs, PDP: pdp}, monotonic=time.monotonic)
        self._checker: Final = Checker(
            snapshot=lambda: snapshot or asking(),
            gatherer=self.gatherer,
            report=self._note,
            now=lambda: float(T),
            elapsed=time.monotonic,
            new_id=lambda: "id",
        )

    def begin(self, written: str = proof()) -> SimpleQueue[bytes]:
        """Ask, and return where the answer will be."""
        answers: SimpleQueue[bytes] = SimpleQueue()
        answer = self._checker.check(message(written), received=0.0, time_left=None)
        if isinstance(answer, bytes):
            answers.put(answer)
        else:
            answer(answers.put)
        return answers

    def ask(self, written: str = proof()) -> str:
        """Ask and wait for the reason."""
        return reason_of(self.begin(written))

    def _note(self, record: CheckRecord) -> None:
        self.decided.append(record.decision)


def reason_of(answers: SimpleQueue[bytes]) -> str:
    """Wait for an answer and return its reason."""
    return str(told(answers.get(timeout=HANG_SECONDS)))


@contextmanager
def sidecar(pdp: Lane, *, shared: bool, snapshot: Snapshot | None = None) -> Iterator[Sidecar]:
    """Run a sidecar that waits for its PDP."""
    started = Sidecar(pdp, shared=shared, snapshot=snapshot)
    started.gatherer.start()
    try:
        yield started
    finally:
        started.gatherer.stop()


by_memory = pytest.mark.parametrize("shared", [False, True], ids=["own memory", "shared state"])


@by_memory
def test_a_proof_whose_request_was_not_answered_may_be_sent_again(shared: bool) -> None:  # noqa: FBT001 - a parameter
    """The PDP is down: 503, again and again with one proof; when it is back, the same proof is accepted, once."""
    pdp = FakeLane(fact=Unanswered("connection refused", absent=True))
    with sidecar(pdp, shared=shared) as running:
        assert [running.ask() for _ in range(3)] == ["pdp_unavailable"] * 3
        pdp.fact = ALLOWED
        assert [running.ask() for _ in range(3)] == ["authenticated", "proof_invalid", "proof_invalid"]


@by_memory
def test_of_many_requests_with_one_proof_that_wait_together_one_passes(shared: bool) -> None:  # noqa: FBT001 - the same
    """All of them are right when the PDP answers; one of them is the first."""
    pdp = HeldLane()
    pdp.fact = ALLOWED
    with sidecar(pdp, shared=shared) as running:
        waiting = [running.begin() for _ in range(16)]
        assert pdp.waiting.wait(HANG_SECONDS)
        pdp.release()
        reasons = sorted(map(reason_of, waiting))
    assert reasons == ["authenticated"] + ["proof_invalid"] * 15


@by_memory
def test_a_proof_whose_request_was_denied_is_used_up(shared: bool) -> None:  # noqa: FBT001 - the same
    """A thief who saw the denied request does not wait until the PDP allows it."""
    pdp = FakeLane(fact=DENIED)
    with sidecar(pdp, shared=shared) as running:
        assert running.ask() == "pdp_denied"
        wait_until(lambda: len(running.memory) == 1)
        pdp.fact = ALLOWED
        assert running.ask() == "proof_invalid"
        assert running.ask(proof(jti="another")) == "authenticated"


@by_memory
def test_a_proof_that_was_used_asks_no_one(shared: bool) -> None:  # noqa: FBT001 - the same
    """A replay is refused before the PDP is asked: it costs the PDP nothing."""
    pdp = FakeLane(fact=ALLOWED)
    with sidecar(pdp, shared=shared) as running:
        assert running.ask() == "authenticated"
        asked = len(pdp.asked)
        assert running.ask() == "proof_invalid"
        assert len(pdp.asked) == asked


def test_a_proof_that_no_key_signed_asks_no_one() -> None:
    """Not the PDP, not the memory: its signature is verified before."""
    pdp, written = FakeLane(fact=ALLOWED), proof()
    with sidecar(pdp, shared=False) as running:
        assert running.ask(written[:-6] + ("AAAAAA" if written[-6:] != "AAAAAA" else "BBBBBB")) == "proof_invalid"
        assert (pdp.asked, len(running.memory)) == ([], 0)


def decide(facts: Facts, snapshot: Snapshot) -> Decision:
    """Decide about the request with what is known."""
    return authorize(ask(headers={"authorization": f"DPoP {BOUND}", "dpop": proof()}), snapshot, T, facts)


def need_of(kind: str, decision: Decision) -> Need:
    """The need of this kind that a decision has."""
    (need,) = (need for need in decision.trail.needs if need.kind == kind)
    return need


def test_a_used_proof_identifies_no_one_in_shadow_mode() -> None:
    """The request passes, as a shadow rule says, and its identity does not; a first use does, whatever the PDP does."""
    snapshot = asking(shadow=True)
    first = decide({}, snapshot)
    assert {need.kind for need in first.trail.needs} == {PDP, PROOF}
    use, external = need_of(PROOF, first), need_of(PDP, first)
    known: dict[str, dict[Need, object]] = {
        "used, allowed": {use: ProofUse.REPLAYED, external: ALLOWED},
        "unknown, denied": {external: DENIED},
        "first, denied": {use: ProofUse.FIRST, external: DENIED},
        "first, the PDP is down": {use: ProofUse.FIRST},
    }
    found = {name: decide(facts, snapshot) for name, facts in known.items()}
    shown = {name for name, decision in found.items() if isinstance(decision, Allow) and decision.set_headers}
    assert shown == {"first, denied", "first, the PDP is down"}
    assert all(isinstance(decision, Allow) and decision.would_deny for decision in found.values())
    assert found["used, allowed"].reason is Reason.PROOF_INVALID


def test_a_thief_is_not_taken_for_a_client_that_is_known() -> None:
    """A token whose proof was used before is not noted as accepted in the thief's network."""
    snapshot = asking()
    external = need_of(PDP, decide({}, snapshot))
    waiting = decide({external: ALLOWED}, snapshot)
    assert waiting.trail.valid_token is None
    replayed = decide({external: ALLOWED, need_of(PROOF, waiting): ProofUse.REPLAYED}, snapshot)
    assert (replayed.reason, replayed.trail.valid_token) == (Reason.PROOF_INVALID, None)
