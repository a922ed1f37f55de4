"""Proves what passes for a source that does not answer: never what a client can cause by the number of its requests."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Event

import pytest

from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.needs import Facts, Need, Unanswered
from authz.core.pdp import PdpDecision, PdpResponse
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.snapshot import Snapshot
from authz.envoy.checker import DEADLINE_RESERVE
from authz.facts.bounds import Bounds
from authz.facts.by_source import LanesBySource
from authz.facts.lane import SourceLane
from authz.facts.source import Fact
from authz.telemetry.check_record import CheckRecord
from tests.cases.external import question
from tests.fixtures import ask, make_snapshot, mint, rule
from tests.unit.envoy.asking import HANG, FakeLane, StillGatherer, check, make_checker, told, write_check

WEATHER, TIDE = Need("weather", "almanac", "today", unanswered=Reason.OVERLOADED), Need("tide", "harbour", None)
OPTIONAL = Need("weather", "almanac", "today", Reason.OVERLOADED, optional=True)
PATIENCE = 1.0  # seconds


def do_without(_request: Request, _snapshot: Snapshot, _now: float, facts: Facts) -> Decision:
    """Allow without the weather if there is none, and not before it was asked for."""
    fact = facts.get(OPTIONAL)
    if isinstance(fact, Unanswered) and fact.absent:
        return Allow(reason=Reason.OVERLOADED, trail=AuditTrail(), would_deny=True, detail=fact.why)
    return Deny(Reason.POLICY_DENIED, AuditTrail(needs=(OPTIONAL,)))


@pytest.mark.parametrize(
    ("lane", "outcome"),
    [
        (FakeLane(silent=True), "would_deny"),
        (FakeLane(known=Unanswered("down", absent=True)), "would_deny"),
        (FakeLane(fact=Unanswered("down", absent=True)), "would_deny"),
        (FakeLane(known=Unanswered("no budget")), "deny"),
        (FakeLane(fact=Unanswered("HTTP status 500")), "deny"),
        (FakeLane(silent=True, wait=0.0), "deny"),  # no time to ask
        (FakeLane(silent=True, queues=True), "deny"),
    ],
)
def test_a_decision_learns_that_an_optional_fact_is_not_to_be_had(lane: FakeLane, outcome: str) -> None:
    """It decides once more, with the reason as the fact; never because the fact was not asked for."""
    assert told(check(decide=do_without, gatherer=StillGatherer(weather=lane)), "decision") == outcome


@pytest.mark.parametrize(("lacking", "outcome"), [(0.0, "would_deny"), (0.1, "deny")])
def test_a_source_that_had_too_little_time_is_not_absent(lacking: float, outcome: str) -> None:
    """A client can spend the time of its check on other facts, or overload this process: no fault of the source."""
    lane, time_left = FakeLane(silent=True, wait=PATIENCE), PATIENCE + DEADLINE_RESERVE - lacking
    answer = check(decide=do_without, gatherer=StillGatherer(weather=lane), time_left=time_left)
    assert (told(answer, "decision"), lane.asked) == (outcome, [OPTIONAL])


@pytest.mark.parametrize(("delay", "outcome"), [(0.4, "would_deny"), (0.6, "deny"), (2.0, "deny")])
def test_a_source_that_was_asked_late_is_not_absent(delay: float, outcome: str) -> None:
    """Clients can keep the gathering thread busy: a check that waited for that did not wait for the source."""
    lane = FakeLane(silent=True, wait=PATIENCE)
    gatherer, answers = StillGatherer(weather=lane), SimpleQueue[bytes]()
    waiting = make_checker(decide=do_without, gatherer=gatherer).check(write_check(ask()), received=0.0, time_left=None)
    assert not isinstance(waiting, bytes)
    waiting(answers.put)
    gatherer.instant = delay * PATIENCE
    gatherer.work(until=lambda: answers.qsize() == 1)
    assert (told(answers.get_nowait(), "decision"), lane.asked) == (outcome, [OPTIONAL])


@pytest.mark.parametrize(("late", "outcome"), [(0.0, "would_deny"), (0.4, "would_deny"), (0.6, "deny")])
def test_a_source_whose_answer_is_read_late_is_not_absent(late: float, outcome: str) -> None:
    """A process that stood still over the end of the wait may have the answer in a buffer of the kernel."""
    lane = FakeLane(silent=True, wait=PATIENCE)
    gatherer, answers = StillGatherer(weather=lane), SimpleQueue[bytes]()
    waiting = make_checker(decide=do_without, gatherer=gatherer).check(write_check(ask()), received=0.0, time_left=None)
    assert not isinstance(waiting, bytes)
    waiting(answers.put)
    gatherer.step(0)
    assert lane.asked == [OPTIONAL]
    gatherer.instant = (1.0 + late) * PATIENCE
    gatherer.step(0)
    assert told(answers.get_nowait(), "decision") == outcome


def test_a_flood_does_not_make_a_source_look_absent() -> None:
    """What it has had for all the time is late; what waited behind that was never asked, and passes nothing."""

    def decide(request: Request, _snapshot: Snapshot, _now: float, facts: Facts) -> Decision:
        need = Need("weather", "almanac", request.path, Reason.OVERLOADED, optional=True)
        fact = facts.get(need)
        if isinstance(fact, Unanswered) and fact.absent:
            return Allow(reason=Reason.OVERLOADED, trail=AuditTrail(), would_deny=True)
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=(need,)))

    go_on = Event()

    def almanac(_need: Need) -> Fact:
        assert go_on.wait(HANG)
        return Fact("sun")

    bounds = Bounds(max_concurrent=1, max_waiting=8, max_wait=PATIENCE, burst=100, refill=1.0)
    lane = SourceLane("weather", almanac, bounds=bounds, monotonic=lambda: 0.0)
    gatherer = StillGatherer(weather=LanesBySource(lambda: {"almanac": lane}, max_waiting=8))
    checker, answers = make_checker(decide=decide, gatherer=gatherer), SimpleQueue[bytes]()
    for number in range(4):
        waiting = checker.check(write_check(ask(path=f"/{number}")), received=0.0, time_left=None)
        assert not isinstance(waiting, bytes)
        waiting(answers.put)
    gatherer.work(until=lambda: answers.qsize() == 4)
    decisions = [told(answers.get_nowait(), "decision") for _ in range(4)]
    assert decisions == ["would_deny", "deny", "deny", "deny"]
    go_on.set()
    lane.stop()


def test_an_optional_fact_that_no_round_is_left_for_is_missing() -> None:
    """Two rounds were spent on others: it was never asked for, so its source is not known to be absent."""

    def late(request: Request, snapshot: Snapshot, now: float, facts: Facts) -> Decision:
        for need in (TIDE, WEATHER):
            if need not in facts:
                return Deny(Reason.POLICY_DENIED, AuditTrail(needs=(need,)))
        return do_without(request, snapshot, now, {need: fact for need, fact in facts.items() if need.source == "x"})

    lanes = {"tide": FakeLane(fact="low"), "weather": FakeLane(fact="rain")}
    assert told(check(decide=late, gatherer=StillGatherer(**lanes)), "decision") == "deny"


@pytest.mark.parametrize("fact", [PdpResponse(PdpDecision.ALLOWED), Unanswered("connection refused"), None])
def test_a_decision_that_is_kept_keeps_no_snapshot(fact: object) -> None:
    """What it could have been decided again with goes: a console that shows it would hold a reload's memory."""
    snapshot = make_snapshot(rule("r", "/items/{id}", external=question()))
    reports: list[CheckRecord] = []
    gatherer = StillGatherer(pdp=FakeLane(fact=fact))
    check(write_check(ask(mint())), snapshot=lambda: snapshot, gatherer=gatherer, report=reports.append)
    (record,) = reports
    allowed = isinstance(fact, PdpResponse)
    assert (record.decision.reason is Reason.AUTHENTICATED, record.decision.trail.checkpoint) == (allowed, None)
