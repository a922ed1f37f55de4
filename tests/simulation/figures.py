"""The figures of authz/feeds/README.md: `python -m tests.simulation.figures` prints them."""

from __future__ import annotations

import logging
import random
import statistics
import time

from authz.telemetry.keys import Refresh
from tests.fakes.idp import FakeIdp
from tests.integration.station import Station
from tests.unit.feeds.rig import JWKS, K1, K2, Rig, fail, publish

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
    """Time from a key's removal, at any moment, to the snapshot without it."""
    draw = random.Random(SEED)  # noqa: S311 - to be repeated
    took = []
    headers = {} if max_age is None else {"cache_control": f"max-age={max_age}"}
    for _ in range(ROUNDS):
        rig = Rig(jitter=draw.random)
        rig.site.at[JWKS] = publish(K1, K2, **headers)
        rig.run(draw.uniform(3600, 7200))
        rig.site.at[JWKS] = publish(K2, **headers)
        removed = rig.clock.monotonic()
        while "k1" in (rig.kids or ()):
            rig.clock.advance(max(0.0, rig.feed.due() - rig.clock.monotonic()))
            rig.feed.step()
        took.append((rig.clock.monotonic() - removed) / 60)
    return sorted(took)


def flood_fetches_a_minute() -> float:
    """Fetches in an hour of 100 random key ids a second, over 60."""
    rig = Rig()
    rig.run()
    for _ in range(360_000):
        rig.ask()
        rig.run(0.01)
    return (len(rig.site.times()) - 1) / 60


def minutes_without_issuer() -> float:
    """Time from the last good fetch to the first 503 while the issuer is down."""
    rig = Rig()
    rig.run()
    began = rig.clock.monotonic()
    rig.site.at[JWKS] = fail(Refresh.UNREACHABLE)
    while rig.kids is not None:
        rig.clock.advance(max(0.0, rig.feed.due() - rig.clock.monotonic()))
        rig.feed.step()
    return (rig.clock.monotonic() - began) / 60


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
