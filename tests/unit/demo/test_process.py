"""Child processes: waited for, explained when they fail, and surely ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from authz.demo.process import PartFailed, Process
from tests.fakes.waiting import wait_until

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: time.sleep(1)
"""


def python(code: str, folder: Path) -> Process:
    """A process that runs some Python."""
    return Process("the part", [sys.executable, "-c", code], log=folder / "part.log", fix="think again")


def test_a_part_that_ends_is_explained(tmp_path: Path) -> None:
    """The failure says what happened, where, how to fix it, and how the log ends."""
    process = python("print('no such file: x'); raise SystemExit(3)", tmp_path)
    process.start()

    with pytest.raises(PartFailed) as failure:
        process.wait_until(lambda: False)

    for words in ("the part ended with status 3", sys.executable, "think again", "part.log", "no such file: x"):
        assert words in str(failure.value)


def test_a_part_that_never_becomes_ready_is_given_up(tmp_path: Path) -> None:
    """Waiting has a bound, and the process is left for its owner to stop."""
    process = python("import time; time.sleep(60)", tmp_path)
    process.start()

    with pytest.raises(PartFailed, match=r"was not ready within 0\.2 s"):
        process.wait_until(lambda: False, seconds=0.2)

    assert process.running
    process.stop()
    assert not process.running


def test_a_part_in_a_group_of_its_own_is_not_hit_by_ctrl_c(tmp_path: Path) -> None:
    """The terminal sends Ctrl-C to its foreground group; the parts are not in it, and are stopped in order."""
    process = python("import os, time; print(os.getpgrp(), flush=True); time.sleep(60)", tmp_path)
    process.start()
    try:
        wait_until(lambda: process.log.read_text().endswith("\n"))
        assert int(process.log.read_text()) != os.getpgrp()
    finally:
        process.stop()


def test_a_stubborn_part_is_killed(tmp_path: Path) -> None:
    """A process that ignores SIGTERM does not outlive the demo."""
    process = python(STUBBORN, tmp_path)
    process.start()
    wait_until(lambda: "ready" in process.log.read_text())

    process.stop(seconds=0.1)

    assert not process.running


def test_a_pause_may_interrupt_the_wait(tmp_path: Path) -> None:
    """What the pause raises, such as a stop signal, ends the wait."""

    class StopError(Exception):
        pass

    def pause(_: float) -> None:
        raise StopError

    process = python("import time; time.sleep(60)", tmp_path)
    process.start()
    try:
        with pytest.raises(StopError):
            process.wait_until(lambda: False, pause=pause)
    finally:
        process.stop()


def test_stopping_what_never_ran_is_nothing(tmp_path: Path) -> None:
    """A part that was not started can be stopped, so that cleaning up needs no question."""
    process = python("", tmp_path)
    process.stop()
    process.kill()

    assert not process.running
