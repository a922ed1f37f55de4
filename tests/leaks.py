"""Fails a test that leaves a process running, or something open that should have been closed, and says what it is.

What a fixture of a module or of the session starts may stay until that fixture ends. Of a process that has ended its
parent must take note: one that no one waited for is a leak too. Children of a child that was killed become ours.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import warnings
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)
_TRACKER: Final = "from multiprocessing.resource_tracker import main"  # Python starts it once, and ends it at its end


class Leaks:
    """A plugin of pytest."""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._of_fixtures: dict[pytest.FixtureDef[Any], frozenset[int]] = {}
        self._open: frozenset[Path] = frozenset()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Note which processes live as long as a fixture."""
        if fixturedef.scope == "function":
            return (yield)
        before = children()
        try:
            return (yield)
        finally:
            self._of_fixtures[fixturedef] = children() - before

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Expect that they have ended with it."""
        self._of_fixtures.pop(fixturedef, None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, None, None]:
        """Note what is open before the test."""
        self._open = _descriptors()
        yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, nextitem: pytest.Item | None) -> Generator[None, None, None]:
        """Look what is left after it."""
        try:
            yield
        finally:
            left = children().difference(*self._of_fixtures.values())
            found = [*_end(left)] if left else []
            # To collect garbage takes long: only where there may be some that should not be.
            if left or nextitem is None or not _descriptors() <= self._open:
                found += _garbage()
        if found:
            pytest.fail("\n".join(["the test left behind:", *found]), pytrace=False)


def children() -> frozenset[int]:
    """The processes whose parent is this one, those that have ended included."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (thread / "children").read_text().split()))
        except FileNotFoundError:
            continue  # the thread has ended; another one has its children
    return frozenset(pid for pid in found if _TRACKER not in command(pid))


def command(pid: int) -> str:
    """Return the command line of a process; empty if it is about to end."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _descriptors() -> frozenset[Path]:
    """What is open, a socket or pipe by its number in the kernel."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that reads the folder
            found.add(descriptor.readlink())
    return frozenset(found)


def _was_killed(pid: int) -> bool:
    """Whether a process has been sent SIGKILL."""
    lines = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return any(int(lines[name], 16) & 1 << (signal.SIGKILL - 1) for name in ("SigPnd", "ShdPnd"))


def _end(processes: frozenset[int]) -> Iterator[str]:
    """End the processes, and yield a line for each that a test should have ended, or waited for."""
    started = [each for each in gc.get_objects() if isinstance(each, subprocess.Popen) and each.pid in processes]
    for pid in sorted(processes):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        ours = next((each for each in started if each.pid == pid), None)
        # One that was killed, or is without memory and so without a command, is about to end.
        if state != "Z" and not _was_killed(pid) and (line := command(pid)):
            yield f"process {pid}, which runs: {line}"
            os.kill(pid, signal.SIGKILL)
        elif ours is not None and ours.returncode is None:
            yield f"process {pid}, which has ended, and no one waited for it: {ours.args!r}"
        if ours is None:
            os.waitpid(pid, 0)  # not started by us, and so not waited for by anything else
        else:
            ours.communicate()


def _garbage() -> Iterator[str]:
    """Collect the garbage, and yield a line for each thing in it that was never closed."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    yield from (str(warning.message) for warning in told if issubclass(warning.category, ResourceWarning))
