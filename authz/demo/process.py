"""A part of the demo that is a separate process: it is started, waited for, and always stopped."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Only for a process that hangs: one that ends is noticed at once.
READY_SECONDS = 300.0
STOP_SECONDS = 120.0
POLL_SECONDS = 0.05
_TAIL_LINES = 12

Pause = Callable[[float], None]


class PartFailed(Exception):
    """Raised if a part did not start, or ended: what happened, where to look, and how to fix it."""

    def __init__(self, what: str, *, where: str, fix: str, log: Path | None = None) -> None:
        lines = [what, f"  where: {where}", f"  fix:  {fix}"]
        if log is not None:
            lines.append(f"  log:   {log}")
            lines += (f"    | {line}" for line in tail(log))
        super().__init__("\n".join(lines))


class Process:
    """One child process, in its own process group so that a Ctrl-C in the terminal reaches only its parent.

    Its output goes to the log file. `fix` is advice in the imperative, for a process that does not start.
    """

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, fix: str) -> None:
        self.name = name
        self.log = log
        self._argv = list(argv)
        self._fix = fix
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status of the process once it has ended; a negative number is the signal that ended it."""
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        """Start the process; it appends to its log."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0
            )

    def wait_until(
        self, ready: Callable[[], bool], *, seconds: float = READY_SECONDS, pause: Pause = time.sleep
    ) -> None:
        """Wait until the process reports that it is ready.

        Raises PartFailed if it ends, or is not ready in time; and any exception of `pause`.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise self._failed(f"{self.name} was not ready within {seconds:g} s")
            pause(POLL_SECONDS)

    def check(self) -> None:
        """Raise PartFailed if the process is not running."""
        if not self.running:
            raise self._failed(f"{self.name} ended with status {self.status}")

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Terminate the process, and kill it after *seconds*; do nothing if it is not running."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the process, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _failed(self, what: str) -> PartFailed:
        return PartFailed(what, where=" ".join(self._argv), fix=self._fix, log=self.log)


def tail(log: Path, *, lines: int = _TAIL_LINES) -> list[str]:
    """Return the last lines of a log, or none if there is no log."""
    if not log.exists():
        return []
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
