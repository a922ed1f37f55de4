"""Proves `--undo`: what an operator takes back, everywhere and in any order, and that nothing and no one else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.core.reasons import Reason
from authz.core.revocation import AddResult, RevocationEntry, RevokedBy
from authz.feeds.revocation_events import EVICTION_INTERVAL, FullError, NoSealError
from authz.feeds.revocation_records import HmacSeal, RevokeRecord, UndoRecord, new_id, write_record
from authz.feeds.revocation_sharing import NotSharedError
from authz.feeds.revoked_entries import RevokedEntries
from authz.feeds.shared.state import SharedStateError
from tests.fakes.clock import FakeClock
from tests.fakes.shared_state import FakeServer
from tests.fixtures import A, T
from tests.unit.feeds.replicas import KEY, SECRET, Replica, name_of, settings
from tests.unit.feeds.test_revocations import Pod

EVE = RevocationEntry(RevokedBy.SUBJECT, A, "eve", before=float(T))
BOB = RevocationEntry(RevokedBy.SUBJECT, A, "bob")
ENTRY = b"e"


@pytest.fixture
def clock() -> FakeClock:
    """The time of all."""
    return FakeClock(wall=float(T))


@pytest.fixture
def server(clock: FakeClock) -> FakeServer:
    """What all replicas share."""
    return FakeServer(clock.time)


def test_it_is_taken_back_everywhere(server: FakeServer, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """By any replica, also one that learnt of it, and for those that start later; the log says who and what."""
    replicas = [Replica(server, clock) for _ in range(3)]
    replicas[0].revoke(EVE, BOB)
    for replica in replicas:
        replica.read()
    assert replicas[1].undo(name_of(EVE)) == 1
    later = Replica(server, clock)
    for replica in (*replicas, later):
        replica.read()
        assert (replica.reason(), replica.look_up(BOB)) == (Reason.AUTHENTICATED, {"operator"})
    assert f"revocations of eve of {A} are taken back by operator" in caplog.text
    assert replicas[2].undo(name_of(EVE)) == 0


def test_what_an_issuer_revoked_stays_revoked(server: FakeServer, clock: FakeClock) -> None:
    """Also if it names the same: two sources say so, and one takes back what it said."""
    one = Replica(server, clock)
    one.log_out(EVE)
    one.revoke(EVE)
    assert one.undo(name_of(EVE)) == 1
    assert (one.reason(), one.look_up(EVE)) == (Reason.TOKEN_REVOKED, {"events"})
    assert one.undo(name_of(EVE)) == 0


def test_what_is_revoked_later_counts(server: FakeServer, clock: FakeClock) -> None:
    """However the clocks of the replicas differ; and who repeats an old record of the undo changes nothing."""
    one, behind = Replica(server, clock), Replica(server, clock, ahead=-3600)
    one.revoke(EVE)
    behind.read()
    one.undo(name_of(EVE))
    behind.read()
    old = server.streams[KEY][-1][1]
    assert behind.revoke(EVE) == 1
    server.write(KEY, *old)
    later = Replica(server, clock)
    for replica in (one, behind, later):
        replica.read()
        assert replica.reason() is Reason.TOKEN_REVOKED


def test_what_is_revoked_again_counts_although_it_was_known(server: FakeServer, clock: FakeClock) -> None:
    """Who repeats a revocation may not know yet that another replica has taken it back: theirs came later."""
    one, two = Replica(server, clock), Replica(server, clock)
    one.revoke(EVE)
    two.read()
    one.undo(name_of(EVE))
    assert two.revoke(EVE) == 0
    later = Replica(server, clock)
    for replica in (one, two, later):
        replica.read()
        assert replica.reason() is Reason.TOKEN_REVOKED
    assert one.undo(name_of(EVE)) == 1
    for replica in (one, two, later):
        replica.read()
        assert replica.reason() is Reason.AUTHENTICATED


def test_no_old_record_takes_back_what_is_revoked_at_a_replica_that_has_never_read_it(
    server: FakeServer, clock: FakeClock
) -> None:
    """Who can write to the server removes what was taken back, shows the entry alone, and the rest when it is used."""
    one = Replica(server, clock)
    one.revoke(EVE)
    one.undo(name_of(EVE))
    revoked, undone = server.streams.pop(KEY)
    server.write(KEY, *revoked[1])
    two = Replica(server, clock)
    two.read()
    two.revoke(EVE)
    server.write(KEY, *undone[1])
    for replica in (one, two):
        replica.read()
        assert replica.reason() is Reason.TOKEN_REVOKED


def test_two_operators_at_the_same_time(server: FakeServer, clock: FakeClock) -> None:
    """What one takes back is what it knew: the other's entry for the same name, which came meanwhile, counts."""
    one, two = Replica(server, clock), Replica(server, clock)
    one.revoke(EVE)
    two.revoke(EVE)
    one.undo(name_of(EVE))
    for replica in (one, two):
        replica.read()
        assert replica.reason() is Reason.TOKEN_REVOKED
    assert two.undo(name_of(EVE)) == 1
    for replica in (one, two):
        replica.read()
        assert replica.reason() is Reason.AUTHENTICATED


def test_the_order_of_arrival_does_not_matter(server: FakeServer, clock: FakeClock) -> None:
    """An entry that is read after what takes it back counts for nothing."""
    one = Replica(server, clock)
    one.revoke(EVE)
    one.undo(name_of(EVE))
    server.streams[KEY][0], server.streams[KEY][1] = (
        (server.streams[KEY][0][0], server.streams[KEY][1][1]),
        (server.streams[KEY][1][0], server.streams[KEY][0][1]),
    )
    later = Replica(server, clock)
    later.read()
    assert later.reason() is Reason.AUTHENTICATED


def test_a_restart_and_the_file_agree(server: FakeServer, clock: FakeClock, tmp_path: Path) -> None:
    """What was taken back is not revoked again by a file, also not after it was tidied, nor sent again."""
    one = Replica(server, clock, file=tmp_path / "1", max_lifetime="1h")
    one.read()
    one.revoke(EVE)
    one.undo(name_of(EVE))
    server.lose_everything()
    again = Replica(server, clock, file=tmp_path / "1")
    assert again.reason() is Reason.REVOCATIONS_UNAVAILABLE
    again.read(2)
    assert again.reason() is Reason.AUTHENTICATED
    assert b"entry" not in b"".join(fields[1] for _, fields in server.streams.get(KEY, []))


def test_without_a_secret_nothing_is_taken_back(server: FakeServer, clock: FakeClock) -> None:
    """For others could not tell it from what anyone writes to the server."""
    one = Replica(server, clock, secret=None)
    one.revoke(EVE)
    with pytest.raises(NoSealError, match=r"needs revocation\.shared\.secret_file"):
        one.undo(name_of(EVE))
    assert one.reason() is Reason.TOKEN_REVOKED


@pytest.mark.parametrize("secret", [None, b"of someone else, and just as long", SECRET])
def test_what_others_write_takes_nothing_back(
    server: FakeServer, clock: FakeClock, caplog: pytest.LogCaptureFixture, *, secret: bytes | None
) -> None:
    """Without the seal of a replica it is refused and counted; with one of these ids, and no other."""
    one, two = Replica(server, clock), Replica(server, clock)
    one.revoke(EVE)
    ids = tuple(one.revocations.events.entries.find_ids(name_of(EVE)))
    forged = UndoRecord(ids, T + 60.0)
    if secret is not None:
        forged = HmacSeal(secret).seal(forged)
    if secret is SECRET:
        forged = UndoRecord((*ids, new_id()), T + 60.0, HmacSeal(secret).seal(forged).seal)
    server.write(KEY, ENTRY, write_record(forged, "operator").encode())
    two.read()
    assert (two.reason(), two.count("invalid")) == (Reason.TOKEN_REVOKED, 1)
    assert "is not sealed by a replica" in caplog.text


def test_an_entry_is_one_line_of_the_file(server: FakeServer, clock: FakeClock, tmp_path: Path) -> None:
    """JSON may have line breaks: in the file, what stands between two of them would need no seal."""
    one = Replica(server, clock, file=tmp_path / "1")
    one.revoke(EVE)
    (id_,) = one.revocations.events.entries.find_ids(name_of(EVE))
    undo = write_record(UndoRecord((id_,), T + 60.0), "operator")
    sound = write_record(RevokeRecord(BOB), "operator")
    server.write(KEY, ENTRY, f'{sound[:-1]}, "more":\n{undo}\n}}'.encode())
    one.read()
    again = Replica(server, clock, file=tmp_path / "1")
    again.read()
    assert (again.reason(), one.count("invalid")) == (Reason.TOKEN_REVOKED, 1)


def test_a_forged_entry_with_a_known_id_hides_nothing(server: FakeServer, clock: FakeClock) -> None:
    """Both count, whichever comes first."""
    one = Replica(server, clock)
    one.revoke(EVE)
    (id_,) = one.revocations.events.entries.find_ids(name_of(EVE))
    real = server.streams[KEY].pop()
    server.write(KEY, ENTRY, write_record(RevokeRecord(BOB, id_), "operator").encode())
    server.write(KEY, *real[1])
    later = Replica(server, clock)
    later.read()
    assert (later.look_up(BOB), later.look_up(EVE)) == ({"operator"}, {"events"})


def test_without_the_server_it_is_taken_back_here_and_comes_later(server: FakeServer, clock: FakeClock) -> None:
    """The operator is informed of that."""
    one, two = Replica(server, clock), Replica(server, clock)
    one.revoke(EVE)
    two.read()
    server.failure = SharedStateError("timeout", "Timeout reading from socket")
    with pytest.raises(NotSharedError, match="Timeout"):
        one.undo(name_of(EVE))
    assert one.look_up(EVE) == set()
    server.failure = None
    one.read()
    two.read()
    assert two.reason() is Reason.AUTHENTICATED


def test_processes_of_a_pod_need_no_secret(tmp_path: Path) -> None:
    """They share a file of their own: one takes back, the others read it, and a restart knows it."""
    config = settings()
    one, two = (Pod(config, shared=tmp_path / "events") for _ in range(2))
    one.revocations.events.revoke([EVE], "operator", undoable=True)
    two.revocations.events.catch_up()
    assert two.revocations.events.undo([name_of(EVE)], "operator") == 1
    one.revocations.events.catch_up()
    for pod in (one, two, Pod(config, shared=tmp_path / "events")):
        assert pod.reason() is Reason.AUTHENTICATED


def test_the_last_ones_can_be_taken_back() -> None:
    """Older ones stay as they are, in force, and take no room from each other."""
    entries = RevokedEntries(5, max_undoable=2)
    ids = [new_id() for _ in range(4)]
    for id_, value in zip(ids, "abcd", strict=True):
        assert entries.apply(RevokeRecord(RevocationEntry(RevokedBy.SUBJECT, A, value), id_)) is AddResult.NEW
    assert [entry.value for entry in entries.list_undoable(9)] == ["d", "c"]
    assert entries.apply(UndoRecord((ids[0], ids[3]), T + 60.0)) is AddResult.NEW
    found = [
        table.look_up(RevokedBy.SUBJECT, A, value, T)
        for value in "abcd"
        for table in (entries.events, entries.operator)
    ]
    assert [each is not None for each in found] == [True, False, True, False, False, True, False, False]
    assert len(entries) == 3


def test_no_room_is_no_success() -> None:
    """Neither for an entry beyond the bound, nor for one more that is taken back: nothing known is forgotten."""
    entries = RevokedEntries(2, max_undoable=2)
    ids = [new_id() for _ in range(3)]
    for id_, value in zip(ids, "ab", strict=False):
        entries.apply(RevokeRecord(RevocationEntry(RevokedBy.SUBJECT, A, value), id_))
    assert entries.apply(RevokeRecord(RevocationEntry(RevokedBy.SUBJECT, A, "c"), ids[2])) is AddResult.FULL
    assert entries.apply(UndoRecord(tuple(ids), T + 60.0)) is AddResult.FULL
    assert len(entries) == 2
    entries.apply(UndoRecord(tuple(ids[:2]), T + 60.0))
    assert entries.apply(UndoRecord((ids[2],), T + 60.0)) is AddResult.FULL
    entries.evict_expired(T + 61.0)
    assert entries.apply(UndoRecord((ids[2],), T + 60.0)) is AddResult.NEW


def test_undoing_too_much_is_refused(server: FakeServer, clock: FakeClock) -> None:
    """The operator learns that it was not taken back."""
    one = Replica(server, clock)
    one.revoke(EVE)
    object.__setattr__(one.revocations.events.entries, "_max_undoable", 0)
    with pytest.raises(FullError, match="too many revocations were taken back"):
        one.undo(name_of(EVE))
    assert one.look_up(EVE) == {"operator"}


def test_entries_of_one_name_end_one_by_one(clock: FakeClock) -> None:
    """A shorter one that is left, or that ends, changes no other of that name."""
    entries = RevokedEntries(9)
    ids = [new_id() for _ in range(3)]
    for id_, before, hours in zip(ids, (T, T + 60, T + 120), (1, 2, 3), strict=True):
        entry = RevocationEntry(RevokedBy.SUBJECT, A, "eve", float(before), T + hours * 3600.0)
        assert entries.apply(RevokeRecord(entry, id_)) is AddResult.NEW
    entries.apply(UndoRecord((ids[2],), T + 9999.0))
    assert entries.operator.look_up(RevokedBy.SUBJECT, A, "eve", T) == (T + 60.0, T + 7200.0)
    entries.evict_expired(T + 3601.0)
    assert entries.operator.look_up(RevokedBy.SUBJECT, A, "eve", T) == (T + 60.0, T + 7200.0)
    entries.evict_expired(T + 7200.0)
    assert len(entries) == 0
    clock.advance(EVICTION_INTERVAL)
