"""What a reload of many rules adds to the latency of checks."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from tests.bench.deployments import Deployment, pid_of
from tests.bench.load import SpoiltError
from tests.bench.machine import on_cores
from tests.bench.rounds import Driver
from tests.bench.series import Row
from tests.bench.setups import RELOAD

OFFERED: Final = 2_000  # checks a second
_RELOADED: Final = "authz_config_reloads_total:accepted"
_POLL_SECONDS: Final = 0.05


def measure_reloads(driver: Driver, *, rounds: int, seconds: float) -> Row:
    """Load a sidecar at OFFERED, without a reload and with one in turn. Raises SpoiltError."""
    series: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        before = driver.load(seconds=seconds, offered=OFFERED)
        with _reloading(driver.deployment, driver.deployment.place.load) as took:
            beside = driver.load(seconds=seconds, offered=OFFERED)
        series["rps"].append(beside.load.rps)
        series["p50_ms"].append(beside.load.p50_ms)
        series["p99_ms"].append(beside.load.p99_ms)
        series["p99_more_ms"].append(beside.load.p99_ms - before.load.p99_ms)
        series["reload_s"] += took
    return Row(name=RELOAD, series=dict(series), notes=(f"one reload in {seconds:g} s",))


@contextmanager
def _reloading(deployment: Deployment, cores: Collection[int]) -> Iterator[list[float]]:
    """Reload once, on a thread of its own; the list gets the seconds until it is in use. Raises SpoiltError."""
    assert deployment.sidecar is not None
    pid, stop, took = pid_of(deployment.sidecar.process), Event(), list[float]()

    def run() -> None:
        with on_cores(cores):
            before, began = deployment.samples()[_RELOADED], time.monotonic()
            os.kill(pid, signal.SIGHUP)
            while not stop.is_set():
                if deployment.samples()[_RELOADED] > before:
                    took.append(time.monotonic() - began)
                    return
                stop.wait(_POLL_SECONDS)

    thread = Thread(target=run, name="reloader")
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()
    if not took:
        raise SpoiltError("the reload took longer than the load")
