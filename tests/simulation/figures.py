"""The figures of authz/feeds/README.md: `python -m tests.simulation.figures` prints them."""

from __future__ import annotations

import logging
import random
import statistics
import time

from tests.fakes.idp import FakeIdp
from tests.integration.station import Station
from tests.simulation.replica import Answer, Replica

SEED = 1
ROUNDS = 200


def pick_up_milliseconds() -> list[float]:
    """Time from a token by a key nobody knows to its allow: one fetch over loopback, without TLS."""
    took = []
    with FakeIdp() as idp:
        fetch = "{cooldown: 1ms, max_wait: 5s, max_keys: 1000}"
        section = f"  a: {{issuer: '{idp.issuer}', audiences: [api], insecure: {{http: true}}, fetch: {fetch}}}\n"
        with Station(section).settle() as sidecar:
            for _ in range(ROUNDS):
                idp.withdraw(idp.key.kid)
                idp.rotate()
                token = idp.mint()
                began = time.perf_counter()
                assert sidecar.ask(token) == "authenticated"
                took.append((time.perf_counter() - began) * 1e3)
    return sorted(took)


def removal_minutes(max_age: int | None) -> list[float]:
    """Time from a key's removal, at any moment, to the end of the first refresh that does not bring it any more."""
    draw = random.Random(SEED)  # noqa: S311 - to be repeated
    took = []
    for _ in range(ROUNDS):
        replica = Replica(lambda _: Answer(fresh_for=max_age), jitter=draw.random)
        replica.run(removed := draw.uniform(3600, 7200))
        took.append((replica.next_event() - removed) / 60)
    return sorted(took)


def flood_fetches_a_minute() -> float:
    """Fetches in an hour of 100 random key ids a second, over 60."""
    replica = Replica(lambda _: Answer())
    for number in range(360_000):
        replica.run(number / 100)
        replica.ask()
    return (len(replica.attempts) - 1) / 60


def minutes_without_issuer() -> float:
    """Time from the last good fetch to the first 503 while the issuer is down."""
    replica = Replica(lambda now: Answer(good=now == 0.0))
    replica.run(0.0)
    while replica.state.serving:
        replica.step(replica.next_event())
    return replica.now / 60


def lines() -> list[str]:
    """Write the figures as the rows of a Markdown table."""
    picked = pick_up_milliseconds()
    rows = [
        f"| pick-up of a new key, over loopback | {statistics.median(picked):.1f} ms (p99 {picked[-3]:.1f} ms) |",
    ]
    for name, max_age in (("no Cache-Control", None), ("max-age=300", 300), ("max-age=86400", 86_400)):
        took = removal_minutes(max_age)
        rows.append(f"| removal of a key, {name} | {statistics.median(took):.1f} min (at most {took[-1]:.1f} min) |")
    rows.append(f"| fetches under a flood of random key ids | {flood_fetches_a_minute():.1f} a minute |")
    rows.append(f"| service without the issuer | {minutes_without_issuer():.0f} minutes |")
    return rows


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print("\n".join(lines()))  # noqa: T201 - a program that prints
