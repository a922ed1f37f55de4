"""Proves authz.facts.proofs: each proof counts once, nothing is forgotten early, and no one takes all the room."""

from __future__ import annotations

from threading import Barrier, Thread

from hypothesis import given
from hypothesis import strategies as st

from authz.core.dpop import ProofUse
from authz.core.needs import Unanswered
from authz.facts.proofs import ProofMemory
from tests.fixtures import T

FIRST, REPLAYED = ProofUse


class _Clocks:
    """A wall clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall = float(T)
        self.monotonic = 100.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def memory(clocks: _Clocks | None = None, max_proofs: int = 1000) -> ProofMemory:
    """Return an empty memory."""
    clocks = clocks or _Clocks()
    return ProofMemory(
        max_proofs=max_proofs, now=lambda: clocks.wall, monotonic=lambda: clocks.monotonic, secret=b"secret"
    )


def test_a_proof_counts_once() -> None:
    """The second time it is a replay, also if its sender claims that it is valid for longer."""
    proofs = memory()
    assert proofs.record("a", "key", T + 300) is FIRST
    assert proofs.record("a", "key", T + 300) is REPLAYED
    assert proofs.record("a", "key", T + 200) is REPLAYED
    assert proofs.record("b", "key", T + 300) is FIRST


def test_a_proof_is_forgotten_when_it_can_serve_no_more() -> None:
    """Until then it is known, whatever came in between."""
    clocks = _Clocks()
    proofs = memory(clocks)
    assert proofs.record("a", "key", T + 300) is FIRST
    for second in range(300):
        clocks.pass_by(1)
        assert proofs.record("a", "key", T + 300) is REPLAYED
        assert proofs.record(str(second), "key", clocks.wall + 300) is FIRST
    clocks.pass_by(300 + 60 + 16)
    assert proofs.record("another", "key", clocks.wall + 300) is FIRST
    assert len(proofs) == 1


def test_a_clock_that_is_set_forgets_nothing() -> None:
    """Set ahead by an hour and back again, or back: a proof that can serve again is still known."""
    for set_to in ((+3600, -3600), (-3600, 0)):
        clocks = _Clocks()
        proofs = memory(clocks)
        assert proofs.record("a", "key", T + 300) is FIRST
        clocks.wall += set_to[0]
        clocks.pass_by(10)
        assert proofs.record("b", "key", clocks.wall + 300) is FIRST
        clocks.wall += set_to[1]
        assert proofs.record("a", "key", T + 300) is REPLAYED
        clocks.pass_by(370)
        proofs.record("c", "key", clocks.wall + 300)
        assert proofs.record("a", "key", T + 300) is (REPLAYED if clocks.wall < T + 360 else FIRST)


def test_checks_that_waited_past_the_end_of_a_proof_use_it_once() -> None:
    """They came in time, and then waited for what an issuer says of the token: all of them with one proof."""
    clocks = _Clocks()
    proofs = memory(clocks)
    clocks.pass_by(20)
    assert proofs.record("a", "key", T + 1) is FIRST
    assert proofs.record("a", "key", T + 1) is REPLAYED
    clocks.pass_by(20)
    assert proofs.record("a", "key", T + 1) is REPLAYED


def test_a_full_memory_says_so() -> None:
    """It evicts nothing, and calls nothing a replay that is none; what it knows, it still knows."""
    proofs = memory(max_proofs=4)
    assert [proofs.record(str(index), str(index), T + 300) for index in range(4)] == [FIRST] * 4
    assert isinstance(proofs.record("one more", "key", T + 300), Unanswered)
    assert proofs.record("0", "0", T + 300) is REPLAYED
    assert len(proofs) == 4


def test_one_key_cannot_take_all_the_room() -> None:
    """Its holder may sign any number of proofs; others still find room."""
    proofs = memory(max_proofs=8)
    uses = [proofs.record(str(index), "greedy", T + 300 - 8 * index) for index in range(5)]
    assert uses[:4] == [FIRST] * 4
    assert isinstance(uses[4], Unanswered)
    assert proofs.record("another", "modest", T + 300) is FIRST


def test_of_two_threads_one_is_first() -> None:
    """The same proof at the same moment, again and again."""
    proofs = memory(max_proofs=10_000)
    uses: list[object] = []
    barrier = Barrier(2)

    def send() -> None:
        for index in range(300):
            barrier.wait()
            uses.append(proofs.record(f"proof {index}", "key", T + 300))

    threads = [Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert uses.count(FIRST) == uses.count(REPLAYED) == 300


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 400), st.integers(0, 50)), max_size=60))
def test_no_proof_serves_twice(sent: list[tuple[int, int, int]]) -> None:
    """For any history: between its first use and its end, a proof is never new again."""
    clocks = _Clocks()
    proofs = memory(clocks)
    ends: dict[int, float] = {}
    for name, lifetime, pause in sent:
        clocks.pass_by(pause)
        use = proofs.record(str(name), "key", clocks.wall + lifetime)
        if clocks.wall < ends.get(name, 0):
            assert use is REPLAYED
        if use is FIRST:
            ends[name] = clocks.wall + lifetime
