"""What processes have used up, from the kernel's own books."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_PROC: Final = Path("/proc")
_SWITCHES: Final = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
_RSS: Final = re.compile(r"^VmRSS:\s*(\d+) kB", re.MULTILINE)
_CPUCLOCK_SCHED: Final = 2
_IDLE_FIELDS: Final = slice(3, 5)  # idle and iowait, of a line of /proc/stat
_ALL_FIELDS: Final = slice(0, 8)  # guest time is in user time already


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds and context switches of some processes."""

    cpu: float
    switches: int

    @classmethod
    def of(cls, pids: Iterable[int]) -> Self:
        """Read the books now."""
        pids = list(pids)
        return cls(cpu=sum(map(cpu_seconds, pids)), switches=sum(map(_switches, pids)))

    def __sub__(self, before: Usage) -> Usage:
        return Usage(self.cpu - before.cpu, self.switches - before.switches)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all of its threads, to the nanosecond (clock_getcpuclockid(3))."""
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:  # it has just ended
        return 0.0


def _switches(pid: int) -> int:
    return sum(count_switches(_read(task)) for task in (_PROC / str(pid) / "task").glob("*/status"))


def _read(path: Path) -> str:
    """Read about a process or thread; nothing where it has just ended."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def count_switches(status: str) -> int:
    """Add up the context switches, wanted and unwanted, in the `status` of a thread."""
    return sum(map(int, _SWITCHES.findall(status)))


def foreign_seconds(cores: Iterable[int]) -> float:
    """Read for how long these cores worked for others than this process and its descendants, up to now."""
    stat = (_PROC / "stat").read_text(encoding="ascii")
    ended = os.times()
    ours = sum(map(cpu_seconds, family(os.getpid()))) + ended.children_user + ended.children_system
    return sum(busy_seconds(stat, core) for core in cores) - ours


def busy_seconds(stat: str, core: int) -> float:
    """Read from /proc/stat for how long a core was not idle."""
    line = next(line for line in stat.splitlines() if line.startswith(f"cpu{core} "))
    ticks = [int(field) for field in line.split()[1:]]
    return (sum(ticks[_ALL_FIELDS]) - sum(ticks[_IDLE_FIELDS])) / os.sysconf("SC_CLK_TCK")


def pss_mb(pids: Iterable[int]) -> float:
    """The memory of these processes: a page that several of them, or others, share counts in part for each."""
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in pids)
    return sum(int(text.partition("\nPss:")[2].split()[0]) for text in texts) / 1024


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of processes, in MB."""
    texts = [_read(_PROC / str(pid) / "status") for pid in pids]
    return sum(int(found[1]) * 1024 / 1e6 for text in texts if (found := _RSS.search(text)))


def family(pid: int) -> tuple[int, ...]:
    """A process and all of its descendants."""
    stats = filter(None, map(_read, _PROC.glob("[0-9]*/stat")))
    return descendants(pid, dict(map(parse_parent, stats)))


def parse_parent(stat: str) -> tuple[int, int]:
    """Read pid and parent's pid from a process's `stat`, whatever is in its name."""
    head, _, tail = stat.rpartition(")")
    return int(head.split(" ", 1)[0]), int(tail.split()[1])


def descendants(pid: int, parents: dict[int, int]) -> tuple[int, ...]:
    """List a process and its descendants."""
    children = sorted(child for child, parent in parents.items() if parent == pid)
    return (pid, *(one for child in children for one in descendants(child, parents)))
