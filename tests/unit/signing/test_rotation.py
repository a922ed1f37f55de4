"""Proves authz.signing.rotation: by stories, and by random histories of replicas whose clocks jump.

The promise: whatever happens, no token is signed by a key that a reader could lack which keeps the key set of any
replica for as long as it may. The exceptions are the first key of all, and a withdrawal in an emergency.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.signing.rotation import (
    NEVER,
    Instant,
    Phase,
    Ring,
    RingKey,
    RotationPlan,
    advance,
    counts,
    due,
    needs_key,
    observe,
    replaced_at,
    withdraw,
)

PLAN: Final = RotationPlan(ahead=900.0, keep=1_000.0, every=86_400.0)
WALL: Final = 1_800_000_000.0


def at(seconds: float, *, jumped: float = 0.0) -> Instant:
    """Return the moment *seconds* after the start, by a wall clock that has *jumped*."""
    return Instant(WALL + seconds + jumped, 5_000.0 + seconds)


def phases(ring: Ring) -> dict[str, str]:
    """Return the phase of each key."""
    return {key.kid: key.phase.value for key in ring.keys}


def test_a_rotation() -> None:
    """The new key is published, then signs; the old one stays until its last token has ended."""
    ring = advance(Ring(), PLAN, at(0), ["a"])
    assert phases(ring) == {"a": "signing"}
    assert not needs_key(ring, PLAN, at(86_400 - 901))
    assert needs_key(ring, PLAN, at(86_400 - 900))
    ring = advance(ring, PLAN, at(85_500), ["b", "a"])
    assert phases(ring) == {"a": "signing", "b": "published"}
    assert not needs_key(ring, PLAN, at(99_999))
    assert advance(ring, PLAN, at(86_399), ["b", "a"]) == ring
    ring = advance(ring, PLAN, at(86_400), ["b", "a"])
    assert phases(ring) == {"a": "retired", "b": "signing"}
    assert counts(ring) == {Phase.PUBLISHED: 0, Phase.SIGNING: 1, Phase.RETIRED: 1}
    assert phases(advance(ring, PLAN, at(87_399), ["b"])) == {"a": "retired", "b": "signing"}
    assert phases(advance(ring, PLAN, at(87_400), ["b"])) == {"b": "signing"}


def test_the_time_of_the_next_step() -> None:
    """It is known when a key is to be generated, to sign, and to be removed; a new ring is due at once."""
    assert due(Ring(), PLAN, at(0)) == 0.0
    ring = advance(Ring(), PLAN, at(0), ["a"])
    assert due(ring, PLAN, at(100)) == 85_400.0
    ring = advance(ring, PLAN, at(85_500), ["b", "a"])
    assert due(ring, PLAN, at(85_600)) == 800.0
    ring = advance(ring, PLAN, at(86_400), ["b", "a"])
    assert due(ring, PLAN, at(86_500)) == 900.0
    assert due(advance(Ring(), replace(PLAN, every=None), at(0), ["a"]), replace(PLAN, every=None), at(0)) == NEVER


def test_a_clock_that_was_set_forward_makes_no_key_sign_too_early() -> None:
    """A day ahead, the next key is generated early, and waits its time all the same."""
    ring = advance(Ring(), PLAN, at(0), ["a"])
    assert needs_key(ring, PLAN, at(10, jumped=86_400))
    ring = advance(ring, PLAN, at(10, jumped=86_400), ["b", "a"])
    assert phases(advance(ring, PLAN, at(909, jumped=86_400), ["b", "a"])) == {"a": "signing", "b": "published"}
    assert phases(advance(ring, PLAN, at(910, jumped=86_400), ["b", "a"])) == {"a": "retired", "b": "signing"}


def test_a_clock_that_was_set_back_keeps_no_key_for_ever() -> None:
    """A year back, the key is replaced when this process has seen it sign for its time."""
    ring = advance(Ring(), PLAN, at(0), ["a"])
    assert replaced_at(ring, PLAN, at(80_000, jumped=-3e7)) == at(86_400, jumped=-3e7).wall
    assert needs_key(ring, PLAN, at(85_500, jumped=-3e7))


def test_a_restart_measures_again() -> None:
    """A process that starts publishes what is in the state, and has the next key wait its full time."""
    ring = advance(Ring(), PLAN, at(0), ["a"])
    ring = advance(ring, PLAN, at(85_500), ["b", "a"])
    restarted = observe(Ring(ring.keys), Ring(), at(86_300))
    assert phases(advance(restarted, PLAN, at(86_500), ["b", "a"])) == {"a": "signing", "b": "published"}
    assert phases(advance(restarted, PLAN, at(87_200), ["b", "a"])) == {"a": "retired", "b": "signing"}


def test_keys_of_the_operator() -> None:
    """At the start the last listed key signs, which others know; then the first; a removed one retires."""
    plan = replace(PLAN, every=None)
    ring = advance(Ring(), plan, at(0), ["new", "old"])
    assert phases(ring) == {"new": "published", "old": "signing"}
    ring = advance(ring, plan, at(900), ["new", "old"])
    assert phases(ring) == {"new": "signing", "old": "retired"}
    assert phases(advance(ring, plan, at(9_999), ["new", "old"])) == {"new": "signing", "old": "retired"}
    assert phases(advance(ring, plan, at(9_999), ["new"])) == {"new": "signing"}
    back = advance(ring, plan, at(1_000), ["old", "new"])
    assert phases(back) == {"new": "retired", "old": "signing"}
    assert phases(advance(advance(Ring(), plan, at(0), ["x", "y"]), plan, at(1), ["y"])) == {"y": "signing"}
    assert not needs_key(ring, plan, at(9e9))


def test_a_key_that_is_gone() -> None:
    """If the key that signs cannot any more, another one does at once; without one, none does."""
    ring = advance(Ring(), PLAN, at(0), ["a"])
    assert phases(advance(ring, PLAN, at(1), [])) == {"a": "retired"}
    assert phases(advance(ring, PLAN, at(1), ["b"])) == {"a": "retired", "b": "signing"}
    assert advance(Ring(), PLAN, at(1), []) == Ring()


def test_an_emergency() -> None:
    """A withdrawn key is gone at once and for ever, and the next one signs, ready or not."""
    ring = advance(Ring(), PLAN, at(0), ["a"])
    ring = advance(ring, PLAN, at(85_500), ["b", "a"])
    ring = advance(withdraw(ring, "a"), PLAN, at(85_600), ["b", "a"])
    assert phases(ring) == {"b": "signing"}
    assert ring.withdrawn == ("a",)
    ring = withdraw(withdraw(ring, "b"), "b")
    assert needs_key(ring, PLAN, at(85_601))
    assert ring.withdrawn == ("a", "b")
    assert phases(advance(ring, PLAN, at(85_602), ["c", "b", "a"])) == {"c": "signing"}


def test_what_another_process_changed() -> None:
    """A phase that another process has changed counts from when this one saw it; what it knew before stays."""
    ring = advance(Ring(), PLAN, at(0), ["a"])
    read = Ring((replace(ring.keys[0], stopped=WALL + 50), RingKey("b", WALL, WALL + 50)))
    seen = observe(read, ring, at(60))
    assert [(key.seen, key.changed) for key in seen.keys] == [(5_000.0, 5_060.0), (5_060.0, 5_060.0)]
    assert observe(read, seen, at(70)).keys == seen.keys
    assert seen.find("b") == read.keys[1]
    assert seen.find("c") is None


MAX_AGE: Final = 300.0
DELAY: Final = 60.0  # seconds until a replica has read what another has written
LIFE: Final = 120.0
SHORT: Final = RotationPlan(ahead=MAX_AGE + DELAY + 1.0, keep=LIFE + MAX_AGE + DELAY + 1.0, every=2_000.0)


@dataclass
class Replica:
    """A process: its clocks, what it knows, and the tokens that it may still send."""

    jumped: float = 0.0
    started: float = 0.0
    ring: Ring = field(default_factory=Ring)
    read_at: float = 0.0
    token: tuple[str, float] | None = None  # the key, and when it was signed

    def instant(self, now: float) -> Instant:
        """Return what its clocks show at the true time *now*."""
        return Instant(WALL + now + self.jumped, now - self.started)


@dataclass
class World:
    """Replicas that share one state, and the key sets that readers may still have, each with when it was fetched."""

    shared: Ring = field(default_factory=Ring)
    usable: list[str] = field(default_factory=list)  # newest first
    replicas: list[Replica] = field(default_factory=lambda: [Replica(), Replica()])
    cached: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    now: float = 0.0
    made: int = 0
    excused: set[str] = field(default_factory=set)  # keys that sign by rule 3

    def step(self, replica: Replica) -> None:
        """Have a replica do what is due, under the lock."""
        instant = replica.instant(self.now)
        ring = observe(self.shared, replica.ring, instant)
        before = ring.signing
        if needs_key(ring, SHORT, instant):
            self.made += 1
            self.usable.insert(0, f"key-{self.made}")
        ring = advance(ring, SHORT, instant, self.usable)
        if before is None and ring.signing is not None:
            self.excused.add(ring.signing.kid)
        retired = {key.kid for key in ring.keys if key.phase is Phase.RETIRED}
        kept = {key.kid for key in ring.keys}
        self.usable = [kid for kid in self.usable if kid in kept - retired]
        self.shared = replica.ring = ring
        replica.read_at = self.now

    def catch_up(self) -> None:
        """Have each replica read the state that has not done so for too long."""
        for replica in self.replicas:
            if self.now - replica.read_at >= DELAY:
                self.step(replica)

    def fetch(self, replica: Replica) -> None:
        """Have a reader fetch the key set of a replica."""
        self.cached.append((self.now, frozenset(key.kid for key in replica.ring.keys)))
        self.cached = [each for each in self.cached if self.now - each[0] <= MAX_AGE]

    def send(self, replica: Replica) -> None:
        """Have a replica send a request with the token that it has, or a new one: every reader must verify it."""
        signing = replica.ring.signing
        if signing is None:
            return
        if replica.token is None or replica.token[0] != signing.kid or self.now - replica.token[1] >= LIFE / 2:
            replica.token = (signing.kid, self.now)
        kid = replica.token[0]
        if kid in self.excused:
            return
        for fetched, keys in self.cached:
            if self.now - fetched <= MAX_AGE:
                assert kid in keys, f"at {self.now}: {kid} signs, and the set of {fetched} has {sorted(keys)}"


EVENTS: Final = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 50), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 59]), st.just(0)),
    st.tuples(st.just("step"), st.just(0), st.integers(0, 1)),
    st.tuples(st.just("fetch"), st.just(0), st.integers(0, 1)),
    st.tuples(st.just("send"), st.just(0), st.integers(0, 1)),
    st.tuples(st.just("jump"), st.sampled_from([-1e9, -86_400, -400, 400, 1_000, 86_400, 1e9]), st.integers(0, 1)),
    st.tuples(st.just("restart"), st.just(0), st.integers(0, 1)),
    st.tuples(st.just("rotate"), st.just(0), st.integers(0, 1)),
)


def play(world: World, what: str, size: float, which: int) -> None:
    """Have one thing happen."""
    replica = world.replicas[which]
    match what:
        case "wait":
            world.now += size
            world.catch_up()
        case "step":
            world.step(replica)
        case "jump":
            replica.jumped += size
        case "restart":
            world.replicas[which] = Replica(jumped=replica.jumped, started=world.now, read_at=world.now)
            world.step(world.replicas[which])
        case "rotate":
            if not any(key.phase is Phase.PUBLISHED for key in world.shared.keys):
                world.made += 1
                world.usable.insert(0, f"key-{world.made}")
                world.step(replica)
        case "fetch":
            world.fetch(replica)
        case _:
            world.send(replica)


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, min_size=20, max_size=200))
def test_every_reader_can_verify_every_token(events: list[tuple[str, float, int]]) -> None:
    """Two replicas with clocks of their own, that jump and restart: each set that a reader may have has the key."""
    world = World()
    for replica in world.replicas:
        world.step(replica)
    for what, size, which in events:
        play(world, what, size, which)
        for replica in world.replicas:  # a reader and a request at every moment
            world.fetch(replica)
            world.send(replica)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 59), st.integers(0, 1), st.booleans()), min_size=100, max_size=200))
def test_keys_are_replaced_again_and_again(moments: list[tuple[int, int, bool]]) -> None:
    """While time passes, with clocks that jump back, keys do not stay for ever, and do not pile up.

    A key that another's wrong clock started seems old, and is replaced early: but each one waits its time first.
    """
    world = World()
    for seconds, which, back in moments * 2:
        world.now += seconds
        if back:
            world.replicas[which].jumped -= 10_000.0
        world.catch_up()
        world.step(world.replicas[which])
        assert len(world.shared.keys) <= 5
        assert world.shared.signing is not None
    assert world.made >= 1 + int(world.now / (SHORT.every or 1) / 2)


@pytest.mark.parametrize("broken", ["wall", "early"])
def test_the_histories_find_what_is_wrong(broken: str) -> None:
    """The proof is one: a key that signs as soon as it is made, or by the wall clock, is caught."""
    world = World()
    for replica in world.replicas:
        world.step(replica)
        world.fetch(replica)
    world.made += 1
    world.usable.insert(0, "key-2")
    instant = world.replicas[0].instant(world.now)
    if broken == "wall":  # the clock is set forward, and believed
        instant = Instant(instant.wall + 86_400, instant.monotonic + 86_400)
        plan = SHORT
    else:
        plan = replace(SHORT, ahead=0.0)
    ring = advance(
        observe(world.shared, world.replicas[0].ring, world.replicas[0].instant(world.now)), plan, instant, world.usable
    )
    world.replicas[0].ring = (
        advance(ring, plan, instant, world.usable) if broken == "early" else _later(ring, plan, instant, world)
    )
    with pytest.raises(AssertionError, match="key-2 signs"):
        world.send(world.replicas[0])


def _later(ring: Ring, plan: RotationPlan, instant: Instant, world: World) -> Ring:
    """Advance once more, when the wrong clock says that the key was published long enough."""
    return advance(ring, plan, Instant(instant.wall + plan.ahead, instant.monotonic + plan.ahead), world.usable)
