"""Proves that what is revoked counts at once, whatever becomes of the file that it is saved in."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from authz.core.revocation import RevocationEntry, RevokedBy
from authz.feeds.ports import FeedEnv
from authz.feeds.revocation_events import EventSharing, Retention, RevocationEvents
from authz.feeds.revocation_sharing import SharedRevocations
from authz.feeds.shared.event_log import EventLog
from authz.files.journal import Journal
from authz.telemetry.revocations import RevocationMetrics
from tests.fakes.clock import FakeClock
from tests.fakes.shared_state import FakeServer
from tests.fakes.waiting import wait_until
from tests.fixtures import A

HANG: Final = 120.0  # seconds; only ends a test that would hang
SOURCE: Final = "operator"


class SlowDisk(Journal):
    """A file whose first line is written only when it may: `writing` is set while it waits for `go_on`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writing = Event()
        self.go_on = Event()

    def append(self, lines: Sequence[str]) -> None:
        if lines:
            self.writing.set()
            assert self.go_on.wait(HANG)
        super().append(lines)


class Torn(Journal):
    """A file that can be read up to a line, and not beyond while it is `broken`."""

    broken = True

    def read(self) -> Iterator[bytes]:
        yield from super().read()
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")


class Full(Journal):
    """A file on a disk that is full: it can be read, and no line fits."""

    def append(self, lines: Sequence[str]) -> None:
        if lines:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(lines)


def entry(number: int) -> RevocationEntry:
    """Revoke one token."""
    return RevocationEntry(RevokedBy.TOKEN, A, f"no {number}")


class Events(RevocationEvents):
    """Events in a *journal*; *in_use* notes the number of entries whenever the snapshot is to change."""

    def __init__(self, journal: Journal, shared: EventSharing | None = None) -> None:
        clock = FakeClock()
        self.in_use: list[int] = []
        super().__init__(
            Retention(seconds=3600.0, max_entries=100),
            journal=journal,
            metrics=RevocationMetrics(CollectorRegistry()),
            env=FeedEnv(monotonic=clock.monotonic, now=clock.time, jitter=lambda: 0.5, spawn=lambda run: run()),
            shared=shared,
            on_change=lambda: self.in_use.append(len(self.entries)),
        )


def test_a_slow_disk_delays_no_revocation(tmp_path: Path) -> None:
    """While the first one is being written, it is in force already, and so is the next; both are saved in the end."""
    disk = SlowDisk(tmp_path / "events")
    events = Events(disk)
    senders = [Thread(target=events.revoke, args=([entry(number)], SOURCE), daemon=True) for number in (1, 2)]
    senders[0].start()
    assert disk.writing.wait(HANG)
    assert events.in_use == [1]
    senders[1].start()
    wait_until(lambda: len(events.entries) == 2)
    assert all(sender.is_alive() for sender in senders)  # none has an answer before its line is on the disk
    disk.go_on.set()
    for sender in senders:
        sender.join(HANG)
    assert len(Events(Journal(disk.path)).entries) == 2


def test_a_slow_disk_delays_no_other_replica(tmp_path: Path) -> None:
    """While an event is being written to the file, the shared state has it already."""
    clock = FakeClock()
    env = FeedEnv(monotonic=clock.monotonic, now=clock.time, jitter=lambda: 0.5, spawn=lambda run: run())
    server = FakeServer(clock.time)
    log = EventLog("revocations", reader=server.client(), writer=server.client(), now=clock.time)
    disk = SlowDisk(tmp_path / "events")
    events = Events(disk, EventSharing(sharing=SharedRevocations(log, env=env), seal=None, saves=True))
    sender = Thread(target=events.revoke, args=([entry(1)], SOURCE), daemon=True)
    sender.start()
    assert disk.writing.wait(HANG)
    assert [line.count(b"no 1") for line in log.read(seconds=0.0).lines] == [1]
    disk.go_on.set()
    sender.join(HANG)
    assert not sender.is_alive()


def test_a_disk_that_fails_in_the_middle_hides_nothing_that_was_read(tmp_path: Path) -> None:
    """It does not deliver a second time what it has delivered: that counts, and the next look goes on."""
    file = tmp_path / "events"
    writer = Events(Journal(file))
    torn = Torn(file)
    torn.broken = False
    reader = Events(torn)
    torn.broken = True
    writer.revoke([entry(1)], SOURCE)
    reader.catch_up()
    assert (len(reader.entries), reader.in_use) == (1, [1])
    writer.revoke([entry(2)], SOURCE)
    torn.broken = False
    reader.catch_up()
    assert len(reader.entries) == 2


def test_what_waits_for_the_disk_is_written_in_its_order(tmp_path: Path) -> None:
    """Lines of several events that could not be written are there once, the oldest first, when the next one is."""
    folder = tmp_path / "disk"
    folder.mkdir()
    events = Events(Journal(folder / "events"))
    gone = tmp_path / "gone"
    folder.rename(gone)
    for number in (1, 2):
        with pytest.raises(OSError, match="No such file"):
            events.revoke([entry(number)], SOURCE)
    gone.rename(folder)
    events.revoke([entry(3)], SOURCE)
    lines = (folder / "events").read_text().splitlines()
    assert [line.count("no ") for line in lines] == [1, 1, 1]
    assert [line.partition("no ")[2][0] for line in lines] == ["1", "2", "3"]


def test_a_disk_that_is_full_hides_nothing_that_another_process_wrote(tmp_path: Path) -> None:
    """A worker that cannot save its own event applies those of the others: their senders were told that all do."""
    file = tmp_path / "events"
    writer, full = Events(Journal(file)), Events(Full(file))
    with pytest.raises(OSError, match="No space left"):
        full.revoke([entry(1)], SOURCE)
    writer.revoke([entry(2)], SOURCE)
    full.catch_up()
    assert full.in_use == [1]
    assert len(full.entries) == 2
