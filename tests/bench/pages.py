"""What the pages of the console cost: how long each takes beside checks, and what it adds to the checks' latency."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from threading import Event, Thread
from typing import Final

from authz.admin.console import attempt, configuration, decisions, issuers, now, pressure
from authz.demo.client import send
from tests.bench.load import SpoiltError
from tests.bench.rounds import Driver
from tests.bench.series import Row
from tests.bench.setups import PAGES

OFFERED: Final = 5_000  # checks a second
PATHS: Final = (now.PATH, issuers.PATH, decisions.PATH, attempt.PATH, configuration.PATH, pressure.PATH)
_PAUSE_SECONDS: Final = 0.25  # between two pages, which is faster than anybody reads


class Visitor:
    """Asks the admin port at *url* for one page after the other; *times* are milliseconds by path."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failed = ""
        self.times: dict[str, list[float]] = defaultdict(list)

    def visit(self, path: str) -> float:
        """Ask for a page; return the milliseconds to its last byte. Raises SpoiltError."""
        began = time.perf_counter()
        answer = send(f"{self._url}{path}")
        took = (time.perf_counter() - began) * 1e3
        if answer.status != 200:
            raise SpoiltError(f"the page {path} was answered {answer.status}")
        self.times[path].append(took)
        return took

    @contextmanager
    def visiting(self, cores: Collection[int]) -> Iterator[list[float]]:
        """Ask for pages on a thread of its own, on these cores; the list gets the milliseconds of each, one at least.

        Raises SpoiltError.
        """
        stop, took = Event(), list[float]()
        thread = Thread(target=self._run, args=(cores, stop, took), name="visitor")
        thread.start()
        try:
            yield took
        finally:
            stop.set()
            thread.join()
        if self._failed:
            raise SpoiltError(self._failed)

    def _run(self, cores: Collection[int], stop: Event, took: list[float]) -> None:
        os.sched_setaffinity(0, cores)  # of this thread alone
        number = 0
        try:
            while not number or not stop.wait(_PAUSE_SECONDS):  # one at least, however late this thread comes to run
                took.append(self.visit(PATHS[number % len(PATHS)]))
                number += 1
        except (SpoiltError, OSError) as error:
            self._failed = str(error)


def measure_pages(driver: Driver, *, rounds: int, seconds: float) -> Row:
    """Load a sidecar at OFFERED, without pages and with them in turn. Raises SpoiltError."""
    deployment = driver.deployment
    assert deployment.sidecar is not None
    visitor = Visitor(deployment.sidecar.admin_url)
    for path in PATHS:
        visitor.visit(path)  # to warm it up
    visitor.times.clear()
    series: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        before = driver.load(seconds=seconds, offered=OFFERED)
        with visitor.visiting(deployment.place.load) as took:
            beside = driver.load(seconds=seconds, offered=OFFERED)
        series["rps"].append(beside.load.rps)
        series["p50_ms"].append(beside.load.p50_ms)
        series["p99_ms"].append(beside.load.p99_ms)
        series["p99_ratio"].append(beside.load.p99_ms / before.load.p99_ms)
        series["page_ms"].append(max(took))
    return Row(name=PAGES, series=dict(series), notes=(describe(visitor.times),))


def describe(times: dict[str, Sequence[float]] | dict[str, list[float]]) -> str:
    """Say how long each page took in the middle, in milliseconds."""
    return "ms a page: " + ", ".join(f"{path} {median(took):.0f}" for path, took in times.items() if took)
