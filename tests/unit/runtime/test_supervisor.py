"""Proves authz.runtime.supervisor: who is started, when again, what is passed on, and how it all ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from authz.runtime.process import Process
from authz.runtime.supervisor import (
    EXIT_GRACE,
    INITIAL_BACKOFF,
    MAX_BACKOFF,
    MAX_UNANSWERED,
    PROBE_INTERVAL,
    STABLE_AFTER,
    Supervisor,
)
from tests.fakes.clock import FakeClock
from tests.fakes.waiting import wait_until
from tests.tools import ROOT

DRAIN = 10.0
TERM, INT, HUP, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL

Step = float | signal.Signals | Callable[[], object]


class FakeChild:
    """A process that ends by the signals that it handles, with 0."""

    def __init__(self, *, heeds: set[int]) -> None:
        self.status: int | None = None
        self.told: list[int] = []
        self._heeds = heeds

    def poll(self) -> int | None:
        return self.status

    def send(self, number: int) -> None:
        if self.status is not None:
            return
        self.told.append(number)
        if number == KILL:
            self.status = -KILL
        elif number in self._heeds:
            self.status = 0

    def end(self, status: int) -> None:
        self.status = status


class Rig:
    """A supervisor, its clock, and every child that it started: when, and of which number."""

    def __init__(self, count: int = 2, *, jitter: float = 0.0, heeds: set[int] | None = None) -> None:
        self.clock = FakeClock()
        self.children: list[list[FakeChild]] = [[] for _ in range(count)]
        self.started_at: list[list[float]] = [[] for _ in range(count)]
        self.listening = set(range(count))
        self.opened = 0
        self.fails_to_start = False
        self._heeds: set[int] = {TERM, INT} if heeds is None else heeds
        self.supervisor = Supervisor(
            count,
            start=self._start,
            drain=DRAIN,
            monotonic=self.clock.monotonic,
            jitter=lambda: jitter,
        )

    def _start(self, number: int) -> FakeChild:
        if self.fails_to_start:
            raise OSError(11, "Resource temporarily unavailable")
        child = FakeChild(heeds=self._heeds)
        self.children[number].append(child)
        self.started_at[number].append(self.clock.monotonic())
        return child

    def _open(self) -> None:
        self.opened += 1

    def run(self, *steps: Step) -> int:
        """Run through *steps*, then a SIGTERM where there was none, and as much time as it takes.

        A signal comes at once, a number of seconds goes by, and what is called is what happens to a child.
        """
        return self.supervisor.run(self._play(steps), answered=lambda: self.listening, started=self._open)

    def _play(self, steps: tuple[Step, ...]) -> Callable[[float], int | None]:
        signals = {step for step in steps if isinstance(step, signal.Signals)}  # 15.0 is equal to SIGTERM
        script = self._script([0.0, *steps, *([] if {TERM, INT} & signals else [TERM])])
        next(script)
        return script.send

    def _script(self, steps: list[Step]) -> Generator[int | None, float, None]:
        seconds = yield None
        for step in steps:
            if isinstance(step, signal.Signals):
                seconds = yield step
                continue
            left = 0.0 if callable(step) else step
            if callable(step):
                step()
            while left > seconds:
                self.clock.advance(seconds)
                left -= seconds
                seconds = yield None
            self.clock.advance(left)
            seconds = yield None
        while True:
            self.clock.advance(seconds)
            seconds = yield None

    def crash(self, number: int = 1, status: int = -KILL) -> Callable[[], None]:
        """The newest child of a number ends."""
        return lambda: self.children[number][-1].end(status)

    def told(self, number: int) -> list[int]:
        """The signals that the newest child of a number got."""
        return self.children[number][-1].told


# The start.


def test_the_door_opens_once_all_listen() -> None:
    """All are started at once; only when the last one listens do the supervisor's own addresses answer."""
    rig = Rig(3)
    rig.listening = {0, 2}
    doors: list[int] = []

    def look() -> None:
        doors.append(rig.opened)

    assert rig.run(1.0, look, lambda: rig.listening.add(1), 1.0, look, 100.0, look) == 0
    assert doors == [0, 1, 1]
    assert [len(children) for children in rig.children] == [1, 1, 1]


def test_workers_that_answer_one_after_the_other_have_all_started() -> None:
    """On a busy processor no look may find the answers of all at once."""
    rig = Rig(2)
    rig.listening = {0}
    assert rig.run(1.0, rig.listening.clear, 1.0, lambda: rig.listening.add(1), 1.0) == 0
    assert rig.opened == 1


@pytest.mark.parametrize(("status", "code"), [(2, 2), (3, 3), (1, 3), (0, 3), (-signal.SIGSEGV, 3)])
def test_a_worker_that_cannot_start_ends_everything(status: int, code: int) -> None:
    """Its exit code is ours where it comes with an explanation; the others are ended, the door stays shut."""
    rig = Rig()
    rig.listening = {0}
    assert rig.run(rig.crash(status=status), 100.0) == code
    assert rig.told(0) == [TERM]
    assert len(rig.children[1]) == 1
    assert rig.opened == 0


def test_what_cannot_be_started_at_all_is_an_error() -> None:
    """The system refuses the first process: the caller says so."""
    rig = Rig()
    rig.fails_to_start = True
    with pytest.raises(OSError, match="temporarily"):
        rig.run()


def test_the_end_may_come_before_the_start_is_over() -> None:
    """Who cannot wait is not made to."""
    rig = Rig()
    rig.listening = set()
    assert rig.run(1.0) == 0
    assert [rig.told(0), rig.told(1)] == [[TERM], [TERM]]


# New starts.


def test_a_worker_that_ends_is_started_again_and_counted() -> None:
    """Whatever its status; the other one is left alone."""
    rig = Rig()
    assert rig.run(rig.crash(), 5.0, rig.crash(status=0), 5.0) == 0
    assert [len(children) for children in rig.children] == [1, 3]
    assert rig.supervisor.restarts == [0, 2]
    assert rig.opened == 1


@pytest.mark.parametrize(("jitter", "share"), [(0.0, 1.0), (1.0, 0.5)])
def test_pauses_grow_up_to_a_bound(jitter: float, share: float) -> None:
    """Each is twice the one before, halved at most by jitter, and 30 s is the longest."""
    rig = Rig(jitter=jitter)
    crashes: list[float] = []

    def crash() -> None:
        crashes.append(rig.clock.monotonic())
        rig.crash()()

    steps = [step for _ in range(12) for step in (crash, MAX_BACKOFF)]
    assert rig.run(*steps) == 0
    pauses = [start - crash for crash, start in zip(crashes, rig.started_at[1][1:], strict=True)]
    assert pauses == pytest.approx([share * min(INITIAL_BACKOFF * 2**n, MAX_BACKOFF) for n in range(12)])


def test_a_worker_that_stayed_up_is_started_again_at_once() -> None:
    """The pause is the first one again after a while."""
    rig = Rig()
    steps: list[Step] = [step for _ in range(6) for step in (rig.crash(), 10.0)]
    assert rig.run(*steps, STABLE_AFTER, rig.crash(), INITIAL_BACKOFF) == 0
    assert len(rig.children[1]) == 8


def test_a_new_start_that_the_system_refuses_is_tried_again() -> None:
    """For want of memory, say: with the same pauses, and the other worker continues to serve."""
    rig = Rig()

    def let(*, fail: bool) -> Callable[[], None]:
        return lambda: setattr(rig, "fails_to_start", fail)

    assert rig.run(let(fail=True), rig.crash(), 1.0, let(fail=False), 5.0) == 0
    assert len(rig.children[1]) == 2
    assert rig.supervisor.restarts[1] > 2
    assert rig.told(0) == [TERM]


# Workers that hang.


def test_a_worker_that_hangs_is_ended_and_started_again() -> None:
    """It has not answered for about half a minute; the other one is left alone, and no one ends what starts again."""
    rig = Rig()
    told: list[list[int]] = []

    def look() -> None:
        told.append(rig.children[1][0].told.copy())

    long = PROBE_INTERVAL * MAX_UNANSWERED
    hangs: list[Step] = [
        10.0,
        lambda: rig.listening.remove(1),
        long - 2 * PROBE_INTERVAL,
        look,
        3 * PROBE_INTERVAL,
        look,
    ]
    assert rig.run(*hangs, 100.0) == 0
    assert told == [[], [KILL]]
    assert [len(children) for children in rig.children] == [1, 2]
    assert rig.supervisor.restarts == [0, 1]
    assert [rig.told(0), rig.told(1)] == [[TERM], [TERM]]


def test_a_worker_that_is_slow_is_left_alone() -> None:
    """It answers now and then."""
    rig = Rig()
    nearly = PROBE_INTERVAL * (MAX_UNANSWERED - 2)
    slow: list[Step] = [lambda: rig.listening.remove(1), nearly, lambda: rig.listening.add(1), 2 * PROBE_INTERVAL]
    assert rig.run(*slow * 4) == 0
    assert rig.told(1) == [TERM]


def test_a_worker_that_starts_again_may_take_its_time() -> None:
    """Where the processor is slow, or its memory is read back, an end would only begin it again."""
    rig = Rig()
    assert rig.run(lambda: rig.listening.remove(1), rig.crash(), 1000.0, lambda: rig.listening.add(1), 100.0) == 0
    assert len(rig.children[1]) == 2
    assert rig.told(1) == [TERM]


def test_a_worker_that_started_again_is_ended_when_it_hangs() -> None:
    """Once it has answered."""
    rig = Rig()
    hangs: list[Step] = [rig.crash(), 10.0, lambda: rig.listening.remove(1), PROBE_INTERVAL * (MAX_UNANSWERED + 1)]
    assert rig.run(*hangs, 1.0) == 0
    assert len(rig.children[1]) == 3


def test_time_in_which_all_were_suspended_is_held_against_nobody() -> None:
    """A container that was frozen for an hour goes on: one question may come too soon."""
    rig = Rig()
    frozen: list[Step] = [10.0, rig.listening.clear, lambda: rig.clock.advance(3600), 1.0]
    assert rig.run(*frozen, lambda: rig.listening.update({0, 1}), 100.0) == 0
    assert [rig.told(0), rig.told(1)] == [[TERM], [TERM]]


# Signals, and the end.


def test_a_reload_is_passed_on() -> None:
    """SIGHUP reaches all, and ends no one."""
    rig = Rig()
    assert rig.run(HUP, 1.0, HUP) == 0
    assert [rig.told(0), rig.told(1)] == [[HUP, HUP, TERM]] * 2


@pytest.mark.parametrize("number", [TERM, INT])
def test_a_signal_to_end_is_passed_on_and_waited_for(number: signal.Signals) -> None:
    """The one that came is the one that they get; 0 when all have drained."""
    rig = Rig(heeds=set())
    assert rig.run(1.0, number, 3.0, rig.crash(0, 0), 3.0, rig.crash(1, 0)) == 0
    assert [rig.told(0), rig.told(1)] == [[number], [number]]


@pytest.mark.parametrize(("status", "code"), [(-TERM, 0), (1, 1), (-signal.SIGSEGV, 1)])
def test_a_worker_that_breaks_while_it_drains_shows(status: int, code: int) -> None:
    """Ended by the very signal is fine: it was still starting. Anything else is not."""
    rig = Rig(heeds=set())
    assert rig.run(TERM, rig.crash(0, 0), rig.crash(1, status)) == code


def test_who_does_not_drain_is_ended_by_force() -> None:
    """After its drain and some time for last words; the exit code says so."""
    rig = Rig(heeds=set())
    start = rig.clock.monotonic()
    assert rig.run(1.0, TERM) == 1
    assert [rig.told(0), rig.told(1)] == [[TERM, KILL], [TERM, KILL]]
    assert rig.clock.monotonic() == pytest.approx(start + 1.0 + DRAIN + EXIT_GRACE)


@pytest.mark.parametrize("number", [TERM, INT])
def test_a_second_signal_ends_everything_at_once(number: signal.Signals) -> None:
    """Who cannot wait for the drain asks twice; a reload in between is no such thing."""
    rig = Rig(heeds=set())
    start = rig.clock.monotonic()
    assert rig.run(TERM, 2.0, HUP, 2.0, number) == -number
    assert [rig.told(0), rig.told(1)] == [[TERM, KILL], [TERM, KILL]]
    assert rig.clock.monotonic() == pytest.approx(start + 4.0)


def test_nobody_is_started_once_the_end_has_begun() -> None:
    """A worker that waits for its new start is not missed."""
    rig = Rig()
    assert rig.run(rig.crash(), TERM) == 0
    assert len(rig.children[1]) == 1


# Real processes.


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_a_process_starts_with_what_it_needs(pipe: tuple[int, int]) -> None:
    """Signals to end it are not blocked, its group is its own, and it ends when our end of the pipe is closed."""
    program = (
        "import os, signal, sys\n"
        "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "good = blocked == {signal.SIGHUP} and os.getpgrp() == os.getpid()\n"
        "sys.exit(7 if good and not sys.stdin.read() else 1)\n"
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [TERM, INT, HUP, signal.SIGCHLD])
    try:
        process = Process([sys.executable, "-c", program], descriptors={0: pipe[0]})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert process.poll() is None
    os.close(pipe[1])
    wait_until(lambda: process.poll() is not None)
    assert process.poll() == 7
    process.send(TERM)  # to no one


def test_a_process_is_ended_by_a_signal(pipe: tuple[int, int]) -> None:
    """The status is that of the signal."""
    process = Process([sys.executable, "-c", "import sys; sys.stdin.read()"], descriptors={0: pipe[0]})
    process.send(TERM)
    wait_until(lambda: process.poll() is not None)
    assert process.poll() == -TERM


def test_a_program_that_is_not_there_is_an_error(pipe: tuple[int, int]) -> None:
    """No half-started child is left."""
    with pytest.raises(FileNotFoundError):
        Process(["/nowhere/python"], descriptors={0: pipe[0]})


# What a process runs.


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working directory that holds what has the name of a part of ours."""
    (tmp_path / "yaml.py").write_text("raise SystemExit('this is not ours')\n")
    (tmp_path / "authz").mkdir()
    (tmp_path / "authz" / "__init__.py").write_text("raise SystemExit('nor is this')\n")
    return tmp_path


def tell_interpreter(*flags: str, folder: Path, **environment: str) -> list[str]:
    """Return the command of a worker of a supervisor that is run like that, from *folder*."""
    program = "import json; from authz.runtime.process import interpreter; print(json.dumps(interpreter()))"
    done = run([sys.executable, *flags, "-c", program], folder, **environment)
    command: list[str] = json.loads(done)
    return command


def run(argv: list[str], folder: Path, **environment: str) -> str:
    """Run a command in a folder; return what it prints."""
    env = os.environ | environment
    done = subprocess.run(argv, cwd=folder, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_worker_runs_nothing_from_the_working_directory(elsewhere: Path) -> None:
    """`python -m` alone would look there first: anyone who can write there could run code in the workers."""
    command = tell_interpreter("-P", folder=elsewhere, PYTHONPATH=str(ROOT))
    assert command[-3:] == ["-P", "-m", "authz"]
    assert "definitions" in run([*command, "schema"], elsewhere, PYTHONPATH=str(ROOT))


def test_a_worker_of_a_checkout_runs_that_checkout(elsewhere: Path) -> None:
    """The working directory is where we came from, as the command line of a developer has it: it is named."""
    command = tell_interpreter(folder=ROOT, PYTHONPATH="")
    assert "definitions" in run([*command, "schema"], elsewhere, PYTHONPATH="")


def test_a_worker_runs_our_code_and_no_other_that_is_installed(elsewhere: Path) -> None:
    """Of two, it has the one that its supervisor runs."""
    (elsewhere / "yaml.py").unlink()
    command = tell_interpreter(folder=ROOT, PYTHONPATH=str(elsewhere))
    assert "definitions" in run([*command, "schema"], elsewhere, PYTHONPATH=str(elsewhere))


def test_a_worker_has_the_flags_of_its_supervisor() -> None:
    """What keeps the environment and a user's own packages out of the one keeps them out of the other."""
    assert not {"-E", "-I", "-O"} & set(tell_interpreter(folder=ROOT))
    command = tell_interpreter("-E", "-s", "-OO", folder=ROOT)
    assert {"-E", "-s"} < set(command)
    assert command.count("-O") == 2
