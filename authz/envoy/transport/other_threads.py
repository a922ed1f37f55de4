"""Detect whether the other threads of this process have finished their work, however slow the machine is.

gRPC's core does not report what its threads hold. The kernel does: a thread that has work is running, or waits for a
processor. It sleeps when it has passed its work on, and the thread that it woke is then no longer asleep.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Final

_THREADS: Final = Path("/proc/self/task")  # of this process, on Linux
_ASLEEP: Final = frozenset(b"SZX")  # proc_pid_status(5), State: in a wait that can be interrupted, or ended
_STATE_AND_SWITCHES: Final = re.compile(rb"^(?:State|\w+ctxt_switches):\t(.*)", re.MULTILINE)
_ENDED: Final = (b"X",)


class OtherThreads:
    """Tells whether the other threads are asleep, or were since the last round; for use on one thread at a time."""

    def __init__(self, threads: Path = _THREADS) -> None:
        """*threads* has a folder for each thread, as in proc(5)."""
        self._threads: Final = threads
        self._slept: Final[set[Path]] = set()

    def have_slept(self) -> bool:
        """Return whether each other thread was asleep at some moment since the last True, which ends a round.

        Work takes one round for each thread that it is passed to; new work does not delay it. If the system does not
        report the state of threads, each call is a round.
        """
        others = self._others()
        self._slept.update(thread for thread in others - self._slept if _is_asleep(_read_status(thread)))
        if not others <= self._slept:
            return False
        self._slept.clear()
        return True

    def all_sleep(self) -> bool:
        """Return whether all other threads were asleep at one moment, so that none has work.

        Each state is read twice. A thread that did not run between its two reads slept throughout; if this holds for
        all, they slept together after the last of the first reads. True if the system does not report states.
        """
        before = self._read_all()
        return all(map(_is_asleep, before.values())) and before == self._read_all()

    def _read_all(self) -> dict[Path, tuple[bytes, ...]]:
        return {thread: _read_status(thread) for thread in self._others()}

    def _others(self) -> set[Path]:
        try:
            return set(self._threads.iterdir()) - {self._threads / str(threading.get_native_id())}
        except OSError:
            return set()


def _read_status(thread: Path) -> tuple[bytes, ...]:
    """Return the state of *thread*, and how often it has stopped running."""
    try:
        return tuple(_STATE_AND_SWITCHES.findall((thread / "status").read_bytes()))
    except OSError:
        return _ENDED


def _is_asleep(status: tuple[bytes, ...]) -> bool:
    return status[0][0] in _ASLEEP
