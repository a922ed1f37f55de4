"""Proves authz.runtime.reload: each new state of the file, and each request, is taken up once, and none is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from authz.files.watch import GONE_AFTER, FileWatch
from authz.runtime.reload import ReloadLoop


class Requests(Event):
    """A request flag whose waits end by a script; each step says what happens during and after one wait."""

    def __init__(self, stopping: Event, *steps: Callable[[Requests], bool]) -> None:
        super().__init__()
        self._stopping = stopping
        self._steps = list(steps)

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        if not self._steps:
            self._stopping.set()
            return self.is_set()
        return self._steps.pop(0)(self)


def quiet(requests: Requests) -> bool:
    """Nothing comes, or what came before is seen."""
    return requests.is_set()


def in_time(requests: Requests) -> bool:
    """A request ends the wait."""
    requests.set()
    return True


def too_late(requests: Requests) -> bool:
    """A request comes at the moment at which the wait has given up."""
    seen = requests.is_set()
    requests.set()
    return seen


class Rig:
    """A loop over a file, and what it called."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "authz.yaml"
        self.file.write_text("one")
        self.calls: list[str] = []

    def run(self, *steps: Callable[[Requests], bool], reload: Callable[[ReloadLoop], object] = lambda _: None) -> None:
        stopping = Event()

        def on_change() -> None:
            self.calls.append(self.file.read_text())
            reload(loop)

        loop = ReloadLoop(
            FileWatch(self.file),
            on_change=on_change,
            on_removed=lambda: self.calls.append("gone"),
            stopping=stopping,
            requested=Requests(stopping, *steps),
        )
        loop.run()

    def write(self, text: str) -> Callable[[Requests], bool]:
        return lambda requests: bool(self.file.write_text(text)) and requests.is_set()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A file and no one who asks."""
    return Rig(tmp_path)


def test_a_request_reads_the_file_whether_or_not_it_changed(rig: Rig) -> None:
    """Once for each request; without one, nothing happens."""
    rig.run(quiet, in_time, quiet, quiet, in_time, quiet)
    assert rig.calls == ["one", "one"]


def test_a_request_at_the_end_of_a_wait_is_not_lost(rig: Rig) -> None:
    """It came after the wait and before the look: the next look answers it."""
    rig.run(quiet, too_late, quiet, quiet, quiet)
    assert rig.calls == ["one"]


def test_a_request_while_the_file_is_read_is_another_one(rig: Rig) -> None:
    """The file may have been replaced after it was read."""

    def ask_again(loop: ReloadLoop) -> None:
        if len(rig.calls) == 1:
            loop.request()

    rig.run(in_time, quiet, quiet, quiet, reload=ask_again)
    assert rig.calls == ["one", "one"]


def test_a_new_file_is_taken_up_once(rig: Rig) -> None:
    """When two looks agree on it."""
    rig.run(quiet, rig.write("other"), quiet, quiet, quiet)
    assert rig.calls == ["other"]


def test_a_file_that_is_gone_is_reported_once(rig: Rig) -> None:
    """And taken up when it is back."""

    def remove(requests: Requests) -> bool:
        rig.file.unlink()
        return requests.is_set()

    rig.run(remove, *[quiet] * (GONE_AFTER + 2), rig.write("back"), quiet, quiet)
    assert rig.calls == ["gone", "back"]
