"""Proves authz.telemetry.background: whoever logs never waits for whoever reads."""

from __future__ import annotations

import os
from collections.abc import Iterator

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


def test_lines_arrive_in_their_order(pipe: Pipe) -> None:
    """What is written is what is read, beyond ASCII too."""
    stream = BackgroundStream(pipe[1])
    for text in ("one\n", "zwei é\n", "\ud800\n"):
        stream.write(text)
    assert stream.drain(seconds=HANG_SECONDS)
    assert os.read(pipe[0], 1000).decode() == "one\nzwei é\n\\ud800\n"


def test_full_pipe_stops_nobody(pipe: Pipe) -> None:
    """A reader that stands still costs lines and not answers; once it reads on, it is told how many it missed."""
    stream = BackgroundStream(pipe[1], max_lines=10)
    line = "x" * 4095 + "\n"
    for _ in range(100):
        stream.write(line)
    assert not stream.drain(seconds=0)
    seen = bytearray()

    def told() -> bool:
        seen.extend(os.read(pipe[0], 65_536))
        return b"log lines were dropped" in seen

    wait_until(told)
    dropped = int(seen.decode().rpartition("\n")[0].rpartition("\n")[2].split()[0])
    assert seen.count(line.encode()) == 100 - dropped
    assert dropped > 50


def test_closed_pipe_is_no_error() -> None:
    """Where nobody can ever read, lines are gone, and nothing else is."""
    read, write = os.pipe()
    os.close(read)
    stream = BackgroundStream(write)
    stream.write("lost\n")
    assert stream.drain(seconds=HANG_SECONDS)
    os.close(write)
