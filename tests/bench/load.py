"""The load generator: wrk, run for a second or more against one Envoy, and what it says of it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import tools
from tests.bench.machine import on_cores
from tests.bench.tokens import Pool

CONNECTIONS: Final = 32
OFFERED: Final = 1_000  # requests per second that the fixed load offers
_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_MOST_SECONDS: Final = 60
DEBIAN: Final = {"wrk": "wrk"}  # tools of the bench alone, and the packages that bring them


class MissingToolError(Exception):
    """A tool that is needed is not installed."""


class SpoiltError(Exception):
    """A load's figures would mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load came to: requests answered within *seconds*, and milliseconds that half and 99 % of them took.

    *refused* were answered 4xx or 5xx, *broken* had no answer.
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float

    @property
    def rps(self) -> float:
        return self.requests / self.seconds


def check_tools(find: Callable[[str], Path | None] = tools.find) -> None:
    """Raises MissingToolError with the names of Debian's packages."""
    if missing := [package for tool, package in DEBIAN.items() if find(tool) is None]:
        raise MissingToolError(f"missing tools; on Debian: apt-get install {' '.join(missing)}")


def drive(url: str, pool: Pool, *, first: int, seconds: float, offered: int, cores: Collection[int]) -> Load:
    """Send the tokens of *pool* from *first* on: so many a second, or with 0 as fast as they are answered."""
    # Each connection thinks, at random from 0, for as long as all of them together need for that rate on average.
    think_ms = 2 * (CONNECTIONS * 1_000 // offered) - 1 if offered else 0
    command = [
        *(tools.path("wrk"), "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{_MOST_SECONDS}s"),
        *("--script", str(_SCRIPT), url, "--", str(pool.path), str(first), str(think_ms)),
    ]
    with on_cores(cores):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)  # as after its own --duration, which knows whole seconds only
    said, _ = process.communicate(timeout=_MOST_SECONDS)
    return parse(said)


def parse(said: str) -> Load:
    """Read what wrk.lua wrote, among what wrk itself did. Raises SpoiltError where it wrote nothing."""
    line = next((line for line in said.splitlines() if line.startswith("{")), None)
    if line is None:
        raise SpoiltError(f"wrk said nothing of use: {said.strip()}")
    told = json.loads(line)
    return Load(
        requests=told["requests"],
        seconds=told["us"] / 1e6,
        refused=told["refused"],
        broken=told["broken"],
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
    )
