"""More than one worker: start them, watch them, start again what ends, and end with them.

Rules of this file:
1. A worker is started by exec, in a process group of its own: what a terminal tells the group, it hears from us once.
2. A worker that cannot start at the start ends everything, with its error. One that ends later is started again, after
   a pause that grows while it does not stay up. One that hangs is ended.
3. A worker that is started again is as the others are: it has our code, our `server` section and the last good
   configuration, whatever lies in the working directory or stands in the file by then.
4. Signals are passed on. By the second one to end, everything ends at once.
5. A worker ends when we do: its stdin is a pipe that we hold open and never write to.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from threading import Event, Thread
from typing import Final, Protocol

from prometheus_client import CollectorRegistry

import authz
from authz import __version__
from authz.admin import AdminServer
from authz.config.address import parse_tcp_address, worker_addresses
from authz.config.model import Config
from authz.files.watch import FileWatch
from authz.leftovers import clear_sockets, private_folder
from authz.runtime.handover import Handover, LastGood, Source
from authz.runtime.reload import ReloadLoop
from authz.runtime.signals import END, RELOAD
from authz.workers import LivenessProbe, Workers

log = logging.getLogger(__name__)

# Exit codes of `authz serve`. Those of a worker that could not start come with an explanation of its own.
DRAINED: Final = 0
NOT_DRAINED: Final = 1
CANNOT_START: Final = 3
EXPLAINED: Final = frozenset({2, CANNOT_START})

FIRST_PAUSE: Final = 0.1  # seconds until the first new start
MAX_PAUSE: Final = 30.0  # seconds
STEADY: Final = 60.0  # seconds after which a worker counts as healthy, and its next pause is the first again
OVERTIME: Final = 5.0  # seconds that a worker gets beyond its drain, for its last spans and lines
ASK_PERIOD: Final = 5.0  # seconds between two questions whether all workers are alive
MAX_UNANSWERED: Final = 6  # looks in a row; counted, for time also goes by while the system has suspended us all

_START_POLL: Final = 0.05  # seconds between two looks at whether all workers listen
_LOOK: Final = 1.0  # seconds between two looks at all, where no signal comes

# What the interpreter was told that environment variables, which a worker has too, do not tell it.
_FLAGS: Final = {
    "isolated": "-I",
    "ignore_environment": "-E",
    "no_user_site": "-s",
    "no_site": "-S",
    "dont_write_bytecode": "-B",
    "optimize": "-O",
}
_RUN_FROM: Final = "import sys; sys.path.insert(0, {!r}); from authz.__main__ import main; main()"
_HANDOVER: Final = 3  # file descriptor, of a worker

# Waits at most so many seconds for a signal to us; SIGCHLD, or none, is None.
NextSignal = Callable[[float], int | None]


class Child(Protocol):
    """A process that was started."""

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""

    def send(self, number: int) -> None:
        """Send it a signal; nothing where it has ended."""


@dataclass(slots=True)
class _Worker:
    number: int
    child: Child
    started_at: float
    due_at: float | None = None  # when to start it again
    pause: float = FIRST_PAUSE  # before that, the next time
    unanswered: int | None = 0  # questions in a row; None while it starts again


class Supervisor:
    """Keeps *count* workers running; *start* starts the one of a number."""

    def __init__(
        self,
        count: int,
        *,
        start: Callable[[int], Child],
        drain: float,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        """*drain* is what a worker may take to end, in seconds; *jitter* yields numbers from 0 to 1."""
        self.restarts: Final = [0] * count
        self._start: Final = start
        self._time_to_end: Final = drain + OVERTIME
        self._monotonic: Final = monotonic
        self._jitter: Final = jitter
        self._workers: list[_Worker] = []
        self._asked_at: float = 0

    def run(
        self, next_signal: NextSignal, *, answered: Callable[[], Collection[int]], started: Callable[[], None]
    ) -> int:
        """Start and watch until the end, and return the exit status: -N if a second signal N ended everything.

        *answered* asks all workers whether they are alive, and returns those that answered since it was last called;
        once all have, *started* is called. Raises OSError if nothing can be started.
        """
        self._workers += [
            _Worker(number, self._start(number), self._monotonic()) for number in range(len(self.restarts))
        ]
        starting, heard = True, set[int]()
        while (number := next_signal(_START_POLL if starting else self._time_left())) not in END:
            if number is not None:
                self._send(number)
            if not starting:
                self._mend()
                self._end_hung(answered)
            elif (failed := self._find_ended()) is not None:
                return self._give_up(failed, next_signal)
            elif len(heard := heard.union(answered())) == len(self._workers):
                starting = False
                started()
        return self._drain(number, next_signal)

    def _find_ended(self) -> _Worker | None:
        return next((worker for worker in self._workers if worker.child.poll() is not None), None)

    def _time_left(self) -> float:
        """Until the next worker is due, or it is time to look at them all."""
        now = self._monotonic()
        due = [max(worker.due_at - now, 0) for worker in self._workers if worker.due_at is not None]
        return min(_LOOK, *due) if due else _LOOK

    def _mend(self) -> None:
        """Note which workers have ended, and start those whose pause is over."""
        now = self._monotonic()
        for worker in self._workers:
            if worker.due_at is None:
                if (status := worker.child.poll()) is not None:
                    self._postpone(worker, f"ended with status {status}", now)
            elif worker.due_at <= now:
                self._start_again(worker, now)

    def _end_hung(self, answered: Callable[[], Collection[int]]) -> None:
        """Ask all, now and then, and kill a worker that has not answered for long; it is restarted like any other."""
        now = self._monotonic()
        if now < self._asked_at + ASK_PERIOD:
            return
        self._asked_at, alive = now, answered()
        for worker in self._workers:
            if worker.number in alive:
                worker.unanswered = 0
            elif worker.unanswered is not None:
                worker.unanswered += 1
                if worker.unanswered == MAX_UNANSWERED:
                    log.error("worker %d does not answer any more; it is ended", worker.number)
                    worker.child.send(signal.SIGKILL)

    def _start_again(self, worker: _Worker, now: float) -> None:
        self.restarts[worker.number] += 1
        worker.started_at, worker.due_at = now, None
        try:
            worker.child = self._start(worker.number)
        except OSError as error:
            self._postpone(worker, f"cannot be started: {error}", now)

    def _postpone(self, worker: _Worker, what: str, now: float) -> None:
        worker.unanswered = None
        if now - worker.started_at >= STEADY:
            worker.pause = FIRST_PAUSE
        pause = worker.pause * (1 - self._jitter() / 2)
        worker.due_at, worker.pause = now + pause, min(worker.pause * 2, MAX_PAUSE)
        log.error("worker %d %s; it is started again in %.1f s", worker.number, what, pause)

    def _give_up(self, failed: _Worker, next_signal: NextSignal) -> int:
        """End what was started; a worker that cannot start has said why."""
        status = failed.child.poll()
        log.error("worker %d ended with status %s while it started", failed.number, status)
        ended_by = self._drain(signal.SIGTERM, next_signal)
        if ended_by < 0:
            return ended_by
        return status if status in EXPLAINED else CANNOT_START

    def _drain(self, number: int, next_signal: NextSignal) -> int:
        """Pass the signal on, and wait until all have ended; by force where one does not, or the next signal comes."""
        deadline = self._monotonic() + self._time_to_end
        running = [worker for worker in self._workers if worker.child.poll() is None]
        self._send(number)
        while any(worker.child.poll() is None for worker in running):
            left = deadline - self._monotonic()
            again = next_signal(min(left, _LOOK)) if left > 0 else None
            if again in END or left <= 0:
                self._send(signal.SIGKILL)
                return -again if again is not None else NOT_DRAINED
        ended_well = all(worker.child.poll() in {0, -number} for worker in running)
        return DRAINED if ended_well else NOT_DRAINED

    def _send(self, number: int) -> None:
        for worker in self._workers:
            worker.child.send(number)


class Process:
    """One process of ours, started by exec in a process group of its own."""

    def __init__(self, argv: list[str], *, descriptors: Mapping[int, int]) -> None:
        """Start *argv*; it has our *descriptors*, each under the number that is given for it. Raises OSError."""
        self._pid: Final = os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, ours, number) for number, ours in descriptors.items()],
            setpgroup=0,
            # What we block it does not, or it could not be ended while it starts. Only a reload waits until then, where
            # it would end it.
            setsigmask=[signal.SIGHUP],
        )
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def send(self, number: int) -> None:
        """Send it a signal; nothing where it has ended."""
        if self.poll() is None:
            os.kill(self._pid, number)


def interpreter() -> list[str]:
    """Name the command that runs our own code, as this process does and never another's from the working directory."""
    flags = [flag for name, flag in _FLAGS.items() for _ in range(getattr(sys.flags, name))]
    path = sys.path if sys.flags.safe_path else sys.path[1:]  # without what -P leaves out
    found = PathFinder.find_spec(authz.__name__, path)
    command = [sys.executable, *flags, "-P"]
    if found is not None and found.origin == authz.__file__:
        return [*command, "-m", authz.__name__]
    # We came from the working directory ourselves, as in a checkout.
    return [*command, "-c", _RUN_FROM.format(str(Path(authz.__file__).parent.parent))]


def supervise(file: Path, config: Config, source: Source, watch: FileWatch, next_signal: NextSignal) -> int:
    """Run the workers that *config* asks for; return the exit status, as `Supervisor.run` does.

    *config* is what *source*, the content of *file*, says. Raises OSError if the admin address cannot be bound, or
    nothing can be started.
    """
    addresses = worker_addresses(config.server.listen, config.server.workers)
    with ExitStack() as parts:
        folder = parts.enter_context(private_folder(config.server.listen))
        sockets = [folder / f"{number}.sock" for number in range(len(addresses))]
        lifeline = os.pipe()
        for end in lifeline:
            parts.callback(os.close, end)

        probe = LivenessProbe(sockets)
        parts.callback(probe.close)
        command, last_good = interpreter(), LastGood(file, watch, source)
        reload = ReloadLoop(watch, take_up=last_good.update, gone=lambda: None, stopping=Event())

        def start(number: int) -> Process:
            argv = [*command, "serve", "--config", str(file), "--worker", str(number), "--listen", addresses[number]]
            argv += ["--admin-socket", str(sockets[number]), "--handover", str(_HANDOVER)]
            probe.forget(number)
            handover = Handover(last_good.source, config.server).to_descriptor()
            try:
                return Process(argv, descriptors={0: lifeline[0], _HANDOVER: handover})
            finally:
                os.close(handover)

        def next_signal_noted(seconds: float) -> int | None:
            number = next_signal(seconds)
            if number == RELOAD:
                reload.request()
            return number

        supervisor = Supervisor(
            len(addresses),
            start=start,
            drain=config.server.drain.total_seconds(),
            monotonic=time.monotonic,
            jitter=random.random,
        )
        workers = Workers(sockets, restarts=supervisor.restarts)
        registry = CollectorRegistry()
        registry.register(workers)
        admin = AdminServer(
            parse_tcp_address(config.admin.listen),
            waiting_for=workers.waiting_for,
            registry=registry,
            keys=workers.describe_keys,
        )
        parts.callback(admin.stop)
        clear_sockets(config.server.listen, config.server.workers)

        def open_door() -> None:
            admin.start()
            log.info("authz %s runs %d workers, admin on %s", __version__, len(addresses), admin.address)

        Thread(target=reload.run, name="reload", daemon=True).start()
        return supervisor.run(next_signal_noted, answered=probe.answered, started=open_door)
