"""One year of an issuer's life, with requests going on, and a record of what was decided.

The issuer rotates its keys the way providers do: the new key is published `LEAD` before the first token by it, the old
one is removed `LAG` after the last. Sometimes it rotates in an emergency: at once, without notice, the old key gone.
It has outages, short and long; the wall clock steps; the content network before it flaps between old and new sets.
Everything is drawn from one seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from authz.core.needs import KeySearched
from authz.demo.signing import SigningKey
from authz.feeds.failure import RefreshError
from authz.feeds.http.fetch import Response
from authz.feeds.refresh import Schedule
from authz.telemetry.keys import Refresh
from tests.fakes.clock import FakeClock
from tests.unit.feeds.rig import JWKS, Rig, document

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY

LEAD = 2 * DAY
LAG = DAY
MAX_AGE = HOUR  # what the issuer's answers say
TOKEN_EVERY = 5 * MINUTE
TRIED_FOR = 3 * DAY  # after its removal a key's tokens are still sent
FLOOD_EVERY = 14 * DAY  # an attacker's ten minutes of random key ids

ROTATIONS = 12
EMERGENCIES = 3
OUTAGES = 24
LONG_OUTAGES = 2  # longer than keys may be stale
STEPS = 12
FLAPS = 6

SCHEDULE = Schedule()


@dataclass
class Decision:
    """What became of one request: by which key, and why."""

    at: float
    kid: str
    outcome: str  # allow, not_found (401), unavailable (503)


@dataclass
class Record:
    """What happened in the year. Times are monotonic seconds since its beginning."""

    decisions: list[Decision] = field(default_factory=list)
    published_at: dict[str, float] = field(default_factory=dict)
    removed_at: dict[str, float] = field(default_factory=dict)
    used_at: dict[str, float] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    flapping: list[tuple[float, float]] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    floods: list[tuple[float, float]] = field(default_factory=list)
    fetches: list[float] = field(default_factory=list)
    flaps_seen: int = 0
    unknown_kids: int = 0

    def down(self, start: float, end: float) -> bool:
        """Whether the issuer was down, or its content network not of one mind, at some moment between."""
        return any(begin <= end and start <= over for begin, over in (*self.outages, *self.flapping))


class Year:
    """Plays the year."""

    def __init__(self, seed: int, *, length: float = YEAR) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a simulation wants to be repeated
        self.length = length
        self.clock = FakeClock(monotonic=0.0)
        self.rig = Rig(clock=self.clock, schedule=SCHEDULE, jitter=self.random.random)
        self.rig.site.at[JWKS] = self._answer
        self.record = Record()
        self._numbers = count(1)
        self._keys: list[SigningKey] = []  # published now
        self._before: list[SigningKey] = []  # what a cache may still have
        self._signing = self._publish()
        self._retired: list[SigningKey] = []  # removed, and tried again by anyone who has their tokens
        self._down = False
        self._flapping = False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def play(self) -> Record:
        """Let the year pass."""
        self._plan()
        self._at(0, self._request)
        while self._events:
            at, _, happen = heapq.heappop(self._events)
            if at > self.length:
                break
            self.rig.run(at - self.clock.monotonic())
            happen()
        self.record.fetches = self.rig.site.times()
        self.record.flaps_seen = self.rig.history.flaps
        return self.record

    def _at(self, at: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), happen))

    def _plan(self) -> None:
        month = self.length / (ROTATIONS + 1)
        for number in range(1, ROTATIONS + 1):
            self._at(number * month, self._announce)
        for number in range(EMERGENCIES):
            self._at((number + 0.61) * self.length / EMERGENCIES, self._rotate_at_once)
        for number in range(OUTAGES):
            long = number % (OUTAGES // LONG_OUTAGES) == OUTAGES // LONG_OUTAGES - 1
            lasts = self.random.uniform(26, 40) * HOUR if long else self.random.uniform(1, 300) * MINUTE
            start = (number + self.random.uniform(0.2, 0.8)) * self.length / OUTAGES
            self._at(start, lambda lasts=lasts: self._go_down(lasts))  # type: ignore[misc]
        for number in range(STEPS):
            jump = self.random.choice([HOUR, -2 * HOUR, 25 * HOUR, -25 * HOUR])
            self._at((number + self.random.random()) * self.length / STEPS, lambda jump=jump: self._step(jump))  # type: ignore[misc]
        for number in range(int(self.length / FLOOD_EVERY)):
            self._at((number + 0.37) * FLOOD_EVERY, self._flood)

    # The issuer.

    def _answer(self, _: object) -> Response:
        if self._down:
            raise RefreshError(self.random.choice([Refresh.UNREACHABLE, Refresh.TIMEOUT, Refresh.STATUS]), "down")
        keys = self._before if self._flapping and self.random.random() < 0.5 else self._keys
        return Response(200, {"cache-control": f"max-age={MAX_AGE:.0f}"}, document(*keys))

    def _publish(self) -> SigningKey:
        key = SigningKey.create("ES256", kid=f"key-{next(self._numbers)}")
        self._before = list(self._keys)
        self._keys.append(key)
        self.record.published_at[key.kid] = self.clock.monotonic()
        return key

    def _announce(self) -> None:
        """Begin an orderly rotation; every second one behind a content network that flaps for some hours."""
        key = self._publish()
        now = self.clock.monotonic()
        if len(self.record.flapping) < FLAPS:
            self._flapping = True
            self.record.flapping.append((now, now + 6 * HOUR))
            self._at(now + 6 * HOUR, self._settle)
        self._at(now + LEAD, lambda: self._sign_with(key))

    def _settle(self) -> None:
        self._flapping = False

    def _sign_with(self, key: SigningKey) -> None:
        old, self._signing = self._signing, key
        self.record.used_at[key.kid] = self.clock.monotonic()
        self._at(self.clock.monotonic() + LAG, lambda: self._remove(old))

    def _rotate_at_once(self) -> None:
        """A key has leaked: the new one signs now, the old one is gone now."""
        old = self._signing
        key = self._publish()
        self._signing = key
        self.record.used_at[key.kid] = self.clock.monotonic()
        self._remove(old)

    def _remove(self, key: SigningKey) -> None:
        if key in self._keys:
            self._keys.remove(key)
            self._retired.append(key)
            self.record.removed_at[key.kid] = self.clock.monotonic()

    def _go_down(self, lasts: float) -> None:
        now = self.clock.monotonic()
        self._down = True
        self.record.outages.append((now, now + lasts))
        self._at(now + lasts, self._come_back)

    def _come_back(self) -> None:
        now = self.clock.monotonic()
        self._down = any(start <= now < end for start, end in self.record.outages)

    def _step(self, jump: float) -> None:
        self.clock.jump(jump)
        self.record.steps.append(self.clock.monotonic())

    # Those who ask.

    def _request(self) -> None:
        """Send a token by the current key, and one by each that was removed not long ago."""
        now = self.clock.monotonic()
        self._retired = [key for key in self._retired if now - self.record.removed_at[key.kid] < TRIED_FOR]
        for key in (self._signing, *self._retired):
            self.record.decisions.append(Decision(self.clock.monotonic(), key.kid, self._decide(key.kid)))
        self._at(now + TOKEN_EVERY * self.random.uniform(0.5, 1.5), self._request)

    def _decide(self, kid: str) -> str:
        """Decide, refresh, decide; as the service does, with flights that take no time."""
        if self.rig.kids is None:
            return "unavailable"
        if kid in self.rig.kids:
            return "allow"
        self.record.unknown_kids += 1
        self.rig.ask(kid)
        if kid in (self.rig.kids or ()):
            return "allow"
        return "not_found" if isinstance(self.rig.said, KeySearched) else "unavailable"

    def _flood(self) -> None:
        """Ten minutes of random key ids, twice a second."""
        now = self.clock.monotonic()
        self.record.floods.append((now, now + 10 * MINUTE))
        for number in range(1200):
            self._at(now + number * 0.5, lambda: self._decide(f"random-{next(self._numbers)}"))  # type: ignore[arg-type]
