"""What an issuer sees of a fleet of replicas: `python -m tests.simulation.fleet` prints the table of the README.

Only time is simulated. When a replica fetches is decided by the engine's own schedule; an unknown key id comes with the
first token by a new key, which every replica meets at its own moment.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from authz.feeds.refresh import Schedule
from tests.simulation.replica import Answer, Replica

REPLICAS: Final = 10_000
HOURS: Final = 4
SEED: Final = 1
HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second that the issuer sees: the mean, and the busiest second."""

    scenario: str
    mean: float
    peak: int


def steady_state(
    schedule: Schedule, *, replicas: int = REPLICAS, started_within: float = 0.0, jitter: bool = True
) -> tuple[Load, Load]:
    """Start *replicas* within so many seconds; return the load of the first hour and of the last."""
    draw = random.Random(SEED)  # noqa: S311 - a simulation wants to be repeated
    seconds: Counter[int] = Counter()
    for _ in range(replicas):
        at = draw.uniform(0.0, started_within)
        while at < HOURS * HOUR:
            seconds[int(at)] += 1
            at += schedule.pause_after_success(None, draw.random() if jitter else 0.5)
    name = f"{'no jitter' if not jitter else f'started within {started_within:g} s'}"
    return _load(f"{name}: first hour", seconds, 0, HOUR), _load(
        f"{name}: hour {HOURS}", seconds, (HOURS - 1) * HOUR, HOURS * HOUR
    )


def after_outage(schedule: Schedule, *, replicas: int = REPLICAS, lasts: float = HOUR) -> tuple[Load, Load]:
    """Return the load of attempts during an outage of so many seconds, and in the minute after it."""
    draw = random.Random(SEED)  # noqa: S311 - as above
    seconds: Counter[int] = Counter()
    for _ in range(replicas):
        at, failures = draw.uniform(0.0, schedule.interval), 0
        while at < lasts:
            seconds[int(at)] += 1
            at += schedule.pause_after_failure(failures, draw.random())
            failures += 1
        seconds[int(at)] += 1
    return _load("outage: its last half hour", seconds, lasts / 2, lasts), _load(
        "outage: the minute after", seconds, lasts, lasts + schedule.max_backoff
    )


def unannounced_rotation(schedule: Schedule, *, replicas: int = REPLICAS, spread: float = 1.0) -> Load:
    """Return the load when every replica meets a token by a new key within *spread* seconds: one fetch for each."""
    draw = random.Random(SEED)  # noqa: S311 - as above
    seconds = Counter(int(draw.uniform(0.0, spread)) for _ in range(replicas))
    return _load(f"a new key signs at once, met within {spread:g} s", seconds, 0, max(spread, schedule.cooldown))


def stray_key(schedule: Schedule, *, replicas: int = REPLICAS) -> Load:
    """Return the load when every replica meets tokens by a key that is nowhere, once a second."""
    draw = random.Random(SEED)  # noqa: S311 - as above
    seconds: Counter[int] = Counter()
    for _ in range(replicas):
        first = draw.uniform(0.0, 60.0)
        replica = Replica(lambda _: Answer(), schedule=schedule, jitter=draw.random)
        for number in range(120):
            replica.run(at := first + number)
            replica.look_for(first_asked=first)
            if at >= 120.0:
                break
        seconds.update(int(attempt.began) for attempt in replica.attempts if attempt.on_demand)
    return _load("a key id that is nowhere, once a second", seconds, 60, 120)


def _load(scenario: str, seconds: Counter[int], start: float, end: float) -> Load:
    counts = [seconds[second] for second in range(int(start), int(end))]
    return Load(scenario, sum(counts) / len(counts), max(counts))


def measure(schedule: Schedule | None = None) -> Iterator[Load]:
    """Yield every row of the table, for the default settings: an answer without Cache-Control, every 10 minutes."""
    schedule = schedule or Schedule()
    yield from steady_state(schedule)
    yield from steady_state(schedule, started_within=60.0)
    yield from steady_state(schedule, jitter=False)
    yield from after_outage(schedule)
    yield unannounced_rotation(schedule)
    yield unannounced_rotation(schedule, spread=30.0)
    yield stray_key(schedule)


def table() -> str:
    """Write the table as Markdown."""
    lines = [f"| {REPLICAS:,} replicas | mean requests/s | busiest second |", "|---|---:|---:|"]
    lines += [f"| {load.scenario} | {load.mean:.1f} | {load.peak:,} |" for load in measure()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201 - a program that prints
