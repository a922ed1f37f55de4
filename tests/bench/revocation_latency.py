"""Measure how soon a revoked token is refused everywhere: from the event to the first refusal at each of ten replicas.

`python -m tests.bench.revocation_latency` starts ten sidecars that share a redis-server on loopback. Each accepts a
token. Then the operator revokes it at one of them, each time at another one; and from four milliseconds afterwards on,
a process for each sidecar asks about the token, four milliseconds after each answer. It prints how long it took until
the first of ten has refused, until each has, and until the last one has, from before the request to revoke is sent; and
until the last one has, from its answer, which says that it is accepted. All are upper bounds: ten processes that ask
share the processors with ten that answer.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Final

import grpc

from authz.cli.admin_client import AdminPort
from authz.envoy.admission import METHOD
from tests.fakes.idp import FakeIdp
from tests.fakes.redis_server import redis_server
from tests.fixtures import ask
from tests.integration.sidecars import Running, issuer, running
from tests.unit.envoy.asking import told, write_check

REPLICAS: Final = 10
EVENTS: Final = 300
WARM_UP: Final = 20  # events that are not counted
PAUSE: Final = 0.004  # seconds between an answer and the next question
P50_AIM: Final = 10.0  # ms, from the acceptance until the last replica refuses
P99_AIM: Final = 100.0
_AIMED: Final = "all, from the answer"


def ask_until_refused(socket: str) -> None:
    """For each token on standard input, print whether it is accepted; after another line, the time of its refusal."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            METHOD, request_serializer=bytes, response_deserializer=bytes
        )
        for token in sys.stdin:
            message = write_check(ask(token.strip(), path="/items/1"))
            print(told(check(message, timeout=30)), flush=True)
            sys.stdin.readline()
            time.sleep(PAUSE)
            while b"authenticated" in (answer := check(message, timeout=30)):
                time.sleep(PAUSE)
            print(time.monotonic(), told(answer), flush=True)


class Questioner:
    """A process that asks one replica."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process: Final = process

    def accept(self, token: str) -> None:
        """Have it ask about *token* once."""
        self._write(token)
        if (line := self._read()) != ["authenticated"]:
            raise SystemExit(f"not accepted: {line}")

    def begin(self) -> None:
        """Have it ask until the token is refused."""
        self._write("")

    def refused_at(self) -> float:
        """Wait until the token is refused; return the time of that."""
        at, reason = self._read()
        if reason != "token_revoked":
            raise SystemExit(f"refused for another reason: {reason}")
        return float(at)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _read(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()


@contextmanager
def questioner(replica: Running) -> Iterator[Questioner]:
    """Start a process that asks *replica*."""
    argv = [sys.executable, "-m", "tests.bench.revocation_latency", "--ask", str(replica.socket)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Questioner(process)
        finally:
            process.kill()


def revoke(replica: Running, iss: str, jti: str) -> None:
    """Revoke one token, as `authz revoke` does."""
    body = json.dumps([{"iss": iss, "jti": jti}]).encode()
    answer = AdminPort(replica.sidecar.admin_url).read("POST", "/revocations", body)
    if answer["new"] != 1:
        raise SystemExit(f"not revoked: {answer}")


@dataclass(frozen=True, slots=True)
class Revocation:
    """One event: the milliseconds from its request to its answer, and to the refusal of each replica, sorted."""

    accepted: float
    refused: list[float]


def measure(replicas: Sequence[Running], questioners: Sequence[Questioner], idp: FakeIdp) -> list[Revocation]:
    """Revoke token after token, each at another replica."""
    found = []
    for number in range(EVENTS + WARM_UP):
        jti = f"event {number}"
        token = idp.mint(jti=jti, exp=int(time.time()) + 3600)
        for each in questioners:
            each.accept(token)
        for each in questioners:
            each.begin()
        began = time.monotonic()
        revoke(replicas[number % REPLICAS], idp.issuer, jti)
        accepted = 1000 * (time.monotonic() - began)
        found.append(Revocation(accepted, sorted(1000 * (each.refused_at() - began) for each in questioners)))
    return found[WARM_UP:]


def main() -> int:
    """Ask with --ask; else run all, and print the table."""
    if sys.argv[1:2] == ["--ask"]:
        ask_until_refused(sys.argv[2])
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-") as made, FakeIdp() as idp, ExitStack() as parts:
        folder = Path(made)
        store = parts.enter_context(redis_server(folder))
        replicas = []
        for number in range(REPLICAS):
            (place := folder / str(number)).mkdir()
            rest = f"workers: 1\n{store.settings()}"
            replicas.append(parts.enter_context(running(place, issuer("a", idp), server=rest)))
        for replica in replicas:
            replica.await_ready()
        found = measure(replicas, [parts.enter_context(questioner(replica)) for replica in replicas], idp)
    print(f"| refused by, of {REPLICAS}; {EVENTS} events | p50 ms | p99 ms | longest ms |\n|---|---:|---:|---:|")
    rows = {
        "the first": [each.refused[0] for each in found],
        "each": [one for each in found for one in each.refused],
        "all": [each.refused[-1] for each in found],
        _AIMED: [max(0.0, each.refused[-1] - each.accepted) for each in found],
    }
    for name, values in rows.items():
        cuts = quantiles(values, n=100)
        print(f"| {name} | {cuts[49]:.1f} | {cuts[98]:.1f} | {max(values):.1f} |")
    cuts = quantiles(rows[_AIMED], n=100)
    met = cuts[49] < P50_AIM and cuts[98] < P99_AIM
    print(f"\nAim for the last row: p50 below {P50_AIM:g} ms, p99 below {P99_AIM:g} ms: {'met' if met else 'missed'}.")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
