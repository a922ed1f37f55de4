"""Proves that replicas share revocations: each learns what others accepted, whatever happens to the server or to it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from authz.core.reasons import Reason
from authz.core.revocation import RevocationEntry, RevokedBy
from authz.feeds.revocation_sharing import BLOCK_SECONDS, MAX_PENDING, TRIM_INTERVAL, NotSharedError
from authz.feeds.revocations import OPERATOR
from authz.feeds.shared.event_log import MAX_READ
from authz.feeds.shared.state import SharedStateError
from tests.fakes.clock import FakeClock
from tests.fakes.shared_state import FakeServer
from tests.fixtures import A, T, mint
from tests.unit.feeds.replicas import KEY, Replica

EVE = RevocationEntry(RevokedBy.SUBJECT, A, "eve")
SESSION = RevocationEntry(RevokedBy.SESSION, A, "s1")
AWAY = SharedStateError("unreachable", "shared state at valkey:6379: Connection refused")
OTHER = mint(exp=T + 10**6)


@pytest.fixture
def clock() -> FakeClock:
    """The time, for all but those whose clock is ahead."""
    return FakeClock(wall=float(T))


@pytest.fixture
def server(clock: FakeClock) -> FakeServer:
    """What all replicas share."""
    return FakeServer(clock.time)


def test_an_event_reaches_every_replica(server: FakeServer, clock: FakeClock) -> None:
    """Whoever accepts it: the others have it with their next read, and its own copy is nothing new."""
    replicas = [Replica(server, clock) for _ in range(3)]
    for replica in replicas:
        replica.read()
    assert replicas[0].log_out(SESSION) == 1
    assert [replica.reason() for replica in replicas] == [Reason.TOKEN_REVOKED, *[Reason.AUTHENTICATED] * 2]
    for replica in replicas:
        replica.read()
    assert [replica.reason() for replica in replicas] == [Reason.TOKEN_REVOKED] * 3
    assert [replica.count("accepted") for replica in replicas] == [None, 1, 1]
    assert replicas[2].log_out(SESSION) == 0


def test_a_replica_that_starts_knows_what_is_revoked_or_denies(server: FakeServer, clock: FakeClock) -> None:
    """It is not ready, and answers 503, until it has read everything, however much that is."""
    first = Replica(server, clock)
    first.log_out(*[RevocationEntry(RevokedBy.TOKEN, A, f"no {number}") for number in range(MAX_READ)], SESSION)
    later = Replica(server, clock)
    assert (later.reason(OTHER), later.revocations.waiting_for()) == (Reason.REVOCATIONS_UNAVAILABLE, ["shared_state"])
    later.read()
    assert (later.reason(OTHER), later.revocations.waiting_for()) == (Reason.REVOCATIONS_UNAVAILABLE, ["shared_state"])
    later.read()
    assert (later.reason(OTHER), later.revocations.waiting_for()) == (Reason.AUTHENTICATED, [])
    assert later.reason() is Reason.TOKEN_REVOKED
    assert later.metric("authz_revocation_last_success_timestamp_seconds", source="shared_state") == T


def test_unused_it_costs_a_check_nothing(server: FakeServer, clock: FakeClock) -> None:
    """After an empty stream was read there is no source; the last entry that ends takes its source away too."""
    replica = Replica(server, clock, max_lifetime="1h")
    assert len(replica.store.current().revocations) == 1
    replica.read()
    assert replica.store.current().revocations == ()
    replica.revoke(EVE)
    assert len(replica.store.current().revocations) == 1
    clock.advance(3 * 3600)
    replica.read()
    replica.revocations.events.step()
    assert replica.store.current().revocations == ()


def test_without_the_server_an_event_counts_here_and_comes_later(
    server: FakeServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its sender is informed, each time that it comes again; a metric says how many wait; then others get it."""
    caplog.set_level(logging.INFO)
    one, two = Replica(server, clock), Replica(server, clock)
    for replica in (one, two):
        replica.read()
    server.failure = AWAY
    for _ in range(2):
        with pytest.raises(NotSharedError, match="Connection refused"):
            one.log_out(SESSION)
    assert one.reason() is Reason.TOKEN_REVOKED
    assert one.count("unshared", "logout of a") == 2
    assert one.metric("authz_revocations_unshared") == 1
    one.read(3)
    server.failure = None
    one.read()
    two.read()
    assert two.reason() is Reason.TOKEN_REVOKED
    assert (one.log_out(SESSION), one.metric("authz_revocations_unshared")) == (0, 0)
    messages = [record.message for record in caplog.records]
    assert messages.count(f"1 revocations are in effect here, and not shared yet: {AWAY}") == 1
    assert messages.count("all revocations that waited are shared") == 1


def test_a_lost_reply_makes_two_copies_and_no_harm(server: FakeServer, clock: FakeClock) -> None:
    """The server has the event, and nothing was heard of it: it is sent again, and others take it once."""
    one, two = Replica(server, clock), Replica(server, clock)
    server.failure, server.lose_replies = AWAY, True
    with pytest.raises(NotSharedError):
        one.log_out(SESSION)
    server.failure = None
    one.read()
    two.read()
    assert len(server.streams[KEY]) == 2
    assert (two.count("accepted"), two.count("known")) == (1, 1)


def test_as_many_events_wait_as_there_is_room_for(server: FakeServer, clock: FakeClock) -> None:
    """The senders of the others are informed; if they send them again, these go out too."""
    one, two = Replica(server, clock), Replica(server, clock)
    server.failure = AWAY
    entries = [RevocationEntry(RevokedBy.TOKEN, A, f"no {number}") for number in range(MAX_PENDING + 1)]
    with pytest.raises(NotSharedError):
        one.log_out(*entries)
    assert one.metric("authz_revocations_unshared") == MAX_PENDING
    server.failure = None
    one.read()
    assert len(server.streams[KEY]) == MAX_PENDING
    assert one.log_out(entries[-1]) == 0
    two.read(MAX_PENDING // MAX_READ + 1)
    assert two.look_up(entries[-1]) == {"events"}


def test_a_server_that_refuses_to_write_is_no_success(server: FakeServer, clock: FakeClock) -> None:
    """Reading goes on, and each read tries once to send what waits."""
    one = Replica(server, clock)
    one.read()
    one.sharing.events.length = one.sharing.events.max_lines  # so long that no more is written
    with pytest.raises(NotSharedError, match="the stream authz:revocations has 4000000 lines"):
        one.log_out(SESSION)
    one.read()
    one.read()
    assert one.metric("authz_revocations_unshared") == 0


@pytest.mark.parametrize("required", [True, False])
def test_what_is_too_old_is_not_relied_on(server: FakeServer, clock: FakeClock, *, required: bool) -> None:
    """After max_stale without a read other tokens get 503, unless the operator wants them to pass; a read ends that."""
    replica = Replica(server, clock, shared={"required": required, "max_stale": "1m"})
    replica.log_out(SESSION)
    replica.read()
    server.failure = AWAY
    then = {}
    for seconds in (59, 60, 61):
        clock.advance(61 if seconds == 61 else 0.5 if seconds == 60 else 59)
        replica.read()
        then[seconds] = replica.reason(OTHER)
    assert then[60] is Reason.AUTHENTICATED
    assert then[61] is (Reason.REVOCATIONS_UNAVAILABLE if required else Reason.AUTHENTICATED)
    assert replica.reason() is Reason.TOKEN_REVOKED
    server.failure = None
    replica.read()
    assert replica.reason(OTHER) is Reason.AUTHENTICATED


def test_pauses_grow_and_end(server: FakeServer, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A server that is away is tried again and again, in pauses up to two seconds, and one line says so."""
    replica = Replica(server, clock)
    server.failure = AWAY
    pauses = [replica.read() for _ in range(8)]
    assert pauses == sorted(pauses)
    assert 0.05 < pauses[0] < 0.2
    assert 1.0 <= pauses[-1] <= 2.0
    assert caplog.text.count("shared revocations cannot be read") == 1
    server.failure = None
    assert replica.read() == 0.0
    assert replica.read() > 0.0  # this server does not wait for events: it must not cost a whole CPU
    assert BLOCK_SECONDS < 2


def test_a_server_that_lost_its_data_gets_it_back(server: FakeServer, clock: FakeClock, tmp_path: Path) -> None:
    """From the files of the replicas, once; a replica that starts then knows everything. The loss is counted."""
    one, two = Replica(server, clock, file=tmp_path / "1"), Replica(server, clock, file=tmp_path / "2")
    for replica in (one, two):
        replica.read()
    one.log_out(SESSION)
    two.read()
    two.log_out(EVE)
    one.read()
    server.lose_everything()
    one.read(3)
    two.read(3)
    assert (one.count("lost"), two.count("lost")) == (1, 1)
    assert len(server.streams[KEY]) == 2
    later = Replica(server, clock)
    later.read()
    assert (later.look_up(SESSION), later.look_up(EVE)) == ({"events"}, {"events"})


def test_a_server_whose_last_second_is_missing_gets_it_back(
    server: FakeServer, clock: FakeClock, tmp_path: Path
) -> None:
    """It ends before what was read: it is the same server, with less."""
    one = Replica(server, clock, file=tmp_path / "1")
    one.read()
    for entry in (SESSION, EVE):
        one.log_out(entry)
        one.read()
    server.streams[KEY].pop()
    one.read(3)
    assert one.count("lost") == 1
    assert len(server.streams[KEY]) == 2


def test_a_server_with_an_earlier_clock_is_still_read(server: FakeServer, clock: FakeClock) -> None:
    """Its new events have ids below what was read of the last one: they are not skipped."""
    one = Replica(server, clock)
    one.read()
    one.log_out(SESSION)
    one.read()
    server.lose_everything()
    server.now = lambda: clock.time() - 3600
    two = Replica(server, clock)
    two.read()
    two.log_out(EVE)
    one.read(3)
    assert one.look_up(EVE) == {"events"}


def test_what_waited_in_a_process_that_ended_is_in_its_file(
    server: FakeServer, clock: FakeClock, tmp_path: Path
) -> None:
    """The next process of that pod sends it; what the stream has already is not sent again."""
    one = Replica(server, clock, file=tmp_path / "1")
    one.read()
    one.log_out(EVE)
    server.failure = AWAY
    with pytest.raises(NotSharedError):
        one.log_out(SESSION)
    server.failure = None
    again, two = Replica(server, clock, file=tmp_path / "1"), Replica(server, clock)
    again.read(2)
    two.read()
    assert two.look_up(SESSION) == {"events"}
    assert len(server.streams[KEY]) == 2


def test_a_file_makes_up_for_a_server_that_is_away_at_the_start(
    server: FakeServer, clock: FakeClock, tmp_path: Path
) -> None:
    """It has what other replicas revoked too; required or not, that is in force at once."""
    one, two = Replica(server, clock), Replica(server, clock, file=tmp_path / "2")
    one.log_out(SESSION)
    two.read()
    server.failure = AWAY
    again = Replica(server, clock, file=tmp_path / "2", shared={"required": False})
    assert (again.reason(), again.reason(OTHER)) == (Reason.TOKEN_REVOKED, Reason.AUTHENTICATED)


@pytest.mark.parametrize(
    ("server_ahead", "ours_ahead", "keeps_old"),
    [(0, 0, False), (10**6, 0, True), (0, 10**6, False), (-(10**6), 0, False)],
)
def test_what_is_over_is_removed_and_nothing_younger(
    clock: FakeClock, server_ahead: float, ours_ahead: float, *, keeps_old: bool
) -> None:
    """If the clock of the server or of a replica is wrong, more is kept, never less."""
    server = FakeServer(lambda: clock.time() + server_ahead)
    replica = Replica(server, clock, ahead=ours_ahead, max_lifetime="1h")
    replica.log_out(EVE)
    clock.advance(3600)
    replica.log_out(SESSION)
    replica.read()
    clock.advance(3600)
    replica.log_out(RevocationEntry(RevokedBy.TOKEN, A, "last"))
    clock.advance(2 * TRIM_INTERVAL)
    replica.read(2)
    kept = b"".join(fields[1] for _, fields in server.streams[KEY])
    assert b'"s1"' in kept
    assert (b'"eve"' in kept) is keeps_old


def test_a_flood_of_others_is_bounded(server: FakeServer, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Here too a full table refuses and forgets nothing; the log is short, and reading pauses after each full reply."""
    replica = Replica(server, clock, max_entries=2)
    replica.read()
    replica.log_out(SESSION)
    other = Replica(server, clock)
    other.log_out(*[RevocationEntry(RevokedBy.TOKEN, A, f"no {number}") for number in range(3 * MAX_READ)])
    assert replica.read() > 0
    replica.read(3)
    assert replica.reason() is Reason.TOKEN_REVOKED
    assert replica.count("full") == 3 * MAX_READ - 1
    assert caplog.text.count("no room") <= 10


def test_reading_survives_what_it_calls(server: FakeServer, clock: FakeClock) -> None:
    """A thread reads until it is stopped, and lets go of its connection then."""
    replica = Replica(server, clock)
    replica.revocations.start()
    replica.revocations.stop()
    thread = replica.sharing._thread
    assert thread is not None
    assert not thread.is_alive()


def test_an_error_of_ours_does_not_end_sending(
    server: FakeServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender is informed, the log has it once with its traceback, and what waits goes out when it can."""
    replica = Replica(server, clock)
    replica.read()
    server.failure = ZeroDivisionError("of ours")
    with pytest.raises(NotSharedError, match="an error of ours: ZeroDivisionError"):
        replica.revocations.events.revoke([EVE], OPERATOR)
    assert "sending shared revocations failed" in caplog.text
    server.failure = None
    replica.read()
    assert len(server.streams[KEY]) == 1


def test_without_threads_an_event_is_not_called_shared(server: FakeServer, clock: FakeClock) -> None:
    """A system that can start no thread cannot send; the sender is informed, and it goes out later."""
    replica = Replica(server, clock)
    replica.read()
    env = replica.sharing._env

    def refuse(_run: object) -> None:
        raise RuntimeError("can't start new thread")

    spawn = env.spawn
    object.__setattr__(env, "spawn", refuse)
    with pytest.raises(NotSharedError, match="can't start new thread"):
        replica.revocations.events.revoke([EVE], OPERATOR)
    object.__setattr__(env, "spawn", spawn)
    replica.read()
    assert len(server.streams[KEY]) == 1
