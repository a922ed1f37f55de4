"""A process watched while it works: whether what it takes stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import linear_regression, median
from threading import Event, Thread
from time import monotonic
from typing import Final

from tests.endurance.harness import Use
from tests.endurance.report import Result

# Between the third quarter of a run and its last. Allocators breathe; what leaks, leaks on.
MAX_GROWTH_KIB: Final = 2048
MAX_MORE_DESCRIPTORS: Final = 2  # a scrape, or an exchange with an issuer, that is under way
MAX_MORE_THREADS: Final = 2  # the same
MIN_SAMPLES: Final = 16


class Watch:
    """Samples of what a process takes, with the second of each."""

    def __init__(self, look: Callable[[], Use]) -> None:
        self._look: Final = look
        self._began: Final = monotonic()
        self.samples: Final[list[tuple[float, Use]]] = []

    def sample(self) -> None:
        """Look once."""
        self.samples.append((monotonic() - self._began, self._look()))

    def judge(self, result: Result) -> None:
        """Compare the two quarters of the second half, and promise that nothing grew."""
        if len(self.samples) < MIN_SAMPLES:
            result.notes.append("too short to tell whether anything grows")
            return
        quarters = [[use for _, use in part] for part in _quarters(self.samples)[2:]]
        third, last = quarters
        growth = round(median(use.rss_kib for use in last) - median(use.rss_kib for use in third))
        later = self.samples[len(self.samples) // 2 :]
        slope = linear_regression([second for second, _ in later], [use.rss_kib for _, use in later]).slope
        result.promise(
            f"memory is flat: the last quarter of the run takes at most {MAX_GROWTH_KIB} KiB more than the third",
            found=f"{growth:+,} KiB at {last[-1].rss_kib:,} KiB, {slope * 60:+,.0f} KiB a minute",
            held=growth <= MAX_GROWTH_KIB,
        )
        for name, bound in (("descriptors", MAX_MORE_DESCRIPTORS), ("threads", MAX_MORE_THREADS)):
            first, end = (round(median(getattr(use, name) for use in part)) for part in (third, last))
            result.promise(f"no more {name} than before", found=f"{first} to {end}", held=end <= first + bound)


@contextmanager
def watching(look: Callable[[], Use], *, every: float = 0.2) -> Iterator[Watch]:
    """Sample every so many seconds."""
    watch, over = Watch(look), Event()

    def run() -> None:
        while not over.wait(every):
            watch.sample()

    thread = Thread(target=run, name="watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def _quarters(samples: Sequence[tuple[float, Use]]) -> list[Sequence[tuple[float, Use]]]:
    size = len(samples) // 4
    return [samples[size * number : size * (number + 1)] for number in range(4)]
