"""What takes its own time: memory after many checks, and the way from exec to ready."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from authz.demo.sidecar import Sidecar
from tests.bench.accounting import family, pss_mb, rss_mb
from tests.bench.machine import Place, on_cores
from tests.bench.rounds import Driver, changes, check_samples
from tests.bench.series import Row
from tests.bench.setups import IDLE, MEMORY, WORKER

REMEMBERED: Final = 10_000  # tokens, as many as the signature cache holds
_SLICE_SECONDS: Final = 4
_POLL_SECONDS: Final = 0.002


def measure_memory(driver: Driver, *, checks: int, seconds: float) -> Row:
    """Load a sidecar with as many tokens as it remembers until it has made so many checks, or time is up.

    Raises SpoiltError.
    """
    samples: list[tuple[int, float]] = []
    done, deadline = 0, time.monotonic() + seconds
    while done < REMEMBERED:
        done += driver.load(seconds=_SLICE_SECONDS).checks
    before = driver.deployment.samples()
    while done < checks and time.monotonic() < deadline:
        done += driver.load(seconds=_SLICE_SECONDS).checks
        samples.append((done, rss_mb(driver.deployment.deciders)))
    check_samples(changes(before, driver.deployment.samples()), fresh=False)
    note = f"after {done:,} checks with {REMEMBERED:,} tokens"
    if done < checks:
        note += f", not the {checks:,} that were meant: time was up"
    return Row(
        name=MEMORY,
        series={
            "rss_mb": [samples[-1][1]],
            "growth_mb": [growth(samples)],
            "rss_mb_over_time": [rss for _, rss in samples],
        },
        notes=(note,),
    )


def growth(samples: Sequence[tuple[int, float]]) -> float:
    """From half of the checks to the last: how much memory was added. *samples* are checks so far, and memory."""
    half = samples[-1][0] / 2
    return samples[-1][1] - next(rss for done, rss in samples if done >= half)


def measure_ready(name: str, sidecar: Sidecar, place: Place, *, starts: int) -> Row:
    """Start a sidecar so many times, and take the time from exec to its readiness. Raises PartFailed."""
    times = [_time_start(sidecar, place) for _ in range(starts)]
    return Row(name=name, series={"ready_s": times}, notes=("from exec to /readyz, with a key file",))


def measure_idle(sidecar: Sidecar) -> Row:
    """Start a sidecar, and take its memory before its first check. Raises PartFailed."""
    with _idling(sidecar) as pids:
        return Row(name=IDLE, series={"rss_mb": [rss_mb(pids)], "pss_mb": [pss_mb(pids)]})


def measure_worker(two: Sidecar, three: Sidecar) -> Row:
    """Start two workers, then three, and take what the third one adds. Raises PartFailed."""
    sums = []
    for sidecar in (two, three):
        with _idling(sidecar) as pids:
            sums.append(pss_mb(pids))
    note = f"{sums[0]:.1f} MB with two workers, {sums[1]:.1f} MB with three, their supervisor included"
    return Row(name=WORKER, series={"pss_mb": [sums[1] - sums[0]]}, notes=(note,))


@contextmanager
def _idling(sidecar: Sidecar) -> Iterator[tuple[int, ...]]:
    """Start a sidecar, and stop it in the end; yield its processes when they are ready."""
    try:
        sidecar.start()
        assert sidecar.process._child is not None
        yield family(sidecar.process._child.pid)
    finally:
        sidecar.stop()


def _time_start(sidecar: Sidecar, place: Place) -> float:
    began = time.monotonic()
    try:
        with on_cores(place.server):
            sidecar.process.start()
        with on_cores(place.load):
            sidecar.process.wait_until(sidecar._ready, pause=lambda _: time.sleep(_POLL_SECONDS))
        return time.monotonic() - began
    finally:
        sidecar.stop()
