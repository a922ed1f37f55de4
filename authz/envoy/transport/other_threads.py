"""Detect whether the other threads of this process have done what they had to do, however slow the machine is.

gRPC's core does not report what its threads hold. The kernel does: a thread that has work is running, or waits for a
processor. It sleeps when it has passed its work on, and the thread that it woke is then no longer asleep.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

_THREADS: Final = Path("/proc/self/task")  # of this process, on Linux
_ASLEEP: Final = frozenset(b"SZX")  # proc_pid_stat(5), field 3: in a wait that can be interrupted, or ended


class OtherThreads:
    """Which of the other threads were asleep since the last round; for use on one thread."""

    def __init__(self, threads: Path = _THREADS) -> None:
        """*threads* has a folder for each thread, as in proc(5)."""
        self._threads: Final = threads
        self._slept: Final[set[str]] = set()

    def have_slept(self) -> bool:
        """Return whether each other thread was asleep at some moment since this was last true, which ends a round.

        Work takes a round per thread that it is handed to; new work does not delay it. Where the system does not say
        what its threads do, each call is a round.
        """
        own = str(threading.get_native_id())
        try:
            others = {found.name for found in self._threads.iterdir()} - {own}
        except OSError:
            return True
        self._slept.update(thread for thread in others - self._slept if _is_asleep(self._threads / thread))
        if not others <= self._slept:
            return False
        self._slept.clear()
        return True


def _is_asleep(thread: Path) -> bool:
    try:
        stat = (thread / "stat").read_bytes()
    except OSError:  # it has ended
        return True
    return stat.rpartition(b")")[2].split()[0][0] in _ASLEEP
