"""What a part found: promises that held or broke, and figures; printed for people, and as JSON to compare runs by."""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Final

Figure = str | int | float
MAX_STRANGERS: Final = 0.1  # of a core, taken by programs that are none of ours


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised, what was found, and whether that is within it."""

    text: str
    found: str
    held: bool


@dataclass(slots=True)
class Result:
    """The outcome of one part."""

    part: str
    promises: list[Promise] = field(default_factory=list)
    rows: list[dict[str, Figure]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def promise(self, text: str, *, found: object, held: bool) -> None:
        """Note a promise."""
        self.promises.append(Promise(text, str(found), held))

    @property
    def broken(self) -> bool:
        return not all(promise.held for promise in self.promises)

    def show(self) -> None:
        """Print it."""
        print(f"\n{self.part}", flush=True)
        if self.rows:
            _print_table(self.rows)
        for promise in self.promises:
            print(f"  {'held  ' if promise.held else 'BROKEN'}  {promise.text}: {promise.found}")
        for note in self.notes:
            print(f"  note    {note}", flush=True)

    def document(self) -> dict[str, object]:
        """Write it as JSON's types."""
        return asdict(self) | {"broken": self.broken}


def describe_machine() -> dict[str, Figure]:
    """Say what the figures were measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].partition(": ")[2] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


@contextmanager
def note_strangers() -> Iterator[list[str]]:
    """Look once a second who else computes; the list says so afterwards, where it was enough to doubt the figures."""
    notes: list[str] = []
    over, shares = Event(), []

    def look() -> None:
        before = _computed()
        while not over.wait(1.0):
            now = _computed()
            shares.append(sum(now[pid] - before.get(pid, now[pid]) for pid in now))
            before = now

    thread = Thread(target=look, name="strangers", daemon=True)
    thread.start()
    try:
        yield notes
    finally:
        over.set()
        thread.join()
        mean = sum(shares) / max(len(shares), 1)
        if mean > MAX_STRANGERS:
            notes.append(f"DISTURBED: other programs took {mean:.2f} of a core meanwhile; the figures are doubtful")


def _computed() -> dict[int, float]:
    """CPU seconds so far of each process that was not started with us."""
    ours, found = os.getsid(0), {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) != ours:
                    found[int(place.name)] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return found


def _print_table(rows: Sequence[dict[str, Figure]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_cell(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    for line in cells:
        first, *rest = (f"{text:{'<' if at == 0 else '>'}{widths[at]}}" for at, text in enumerate(line))
        print("  " + "  ".join([first, *rest]))


def _cell(value: Figure) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
