"""Offered load from below the capacity to several times of it: who is refused, and what those get who are let in.

The load goes to the sidecar's own socket: before an Envoy on the same core it would be Envoy that is overloaded. The
bound on its requests in flight is what `max_requests` of Envoy's circuit breaker is. A few valid requests go through
Envoy beside it, and it is their latency that counts.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Final

from authz.envoy.admission import METHOD
from tests.endurance.client import Plan, get, loading, run_for
from tests.endurance.harness import CLIENT_CORES, TOLD, Stage, on, set_stage, write_config
from tests.endurance.report import Figure, Result
from tests.fakes.idp import FakeIdp
from tests.fixtures import ask
from tests.tools import path
from tests.unit.envoy.asking import write_check

VALID_RATE: Final = 100.0
CONNECTIONS: Final = 4
_DONE: Final = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored")


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds of each run; the steps as multiples of the capacity; the bounds on requests in flight to try."""

    seconds: float
    steps: tuple[float, ...] = (0.5, 0.9, 1.2, 1.5, 2.0, 4.0)
    in_flight: tuple[int, ...] = (128, 256, 512, 1024)


def run(scale: Scale) -> Result:
    """Climb the ramp as the snippet bounds it, then press with each bound as hard as it lets."""
    result = Result("5 overload: load on the sidecar's socket, beside valid requests through Envoy")
    with FakeIdp() as idp, set_stage(idp, write_config(idp)) as stage:
        token = idp.mint(exp=int(time.time()) + 86_400)
        most = max(scale.in_flight)
        done, _ = flood(stage, token, seconds=3.0, in_flight=32)
        capacity = done / 3.0
        result.notes.append(f"capacity {capacity:,.0f} a second: 32 requests in flight, a remembered token")
        for step in scale.steps:
            row = press(stage, token, seconds=scale.seconds, in_flight=most, rate=step * capacity)
            result.rows.append({"offered": f"{step:g} x capacity", **row})
        for bound in scale.in_flight:
            row = press(stage, token, seconds=scale.seconds, in_flight=bound)
            result.rows.append({"offered": "all it takes", **row})
        after = time.monotonic()
        recover(stage, token)
        seconds = time.monotonic() - after
    odd = sum(int(row["odd"]) for row in result.rows)
    result.promise("under any load only decisions and 503", found=f"{odd} others", held=odd == 0)
    failed = sum(int(row["RPC errors"]) for row in result.rows)
    result.promise("under any load no RPC error", found=failed, held=failed == 0)
    result.promise("calm again in less than 5 s", found=f"{seconds:.1f} s", held=seconds < 5)
    return result


def flood(stage: Stage, token: str, *, seconds: float, in_flight: int, rate: float = 0.0) -> tuple[int, int]:
    """Call the sidecar by h2load for so long; return how many calls were answered, and how many were not."""
    connections = min(CONNECTIONS, in_flight)
    command = [
        *(path("h2load"), f"--base-uri={stage.sidecar.endpoint}", f"--duration={seconds:g}"),
        *(f"--clients={connections}", f"--max-concurrent-streams={in_flight // connections}"),
        *("--header=content-type: application/grpc", "--header=te: trailers"),
        *([f"--rps={rate / connections:.3f}"] if rate else []),
    ]
    message = write_check(ask(token))
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\x00" + len(message).to_bytes(4, "big") + message)
        body.flush()
        with on(CLIENT_CORES):
            done = subprocess.run(
                [*command, f"--data={body.name}", f"http://authz{METHOD}"],
                check=True,
                capture_output=True,
                text=True,
                timeout=seconds + 60,
            )
    found = _DONE.search(done.stdout)
    assert found, done.stdout
    answered, failed, errored = map(int, found.groups())
    return answered, failed + errored


def press(stage: Stage, token: str, *, seconds: float, in_flight: int, rate: float = 0.0) -> dict[str, Figure]:
    """Offer so many calls a second, or without a rate as many as the bound lets in; look at those beside them."""
    before, cpu = numbers(stage), stage.sidecar.use().cpu_seconds
    plan = Plan(
        url=stage.envoy.url,
        questions=[get("/items/1", kind="good", token=token)],
        rate=VALID_RATE,
        connections=64,
        told=TOLD,
        cores=CLIENT_CORES,
        record=True,
    )
    with loading(plan) as load:
        answered, failed = flood(stage, token, seconds=seconds, in_flight=in_flight, rate=rate)
        tally = load.end()
    spent = stage.sidecar.use().cpu_seconds - cpu
    now = {name: value - before[name] for name, value in numbers(stage).items()}
    decided = now["allow"] + now["overloaded"]
    passed = sorted((each.done - each.due) * 1_000 for each in tally.exchanges if each.answer.startswith("200"))
    return {
        "in flight": in_flight,
        "answered a second": round(answered / seconds),
        "allowed a second": round(now["allow"] / seconds),
        "refused": now["overloaded"] / max(decided, 1),
        "CPU us": spent * 1e6 / max(decided, 1),
        "valid passed": len(passed) / max(tally.count, 1),
        "timed out": now["timeout"] / max(tally.count, 1),
        "p50 ms": passed[len(passed) // 2] if passed else float("nan"),
        "p99 ms": passed[int(len(passed) * 0.99)] if passed else float("nan"),
        "RPC errors": failed,
        "odd": sum(number for status, number in tally.statuses().items() if status not in {"200", "503"}),
    }


def numbers(stage: Stage) -> dict[str, float]:
    """Read what the sidecar decided, and how often Envoy did not wait for it."""
    envoy = stage.stats("^cluster.authz.upstream_rq")
    sidecar = stage.sidecar
    return {
        "allow": sidecar.metric("authz_decisions_total", decision="allow"),
        "overloaded": sidecar.metric("authz_decisions_total", reason="overloaded"),
        "timeout": envoy.get("cluster.authz.upstream_rq_timeout", 0),
    }


def recover(stage: Stage, token: str) -> None:
    """Wait until a hundred valid requests in a row pass."""
    plan = Plan(
        url=stage.envoy.url,
        questions=[get("/items/1", kind="good", token=token)],
        rate=VALID_RATE,
        told=TOLD,
        cores=CLIENT_CORES,
    )
    while True:
        (tally,) = run_for(1.0, plan)
        if tally.statuses().keys() == {"200"}:
            return
