"""Proves authz.envoy.checker: decide; gather what is missing, within bounds; decide again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.needs import CHANGED_KEY, KEY, MAX_ROUNDS, Facts, Need, Unanswered
from authz.core.policy import Policy
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.snapshot import Responses, Snapshot
from authz.demo.signing import SigningKey
from authz.envoy.checker import DEADLINE_RESERVE, MAX_FACTS
from authz.telemetry.report import CheckRecord
from tests.fixtures import A_RSA, DEFAULT_SNAPSHOT, T, ask, make_snapshot, mint, rule
from tests.unit.envoy.asking import (
    AFTER,
    ID,
    SEARCHED,
    UNKNOWN,
    Current,
    FakeLane,
    StillGatherer,
    check,
    headers_of,
    make_checker,
    read,
    told,
    write_check,
)

NEED = Need(KEY, "a", "new")

# Decide.


def test_a_decision_is_answered_and_reported() -> None:
    """A good token is let pass; the report has the decision, its id, the request, and the seconds it took."""
    reports: list[CheckRecord] = []
    checker = make_checker(report=reports.append, elapsed=lambda: 12.5)
    answer = checker.check(write_check(ask(mint())), received=12.0, time_left=None)

    assert isinstance(answer, bytes)
    assert (told(answer), told(answer, "decision_id")) == ("authenticated", ID)
    (record,) = reports
    assert isinstance(record.decision, Allow)
    assert record.request is not None
    assert (record.decision_id, record.request.path, record.seconds) == (ID, "/items/1", 0.5)


def test_an_unreadable_request_is_refused_and_reported() -> None:
    """Bytes that are no CheckRequest are a reported denial without a request."""
    reports: list[CheckRecord] = []
    answer = check(b"\xff", report=reports.append)
    assert (told(answer), read(answer).denied_response.status.code) == ("request_malformed", 400)
    assert [(record.decision.reason, record.request) for record in reports] == [(Reason.REQUEST_MALFORMED, None)]


def test_a_call_can_be_refused_unseen() -> None:
    """Overload is a denial like any other: reported, by the current snapshot, with Retry-After."""
    reports: list[CheckRecord] = []
    snapshot = make_snapshot(responses=Responses(expose_reason=True))
    checker = make_checker(report=reports.append, snapshot=lambda: snapshot)
    answer = checker.reject(Reason.OVERLOADED, received=0.0)

    assert (told(answer), headers_of(read(answer))["retry-after"]) == ("overloaded", "1")
    assert '"overloaded"' in read(answer).denied_response.body
    assert [record.decision for record in reports] == [Deny(Reason.OVERLOADED)]


def test_an_answer_is_written_by_the_snapshot_that_judged() -> None:
    """A swap in the middle of a call changes nothing of that call."""
    current = Current(make_snapshot(responses=Responses(realm="before")))

    def swap() -> float:
        current.swap(make_snapshot(responses=Responses(realm="after")))
        return float(T)

    answer = check(write_check(), snapshot=current, now=swap)
    assert 'realm="before"' in headers_of(read(answer))["www-authenticate"]
    assert current.taken == 1


# Decide, gather, decide.


def test_a_new_key_is_waited_for() -> None:
    """The key was published a moment ago: its issuer is asked once, and the request passes."""
    current = Current()
    lane = FakeLane(land=current.swap)
    gatherer = StillGatherer(key=lane)

    assert told(check(snapshot=current, gatherer=gatherer)) == "authenticated"
    assert (lane.asked, gatherer.waits) == ([NEED], [0.1])


def test_a_key_that_came_meanwhile_is_not_asked_for() -> None:
    """A refresh that ended while the request was evaluated brought the key: no other one is needed."""
    current, lane = Current(), FakeLane()

    def swap() -> float:
        current.swap()
        return float(T)

    assert told(check(snapshot=current, lane=lane, now=swap)) == "authenticated"
    assert (lane.found, lane.asked) == ([], [])


def test_a_key_that_came_with_the_look_is_found() -> None:
    """A refresh that ended just before the lane was looked at leaves nothing to ask for, but the key."""
    current = Current()

    class Landing(FakeLane):
        def find(self, need: Need) -> object | None:
            current.swap()
            return super().find(need)

    lane = Landing(known=SEARCHED)
    assert told(check(snapshot=current, lane=lane)) == "authenticated"
    assert lane.asked == []


def test_a_swap_that_brought_another_issuers_keys_ends_no_search() -> None:
    """A newer snapshot without the key is not the end: the lane is asked all the same."""
    current = Current()
    lane = FakeLane(land=current.swap)

    def swap() -> float:
        current.swap(replace(DEFAULT_SNAPSHOT))
        return float(T)

    assert told(check(snapshot=current, lane=lane, now=swap)) == "authenticated"
    assert lane.asked == [NEED]


def test_the_second_decision_is_the_last() -> None:
    """An answer that does not bring the key ends the matter: 401, and no one is asked again."""
    lane = FakeLane()
    assert told(check(lane=lane)) == "key_not_found"
    assert lane.asked == [NEED]


def test_the_second_decision_is_by_the_new_snapshot_at_the_same_instant() -> None:
    """Waiting does not make a token older, and all else of the new snapshot counts."""
    current = Current()
    times: Iterator[float] = iter([float(T), T + 1e9])
    stricter = replace(AFTER, policy=Policy([rule("other", "/elsewhere")]))
    lanes = FakeLane(land=current.swap), FakeLane(land=lambda: current.swap(stricter))

    assert told(check(snapshot=current, lane=lanes[0], now=lambda: next(times))) == "authenticated"
    current.swap(DEFAULT_SNAPSHOT)
    assert told(check(snapshot=current, lane=lanes[1])) == "policy_denied"


def test_whose_time_is_up_is_told_to_try_again() -> None:
    """503 with Retry-After, not 401: the key may be on its way."""
    answer = read(check(lane=FakeLane(silent=True)))
    assert (told(answer), answer.denied_response.status.code) == ("keys_unavailable", 503)
    assert headers_of(answer)["retry-after"] == "1"


def test_a_key_that_came_without_an_answer_is_found_after_the_wait() -> None:
    """After any wait the snapshot counts, whatever was or was not answered: a slow announcement refuses no one."""
    current = Current()

    class Slow(FakeLane):
        def ask(self, need: Need, done: Callable[[object | None], None]) -> None:
            current.swap()

    assert told(check(snapshot=current, lane=Slow())) == "authenticated"


def test_an_answer_that_brings_nothing_is_try_again() -> None:
    """A question that found no room or no budget stays unanswered, and a client may ask again."""
    answer = check(lane=FakeLane(fact=None))
    assert told(answer) == "keys_unavailable"


@pytest.mark.parametrize(
    "lane", [FakeLane(known=Unanswered("no budget")), FakeLane(fact=Unanswered("no budget"))], ids=["found", "asked"]
)
def test_what_nobody_can_find_out_now_is_try_again(lane: FakeLane) -> None:
    """503 at once and with the cause, and 401 never: that no one looked is no proof that there is no such key."""
    seen: list[CheckRecord] = []
    gatherer = StillGatherer(key=lane)
    answer = read(check(gatherer=gatherer, report=seen.append))
    assert (told(answer), answer.denied_response.status.code) == ("keys_unavailable", 503)
    assert headers_of(answer)["retry-after"] == "1"
    assert seen[0].decision.detail == "no key with this id; key of a: no budget"
    assert gatherer.instant == 0.0  # no one waited


def test_what_came_while_nobody_could_ask_counts() -> None:
    """The lane has no budget, but the key has come since the decision: the newest snapshot decides."""
    current = Current()

    class Late(FakeLane):
        def find(self, need: Need) -> object | None:
            current.swap()
            return Unanswered("no budget")

    assert told(check(snapshot=current, lane=Late())) == "authenticated"


DOUBT = Need(CHANGED_KEY, "a", A_RSA.kid)
FORGED = write_check(ask(mint(SigningKey.create("RS256", kid=A_RSA.kid))))


def test_a_wrong_signature_has_the_key_looked_up_afterwards() -> None:
    """The issuer may have changed it under its id: the answer is 401 at once, and the look is no one's to wait for."""
    doubts = FakeLane(silent=True, wait=0.0)
    gatherer = StillGatherer(**{CHANGED_KEY: doubts})
    answer = make_checker(gatherer=gatherer).check(FORGED, received=0.0, time_left=None)
    assert isinstance(answer, bytes)
    assert (told(answer), read(answer).denied_response.status.code) == ("signature_invalid", 401)
    gatherer.work(until=lambda: bool(doubts.asked))
    assert (doubts.found, doubts.asked) == ([DOUBT], [DOUBT])


def test_a_wrong_signature_has_nothing_looked_up_beyond_the_budget() -> None:
    """Where the lane says that no look may be had, or no one can look, the answer is all there is."""
    doubts = FakeLane(known="no budget")
    gatherer = StillGatherer(**{CHANGED_KEY: doubts})
    assert told(check(FORGED, gatherer=gatherer)) == "signature_invalid"
    assert (doubts.found, doubts.asked, gatherer.waits) == ([DOUBT], [], [])
    assert told(check(FORGED, gatherer=StillGatherer())) == "signature_invalid"


def test_what_is_known_to_be_useless_is_not_asked() -> None:
    """The lane knows at once that the key cannot come now: 401, without leaving the deciding thread."""
    gatherer = StillGatherer(key=FakeLane(known=SEARCHED))
    answer = make_checker(gatherer=gatherer).check(UNKNOWN, received=0.0, time_left=None)
    assert isinstance(answer, bytes)
    assert (told(answer), read(answer).denied_response.status.code) == ("key_not_found", 401)


def test_without_a_lane_the_decision_is_final() -> None:
    """Where no one can be asked, as in a test of one's own rules, an unknown key is an unknown key."""
    assert told(check(gatherer=StillGatherer())) == "key_not_found"


@pytest.mark.parametrize(
    ("max_wait", "time_left", "waits"),
    [
        (0.1, None, [0.1]),
        (0.1, 10.0, [0.1]),
        (0.3, 0.2, [0.2 - DEADLINE_RESERVE]),
        (0.1, 0.050, []),
        (0.1, 0.0, []),
        (0.0, 9, []),
    ],
)
def test_a_wait_is_bounded(max_wait: float, time_left: float | None, waits: list[float]) -> None:
    """At most max_wait, and never into the last 50 ms before Envoy gives up."""
    gatherer = StillGatherer(key=FakeLane(silent=True, wait=max_wait))
    assert told(check(gatherer=gatherer, time_left=time_left)) == "keys_unavailable"
    assert gatherer.waits == [pytest.approx(seconds) for seconds in waits]


def test_the_judging_thread_does_not_wait() -> None:
    """The question comes back at once with what begins to gather: no lane is asked before."""
    current = Current()
    lane = FakeLane(land=current.swap)
    gatherer = StillGatherer(key=lane)
    deferred = make_checker(snapshot=current, gatherer=gatherer).check(UNKNOWN, received=0.0, time_left=None)
    assert not isinstance(deferred, bytes)
    answers: list[bytes] = []
    deferred(answers.append)
    assert (lane.asked, answers) == ([], [])
    gatherer.work(until=lambda: bool(answers))
    assert [told(answer) for answer in answers] == ["authenticated"]


@pytest.mark.parametrize("silent", [True, False])
def test_a_shadow_waits_too_and_lets_pass(silent: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A rule in shadow reports what the refreshed keys would make of the token, or what it saw before."""
    current = Current(make_snapshot(rule("shadow", "/items/**", shadow=True)))
    after = replace(current.snapshot, issuers=AFTER.issuers)
    answer = check(snapshot=current, lane=FakeLane(silent=silent, land=lambda: current.swap(after)))
    assert read(answer).status.code == 0
    assert (told(answer), told(answer, "decision")) == (
        ("key_not_found", "would_deny") if silent else ("authenticated", "allow")
    )


@pytest.mark.parametrize("token", [None, "a.b.c", mint(iss="https://nobody.test"), mint(exp=T - 1)])
def test_only_an_unknown_key_asks_for_one(token: str | None) -> None:
    """Whatever else is wrong with a token, no one is asked for keys."""
    lane = FakeLane()
    check(write_check(ask(token)), lane=lane)
    assert (lane.found, lane.asked) == ([], [])


# Any kind of need: here one that the product does not have, decided about by a rule of the tests.

WEATHER, TIDE = Need("weather", "almanac", "today", unanswered=Reason.OVERLOADED), Need("tide", "harbour", None)


def decide_by_weather(_request: Request, _snapshot: Snapshot, _now: float, facts: Facts) -> Decision:
    """Allow on a sunny day, and on others at low tide; the tide is no one's concern before the weather is known."""
    if (weather := facts.get(WEATHER)) is None:
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=(WEATHER,)), "the weather is unknown")
    if weather == "sun":
        return Allow(reason=Reason.PUBLIC, trail=AuditTrail())
    if (tide := facts.get(TIDE)) is None:
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=(TIDE,)), "the tide is unknown")
    return Allow(reason=Reason.PUBLIC, trail=AuditTrail()) if tide == "low" else Deny(Reason.POLICY_DENIED)


def test_a_fact_at_hand_costs_no_wait() -> None:
    """What a lane has kept is found on the deciding thread: the answer comes at once."""
    checker = make_checker(decide=decide_by_weather, gatherer=StillGatherer(weather=FakeLane(known="sun")))
    answer = checker.check(write_check(), received=0.0, time_left=None)
    assert isinstance(answer, bytes)
    assert told(answer) == "public"


def test_one_fact_may_call_for_another() -> None:
    """Two rounds: the weather was bad, so the tide was asked for."""
    weather, tide = FakeLane(fact="rain"), FakeLane(fact="low", wait=0.3)
    gatherer = StillGatherer(weather=weather, tide=tide)
    assert told(check(decide=decide_by_weather, gatherer=gatherer)) == "public"
    assert (weather.asked, tide.asked, gatherer.waits) == ([WEATHER], [TIDE], [0.1, 0.3])


def test_a_kind_says_itself_what_its_silence_means() -> None:
    """The checker knows no kind: the need names the reason for which a check is refused meanwhile."""
    gatherer = StillGatherer(weather=FakeLane(silent=True))
    assert told(check(decide=decide_by_weather, gatherer=gatherer)) == "overloaded"


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_check_waits_so_often_at_most(at_hand: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A decision that always lacks something more ends with "try again", also if each fact is available."""

    def never_content(_request: Request, _snapshot: Snapshot, _now: float, facts: Facts) -> Decision:
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=(Need("weather", "almanac", str(len(facts))),)))

    lane = FakeLane(known="rain" if at_hand else None, fact="rain")
    assert told(check(decide=never_content, gatherer=StillGatherer(weather=lane))) == "keys_unavailable"
    assert len(lane.asked) == (0 if at_hand else MAX_ROUNDS)
    assert len(lane.found) <= MAX_FACTS


def test_each_step_may_lack_a_fact() -> None:
    """A key, the issuer's answer, a proof, the risk, a PDP and the token for the upstream: each is waited for."""
    lacking = [Need(kind, "a", "b") for kind in ("key", "introspection", "proof", "risk", "pdp", "minted token")]
    assert len(lacking) == MAX_ROUNDS

    def one_after_another(_request: Request, _snapshot: Snapshot, _now: float, facts: Facts) -> Decision:
        needs = tuple(need for need in lacking if need not in facts)[:1]
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=needs))

    gatherer = StillGatherer(**{need.kind: FakeLane(fact="known") for need in lacking})
    assert told(check(decide=one_after_another, gatherer=gatherer)) == "policy_denied"


def test_facts_at_hand_cost_no_round() -> None:
    """Only facts that must be asked for count as rounds."""
    lacking = [Need(kind, "a", "b") for kind in ("tide", "weather", "wind", "moon", "rain", "sun")]

    def one_after_another(_request: Request, _snapshot: Snapshot, _now: float, facts: Facts) -> Decision:
        needs = tuple(need for need in lacking if need not in facts)[:1]
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=needs))

    gatherer = StillGatherer(
        tide=FakeLane(known="low"),
        weather=FakeLane(fact="rain"),
        wind=FakeLane(known="west"),
        moon=FakeLane(fact="full"),
        rain=FakeLane(fact="soon"),
        sun=FakeLane(fact="late"),
    )
    assert told(check(decide=one_after_another, gatherer=gatherer)) == "policy_denied"


def test_a_fact_that_settles_nothing_ends_the_check() -> None:
    """Otherwise a decision that goes on naming the same need would be made for ever."""

    def deaf(_request: Request, _snapshot: Snapshot, _now: float, _facts: Facts) -> Decision:
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=(WEATHER,)))

    lane = FakeLane(known="rain")
    assert told(check(decide=deaf, gatherer=StillGatherer(weather=lane))) == "overloaded"
    assert len(lane.found) == 1


def test_needs_of_one_round_are_asked_together() -> None:
    """Two facts that are both missing cost one wait, of the longer of both."""

    def both(_request: Request, _snapshot: Snapshot, _now: float, facts: Facts) -> Decision:
        missing = tuple(need for need in (WEATHER, TIDE) if need not in facts)
        return (
            Deny(Reason.POLICY_DENIED, AuditTrail(needs=missing))
            if missing
            else Allow(reason=Reason.PUBLIC, trail=AuditTrail())
        )

    gatherer = StillGatherer(weather=FakeLane(fact="sun"), tide=FakeLane(fact="low", wait=0.3))
    assert told(check(decide=both, gatherer=gatherer)) == "public"
    assert gatherer.waits == [0.3]


class KeepingLane(FakeLane):
    """A lane that keeps answers."""

    def recall(self, need: Need) -> object | None:
        return self.known


def test_a_kept_fact_costs_one_decision() -> None:
    """The decision finds it itself: nothing is gathered, and nothing decided twice."""
    decisions: list[object] = []

    def deciding(_request: Request, _snapshot: Snapshot, _now: float, facts: Facts) -> Decision:
        decisions.append(facts.get(NEED))
        needs = () if facts.get(NEED) else (NEED,)
        return Deny(Reason.POLICY_DENIED, AuditTrail(needs=needs))

    lane = KeepingLane(known="sun")
    assert told(check(decide=deciding, gatherer=StillGatherer(key=lane))) == "policy_denied"
    assert (decisions, lane.asked) == (["sun"], [])
    assert len(StillGatherer(key=lane).known_facts) == 0
    assert list(StillGatherer(key=lane).known_facts) == []
