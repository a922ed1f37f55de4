"""Proves that entries in the shared state are data from outside: none crashes, none hides another, none takes back."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.reasons import Reason
from authz.core.revocation import RevocationEntry, RevokedBy
from authz.core.revocation_entries import write_entry
from authz.feeds.revocation_records import (
    MAX_LINE,
    MAX_UNDONE,
    HmacSeal,
    RevokeRecord,
    UndoRecord,
    digest_line,
    parse_record,
    write_record,
)
from authz.feeds.shared.event_log import EventLog
from authz.feeds.shared.state import Reply, SharedStateError
from tests.fakes.clock import FakeClock
from tests.fakes.shared_state import FakeClient, FakeServer
from tests.fixtures import A, T
from tests.unit.feeds.replicas import KEY, TOKEN, Replica

SESSION = RevocationEntry(RevokedBy.SESSION, A, "s1")
SOUND = write_record(RevokeRecord(SESSION), "logout of a").encode()
IDS = ["0123456789abcdef"]

HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b'{"entry": null}',
    b'{"entry": {"iss": "https://a.test", "sub": "eve", "before": -1}}',
    b'{"entry": {"iss": "https://a.test", "sub": "eve", "before": NaN}}',
    b'{"entry": {"iss": "https://a.test", "sub": "eve", "sid": "s"}}',
    b'{"entry": {"iss": "https://a.test", "sub": 7}}',
    b'{"entry": {"iss": "https://a.test", "sub": "eve"}, "id": 7}',
    b'{"entry": {"iss": "https://a.test", "sub": "eve"}, "id": "0123456789ABCDEF"}',
    b'{"entry": {"iss": "https://a.test", "sub": "eve", "undo": true}}',
    b"[" * 50_000,
    b'{"source": "' + b"x" * MAX_LINE + b'"}',
    json.dumps({"undo": IDS, "until": T + 60}).encode(),
    json.dumps({"undo": IDS, "until": T + 60, "seal": "0" * 64}).encode(),
    json.dumps({"undo": IDS, "until": T + 60, "seal": 7}).encode(),
    json.dumps({"undo": IDS, "until": True}).encode(),
    json.dumps({"undo": IDS, "until": 1e300}).encode(),
    json.dumps({"undo": [], "until": T + 60}).encode(),
    json.dumps({"undo": IDS * (MAX_UNDONE + 1), "until": T + 60}).encode(),
    json.dumps({"undo": "all", "until": T + 60}).encode(),
    json.dumps({"undo": [None], "until": T + 60}).encode(),
]


@pytest.fixture
def clock() -> FakeClock:
    """The time of all."""
    return FakeClock(wall=float(T))


@pytest.fixture
def server(clock: FakeClock) -> FakeServer:
    """What all replicas share."""
    return FakeServer(clock.time)


@pytest.mark.parametrize("line", HOSTILE, ids=lambda line: line[:60].decode("latin-1"))
def test_what_is_no_record_is_refused(server: FakeServer, clock: FakeClock, line: bytes) -> None:
    """It is counted, and those before and behind it count."""
    server.write(KEY, b"e", SOUND)
    server.write(KEY, b"e", line)
    server.write(KEY, b"e", write_record(RevokeRecord(RevocationEntry(RevokedBy.SUBJECT, A, "bob")), "x").encode())
    replica = Replica(server, clock)
    replica.read()
    assert (replica.count("invalid"), replica.count("accepted")) == (1, 2)
    assert replica.reason() is Reason.TOKEN_REVOKED


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_text_is_more_than_refused(line: bytes) -> None:
    """Reading raises ValueError or returns a record, whatever it gets."""
    with suppress(ValueError):
        parse_record(line)


@given(
    st.sampled_from(list(RevokedBy)).filter(lambda by: by not in {RevokedBy.DIGEST, RevokedBy.EMAIL}),
    st.text(min_size=1, max_size=1024, alphabet=st.characters(exclude_categories=["Cs"])),
    st.none() | st.integers(0, 2**32).map(float),
    st.booleans(),
)
def test_what_is_written_is_read(by: RevokedBy, value: str, before: float | None, undoable: bool) -> None:  # noqa: FBT001 - generated
    """Every record comes back as it was, within the bound of a line."""
    record = RevokeRecord(RevocationEntry(by, value, value, before, T + 60.0), IDS[0] if undoable else None)
    line = write_record(record, "signals of hub").encode()
    assert len(line) < MAX_LINE
    assert parse_record(line) == record
    undo = HmacSeal(b"s" * 32).seal(UndoRecord((IDS[0],), T + 60.125))
    read = parse_record(write_record(undo, "operator").encode())
    assert read == undo
    assert isinstance(read, UndoRecord)
    assert HmacSeal(b"s" * 32).matches(read)
    assert not HmacSeal(b"t" * 32).matches(read)


def test_other_fields_are_no_entry(server: FakeServer, clock: FakeClock) -> None:
    """Entries that others write for purposes of their own are refused like any other."""
    server.write(KEY, b"field", b"value")
    server.write(KEY, b"e", SOUND, b"more", b"x")
    server.write(KEY, b"e", SOUND)
    replica = Replica(server, clock)
    replica.read()
    assert (replica.count("invalid"), replica.count("accepted")) == (2, 1)


def test_it_is_kept_no_longer_than_an_event(server: FakeServer, clock: FakeClock) -> None:
    """Whatever it says: after max_lifetime the table has room again. What is over is not taken at all."""
    for until in (None, T + 10**9, T - 1):
        members = {**json.loads(write_entry(SESSION)), "sid": f"s{until}"}
        server.write(KEY, b"e", json.dumps({"entry": members | ({"until": until} if until else {})}).encode())
    replica = Replica(server, clock, max_lifetime="1h")
    replica.read()
    assert (replica.count("accepted"), replica.count("known")) == (2, 1)
    clock.advance(3 * 3600)
    replica.revocations.events.step()
    assert replica.revocations.count()["events"] == 0


ENDLESS = [None, T + 10**9]


def endless(until: int | None, **members: object) -> bytes:
    """A line that ends a session for ever, or for decades."""
    entry = {**json.loads(write_entry(SESSION)), **({"until": until} if until else {})}
    return json.dumps({"source": "x", "entry": entry, **members}).encode()


@pytest.mark.parametrize("until", ENDLESS)
def test_an_entry_without_an_end_has_the_same_end_after_every_restart(
    server: FakeServer, clock: FakeClock, tmp_path: Path, until: int | None
) -> None:
    """It ends an event's lifetime after it was first read, although it is read again at each start."""
    server.write(KEY, b"e", endless(until))
    for revoked in [{"events"}] * 4 + [set()] * 2:
        replica = Replica(server, clock, file=tmp_path / "events", max_lifetime="12h")
        replica.read()
        assert replica.look_up(SESSION) == revoked
        clock.advance(3.5 * 3600)


@pytest.mark.parametrize("until", ENDLESS)
def test_an_entry_without_an_end_is_none_in_the_file(
    server: FakeServer, clock: FakeClock, tmp_path: Path, until: int | None
) -> None:
    """If it was removed from the shared state, what a replica has written of it ends too."""
    server.write(KEY, b"e", endless(until))
    Replica(server, clock, file=tmp_path / "events", max_lifetime="12h").read()
    server.lose_everything()
    clock.advance(13 * 3600)
    replica = Replica(server, clock, file=tmp_path / "events", max_lifetime="12h")
    replica.read()
    assert (replica.reason(), replica.revocations.count()["events"]) == (Reason.AUTHENTICATED, 0)
    assert server.streams.get(KEY, []) == []


def test_an_entry_that_got_an_end_is_not_sent_again_unless_it_was_lost(
    server: FakeServer, clock: FakeClock, tmp_path: Path
) -> None:
    """Its line in the file is another one, which is known to be of the same entry; lost, it comes back with the end."""
    server.write(KEY, b"e", endless(None))
    for name in ("one", "two", "one", "two"):
        Replica(server, clock, file=tmp_path / name, max_lifetime="12h").read()
    assert len(server.streams[KEY]) == 1
    server.lose_everything()
    for name in ("one", "two", "one", "two"):
        clock.advance(60)  # by turns: one that sends keeps the others waiting
        Replica(server, clock, file=tmp_path / name, max_lifetime="12h").read(2)
    (line,) = {line for _, line in lines_of(server)}
    record = parse_record(line)
    assert isinstance(record, RevokeRecord)
    assert record.until == T + 12 * 3600 + 30


def test_the_same_entry_again_and_again_fills_no_disk(server: FakeServer, clock: FakeClock, tmp_path: Path) -> None:
    """Each has an id of its own, so each counts as new; the file has room for some, and the rest is counted."""
    for number in range(5_000):
        server.write(KEY, b"e", write_record(RevokeRecord(SESSION, f"{number:016x}"), "x").encode())
    replica = Replica(server, clock, file=tmp_path / "events", max_entries=1000)
    while replica.count("accepted") != 5_000:
        replica.read()
    assert replica.reason() is Reason.TOKEN_REVOKED
    assert len((tmp_path / "events").read_bytes().splitlines()) == 4 * 1000
    assert replica.count("unsaved") == 1000


@pytest.mark.parametrize("of", [digest_line(SOUND), 7, "0", "A" * 32])
def test_an_entry_shortens_no_other_one(server: FakeServer, clock: FakeClock, tmp_path: Path, of: object) -> None:
    """Although it says that it is the end of another line: what others write of that does not count, or is refused."""
    server.write(KEY, b"e", endless(T + 60, of=of))
    Replica(server, clock, file=tmp_path / "events").read()
    server.write(KEY, b"e", SOUND)
    clock.advance(3600)
    replica = Replica(server, clock, file=tmp_path / "events")
    replica.read()
    assert replica.reason() is Reason.TOKEN_REVOKED


def test_a_replica_whose_clock_is_behind_writes_what_it_read(
    server: FakeServer, clock: FakeClock, tmp_path: Path
) -> None:
    """What another one sent with an end by its own clock is no entry without an end."""
    Replica(server, clock).log_out(SESSION)
    late = Replica(server, clock, file=tmp_path / "events", ahead=-1800.0)
    late.read()
    assert (tmp_path / "events").read_bytes().splitlines() == [line for _, line in lines_of(server)]


def test_the_file_forgets_the_end_of_an_entry_that_the_server_has_forgotten(
    server: FakeServer, clock: FakeClock, tmp_path: Path
) -> None:
    """It is written for as long as the entry may be there without an end, and no longer."""
    for number in range(1100):
        entry = {"iss": A, "sub": f"s{number}"}
        server.write(KEY, b"e", json.dumps({"entry": entry}).encode())
    replica = Replica(server, clock, file=tmp_path / "events", max_lifetime="1h")
    replica.read(3)
    for hours, left in ((2, 1100), (3, 0)):
        clock.advance(hours * 3600)
        replica.revocations.events.step()
        assert len((tmp_path / "events").read_bytes().splitlines()) == left


def lines_of(server: FakeServer) -> list[tuple[object, bytes]]:
    """What the stream has: ids and lines."""
    return [(name, fields[1]) for name, fields in server.streams[KEY]]


SHAPES: list[Reply] = [
    None,
    b"OK",
    7,
    [7],
    [[b"1-1"]],
    [[b"one", []]],
    [[b"1-1", 7]],
    [[b"99999999999999999999999-1", []]],
    [[1, [b"e", b"x"]]],
]


class Odd(FakeClient):
    """A client of a server that answers one command in another way."""

    def __init__(self, server: FakeServer, command: str, reply: Reply) -> None:
        super().__init__(server)
        self._odd = {command: reply}

    def execute_all(self, commands):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as in the class above
        return [self._odd.get(str(command[0]), self.server.execute(*command)) for command in commands]


@pytest.mark.parametrize("command", ["XREAD", "XREVRANGE"])
@pytest.mark.parametrize("reply", SHAPES, ids=str)
def test_a_reply_of_another_shape_is_a_failure(
    server: FakeServer, clock: FakeClock, command: str, reply: Reply
) -> None:
    """Of the server, not of the reader, which stays where it was."""
    shaped = [[KEY.encode(), reply]] if command == "XREAD" and isinstance(reply, list) else reply
    server.write(KEY, b"e", SOUND)
    log = EventLog("revocations", reader=Odd(server, command, shaped), writer=server.client(), now=clock.time)
    if command == "XREAD" and reply is None:
        assert log.read(seconds=0).lines == ()
        return
    with pytest.raises(SharedStateError) as caught:
        log.read(seconds=0)
    assert caught.value.result == "unreadable"
    assert log._position == (0, 0)


@pytest.mark.parametrize("command", ["GET", "TIME"])
def test_an_origin_and_a_time_that_are_none(server: FakeServer, clock: FakeClock, command: str) -> None:
    """They are failures too."""
    odd = Odd(server, command, 7)
    log = EventLog("revocations", reader=odd, writer=odd, now=clock.time)
    with pytest.raises(SharedStateError, match=r"is not (a time|text)"):
        log.read(seconds=0) if command == "GET" else log.trim()


def test_who_changes_the_mark_all_the_time_costs_little(server: FakeServer, clock: FakeClock) -> None:
    """Each change is a loss, after which everything is read again: in pauses of two seconds."""
    server.write(KEY, b"e", SOUND)
    replica = Replica(server, clock)
    replica.read()
    pauses = []
    for number in range(10):
        server.texts[f"{KEY}:origin"] = str(number).encode()
        pauses.append(replica.read())
        replica.read()
    assert set(pauses) == {2.0}
    assert replica.reason(TOKEN) is Reason.TOKEN_REVOKED
