"""Measure the sidecar behind a real Envoy, beside Envoy alone and beside the least that could answer it.

`make bench` measures all in at most ten minutes, ARGS=--short in about two; README.md in this folder says how.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Final

from authz.demo.process import PartFailed
from authz.demo.sidecar import Sidecar
from tests.bench.deployments import Deployment, Deployments, collecting
from tests.bench.growth import REMEMBERED, measure_idle, measure_memory, measure_ready, measure_worker
from tests.bench.load import MissingToolError, SpoiltError, check_tools
from tests.bench.machine import Place, compile_source, describe, place, usable_cores
from tests.bench.pages import measure_pages
from tests.bench.reloads import measure_reloads
from tests.bench.report import Report, render, render_comparison
from tests.bench.rounds import Driver, measure
from tests.bench.series import Row
from tests.bench.setups import BASE, IDLE, MEMORY, NAMES, PAGES, READY, READY_MANY, RELOAD, SETUPS, WORKER, Setup
from tests.bench.tokens import Mint, Pool

_REMARKS: Final = """
Remarks in the table: not saturated: Envoy or the generator was the limit. disturbed: by other processes. better, worse:
the ranges of both runs lie apart.
"""

DISTINCT: Final = 20_000  # tokens, twice what the sidecar remembers: cycling through them, none is ever found

PROOFS: Final = 80_000  # more than a row sends: each serves once


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How thoroughly to measure: *rounds* of loads of so many *seconds* each, *checks* to see memory grow in.

    *page_seconds* are those of a load during which pages of the console are shown, *reload_seconds* those of one with a
    reload.
    """

    rounds: int
    seconds: float
    checks: int
    check_seconds: float
    starts: int
    page_seconds: float
    reload_seconds: float


LONG: Final = Plan(
    rounds=5, seconds=0.7, checks=1_000_000, check_seconds=210, starts=5, page_seconds=3, reload_seconds=10
)
SHORT: Final = Plan(rounds=2, seconds=0.5, checks=100_000, check_seconds=12, starts=3, page_seconds=1, reload_seconds=8)


class Bench:
    """A run on this machine; the stands that others are compared with stay up to its end."""

    def __init__(self, plan: Plan, folder: Path, parts: ExitStack, cores: list[int]) -> None:
        """Raises MissingToolError where there are too few cores."""
        at = place(cores, workers=1)
        if at is None:
            raise MissingToolError("two cores are needed: one for the server, one for Envoy and the load")
        self.place: Final[Place] = at
        self._plan = plan
        self._folder = folder
        self._parts = parts
        self._cores = cores
        self._mint = Mint(folder)
        self._deployments = Deployments(folder, self._mint.keys)
        self._lasting: dict[Setup, Deployment] = {}
        self._drivers: dict[tuple[Setup, Path], Driver] = {}

    def measure(self, name: str) -> Row:
        """Measure one row."""
        try:
            if name == MEMORY:
                return self._measure_memory()
            if name == PAGES:
                return self._measure_pages()
            if name in {READY, READY_MANY}:
                return self._measure_ready(name)
            if name == IDLE:
                return measure_idle(self._make_sidecar(BASE))
            if name == WORKER:
                return measure_worker(*(self._make_sidecar(replace(BASE, workers=workers)) for workers in (2, 3)))
            if name == RELOAD:
                return self._measure_reloads()
            return self._measure_setup(name, SETUPS[name])
        except (PartFailed, SpoiltError, OSError, HTTPException) as error:
            return Row(name=name, failed=str(error).partition("\n")[0])

    def _measure_setup(self, name: str, setup: Setup) -> Row:
        at = place(self._cores, workers=setup.workers)
        if at is None:
            return Row(name=name, missing=f"needs {setup.workers + 1} cores, here are {len(self._cores)}")
        if why := self._deployments.why_not(setup):
            return Row(name=name, missing=why)
        pool = self._pool(setup)
        references = {"ratio": self._drive_lasting(SETUPS["bare"], pool)}
        if (reference := setup.reference) is not None:
            # The base takes the tokens of every algorithm.
            stand = BASE if reference == replace(BASE, algorithm=reference.algorithm) else reference
            references["to_base"] = self._drive_lasting(stand, self._pool(reference))
        with ExitStack() as parts:
            if setup in self._lasting or setup in {BASE, SETUPS["bare"]}:
                subject = self._drive_lasting(setup, pool)
            else:
                subject = Driver(parts.enter_context(self._deployments.open(setup, at)), pool)
            return measure(name, subject, references, rounds=self._plan.rounds, seconds=self._plan.seconds)

    def _drive_lasting(self, setup: Setup, pool: Pool) -> Driver:
        """Return the one driver of these tokens: another would send tokens that the deployment has seen."""
        key = setup, pool.path
        if key not in self._drivers:
            self._drivers[key] = Driver(self._open_lasting(setup), pool)
        return self._drivers[key]

    def _pool(self, setup: Setup) -> Pool:
        if setup.proofs:
            return self._mint.proofs(setup.algorithm, PROOFS)
        if setup.opaque:
            return self._mint.opaque()
        return self._mint.pool(setup.algorithm, DISTINCT if setup.fresh else 1)

    def _measure_pages(self) -> Row:
        driver = Driver(self._open_lasting(BASE), self._mint.pool(BASE.algorithm, 1))
        return measure_pages(driver, rounds=self._plan.rounds, seconds=self._plan.page_seconds)

    def _measure_memory(self) -> Row:
        with self._deployments.open(BASE, self.place) as deployment:
            driver = Driver(deployment, self._mint.pool(BASE.algorithm, REMEMBERED))
            return measure_memory(driver, checks=self._plan.checks, seconds=self._plan.check_seconds)

    def _measure_ready(self, name: str) -> Row:
        setup = BASE if name == READY else SETUPS["rules-10000"]
        return measure_ready(name, self._make_sidecar(setup), self.place, starts=self._plan.starts)

    def _measure_reloads(self) -> Row:
        with self._deployments.open(SETUPS["rules-10000"], self.place) as deployment:
            driver = Driver(deployment, self._mint.pool(BASE.algorithm, 1))
            driver.load(seconds=1)  # to warm it up
            return measure_reloads(driver, rounds=self._plan.rounds, seconds=self._plan.reload_seconds)

    def _make_sidecar(self, setup: Setup) -> Sidecar:
        return self._deployments.make_sidecar(setup, Path(tempfile.mkdtemp(dir=self._folder)))[0]

    def _open_lasting(self, setup: Setup) -> Deployment:
        if setup not in self._lasting:
            deployment = self._lasting[setup] = self._parts.enter_context(self._deployments.open(setup, self.place))
            Driver(deployment, self._mint.pool(setup.algorithm, 1)).load(seconds=1)  # to warm it up
        return self._lasting[setup]


def run(plan: Plan, names: Collection[str]) -> Report:
    """Measure these rows, telling on stderr how far it is. Raises MissingToolError."""
    check_tools()
    compile_source()
    cores = usable_cores()
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bench = Bench(plan, folder, parts, cores)
        collector = parts.enter_context(collecting(folder, bench.place.load))
        machine = describe() | {"placed": str(bench.place), "spans go to": collector, "rounds": str(plan.rounds)}
        return Report(machine=machine, rows=list(_measure_all(bench, names)))


def _measure_all(bench: Bench, names: Collection[str]) -> Iterator[Row]:
    began = time.monotonic()
    for name in names:
        print(f"{time.monotonic() - began:4.0f} s  {name}", file=sys.stderr, flush=True)
        yield bench.measure(name)
    print(f"{time.monotonic() - began:4.0f} s  done", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, or compare two runs. The status says whether each row could be measured, not whether it is fast."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__, epilog=_REMARKS)
    parser.add_argument("--short", action="store_true", help="fewer rounds, and fewer checks for memory")
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME", help=f"of {' '.join(NAMES)}".replace("%", "%%")
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="compare such files")
    asked = parser.parse_args()
    if asked.compare:
        try:
            before, after = (Report.from_json(path.read_text(encoding="utf-8")) for path in asked.compare)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        print(render_comparison(before, after))
        return 0
    try:
        report = run(SHORT if asked.short else LONG, asked.only or NAMES)
    except MissingToolError as error:
        print(error, file=sys.stderr)
        return 2
    if asked.json:
        asked.json.write_text(report.to_json(), encoding="utf-8")
    print(render(report))
    return 1 if any(row.failed for row in report.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
