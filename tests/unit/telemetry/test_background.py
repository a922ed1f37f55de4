"""Proves authz.telemetry.background: anyone who logs never waits for anyone who reads."""

from __future__ import annotations

import array
import fcntl
import os
import re
import socket
import termios
from collections.abc import Iterator
from contextlib import suppress

import pytest

from authz.telemetry.background import BackgroundStream
from tests.fakes.waiting import HANG_SECONDS, wait_until

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe: its reading end, and its writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_now(pipe: Pipe) -> bytes:
    """Read what is there by now, which may be nothing."""
    os.set_blocking(pipe[0], False)
    with suppress(BlockingIOError):
        return os.read(pipe[0], 4096)
    return b""


def test_lines_arrive_in_their_order(pipe: Pipe) -> None:
    """What is written is what is read, beyond ASCII too."""
    stream = BackgroundStream(pipe[1])
    for text in ("one\n", "zwei é\n", "\ud800\n"):
        stream.write(text)
    assert stream.drain(seconds=HANG_SECONDS)
    assert os.read(pipe[0], 1000).decode() == "one\nzwei é\n\\ud800\n"


def losses_told(seen: bytes) -> int:
    """Return the number of missed lines that was reported to the reader."""
    return sum(int(number) for number in re.findall(rb"^([0-9]+) log lines were dropped", seen, re.MULTILINE))


@pytest.mark.parametrize("blocking", [True, False])
def test_full_pipe_stops_nobody(pipe: Pipe, *, blocking: bool) -> None:
    """A reader that stands still costs lines and not answers; once it reads on, it gets the number that it missed.

    So it is where a reader has set O_NONBLOCK, and each line that is lost is counted.
    """
    os.set_blocking(pipe[1], blocking)
    stream = BackgroundStream(pipe[1], max_lines=10)
    line = "x" * 4095 + "\n"
    for _ in range(100):
        stream.write(line)
    assert not stream.drain(seconds=0)
    seen = bytearray()

    def told() -> bool:
        seen.extend(read_now(pipe))
        return losses_told(bytes(seen)) == stream.lost

    wait_until(told, seconds=120)
    assert seen.count(line.encode()) == 100 - stream.lost
    assert stream.lost > 50


def test_a_pipe_that_does_not_block_loses_no_line(pipe: Pipe) -> None:
    """If a reader has set O_NONBLOCK, a full pipe is waited for as any other: lines of several pages arrive whole."""
    os.set_blocking(pipe[1], False)
    stream = BackgroundStream(pipe[1])
    lines = [f"{number} {'x' * 10_000}\n" for number in range(50)]
    for line in lines:
        stream.write(line)
    seen = bytearray()

    def all_seen() -> bool:
        seen.extend(read_now(pipe))
        return len(seen) >= sum(map(len, lines))

    wait_until(all_seen, seconds=120)
    assert seen.decode() == "".join(lines)
    assert stream.lost == 0


def test_closed_pipe_is_no_error() -> None:
    """Where no one can ever read, lines are gone, and counted, and nothing else is."""
    read, write = os.pipe()
    os.close(read)
    stream = BackgroundStream(write)
    stream.write("lost\n")
    assert stream.drain(seconds=HANG_SECONDS)
    wait_until(lambda: stream.lost == 1)
    os.close(write)


def test_lines_that_cannot_be_written_are_counted_one_by_one() -> None:
    """A reader that leaves has the first lines: those are not lost, and the others are, the broken one too."""
    read, write = os.pipe()
    stream = BackgroundStream(write)
    for _ in range(5):
        stream.write("x" * 29_999 + "\n")
    unread = array.array("i", [0])

    def is_full() -> bool:
        fcntl.ioctl(read, termios.FIONREAD, unread)
        return unread[0] > 60_000

    wait_until(is_full)
    os.close(read)
    assert stream.drain(seconds=HANG_SECONDS)
    wait_until(lambda: stream.lost == 3)
    os.close(write)


def test_lines_that_come_together_are_written_together() -> None:
    """One call of the kernel takes many: each would cost more than the line. None waits for more to come."""
    writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with writer[0], writer[1]:
        stream = BackgroundStream(writer[0].fileno())
        for number in range(1000):
            stream.write(f"{number}\n")
        assert stream.drain(seconds=HANG_SECONDS)
        writer[1].settimeout(0)
        calls = []
        with suppress(BlockingIOError):
            while True:
                calls.append(writer[1].recv(65536))
    assert b"".join(calls) == b"".join(b"%d\n" % number for number in range(1000))
    assert len(calls) < 100
