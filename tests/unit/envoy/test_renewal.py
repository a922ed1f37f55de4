"""Proves that a token of an issuer is renewed ahead of its end: no caller waits, and the issuer is asked once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import monotonic
from typing import Final

import pytest

from authz.core.exchange import EXCHANGED, Exchanged, ExchangeRefused
from authz.core.needs import Need
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer
from authz.facts.bounds import Bounds
from authz.facts.by_source import LanesBySource
from authz.facts.lane import RENEWAL_PAUSE, SourceLane
from authz.facts.source import Fact, SourceError
from tests.cases.exchange import TOKEN, WORLD
from tests.fakes.waiting import wait_until
from tests.fixtures import T, ask
from tests.unit.envoy.asking import HANG, read, told, write_check

CHECK: Final = write_check(ask(TOKEN))
KEPT: Final = 40.0
RENEW: Final = 30.0


@dataclass
class World:
    """A checker, and an issuer whose answers are given by the test: *asked* has each question when it is there."""

    now: float = 0.0
    asked: SimpleQueue[Need] = field(default_factory=SimpleQueue)
    answers: SimpleQueue[Fact | SourceError] = field(default_factory=SimpleQueue)
    gatherer: Gatherer = field(init=False)
    checker: Checker = field(init=False)

    def exchange(self, need: Need) -> Fact:
        """Answer when the test does."""
        self.asked.put(need)
        answer = self.answers.get(timeout=HANG)
        if isinstance(answer, SourceError):
            raise answer
        return answer

    def give(self, text: str) -> None:
        """Answer with a token."""
        token = Exchanged(text, T + self.now + KEPT + 10.0, T + self.now + RENEW)
        self.answers.put(Fact(token, KEPT))

    def check(self) -> str:
        """Make a check that is answered at once; return the token for the upstream, or the reason."""
        answer = self.checker.check(CHECK, received=0.0, time_left=None)
        assert isinstance(answer, bytes), "it waits"
        return sent(answer)

    def begin(self) -> SimpleQueue[bytes]:
        """Make a check that waits; return where its answer comes."""
        answers: SimpleQueue[bytes] = SimpleQueue()
        deferred = self.checker.check(CHECK, received=0.0, time_left=None)
        assert not isinstance(deferred, bytes), told(deferred)
        deferred(answers.put)
        return answers


def sent(answer: bytes) -> str:
    """Return the token for the upstream, or the reason."""
    headers = {each.header.key: each.header.value for each in read(answer).ok_response.headers}
    return headers.get("x-token") or str(told(answer))


@contextmanager
def running() -> Iterator[World]:
    """Start everything, and give the first token."""
    world = World()
    lane = SourceLane(
        "exchange",
        world.exchange,
        bounds=Bounds(max_concurrent=2, max_waiting=8, max_wait=HANG, burst=100, refill=1.0),
        monotonic=lambda: world.now,
    )
    gatherer = world.gatherer = Gatherer(
        {EXCHANGED: LanesBySource(lambda: {"a": lane}, max_waiting=8)}, monotonic=monotonic
    )
    world.checker = Checker(
        snapshot=lambda: WORLD,
        gatherer=gatherer,
        report=lambda _: None,
        now=lambda: T + world.now,
        elapsed=monotonic,
        new_id=lambda: "id",
    )
    gatherer.start()
    try:
        waiting = world.begin()
        world.asked.get(timeout=HANG)
        world.give("first")
        assert sent(waiting.get(timeout=HANG)) == "first"
        assert world.check() == "first"
        yield world
    finally:
        for _ in range(4):
            world.answers.put(SourceError("stopped", "the test ends"))
        gatherer.stop()
        lane.stop()


def settle(world: World, answer: str) -> None:
    """Check until the answer of the issuer is in use; meanwhile the one before is."""
    seen = "first"
    while seen != answer:
        seen = world.check()
        assert seen in {"first", answer}


def test_a_hot_token_is_renewed_and_no_caller_waits() -> None:
    """From its time on one question is asked, however many check; they go on with the token that they have."""
    with running() as world:
        world.now = RENEW - 1.0
        assert world.check() == "first"
        world.now = RENEW
        assert {world.check() for _ in range(50)} == {"first"}
        world.asked.get(timeout=HANG)
        world.now += 3.0 * RENEWAL_PAUSE
        assert {world.check() for _ in range(50)} == {"first"}
        world.give("second")
        settle(world, "second")
        world.now += RENEW - 1.0
        assert world.check() == "second"
        assert world.asked.empty()


def test_while_the_issuer_fails_the_token_serves_until_its_end() -> None:
    """It is tried again, at most once in a second; after the end callers wait, and get what can be had then."""
    with running() as world:
        world.now = RENEW
        for _ in range(3):
            assert {world.check() for _ in range(20)} == {"first"}
            world.asked.get(timeout=HANG)
            world.answers.put(SourceError("timeout", "no answer"))
            wait_until(lambda: not world.gatherer._shared)  # as long as one waits for the answer, it is not asked again
            world.now += RENEWAL_PAUSE
        world.now = KEPT
        waiting = world.begin()
        world.answers.put(SourceError("timeout", "no answer"))
        assert sent(waiting.get(timeout=HANG)) == "upstream_token_unavailable"


@pytest.mark.parametrize(("invalid", "reason"), [(True, "token_inactive"), (False, "upstream_token_refused")])
def test_an_issuer_that_refuses_ends_it_at_once(invalid: bool, reason: str) -> None:  # noqa: FBT001 - a parameter of the test
    """What it says of the caller now takes the place of what it said before."""
    with running() as world:
        world.now = RENEW
        assert world.check() == "first"
        world.asked.get(timeout=HANG)
        world.answers.put(Fact(ExchangeRefused("400", invalid), 5.0, negative=True))
        settle(world, reason)
        assert world.check() == reason
