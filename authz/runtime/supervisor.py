"""Supervise several workers: start, monitor, restart and stop them.

Rules of this file:
1. A worker has its own process group: a signal from the terminal reaches it only once, forwarded by the supervisor.
2. If a worker ends during the start, the supervisor ends with its error. A worker that ends later is restarted with
   exponential backoff. A worker that hangs is killed.
3. A restarted worker has the same code, `server` section and last good configuration as the others, whatever the
   working directory and the configuration file contain by then.
4. Signals are forwarded. The second termination signal kills everything.
5. A worker ends when the supervisor does: its stdin is a pipe that the supervisor holds open and never writes to.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from authz.runtime.signals import END

log = logging.getLogger(__name__)

# Exit codes of `authz serve`. With those in SELF_EXPLAINED, a worker has printed why it could not start.
DRAINED: Final = 0
NOT_DRAINED: Final = 1
CANNOT_START: Final = 3
SELF_EXPLAINED: Final = frozenset({2, CANNOT_START})

INITIAL_BACKOFF: Final = 0.1  # seconds until the first restart
MAX_BACKOFF: Final = 30.0  # seconds
STABLE_AFTER: Final = 60.0  # seconds of uptime after which the backoff is reset
EXIT_GRACE: Final = 5.0  # seconds after its drain for a worker to send its last spans and logs and to exit
PROBE_INTERVAL: Final = 5.0  # seconds between two liveness probes of all workers
MAX_UNANSWERED: Final = 6  # consecutive probes; not a duration, because time passes while a container is suspended

_START_POLL: Final = 0.05  # seconds between two checks whether all workers have started
_MAX_WAIT: Final = 1.0  # seconds for a signal, before the workers are checked again

# Waits at most the given seconds for a signal and returns its number; None for SIGCHLD and without a signal.
NextSignal = Callable[[float], int | None]


class Child(Protocol):
    """A child process."""

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process runs."""

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""


@dataclass(slots=True)
class _Worker:
    number: int
    child: Child
    started_at: float
    due_at: float | None = None  # when to restart it
    backoff: float = INITIAL_BACKOFF  # seconds before the next restart
    unanswered: int | None = 0  # consecutive probes; None while it restarts


class Supervisor:
    """Keeps *count* workers running; *start* starts the worker with a given number."""

    def __init__(
        self,
        count: int,
        *,
        start: Callable[[int], Child],
        drain: float,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        """*drain* is the time for a worker to drain, in seconds; *jitter* returns random numbers from 0 to 1."""
        self.restarts: Final = [0] * count
        self._start: Final = start
        self._exit_timeout: Final = drain + EXIT_GRACE
        self._monotonic: Final = monotonic
        self._jitter: Final = jitter
        self._workers: list[_Worker] = []
        self._probed_at: float = 0

    def run(
        self, next_signal: NextSignal, *, answered: Callable[[], Collection[int]], started: Callable[[], None]
    ) -> int:
        """Start and monitor the workers until the end; return the exit status, or -N if a second signal N ended it.

        *answered* probes all workers and returns those that answered since its last call; when all have answered once,
        *started* is called. Raises OSError if no process can be started.
        """
        self._workers += [
            _Worker(number, self._start(number), self._monotonic()) for number in range(len(self.restarts))
        ]
        starting, heard = True, set[int]()
        while (number := next_signal(_START_POLL if starting else self._time_to_next())) not in END:
            if number is not None:
                self._send(number)
            if not starting:
                self._reap_and_restart()
                self._kill_hung(answered)
            elif (failed := self._find_ended()) is not None:
                return self._fail_start(failed, next_signal)
            elif len(heard := heard.union(answered())) == len(self._workers):
                starting = False
                started()
        return self._drain(number, next_signal)

    def _find_ended(self) -> _Worker | None:
        return next((worker for worker in self._workers if worker.child.poll() is not None), None)

    def _time_to_next(self) -> float:
        """Return the seconds until the next restart is due, or until the workers are checked again."""
        now = self._monotonic()
        due = [max(worker.due_at - now, 0) for worker in self._workers if worker.due_at is not None]
        return min(_MAX_WAIT, *due) if due else _MAX_WAIT

    def _reap_and_restart(self) -> None:
        """Schedule restarts of workers that have ended, and restart those whose pause is over."""
        now = self._monotonic()
        for worker in self._workers:
            if worker.due_at is None:
                if (status := worker.child.poll()) is not None:
                    self._schedule_restart(worker, f"ended with status {status}", now)
            elif worker.due_at <= now:
                self._restart(worker, now)

    def _kill_hung(self, answered: Callable[[], Collection[int]]) -> None:
        """Probe all workers, and kill those that have not answered for too long; they are then restarted."""
        now = self._monotonic()
        if now < self._probed_at + PROBE_INTERVAL:
            return
        self._probed_at, alive = now, answered()
        for worker in self._workers:
            if worker.number in alive:
                worker.unanswered = 0
            elif worker.unanswered is not None:
                worker.unanswered += 1
                if worker.unanswered == MAX_UNANSWERED:
                    log.error("worker %d no longer answers; it is killed", worker.number)
                    worker.child.send(signal.SIGKILL)

    def _restart(self, worker: _Worker, now: float) -> None:
        self.restarts[worker.number] += 1
        worker.started_at, worker.due_at = now, None
        try:
            worker.child = self._start(worker.number)
        except OSError as error:
            self._schedule_restart(worker, f"cannot be started: {error}", now)

    def _schedule_restart(self, worker: _Worker, cause: str, now: float) -> None:
        worker.unanswered = None
        if now - worker.started_at >= STABLE_AFTER:
            worker.backoff = INITIAL_BACKOFF
        pause = worker.backoff * (1 - self._jitter() / 2)
        worker.due_at, worker.backoff = now + pause, min(worker.backoff * 2, MAX_BACKOFF)
        log.error("worker %d %s; it is restarted in %.1f s", worker.number, cause, pause)

    def _fail_start(self, failed: _Worker, next_signal: NextSignal) -> int:
        """Stop all workers; the worker that cannot start has printed why."""
        status = failed.child.poll()
        log.error("worker %d ended with status %s while it started", failed.number, status)
        ended_by = self._drain(signal.SIGTERM, next_signal)
        if ended_by < 0:
            return ended_by
        return status if status in SELF_EXPLAINED else CANNOT_START

    def _drain(self, number: int, next_signal: NextSignal) -> int:
        """Forward the signal and wait for the end of all; kill them at the deadline or the next termination signal."""
        deadline = self._monotonic() + self._exit_timeout
        running = [worker for worker in self._workers if worker.child.poll() is None]
        self._send(number)
        while any(worker.child.poll() is None for worker in running):
            left = deadline - self._monotonic()
            again = next_signal(min(left, _MAX_WAIT)) if left > 0 else None
            if again in END or left <= 0:
                self._send(signal.SIGKILL)
                return -again if again is not None else NOT_DRAINED
        ended_well = all(worker.child.poll() in {0, -number} for worker in running)
        return DRAINED if ended_well else NOT_DRAINED

    def _send(self, number: int) -> None:
        for worker in self._workers:
            worker.child.send(number)
