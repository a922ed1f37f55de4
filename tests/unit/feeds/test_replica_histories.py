"""Proves that replicas agree after any history: what a sender was promised is revoked everywhere, and stays revoked."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from authz.core.revocation import RevocationEntry, RevokedBy
from authz.feeds.revocation_sharing import NotSharedError
from authz.feeds.shared.state import SharedStateError
from tests.fakes.clock import FakeClock
from tests.fakes.shared_state import FakeServer
from tests.fixtures import A, T
from tests.unit.feeds.replicas import Replica, name_of

REPLICAS = 3
which = st.integers(0, REPLICAS - 1)
names = st.sampled_from(["alice", "bob", "eve"])
befores = st.sampled_from([None, T - 60.0, float(T), T + 60.0])


def entry(name: str, before: float | None = None) -> RevocationEntry:
    """An entry of a subject."""
    return RevocationEntry(RevokedBy.SUBJECT, A, name, before)


class Histories(RuleBasedStateMachine):
    """Replicas that revoke, take back, read, restart and have clocks of their own, and a server that fails."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="replicas-")
        self.clock = FakeClock(wall=float(T))
        self.server = FakeServer(self.clock.time)
        self.promised: dict[str, float] = {}  # by name, until which time of issue; by issuers
        self.ordered: set[str] = set()  # by name; by operators, who took nothing of that name back
        self.known: list[dict[str, tuple[float | None, float]]] = [{} for _ in range(REPLICAS)]

    @initialize(files=st.booleans(), ahead=st.lists(st.sampled_from([0.0, -7200.0, 7200.0]), min_size=3, max_size=3))
    def start(self, files: bool, ahead: list[float]) -> None:  # noqa: FBT001 - generated
        self.files, self.ahead = files, ahead
        self.replicas = [self.make(number) for number in range(REPLICAS)]

    def make(self, number: int) -> Replica:
        """Start a replica, with what its file has."""
        file = Path(self.folder.name) / str(number) if self.files else None
        return Replica(self.server, self.clock, file=file, ahead=self.ahead[number])

    @rule(number=which, name=names, before=befores)
    def log_out(self, number: int, name: str, before: float | None) -> None:
        with suppress(NotSharedError):
            self.replicas[number].log_out(entry(name, before))
            until = float("inf") if before is None else before
            self.promised[name] = max(self.promised.get(name, 0.0), until)

    @rule(number=which, name=names)
    def revoke(self, number: int, name: str) -> None:
        with suppress(NotSharedError):
            self.replicas[number].revoke(entry(name))
            self.ordered.add(name)

    @rule(number=which, name=names)
    def undo(self, number: int, name: str) -> None:
        self.ordered.discard(name)
        with suppress(NotSharedError):
            self.replicas[number].undo(name_of(entry(name)))

    @rule(number=which)
    def read(self, number: int) -> None:
        self.replicas[number].read()

    @rule(number=which)
    def restart(self, number: int) -> None:
        self.replicas[number] = self.make(number)
        if not self.files:
            self.known[number] = {}

    @rule(seconds=st.sampled_from([1, 60, 3600]))
    def wait(self, seconds: int) -> None:
        if self.clock.time() < T + 40_000:  # all entries are of less than a day
            self.clock.advance(seconds)

    @rule(failing=st.booleans(), lose_replies=st.booleans())
    def fail(self, failing: bool, lose_replies: bool) -> None:  # noqa: FBT001 - generated
        self.server.failure = SharedStateError("unreachable", "Connection refused") if failing else None
        self.server.lose_replies = lose_replies

    @precondition(lambda self: self.files)
    @rule()
    def lose(self) -> None:
        self.server.lose_everything()

    @invariant()
    def no_replica_forgets(self) -> None:
        """What an issuer revoked here is revoked here, whatever comes from the server."""
        for number, replica in enumerate(getattr(self, "replicas", [])):
            known = self.known[number]
            for name in ("alice", "bob", "eve"):
                now = replica.revocations.events.entries.events.look_up(RevokedBy.SUBJECT, A, name, self.clock.time())
                if name in known:
                    assert now is not None
                    assert _reach(now) >= _reach(known[name])
                if now is not None:
                    known[name] = now

    def teardown(self) -> None:
        """At last the server answers, and all read: they agree, and every promise is kept, for a new replica too."""
        self.server.failure = None
        for _ in range(6):
            for replica in self.replicas:
                replica.read(3)
            self.clock.advance(11)
        latest = Replica(self.server, self.clock)
        latest.read(3)
        views = [self.view(replica) for replica in (*self.replicas, latest)]
        assert all(view == views[0] for view in views), views
        for name, until in self.promised.items():
            reaches = [reach for source, reach in views[0][name] if source == "events"]
            assert reaches
            assert reaches[0] >= until
        assert all("operator" in dict(views[0][name]) for name in self.ordered)
        self.folder.cleanup()

    def view(self, replica: Replica) -> dict[str, list[tuple[str, float]]]:
        """By which sources each name is revoked, until which time of issue."""
        found = {name: replica.revocations.look_up(name_of(entry(name))) for name in ("alice", "bob", "eve")}
        return {
            name: sorted((source, _reach((times["before"], 0.0))) for source, times in by.items())
            for name, by in found.items()
        }


def _reach(found: tuple[float | None, float]) -> float:
    return float("inf") if found[0] is None else found[0]


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_replicas_agree_after_any_history = Histories.TestCase
