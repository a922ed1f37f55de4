"""The figures of authz/feeds/README.md: `python -m tests.simulation.figures` prints them."""

from __future__ import annotations

import logging
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme

from authz.feeds.refresh import Search
from tests.fakes.idp import JWKS, FakeIdp
from tests.fakes.tls import server_context
from tests.integration.station import Station
from tests.simulation.ocean import Ocean
from tests.simulation.replica import Answer, Replica

SEED = 1
ROUNDS = 200


def pick_up_milliseconds() -> list[float]:
    """Time from a token by a key no one knows to its allow: one fetch over loopback, without TLS."""
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


def pick_up_over_an_ocean(round_trip: float) -> list[float]:
    """Time in milliseconds from a token by a new key to its allow, over TLS to an issuer so many seconds away."""
    took = []
    ca = trustme.CA()
    with FakeIdp(tls=server_context(ca)) as idp, TemporaryDirectory() as folder:
        ca_file = Path(folder, "ca.pem")
        ca.cert_pem.write_to_path(ca_file)
        with Ocean(int(idp.url.rpartition(":")[2]), round_trip=round_trip) as ocean:
            fetch = f"{{cooldown: 1ms, max_wait: 5s, max_keys: 1000, ca_file: '{ca_file}'}}"
            jwks_uri = f"https://127.0.0.1:{ocean.port}{JWKS}"
            section = f"  a: {{issuer: '{idp.issuer}', audiences: [api], jwks_uri: '{jwks_uri}', fetch: {fetch}}}\n"
            with Station(section).settle() as sidecar:
                for _ in range(ROUNDS // 10):
                    idp.withdraw(idp.key.kid)
                    idp.rotate()
                    token = idp.mint()
                    began = time.perf_counter()
                    if sidecar.ask(token) != "authenticated":
                        raise AssertionError("the key was not fetched in time")
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
        replica.run(at := number / 100)
        replica.look_for(first_asked=at)
    return (len(replica.attempts) - 1) / 60


@dataclass(frozen=True, slots=True)
class PickUp:
    """How a new key fared: *seconds* from its first token to the fetch that brought it, and what was said before."""

    seconds: float
    refused: int
    told_missing: int


def pick_up_under_flood(*, random_kids: int = 0, late: float = 0.0, seed: int = SEED) -> list[PickUp]:
    """Publish a key *late* seconds after its first token, while strangers name so many *random_kids* a second.

    A token by it comes ten times a second; a fetch takes 20 ms to 400 ms.
    """
    draw = random.Random(seed)  # noqa: S311 - to be repeated
    picked = []
    for _ in range(ROUNDS):
        replica = Replica(lambda _: Answer(takes=draw.uniform(0.02, 0.4)), jitter=draw.random)
        signs = 600 + draw.uniform(0.0, 600.0)
        flood = signs - draw.uniform(60.0, 90.0)  # when it begins
        strangers = (flood + number / random_kids for number in range(int(150 * random_kids)))
        asked = [(at, at) for at in strangers] + [(signs + number / 10, signs) for number in range(600)]
        answers: list[Search] = []
        for at, first_asked in sorted(asked):
            replica.run(at)
            if first_asked != signs:
                replica.look_for(first_asked=first_asked)
            elif found := [one.began for one in replica.attempts if one.began >= signs + late and one.ended <= at]:
                picked.append(PickUp(found[0] - signs, len(answers), answers.count(Search.NOT_THERE)))
                break
            else:
                answers.append(replica.look_for(first_asked=signs))
    if len(picked) != ROUNDS:
        raise AssertionError("a key was never found")
    return picked


def describe_pick_up(name: str, picked: list[PickUp]) -> str:
    """Write the row of the table."""
    took = sorted(one.seconds for one in picked)
    missing = sum(one.told_missing for one in picked)
    return f"| {name} | {statistics.median(took):.1f} s (at most {took[-1]:.1f} s), {missing} answers 401 |"


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
    for milliseconds in (100, 200):
        took = pick_up_over_an_ocean(milliseconds / 1e3)
        spread = f"{statistics.median(took):.0f} ms (at most {took[-1]:.0f} ms)"
        rows.append(f"| pick-up of a new key, over TLS and {milliseconds} ms of round trip | {spread} |")
    for name, max_age in (("no Cache-Control", None), ("max-age=300", 300), ("max-age=86400", 86_400)):
        took = removal_minutes(max_age)
        rows.append(f"| removal of a key, {name} | {statistics.median(took):.1f} min (at most {took[-1]:.1f} min) |")
    flooded, late = pick_up_under_flood(random_kids=100), pick_up_under_flood(late=5.6)
    rows.append(describe_pick_up("until the fetch of a new key, under 100 random key ids a second", flooded))
    rows.append(describe_pick_up("the same, of one that is published 5.6 s after its first token", late))
    rows.append(f"| fetches under a flood of random key ids | {flood_fetches_a_minute():.1f} a minute |")
    rows.append(f"| service without the issuer | {minutes_without_issuer():.0f} minutes |")
    return rows


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print("\n".join(lines()))  # noqa: T201 - a program that prints
