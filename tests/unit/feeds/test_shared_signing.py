"""Proves authz.feeds.shared.signing: replicas that share keys over a server that fails sign nothing unpublished.

Whole keyrings run, with clocks of their own; only the server is one of the test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.config.model import Config
from authz.feeds.shared.signing import SharedStore
from authz.feeds.shared.state import Part, Reply, SharedStateError
from authz.signing.keyring import Keyring
from authz.signing.local import LocalSigner
from authz.signing.rotation import Ring, RingKey
from authz.signing.sealing import Sealer
from authz.signing.state import Change, SigningState, StateError, write_state
from tests.unit.config.sample import configure

WALL: Final = 1_800_000_000.0
MAX_AGE: Final = 300.0  # of the key sets that readers have
REPLICAS: Final = 3
DELAY: Final = 60.0  # seconds until a replica has read what another has written
LIFE: Final = 120.0
AHEAD: Final = MAX_AGE + DELAY + 1.0
LATE: Final = 2.0 * AHEAD - MAX_AGE  # seconds without the state, until other replicas do not accept what one signs
GARBAGE: Final = b"\x01 not what replicas write" * 4
SETTINGS: Final = """
identity: {{token: {{issuer: "https://gateway.test", audience: [orders], lifetime: 120s}}}}
shared_state: {{url: "redis://127.0.0.1:1"}}
signing:
  keys: {{main: {{kind: memory, algorithm: EdDSA}}}}
  rotation: {{every: 2000s, ahead: 361s, shared_secret_file: "{secret}"}}
  publish: {{max_age: 300s}}
"""


@cache
def config_of(secret: str) -> Config:
    """Configure shared keys."""
    return configure(more=SETTINGS.format(secret=secret))


@dataclass
class Server:
    """The shared state: one value, and those that it had before, each with the time since when."""

    value: bytes = b""
    past: list[tuple[float, bytes]] = field(default_factory=list)


class Link:
    """The connection of one replica. While it is *down* nothing is answered; *between* happens before a change."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.down = False
        self.loses_reply = False
        self.between: Callable[[], None] | None = None

    def key(self, *names: str) -> str:
        return f"authz:{':'.join(names)}"

    def execute(self, *command: Part) -> Reply:
        name, key, start, end = command
        assert (name, key, start) == ("GETRANGE", "authz:signing", 0)
        if self.down:
            raise SharedStateError("timeout", "the server is away")
        return self.server.value[: int(end) + 1]

    def execute_all(self, commands: object) -> list[Reply]:
        raise AssertionError(commands)

    def create(self, key: str, *, milliseconds: int) -> bool:
        raise AssertionError(key, milliseconds)

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        assert key == "authz:signing"
        between, self.between = self.between, None
        if between is not None:
            between()
        if self.down:
            raise SharedStateError("unreachable", "the server is away")
        if self.server.value != old:
            return False
        self.server.value = new
        if self.loses_reply:
            self.loses_reply = False
            raise SharedStateError("timeout", "the reply was lost")
        return True

    def close(self) -> None:
        pass


class Replica:
    """A process with a keyring, and clocks of its own."""

    def __init__(
        self, world: World, *, jumped: float = 0.0, down: bool = False, store: type[SharedStore] = SharedStore
    ) -> None:
        self.world = world
        self.jumped = jumped
        world.processes += 1
        self.number = world.processes
        self.link = Link(world.server)
        self.link.down = down
        self.read_at = started = world.now
        self.ring = Keyring(
            lambda _: None,
            now=lambda: WALL + world.now + self.jumped,
            monotonic=lambda: world.now - started,
            make_store=lambda _: store(self.link, world.secret),
        )
        self.do(lambda: self.ring.reconfigure(config_of(str(world.secret))))

    @property
    def signs(self) -> str | None:
        """The id of the key that signs."""
        return self.ring.view.key.kid if self.ring.view.key is not None else None

    @property
    def published(self) -> frozenset[str]:
        """The ids of the published keys."""
        text = self.ring.view.key_set
        return frozenset(key["kid"] for key in json.loads(text)["keys"]) if text else frozenset()

    @property
    def problem(self) -> str:
        """What is wrong."""
        return str(self.ring.describe()["problem"] or "")

    def step(self) -> None:
        """Do what is due."""
        self.do(self.ring.step)

    def do(self, step: Callable[[], object]) -> None:
        """Remember when the state was last read; if nothing was left of all keys, the new one signs at once."""
        world = self.world
        fresh = self.signs is None and not world.server.value
        if fresh:
            self.link.loses_reply = False
            world.excuse(self)
        step()
        if fresh:
            world.excuse(self)
        if not self.problem:
            self.read_at = self.world.now
        server = self.world.server
        if not server.past or server.past[-1][1] != server.value:
            server.past.append((self.world.now, server.value))


@dataclass
class World:
    """Replicas, the key sets that readers may have, and the tokens that may still be sent.

    A set is by the process where it was fetched, stale if that had not read the state for too long; the value is when
    it was fetched last. A token is by its process and key; the value is its end.
    """

    secret: Path
    outage: float = DELAY  # seconds that a replica may be without the state
    calm: float = 0.0  # seconds between rotations by hand
    rotated: float = -inf
    server: Server = field(default_factory=Server)
    now: float = 0.0
    processes: int = 0
    replicas: list[Replica] = field(default_factory=list)
    cached: dict[tuple[int, bool, frozenset[str]], float] = field(default_factory=dict)
    tokens: dict[tuple[int, str], float] = field(default_factory=dict)
    excused: set[str] = field(default_factory=set)  # keys that sign without having been published
    withdrawn: set[str] = field(default_factory=set)

    def begin(self, store: type[SharedStore] = SharedStore) -> World:
        """Start the replicas: the first one generates the first key."""
        for _ in range(REPLICAS):
            self.replicas.append(Replica(self, store=store))
        return self

    def excuse(self, *more: Replica) -> None:
        """Excuse the keys that there are."""
        for replica in (*self.replicas, *more):
            self.excused |= replica.published
        self.excused |= {kid for _, kid in self.tokens}

    def catch_up(self) -> None:
        """Have each replica read the state that has not done so for too long."""
        for replica in self.replicas:
            if self.now - replica.read_at >= self.outage:
                replica.link.down = False
                if self.server.value == GARBAGE:  # the operator deletes it
                    self.server.value = b""
            if self.now - replica.read_at >= DELAY:
                replica.step()

    def look(self) -> None:
        """Have each replica send a token, and a reader fetch its keys: each token is accepted, as long as it lives."""
        for replica in self.replicas:
            if replica.signs is not None:
                self.tokens[replica.number, replica.signs] = self.now + LIFE
            if replica.published:
                stale = self.now - replica.read_at > DELAY
                self.cached[replica.number, stale, replica.published] = self.now
        self.tokens = {token: end for token, end in self.tokens.items() if self.now < end}
        self.cached = {each: at for each, at in self.cached.items() if self.now - at <= MAX_AGE}
        for signer, kid in self.tokens:
            if kid in self.excused or kid in self.withdrawn:
                continue
            for (process, stale, keys), fetched in self.cached.items():
                if stale and process != signer:
                    continue  # who reads the keys of a replica that is cut off learns of no new key of others
                where = f"at {self.now}: {kid} of process {signer} in the set of process {process} at {fetched}"
                assert kid in keys, f"{where}, which has {sorted(keys)}"

    def play(self, what: str, size: float, which: int) -> None:
        """Have one thing happen."""
        replica, other = self.replicas[which], self.replicas[(which + 1) % REPLICAS]
        match what:
            case "wait":
                for _ in range(int(size)):
                    self.now += 1.0
                    self.catch_up()
            case "step":
                replica.step()
            case "jump":
                replica.jumped += size
            case "race":
                replica.link.between = other.step
                replica.step()
                replica.link.between = None
            case "lose reply":
                replica.link.loses_reply = True
            case "rotate":
                self.rotate(replica)
            case "withdraw":
                self.withdraw(replica)
            case "down":
                replica.link.down = not replica.link.down
            case "garbage" | "lose":
                self.server.value = GARBAGE if what == "garbage" else b""
            case "roll back":
                before = [value for since, value in self.server.past if since <= self.now - size]
                self.server.value = before[-1] if before else self.server.value
            case _:
                self.restart(which)

    def restart(self, which: int) -> None:
        """Restart a replica. Its tokens are still on their way, and its key sets in caches."""
        old = self.replicas[which]
        self.replicas[which] = Replica(self, jumped=old.jumped, down=old.link.down)

    def rotate(self, replica: Replica) -> None:
        """Begin a rotation, if the last one was long enough ago."""
        if self.now - self.rotated >= self.calm:
            self.rotated = self.now
            with suppress(StateError):
                replica.do(replica.ring.rotate)

    def withdraw(self, replica: Replica) -> None:
        """Withdraw the key that signs: the next one signs at once."""
        if (kid := replica.signs) is None:
            return
        try:
            replica.ring.withdraw(kid)
        except StateError:  # done or not: the reply may have been lost
            replica.step()
        if kid not in replica.published:
            self.withdrawn.add(kid)
            self.excused |= replica.published


ROUTINE: Final = (
    st.tuples(st.just("wait"), st.integers(1, 50), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 59]), st.just(0)),
    st.tuples(st.just("step"), st.just(0), st.integers(0, REPLICAS - 1)),
    st.tuples(st.sampled_from(["race", "lose reply"]), st.just(0), st.integers(0, REPLICAS - 1)),
    st.tuples(
        st.just("jump"), st.sampled_from([-1e9, -86_400, -400, 400, 1_000, 86_400, 1e9]), st.integers(0, REPLICAS - 1)
    ),
    st.tuples(st.just("restart"), st.just(0), st.integers(0, REPLICAS - 1)),
    st.tuples(st.just("rotate"), st.just(0), st.integers(0, REPLICAS - 1)),
)
FAULTS: Final = (
    st.tuples(st.just("down"), st.just(0), st.integers(0, REPLICAS - 1)),
    st.tuples(st.sampled_from(["lose", "garbage"]), st.just(0), st.just(0)),
    st.tuples(st.just("roll back"), st.integers(1, int(DELAY)), st.just(0)),
)


@pytest.fixture(scope="module")
def secret() -> Iterator[Path]:
    """The file with the secret that all replicas have."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "secret"
        file.write_bytes(b"s" * 32)
        yield file


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(*ROUTINE, *FAULTS), min_size=20, max_size=200))
def test_every_reader_can_verify_every_token(secret: Path, events: list[tuple[str, float, int]]) -> None:
    """The server is away, slow, loses its last changes or everything, holds garbage; clocks jump, processes restart.

    A reader of any replica accepts the tokens of any other, if none is without the state for longer than DELAY.
    """
    world = World(secret).begin()
    world.look()
    for event in events:
        world.play(*event)
        world.look()
    converge(world)


WITHDRAWAL: Final = st.tuples(st.just("withdraw"), st.just(0), st.integers(0, REPLICAS - 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(*ROUTINE, WITHDRAWAL), min_size=20, max_size=200))
def test_withdrawals_in_between(secret: Path, events: list[tuple[str, float, int]]) -> None:
    """Of keys that were not withdrawn, and did not have to sign at once for one that was, each token is accepted."""
    world = World(secret).begin()
    for event in events:
        world.play(*event)
        world.look()
    converge(world)


CALM: Final = (*ROUTINE[:4], *ROUTINE[5:])  # no clock jumps


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(*CALM, *FAULTS[:1]), min_size=20, max_size=200))
def test_a_replica_that_is_cut_off(secret: Path, events: list[tuple[str, float, int]]) -> None:
    """For LATE seconds, with one rotation, everyone accepts its tokens, and its own readers also when it is back."""
    world = World(secret, outage=LATE, calm=LATE + AHEAD + LIFE).begin()
    for event in events:
        world.play(*event)
        world.look()
    converge(world)


def converge(world: World) -> None:
    """All is well again: soon all replicas are the same."""
    world.server.value = b"" if world.server.value == GARBAGE else world.server.value
    for replica in world.replicas:
        replica.link.down, replica.link.loses_reply = False, False
    for _ in range(int(2 * (AHEAD + AHEAD + LIFE) / DELAY) + 1):
        world.now += DELAY
        for replica in world.replicas * 4:
            replica.step()
    first = world.replicas[0]
    assert first.signs is not None
    for replica in world.replicas:
        assert replica.problem == ""
        assert replica.ring.view.ring == first.ring.view.ring
        assert replica.signs == first.signs
        assert len(replica.published) <= 5


class Forgetful(SharedStore):
    """A store that does not join what this process knows: a server that loses everything begins again."""

    def change(self, change: Change) -> SigningState:
        self._known = SigningState()
        return super().change(change)


def test_the_histories_find_what_is_wrong(secret: Path) -> None:
    """The proof is one: a store that forgets is caught."""
    for store, caught in ((SharedStore, False), (Forgetful, True)):
        world = World(secret).begin(store)
        world.look()
        world.server.value = b""
        world.replicas[0].step()
        if caught:
            with pytest.raises(AssertionError, match="of process 1 in the set of"):
                world.look()
        else:
            world.look()


def test_of_replicas_that_start_at_once_one_generates_the_key(secret: Path) -> None:
    """The others use it: what they generated themselves is gone."""
    world = World(secret)
    first = Replica(world, down=True)
    assert (first.signs, first.published) == (None, frozenset())
    assert "the server is away" in first.problem
    first.link.down = False
    others: list[Replica] = []
    first.link.between = lambda: others.append(Replica(world))
    first.step()
    assert first.signs == others[0].signs is not None
    assert first.published == others[0].published == {first.signs}


def test_a_server_that_is_away_changes_nothing(secret: Path) -> None:
    """The keys in use stay, also when one is due; nothing is promised that other replicas do not learn."""
    world = World(secret).begin()
    for replica in world.replicas:
        replica.link.down = True
    world.now += 10_000.0
    for replica in world.replicas:
        before = replica.signs
        replica.step()
        assert replica.signs == before is not None
        with pytest.raises(StateError, match="timeout: the server is away"):
            replica.ring.rotate()
        for _ in range(2):
            with pytest.raises(StateError):
                replica.ring.withdraw(before)
        assert replica.published == {before}
        assert replica.problem == "timeout: the server is away"


def test_a_value_that_no_replica_wrote_is_neither_used_nor_replaced(secret: Path) -> None:
    """Garbage, an old format, another prefix, a foreign secret, and far too much: the keys stay, and it is said why."""
    world = World(secret).begin()
    good, replica = world.server.value, world.replicas[0]
    first = replica.signs
    other = secret.with_name("other")
    other.write_bytes(b"o" * 32)
    foreign = World(other).begin().server.value
    for value in (b"x", GARBAGE, good[:-1], good[:20], b"\x02" + good[1:], foreign, b"x" * 2_000_000):
        world.server.value = value
        replica.step()
        assert replica.signs == first
        assert "authz:signing" in replica.problem
        assert world.server.value == value
        fresh = Replica(world)
        assert (fresh.signs, fresh.published) == (None, frozenset())
        assert world.server.value == value
    world.server.value = b""
    replica.step()
    assert replica.problem == ""
    assert Replica(world).signs == first


def test_a_withdrawal_that_was_not_written_can_be_repeated(secret: Path) -> None:
    """The server goes away between the reading and the writing: the key is still known."""
    world = World(secret).begin()
    replica, *_ = world.replicas
    bad = replica.signs
    assert bad is not None

    def go_away() -> None:
        replica.link.down = True

    replica.link.between = go_away
    with pytest.raises(StateError):
        replica.ring.withdraw(bad)
    replica.link.down = False
    assert replica.ring.withdraw(bad)
    assert replica.signs not in {None, bad}


def test_a_withdrawn_key_does_not_come_back(secret: Path) -> None:
    """Not from a server that lost the change, and not from a replica that was cut off."""
    world = World(secret).begin()
    one, other, _ = world.replicas
    before, bad = world.server.value, one.signs
    other.link.down = True
    assert bad is not None
    assert one.ring.withdraw(bad)
    world.server.value = before
    one.step()
    assert bad not in one.published
    other.link.down = False
    other.step()
    assert bad not in other.published
    assert other.signs == one.signs != bad


def test_the_secret_is_replaced(secret: Path, tmp_path: Path) -> None:
    """The process that had both encrypts again; then one that starts with the new secret reads it."""
    file = tmp_path / "secret"
    file.write_bytes(b"1" * 32)
    world = World(file).begin()
    first = world.replicas[0].signs
    (tmp_path / "new").write_bytes(b"22" * 32)
    (tmp_path / "new").replace(file)
    assert Replica(world).signs is None
    world.replicas[0].step()
    assert Replica(world).signs == first
    file.write_bytes(b"short")
    assert "less than 32 octets" in Replica(world).problem
    file.unlink()
    assert "No such file" in Replica(world).problem
    assert secret.exists()


def test_a_backup_brings_no_withdrawn_key_back_if_the_secret_was_replaced(secret: Path, tmp_path: Path) -> None:
    """Even if no replica runs any more that knows of the withdrawal: none that starts opens what was before it."""
    file = tmp_path / "secret"
    file.write_bytes(secret.read_bytes())
    world = World(file).begin()
    replica, *_ = world.replicas
    backup, bad = world.server.value, replica.signs
    assert bad is not None
    assert replica.ring.withdraw(bad)
    (tmp_path / "new").write_bytes(b"22" * 32)
    (tmp_path / "new").replace(file)
    replica.step()
    after, good = world.server.value, replica.signs
    world.server.value = backup
    started = Replica(world)
    assert (started.signs, bad in started.ring.view.key_set) == (None, False)
    assert "not encrypted by this secret" in started.problem
    world.server.value = after
    assert Replica(world).signs == good != bad


def test_who_has_the_secret_of_before_writes_no_key(secret: Path, tmp_path: Path) -> None:
    """Once the state is encrypted by the new secret, no process takes a key that was encrypted by the one before."""
    file = tmp_path / "secret"
    file.write_bytes(secret.read_bytes())
    world = World(file).begin()
    (tmp_path / "new").write_bytes(b"22" * 32)
    (tmp_path / "new").replace(file)
    for _ in range(2):
        for replica in world.replicas:
            replica.step()
    own = LocalSigner.generate("EdDSA")
    ring = Ring((RingKey(own.kid, WALL - 20.0, started=WALL - 10.0),))
    forged = Sealer(secret).seal(write_state(SigningState().with_key(own).with_ring(ring)), "authz:signing")
    world.server.value = forged
    for replica in world.replicas:
        replica.step()
        assert own.kid not in replica.ring.view.key_set
        assert "not encrypted by this secret" in replica.problem
    assert world.server.value == forged


def test_nothing_that_is_secret_is_stored_or_said(secret: Path) -> None:
    """The value has no part of a key in clear, and no text has the secret or the value."""
    world = World(secret).begin()
    (replica,) = world.replicas[:1]
    kid = replica.signs
    assert kid is not None
    assert kid.encode() not in world.server.value
    assert b'"d"' not in world.server.value
    world.server.value = GARBAGE
    replica.step()
    assert "sss" not in replica.problem + repr(replica.ring.describe())
