"""Proves authz.feeds.http.happy_eyeballs by a fake clock: when attempts start, which wins, that others are closed."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from selectors import EVENT_READ, SelectorKey

import pytest

from authz.feeds.http.happy_eyeballs import Attempt, interleave, race
from tests.fakes.clock import FakeClock

DEADLINE = 5.0
PACE = 0.25


class FakeSelector:
    """Tells at what second of the race each descriptor becomes ready, and lets the clock go on to it."""

    def __init__(self, clock: FakeClock, ready_at: Mapping[int, float]) -> None:
        self.clock = clock
        self.ready_at = {descriptor: clock.monotonic() + at for descriptor, at in ready_at.items()}
        self.watched: dict[int, SelectorKey] = {}
        self.closed = False

    def register(self, fileobj: int, events: int, /) -> SelectorKey:
        return self.watched.setdefault(fileobj, SelectorKey(fileobj, fileobj, events, None))

    def unregister(self, fileobj: int, /) -> SelectorKey:
        return self.watched.pop(fileobj)

    def select(self, timeout: float, /) -> list[tuple[SelectorKey, int]]:
        assert timeout >= 0
        until = self.clock.monotonic() + timeout
        first = min((self.ready_at.get(watched, until) for watched in self.watched), default=until)
        self.clock.advance(max(0.0, min(first, until) - self.clock.monotonic()))
        now = self.clock.monotonic()
        return [(key, EVENT_READ) for key in self.watched.values() if self.ready_at.get(key.fd, now + 1) <= now]

    def close(self) -> None:
        self.closed = True


class Course:
    """A race whose attempts are numbered; each is ready at its second, and then wins, or raises its error."""

    def __init__(self, ready_at: Mapping[int, float], errors: Mapping[int, OSError] | None = None) -> None:
        self.clock = FakeClock()
        self.began = self.clock.monotonic()
        self.selector = FakeSelector(self.clock, ready_at)
        self.errors = errors or {}
        self.started: dict[int, float] = {}
        self.closed: list[int] = []

    def attempt(self, number: int) -> Attempt[int]:
        self.started[number] = round(self.clock.monotonic() - self.began, 3)
        try:
            yield number, EVENT_READ
            if number in self.errors:
                raise self.errors[number]
        except BaseException:
            self.closed.append(number)
            raise
        return number

    def run(self, attempts: int) -> int:
        return race(
            [self.attempt(number) for number in range(attempts)],
            deadline=self.began + DEADLINE,
            attempt_delay=PACE,
            monotonic=self.clock.monotonic,
            make_selector=lambda: self.selector,
        )


def test_slow_attempts_run_on_while_others_start() -> None:
    """Eight addresses and a handshake of 0.7 s: the first one wins after 0.7 s, and none was cut short."""
    course = Course({number: number * PACE + 0.7 for number in range(8)})
    assert course.run(8) == 0
    assert course.started == {0: 0.0, 1: 0.25, 2: 0.5}
    assert course.closed == [1, 2]
    assert course.clock.monotonic() - course.began == pytest.approx(0.7)


def test_an_address_that_answers_at_once_is_the_only_one_asked() -> None:
    """The usual case costs the issuer one connection."""
    course = Course({0: 0.2})
    assert course.run(8) == 0
    assert course.started == {0: 0.0}


def test_the_first_that_is_complete_wins() -> None:
    """Not the first that was started: a later address that is faster is taken, and the silent ones are closed."""
    course = Course({2: 0.6})
    assert course.run(8) == 2
    assert course.closed == [0, 1]


def test_a_failure_starts_the_next_at_once() -> None:
    """A port that refuses costs no pause; the next pause counts from there."""
    course = Course({1: 0.3, 3: 1.0}, {1: ConnectionRefusedError("no")})
    assert course.run(4) == 3
    assert course.started == {0: 0.0, 1: 0.25, 2: 0.3, 3: 0.55}


def test_a_failure_with_nothing_else_under_way_starts_the_next_at_once() -> None:
    """The first address refuses."""
    course = Course({0: 0.1, 1: 0.2}, {0: ConnectionRefusedError("no")})
    assert course.run(4) == 1
    assert course.started == {0: 0.0, 1: 0.1}


def test_one_deadline_for_all() -> None:
    """Where nothing answers the race ends at its deadline, with all that it opened closed."""
    course = Course({})
    with pytest.raises(TimeoutError):
        course.run(64)
    assert course.clock.monotonic() - course.began == pytest.approx(DEADLINE)
    assert course.closed == [*course.started] == [*range(20)]


def test_no_attempt_begins_after_the_deadline() -> None:
    """A resolver that took all of the time leaves none for connections."""
    course = Course({0: 0.0})
    course.clock.advance(DEADLINE)
    with pytest.raises(TimeoutError):
        course.run(1)
    assert course.started == {}


def test_the_most_telling_failure_is_raised() -> None:
    """A wrong certificate at one address says more than the dead addresses before and after it."""
    wrong = ssl.SSLCertVerificationError("wrong name")
    course = Course({0: 0.1, 1: 0.2, 2: 0.3}, {0: OSError("a"), 1: wrong, 2: OSError("c")})
    with pytest.raises(ssl.SSLError) as failed:
        course.run(3)
    assert failed.value is wrong


def test_a_fault_of_tls_is_told_though_another_address_is_silent() -> None:
    """An IPv6 that leads nowhere does not hide the wrong certificate of IPv4."""
    wrong = ssl.SSLCertVerificationError("wrong name")
    course = Course({1: 0.5}, {1: wrong})
    with pytest.raises(ssl.SSLError) as failed:
        course.run(2)
    assert failed.value is wrong


def test_the_last_failure_is_raised_otherwise() -> None:
    """Of equals, the one that decided."""
    course = Course({0: 0.1, 1: 0.2}, {0: OSError("a"), 1: OSError("b")})
    with pytest.raises(OSError, match="b"):
        course.run(2)


def test_everything_is_closed_when_the_race_itself_breaks() -> None:
    """An attempt that raises what it should not leaves nothing open."""
    course = Course({})
    broken = iter([OverflowError("port")])

    def burst() -> Attempt[int]:
        yield 7, EVENT_READ
        raise next(broken)

    course.selector.ready_at[7] = course.began + 0.3
    with pytest.raises(OverflowError):
        race(
            [course.attempt(0), burst(), course.attempt(2)],
            deadline=course.began + DEADLINE,
            attempt_delay=PACE,
            monotonic=course.clock.monotonic,
            make_selector=lambda: course.selector,
        )
    assert course.closed == [0]
    assert course.selector.closed


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        (["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"], ["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]),
        (["1.1.1.1", "1.1.1.2", "::1"], ["1.1.1.1", "::1", "1.1.1.2"]),
        (["1.1.1.1", "1.1.1.2"], ["1.1.1.1", "1.1.1.2"]),
        ([], []),
    ],
)
def test_families_take_turns(addresses: list[str], order: list[str]) -> None:
    """RFC 8305 section 4: a broken IPv6 with many addresses delays IPv4 by one pause only."""
    assert interleave(addresses) == order
