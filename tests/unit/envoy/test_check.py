"""Proves authz.envoy.check: decide; where a key is missing refresh, within bounds; decide again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from authz.core.decision import Allow, Deny
from authz.core.policy import Policy
from authz.core.reasons import Reason
from authz.core.snapshot import Responses
from authz.envoy.check import DEADLINE_RESERVE
from authz.telemetry.report import Judged
from tests.unit.envoy.asking import (
    AFTER,
    ID,
    UNKNOWN,
    Current,
    FakeFeeds,
    FakeFlight,
    answered,
    check,
    headers_of,
    make_checker,
    read,
    told,
    write_check,
)
from tests.unit.envoy.breaking import assert_internal_error
from tests.world import WORLD, T, ask, mint, rule, world

# Decide.


def test_a_decision_is_answered_and_reported() -> None:
    """A good token is let pass; the report has the decision, its id, the request, and the seconds it took."""
    reports: list[Judged] = []
    checker = make_checker(report=reports.append, elapsed=lambda: 12.5)
    answer = checker.check(write_check(ask(mint())), received=12.0, time_left=None)

    assert isinstance(answer, bytes)
    assert (told(answer), told(answer, "decision_id")) == ("authenticated", ID)
    (judged,) = reports
    assert isinstance(judged.decision, Allow)
    assert judged.request is not None
    assert (judged.decision_id, judged.request.path, judged.seconds) == (ID, "/items/1", 0.5)


def test_an_unreadable_request_is_refused_and_reported() -> None:
    """Bytes that are no CheckRequest are a reported denial without a request."""
    reports: list[Judged] = []
    answer = check(b"\xff", report=reports.append)
    assert (told(answer), read(answer).denied_response.status.code) == ("request_malformed", 400)
    assert [(judged.decision.reason, judged.request) for judged in reports] == [(Reason.REQUEST_MALFORMED, None)]


def test_a_call_can_be_refused_unseen() -> None:
    """Overload is a denial like any other: reported, by the current snapshot, with Retry-After."""
    reports: list[Judged] = []
    snapshot = world(responses=Responses(expose_reason=True))
    checker = make_checker(report=reports.append, snapshot=lambda: snapshot)
    answer = checker.refuse(Reason.OVERLOADED, received=0.0)

    assert (told(answer), headers_of(read(answer))["retry-after"]) == ("overloaded", "1")
    assert '"overloaded"' in read(answer).denied_response.body
    assert [judged.decision for judged in reports] == [Deny(Reason.OVERLOADED)]


def test_an_answer_is_written_by_the_snapshot_that_judged() -> None:
    """A swap in the middle of a call changes nothing of that call."""
    current = Current(world(responses=Responses(realm="before")))

    def swap() -> float:
        current.swap(world(responses=Responses(realm="after")))
        return float(T)

    answer = check(write_check(), snapshot=current, now=swap)
    assert 'realm="before"' in headers_of(read(answer))["www-authenticate"]
    assert current.taken == 1


# Decide, refresh, decide.


def test_a_new_key_is_waited_for() -> None:
    """The key was published a moment ago: one refresh is asked for, and the request passes."""
    current = Current()
    flight = FakeFlight(land=current.swap)
    feeds = FakeFeeds(flight)

    assert told(check(snapshot=current, feeds=feeds)) == "authenticated"
    assert (feeds.asked, flight.waits) == (["a"], [0.1])


def test_a_key_that_came_meanwhile_is_not_asked_for() -> None:
    """A refresh that ended while the request was judged brought the key: no other one is needed."""
    current, feeds = Current(), FakeFeeds(None)

    def swap() -> float:
        current.swap()
        return float(T)

    assert told(check(snapshot=current, feeds=feeds, now=swap)) == "authenticated"
    assert feeds.asked == []


def test_a_key_that_came_with_the_question_is_found() -> None:
    """A refresh that ended just before the feed was asked leaves no flight to wait for, but the key."""
    current = Current()

    class Landing(FakeFeeds):
        def find_unknown_key(self, issuer: str) -> None:
            super().find_unknown_key(issuer)
            current.swap()

    assert told(check(snapshot=current, feeds=Landing(None))) == "authenticated"


def test_a_swap_that_brought_another_issuers_keys_ends_no_search() -> None:
    """A newer snapshot without the key is not the end: the feed is asked all the same."""
    current = Current()
    flight = FakeFlight(land=current.swap)

    def swap() -> float:
        current.swap(replace(WORLD))
        return float(T)

    feeds = FakeFeeds(flight)
    assert told(check(snapshot=current, feeds=feeds, now=swap)) == "authenticated"
    assert feeds.asked == ["a"]


def test_the_second_decision_is_the_last() -> None:
    """A refresh that does not bring the key ends the matter: 401, and no second refresh."""
    feeds = FakeFeeds(FakeFlight())
    assert told(check(feeds=feeds)) == "key_not_found"
    assert feeds.asked == ["a"]


def test_the_second_decision_is_by_the_new_snapshot_at_the_same_instant() -> None:
    """Waiting does not make a token older, and all else of the new snapshot counts."""
    current = Current()
    times: Iterator[float] = iter([float(T), T + 1e9])
    stricter = replace(AFTER, policy=Policy([rule("other", "/elsewhere")]))
    flights = FakeFlight(land=current.swap), FakeFlight(land=lambda: current.swap(stricter))

    assert told(check(snapshot=current, feeds=FakeFeeds(flights[0]), now=lambda: next(times))) == "authenticated"
    current.swap(WORLD)
    assert told(check(snapshot=current, feeds=FakeFeeds(flights[1]))) == "policy_denied"


def test_while_the_refresh_is_in_flight_the_client_shall_try_again() -> None:
    """503 with Retry-After, not 401: the key may be on its way."""
    answer = read(check(feeds=FakeFeeds(FakeFlight(ends=False))))
    assert (told(answer), answer.denied_response.status.code) == ("keys_unavailable", 503)
    assert headers_of(answer)["retry-after"] == "1"


def test_without_a_flight_the_key_is_unknown() -> None:
    """The budget allows no refresh and none is under way: 401."""
    answer = read(check(feeds=FakeFeeds(None)))
    assert (told(answer), answer.denied_response.status.code) == ("key_not_found", 401)


@pytest.mark.parametrize(
    ("max_wait", "time_left", "waited"),
    [
        (0.1, None, 0.1),
        (0.1, 10.0, 0.1),
        (0.3, 0.2, 0.2 - DEADLINE_RESERVE),
        (0.1, 0.050, 0),
        (0.1, 0.0, 0),
        (0.0, 9, 0),
    ],
)
def test_a_wait_is_bounded(max_wait: float, time_left: float | None, waited: float) -> None:
    """At most max_wait, and never into the last 50 ms before Envoy gives up."""
    flight = FakeFlight(ends=False)
    assert told(check(feeds=FakeFeeds(flight, max_wait=max_wait), time_left=time_left)) == "keys_unavailable"
    assert flight.waits == [pytest.approx(waited)]


def test_nobody_waits_where_there_is_one_thread() -> None:
    """The only thread is never given to waiting."""
    flight = FakeFlight(ends=False)
    answer = make_checker(feeds=FakeFeeds(flight), max_waiters=0).check(UNKNOWN, received=0.0, time_left=None)
    assert isinstance(answer, bytes)
    assert told(answer) == "keys_unavailable"
    assert flight.waits == [0]


def test_who_waits_does_so_where_the_caller_likes() -> None:
    """The question comes back at once with what waits for the answer: the flight is not waited for before."""
    current = Current()
    flight = FakeFlight(land=current.swap)
    later = make_checker(snapshot=current, feeds=FakeFeeds(flight)).check(UNKNOWN, received=0.0, time_left=None)
    assert not isinstance(later, bytes)
    assert flight.waits == []
    assert told(later()) == "authenticated"


def test_no_more_wait_than_may() -> None:
    """With the waiters' places taken, the next one is told to try again at once; a place that is left is free again."""
    current = Current()
    flight = FakeFlight(land=current.swap)
    checker = make_checker(snapshot=current, feeds=FakeFeeds(flight), max_waiters=1)
    waiting = checker.check(UNKNOWN, received=0.0, time_left=None)
    assert not isinstance(waiting, bytes)

    turned_away = checker.check(UNKNOWN, received=0.0, time_left=None)
    assert isinstance(turned_away, bytes)
    assert told(turned_away) == "keys_unavailable"

    assert told(waiting()) == "authenticated"
    current.swap(WORLD)
    assert told(answered(checker, UNKNOWN)) == "authenticated"
    assert flight.waits == [0, 0.1, 0.1]


def test_a_wait_that_breaks_gives_its_place_back() -> None:
    """Errors do not use up the waiters' places."""

    class Breaking:
        waits: list[float] = []  # noqa: RUF012 - of this class alone

        def wait(self, timeout: float) -> bool:
            self.waits.append(timeout)
            raise MemoryError

    checker = make_checker(feeds=FakeFeeds(Breaking()), max_waiters=1)
    for _ in range(3):
        assert_internal_error(answered(checker, UNKNOWN))
    assert Breaking.waits == [0.1] * 3


@pytest.mark.parametrize("ends", [True, False])
def test_a_shadow_waits_too_and_lets_pass(ends: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A rule in shadow reports what the refreshed keys would make of the token, or what it saw before."""
    current = Current(world(rule("shadow", "/items/**", shadow=True)))
    after = replace(current.snapshot, issuers=AFTER.issuers)
    answer = check(snapshot=current, feeds=FakeFeeds(FakeFlight(ends, land=lambda: current.swap(after))))
    assert read(answer).status.code == 0
    assert (told(answer), told(answer, "decision")) == (
        ("authenticated", "allow") if ends else ("key_not_found", "would_deny")
    )


@pytest.mark.parametrize("token", [None, "a.b.c", mint(iss="https://nobody.test"), mint(exp=T - 1)])
def test_only_an_unknown_key_asks_the_feeds(token: str | None) -> None:
    """Whatever else is wrong with a token, nobody is asked for keys."""
    feeds = FakeFeeds(FakeFlight())
    check(write_check(ask(token)), feeds=feeds)
    assert feeds.asked == []
