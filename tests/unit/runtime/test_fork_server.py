"""Proves authz.runtime.fork_server: workers start as they should, and what becomes of them is known."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from authz.runtime.fork_server import ForkedWorker, ForkServer, Request
from tests.fakes.waiting import wait_until
from tests.leaks import children, command
from tests.unit.runtime.forking import VARIABLE

COMMAND: Final = [sys.executable, "-m", "tests.unit.runtime.forking"]
TERM, KILL, HUP = signal.SIGTERM, signal.SIGKILL, signal.SIGHUP


class Site:
    """A supervisor with a fork server; its workers wait until it closes its end of the pipe."""

    def __init__(self) -> None:
        self.server = ForkServer(COMMAND)
        self.lifeline, self.ours = os.pipe()
        self.handover = os.memfd_create("handover")

    def start(self, number: int = 0, *, does: str = "wait") -> ForkedWorker:
        environment = {VARIABLE: f"of {number}"}
        request = Request(number=number, file="authz.yaml", listen=does, admin_socket="", environment=environment)
        return self.server.start(request, lifeline=self.lifeline, handover=self.handover)

    def let_go(self) -> None:
        """Close the pipe, as the end of the supervisor does."""
        if self.ours >= 0:
            os.close(self.ours)
            self.ours = -1

    def close(self) -> None:
        """End the server, and wait for its workers: each reads the end of the pipe when it is its turn to run."""
        self.let_go()
        self.server.close()
        wait_until(lambda: not any(COMMAND[-1] in command(pid) for pid in children()))
        os.close(self.lifeline)
        os.close(self.handover)

    def read(self) -> dict[str, Any]:
        """Return what a worker wrote."""
        found: dict[str, Any] = json.loads(os.pread(self.handover, 65_536, 0))
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    """A supervisor, which ends with its test."""
    made = Site()
    yield made
    made.close()


def started(worker: ForkedWorker) -> int:
    """Wait until a worker runs; return its pid."""
    wait_until(lambda: worker.poll() is not None or worker._pid is not None)
    assert worker._pid is not None
    return worker._pid


def ended(worker: ForkedWorker) -> int:
    """Wait until a worker has ended; return its status."""
    wait_until(lambda: worker.poll() is not None)
    status = worker.poll()
    assert status is not None
    return status


def test_a_worker_starts_with_what_it_needs(site: Site) -> None:
    """A group and a name of its own, only SIGHUP blocked, its two descriptors, and nothing of the server's."""
    assert ended(site.start(3, does="describe")) == 7
    found = site.read()
    assert found == {
        "number": 3,
        "prepared": ["of 3"],
        "own group": True,
        "blocked": [HUP],
        "name": "authz-worker-3",
        "on SIGCHLD": True,
        "of the server": [],
        "handover": found["handover"],
    }


def test_what_is_imported_is_imported_once(site: Site) -> None:
    """With the variables of the first request, before the first worker."""
    ended(site.start(0, does="describe"))
    ended(site.start(1, does="describe"))
    assert site.read()["prepared"] == ["of 0"]


def test_a_worker_is_ended_by_a_signal(site: Site) -> None:
    """The status is that of the signal; a second one goes to no one."""
    worker = site.start()
    started(worker)
    worker.send(TERM)
    assert ended(worker) == -TERM
    worker.send(TERM)


def test_a_worker_that_fails_has_a_status(site: Site) -> None:
    """That of any program of Python's after an exception."""
    assert ended(site.start(does="nonsense")) == 1


def test_workers_that_end_at_once_are_all_noticed(site: Site) -> None:
    """However many: a server that waits for one message only would miss the others."""
    workers = [site.start(number) for number in range(8)]
    for worker in workers:
        started(worker)
    site.let_go()
    assert [ended(worker) for worker in workers] == [5] * 8


@pytest.mark.parametrize("number", [TERM, KILL])
def test_a_worker_that_has_not_started_ends_at_once(site: Site, number: int) -> None:
    """No one waits until the server has imported everything; if the worker starts after all, it is killed."""
    worker = site.start()
    worker.send(number)
    assert worker.poll() == -number
    wait_until(lambda: worker._server.serves(1) and worker._pid is not None)
    pid = worker._pid
    site.start(1)  # the server has noted the end of the first when it has started this
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_other_signals_wait_for_the_start(site: Site) -> None:
    """A reload that is requested meanwhile is not lost: SIGHUP is blocked until the worker waits for it."""
    worker = site.start()
    worker.send(HUP)
    pid = started(worker)
    wait_until(lambda: "ShdPnd:\t0000000000000001" in Path(f"/proc/{pid}/status").read_text())
    assert worker.poll() is None


def test_workers_outlive_their_server(site: Site) -> None:
    """Their end is noticed by the supervisor itself, and the next one comes from a new server."""
    first, second = site.start(0), site.start(1)
    pid = started(first)
    started(second)
    os.kill(site.server._child.process._pid, KILL)
    wait_until(lambda: not site.server.serves(1))
    assert first.poll() is None
    os.kill(pid, KILL)
    assert ended(first) in {-KILL, 255}  # known if it has become a child of this process
    third = site.start(0)
    started(third)
    assert second.poll() is None
    site.let_go()
    assert ended(second) in {5, 255}
    assert ended(third) == 5


def test_a_server_that_cannot_start_is_an_end_of_its_workers(site: Site) -> None:
    """Not a hang."""
    os.kill(site.server._child.process._pid, KILL)
    wait_until(lambda: not site.server.serves(1))
    other = ForkServer([sys.executable, "-c", "raise SystemExit(9)"])
    try:
        request = Request(number=0, file="", listen="", admin_socket="")
        wait_until(lambda: not other.serves(1))
        worker = other.start(request, lifeline=site.lifeline, handover=site.handover)
        assert ended(worker) == 255
    finally:
        other.close()


def test_a_program_that_is_not_there_is_an_error() -> None:
    """No half-started server is left."""
    with pytest.raises(FileNotFoundError):
        ForkServer(["/nowhere/python"])
