"""Proves what callers get while a key service is slow, or away for five minutes: by the clock of the test."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import SimpleQueue
from time import monotonic
from typing import Final

from authz.core.decision import Allow
from authz.core.minting import MIN_REMAINING_SECONDS, MINTED
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer
from authz.facts.bounds import Bounds
from authz.facts.breaker import MAX_BACKOFF
from authz.facts.lane import SourceLane
from authz.signing.local import LocalSigner
from authz.signing.minter import Minter, MintLane, remote_source
from authz.signing.port import Failure, SigningUnavailable
from authz.telemetry.check_record import CheckRecord
from tests.cases.minting import KEY, MINTING, minting
from tests.fixtures import T, ask, mint
from tests.unit.envoy.asking import HANG, read, told, write_check

LIFETIME: Final = MINTING.lifetime
AWAY: Final = 300.0
FIRST: Final = 10.0  # when it goes


class Service(LocalSigner):
    """A key in a service, which is away until the test says otherwise; *asked* counts its questions."""

    __slots__ = ("asked", "away")
    asked: int
    away: bool

    def sign(self, message: bytes) -> bytes:
        self.asked += 1
        if self.away:
            raise SigningUnavailable("no connection", Failure.UNREACHABLE)
        return super().sign(message)


class Unobserved:
    """Counts nothing."""

    def on_cache_hit(self) -> None: ...

    def on_signing_ended(self, result: str) -> None: ...


@dataclass
class World:
    """A checker whose tokens a service signs."""

    now: float = 0.0
    allowed: int = 0
    service: Service = field(default_factory=lambda: Service.generate("ES256", kid=KEY.kid))
    checker: Checker = field(init=False)
    gatherer: Gatherer = field(init=False)

    def __post_init__(self) -> None:
        self.service.away, self.service.asked = False, 0
        lane = SourceLane(
            "signing",
            remote_source(Minter(lambda: T + self.now), self.service),
            bounds=Bounds(max_concurrent=1, max_waiting=8, max_wait=HANG, burst=1_000, refill=0.001),
            monotonic=lambda: self.now,
        )
        minted = MintLane(
            dict,
            lambda: {KEY.kid: lane},
            Minter(lambda: T + self.now),
            max_cached=lambda: 100,
            max_waiting=8,
            observer=Unobserved(),
        )
        self.gatherer = Gatherer({MINTED: minted}, monotonic=monotonic)
        self.checker = Checker(
            snapshot=minting,
            gatherer=self.gatherer,
            report=self._count,
            now=lambda: T + self.now,
            elapsed=monotonic,
            new_id=lambda: "id",
        )
        self.gatherer.start()

    def _count(self, record: CheckRecord) -> None:
        self.allowed += isinstance(record.decision, Allow)

    def check(self) -> tuple[str, str | None]:
        """Make a check, and wait for its answer: the reason, and the token for the upstream."""
        answers: SimpleQueue[bytes] = SimpleQueue()
        message = write_check(ask(mint(exp=T + 10_000)))
        given = self.checker.check(message, received=0.0, time_left=None)
        if isinstance(given, bytes):
            answers.put(given)
        else:
            given(answers.put)
        answer = answers.get(timeout=HANG)
        headers = {each.header.key: each.header.value for each in read(answer).ok_response.headers}
        return str(told(answer)), headers.get("x-token")


def test_a_service_that_is_away_for_five_minutes() -> None:
    """The last good token serves until its end; then it is 503, and soon after the return a new token."""
    world = World()
    served: dict[float, tuple[str, str | None]] = {}
    try:
        while world.now < FIRST + AWAY + 2.0 * MAX_BACKOFF:
            world.service.away = FIRST <= world.now < FIRST + AWAY
            served[world.now] = world.check()
            world.now += 1.0
    finally:
        world.gatherer.stop()
    good = {at: token for at, (reason, token) in served.items() if reason == "authenticated"}
    bad = [at for at, (reason, _) in served.items() if reason == "upstream_token_unavailable"]
    assert len(good) + len(bad) == len(served)
    assert None not in good.values()
    assert world.allowed == len(good)
    last = max(at for at in good if at < FIRST + AWAY)
    assert min(bad) == last + 1.0
    assert LIFETIME / 2.0 - MIN_REMAINING_SECONDS <= last <= FIRST + LIFETIME
    assert max(bad) <= FIRST + AWAY + MAX_BACKOFF
    assert world.service.asked < 40  # it is left alone, and tried at most every half minute
