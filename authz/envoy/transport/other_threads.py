"""Detect whether the other threads of this process have done what they had to do, however slow the machine is.

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
_RUNS: Final = re.compile(rb"^(?:State|\w+ctxt_switches):\t(.*)", re.MULTILINE)
_ENDED: Final = (b"X",)


class OtherThreads:
    """Whether the other threads are asleep, or were since the last round; for use on one thread at a time."""

    def __init__(self, threads: Path = _THREADS) -> None:
        """*threads* has a folder for each thread, as in proc(5)."""
        self._threads: Final = threads
        self._slept: Final[set[Path]] = set()

    def have_slept(self) -> bool:
        """Return whether each other thread was asleep at some moment since this was last true, which ends a round.

        Work takes a round per thread that it is handed to; new work does not delay it. Where the system does not say
        what its threads do, each call is a round.
        """
        others = self._others()
        self._slept.update(thread for thread in others - self._slept if _is_asleep(_look(thread)))
        if not others <= self._slept:
            return False
        self._slept.clear()
        return True

    def all_sleep(self) -> bool:
        """Return whether all other threads were asleep at one moment: none has work, and none waits for one that has.

        Each is looked at twice. One that did not run meanwhile slept all the time: all did after the first round. True
        where the system does not say what its threads do.
        """
        before = {thread: _look(thread) for thread in self._others()}
        return all(map(_is_asleep, before.values())) and before == {thread: _look(thread) for thread in self._others()}

    def _others(self) -> set[Path]:
        try:
            return set(self._threads.iterdir()) - {self._threads / str(threading.get_native_id())}
        except OSError:
            return set()


def _look(thread: Path) -> tuple[bytes, ...]:
    """Return the state of *thread*, and how often it has stopped running."""
    try:
        return tuple(_RUNS.findall((thread / "status").read_bytes()))
    except OSError:
        return _ENDED


def _is_asleep(look: tuple[bytes, ...]) -> bool:
    return look[0][0] in _ASLEEP
