"""Proves authz.feeds.shared.proofs: what the shared state says of a proof is the truth, and its silence no denial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event
from typing import cast

import pytest

from authz.core.dpop import ProofUse
from authz.core.needs import PROOF, Need, Unanswered
from authz.facts.breaker import MAX_FAILURES
from authz.facts.lane import LaneObserver, SourceLane
from authz.facts.proofs import ProofMemory
from authz.facts.source import SourceError
from authz.feeds.shared.proofs import SharedProofLane, SharedProofs, make_proof_source_lane
from authz.feeds.shared.state import Part, Reply, SharedStateError
from tests.fixtures import T

FIRST, REPLAYED = ProofUse
HANG = 300.0  # seconds after which a test that hangs is stopped


class FakeState:
    """Keys and their milliseconds; while it is *down*, nothing is answered."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.down = ""
        self.go_on = Event()
        self.go_on.set()

    def key(self, *names: str) -> str:
        return ":".join(names)

    def execute(self, *command: Part) -> Reply:
        raise AssertionError(command)

    def execute_all(self, commands: object) -> list[Reply]:
        raise AssertionError(commands)

    def create(self, key: str, *, milliseconds: int) -> bool:
        assert self.go_on.wait(HANG)
        if self.down:
            raise SharedStateError(self.down, "the server is away")
        created = key not in self.keys
        self.keys.setdefault(key, milliseconds)
        return created

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        raise AssertionError(key, old, new)

    def close(self) -> None:
        pass


class Observer:
    """Keeps the results of a lane."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.local = 0

    def on_cache_hit(self) -> None:
        raise AssertionError

    def on_answered(self, result: str, seconds: float) -> None:
        self.results.append(result)

    def on_refused(self, result: str) -> None:
        self.results.append(result)

    def count_local(self) -> None:
        self.local += 1


def use_of(name: str, *, until: float = T + 300) -> Need:
    """Return the need to know of a proof."""
    return Need(PROOF, "corp", name, payload=f"{until} thumbprint")


def memory() -> ProofMemory:
    """Return the memory of a process."""
    return ProofMemory(max_proofs=1000, now=lambda: float(T), monotonic=lambda: 0.0, secret=b"secret")


@contextmanager
def lane_to(state: FakeState, *, loosened: bool = False, observer: Observer | None = None) -> Iterator[SharedProofLane]:
    """Open the lane of one process."""
    seen = observer or Observer()
    as_observer: LaneObserver = seen
    source: SourceLane = make_proof_source_lane(state, timeout=HANG, max_waiting=8, observer=as_observer)
    try:
        yield SharedProofLane(source, used=memory(), falls_back=loosened, count_local=seen.count_local)
    finally:
        state.go_on.set()
        source.stop()


def ask(lane: SharedProofLane, need: Need) -> object:
    """Get the answer to one check, as the gatherer does."""
    found = lane.find(need)
    if found is not None:
        return found
    answers = SimpleQueue[object]()
    lane.ask(need, answers.put)
    return answers.get(timeout=HANG)


def test_a_proof_is_kept_until_no_replica_accepts_it() -> None:
    """Until its end, and longer: a check may take its time, and the clock of another replica may be behind."""
    state = FakeState()
    source = SharedProofs(state, now=lambda: float(T))
    assert source(use_of("a", until=T + 300)).value is FIRST
    assert source(use_of("b", until=T - 1)).value is FIRST
    assert state.keys == {"proof:a": 360_000, "proof:b": 60_000}
    assert source(use_of("a", until=T + 200)).value is REPLAYED
    assert source(use_of("a")).ttl == 0.0


def test_processes_share_what_was_used() -> None:
    """Used at one, a proof is a replay at all, and nothing is kept that another process could not know."""
    state, observer = FakeState(), Observer()
    with lane_to(state, observer=observer) as one, lane_to(state) as other:
        assert ask(one, use_of("a")) is FIRST
        assert ask(other, use_of("a")) is REPLAYED
        assert ask(one, use_of("a")) is REPLAYED
        assert ask(other, use_of("b")) is FIRST
    assert observer.results == ["first", "replayed"]


@pytest.mark.parametrize("loosened", [False, True])
def test_what_a_process_knows_to_be_used_it_asks_no_one_about(*, loosened: bool) -> None:
    """Its own use at once; that of another process once it was asked about. What is not known is no replay."""
    state = FakeState()
    with lane_to(state, loosened=loosened) as one, lane_to(state) as other:
        assert [lane.recall(use_of("a")) for lane in (one, other)] == [None, None]
        assert ask(one, use_of("a")) is FIRST
        assert [lane.recall(use_of("a")) for lane in (one, other)] == [REPLAYED, None]
        assert ask(other, use_of("a")) is REPLAYED
        assert other.recall(use_of("a")) is REPLAYED
        state.down = "timeout"
        ask(other, use_of("b"))
        assert other.recall(use_of("b")) is None
        state.down = ""
        assert ask(other, use_of("b")) is FIRST


@pytest.mark.parametrize("loosened", [False, True])
def test_a_replay_that_is_noted_first_takes_nothing_from_the_first_use(*, loosened: bool) -> None:
    """Two checks with one proof: the answer of the second may be noted before that of the first."""
    held = HeldAnswers()
    lane = SharedProofLane(cast("SourceLane", held), used=memory(), falls_back=loosened)
    answers: list[object] = []
    for _ in range(2):
        lane.ask(use_of("a"), answers.append)
    held.open[1](REPLAYED)
    held.open[0](FIRST)
    assert answers == [REPLAYED, FIRST]


class HeldAnswers:
    """Stands for what asks the shared state: each question waits for the test."""

    def __init__(self) -> None:
        self.open: list[Callable[[object], None]] = []

    def ask(self, _need: Need, done: Callable[[object], None]) -> None:
        self.open.append(done)


@pytest.mark.parametrize("result", ["unreachable", "timeout", "rejected"])
def test_a_silent_store_answers_nothing(result: str) -> None:
    """Neither first nor replayed, whatever this process has seen; after several failures at once."""
    state, observer = FakeState(), Observer()
    with lane_to(state, observer=observer) as lane:
        state.down = result
        answers = [ask(lane, use_of(str(number))) for number in range(MAX_FAILURES + 1)]
        assert all(isinstance(answer, Unanswered) for answer in answers)
        assert isinstance(lane.find(use_of("another")), Unanswered)
    assert observer.results == [result] * MAX_FAILURES + ["breaker_open"] * 2


def test_loosened_a_process_remembers_by_itself() -> None:
    """While the store is away a proof counts once here, is counted, and those of before are still known."""
    state, observer = FakeState(), Observer()
    with lane_to(state, loosened=True, observer=observer) as lane:
        assert ask(lane, use_of("before")) is FIRST
        state.down = "unreachable"
        answers = [ask(lane, use_of(name)) for name in ("before", "during", "during")]
        assert answers == [REPLAYED, FIRST, REPLAYED]
        assert observer.local == 3
        state.down = ""
        assert ask(lane, use_of("during")) is REPLAYED  # the store does not know it, this process does
        assert ask(lane, use_of("after")) is FIRST
        assert observer.local == 3


def test_loosened_the_store_is_still_the_truth() -> None:
    """What another process used is a replay here, and a full memory of our own takes nothing from a first use."""
    state = FakeState()
    full = ProofMemory(max_proofs=0, now=lambda: float(T), monotonic=lambda: 0.0, secret=b"secret")
    source = make_proof_source_lane(state, timeout=HANG, max_waiting=8, observer=Observer())
    lane = SharedProofLane(source, used=full, falls_back=True)
    with lane_to(state) as other:
        assert ask(other, use_of("a")) is FIRST
        assert ask(lane, use_of("a")) is REPLAYED
        assert ask(lane, use_of("b")) is FIRST
        state.down = "timeout"
        assert isinstance(ask(lane, use_of("c")), Unanswered)
    source.stop()


def test_a_failure_names_its_cause() -> None:
    """The operator reads what is wrong with the store, and the metric has a word for it."""
    state = FakeState()
    state.down = "unauthorized"
    with pytest.raises(SourceError, match="the server is away") as caught:
        SharedProofs(state, now=lambda: float(T))(use_of("a"))
    assert caught.value.result == "unauthorized"
