"""Restarts by SIGTERM under load: what a client that never asks twice can see of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from tests.endurance.client import Exchange, Plan, Tally, get, loading
from tests.endurance.harness import CLIENT_CORES, TOLD, Replica, Stage, set_stage, write_config
from tests.endurance.report import Figure, Result
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import HANG_SECONDS, wait_until

RATE: Final = 1_000.0  # requests a second
_ENDED: Final = HANG_SECONDS
_RIGHT: Final = {
    "good": "200|calm|calm|alice||",
    "none": '401||||Bearer realm="calm"|token_missing',
    "open": "200|calm-open||||",
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How often, with two replicas and with one."""

    two: int
    one: int
    rate: float = RATE


@dataclass(frozen=True, slots=True)
class Restart:
    """When SIGTERM was sent, when the process had ended and by which status, and when Envoy asked it again."""

    told: float
    ended: float
    status: int | None
    back: float


def run(scale: Scale) -> Result:
    """Restart two replicas in turn, then one that is alone."""
    result = Result(f"2 restarts: SIGTERM at {scale.rate:,.0f} requests a second, by a client that never asks twice")
    for replicas, times in ((2, scale.two), (1, scale.one)):
        tally, restarts, errors = restart_often(replicas, times, rate=scale.rate)
        result.rows.append(describe(replicas, tally, restarts, errors))
        failures = [exchange for exchange in tally.exchanges if is_failure(exchange)]
        wrong = sum(exchange.answer != _RIGHT.get(exchange.kind) for exchange in tally.exchanges) - len(failures)
        result.promise(f"with {replicas}: no wrong decision", found=wrong, held=wrong == 0)
        bad = [restart.status for restart in restarts if restart.status != 0]
        result.promise(f"with {replicas}: each ends with 0 within its drain", found=bad or "all", held=not bad)
        if replicas > 1:
            result.promise(f"with {replicas}: no failed request", found=len(failures), held=not failures)
        result.notes += explain(failures, restarts)
    return result


def restart_often(
    replicas: int, times: int, *, rate: float, cluster: Mapping[str, Any] = {}, patient: bool = False
) -> tuple[Tally, list[Restart], dict[str, int]]:
    """Restart each in turn, as a rollout does: the next one when Envoy asks the last one again."""
    with (
        FakeIdp() as idp,
        set_stage(idp, write_config(idp), replicas=replicas, cluster=cluster, patient=patient) as stage,
    ):
        token = idp.mint(exp=int(time.time()) + 86_400)
        questions = (
            get("/items/1", kind="good", token=token),
            get("/items/1", kind="none"),
            get("/open/1", kind="open"),
        )
        plan = Plan(
            url=stage.envoy.url,
            questions=questions,
            rate=rate,
            connections=64,
            told=TOLD,
            record=True,
            cores=CLIENT_CORES,
        )
        with loading(plan) as load:
            restarts = [restart(stage, stage.replicas[number % replicas]) for number in range(times)]
            return load.end(), restarts, stage.stats("^cluster.authz|ext_authz.authz.error")


def restart(stage: Stage, replica: Replica) -> Restart:
    """End one by SIGTERM, start it again, and wait until Envoy asks it."""
    told = time.monotonic()
    replica.signal(signal.SIGTERM)
    wait_until(lambda: replica.process.status is not None, seconds=_ENDED)
    ended, status = time.monotonic(), replica.process.status
    replica.start()
    wait_until(lambda: stage.healthy() == len(stage.replicas))
    return Restart(told, ended, status, time.monotonic())


def is_failure(exchange: Exchange) -> bool:
    """Whether a client saw more than a decision: no answer, or 500 and above."""
    return not exchange.answer.startswith(("2", "4"))


def describe(replicas: int, tally: Tally, restarts: Sequence[Restart], errors: dict[str, int]) -> dict[str, Figure]:
    """Write the row of one run."""
    failed = sum(map(is_failure, tally.exchanges))
    return {
        "replicas": replicas,
        "restarts": len(restarts),
        "requests": tally.count,
        "failed": failed,
        "failed per restart": failed / len(restarts),
        "gone for s": median(restart.back - restart.told for restart in restarts),
        "drain s": median(restart.ended - restart.told for restart in restarts),
        "p50 ms": tally.quantile(0.5),
        "p99 ms": tally.quantile(0.99),
        # Why a request failed: a sidecar that was gone, one that was too slow, or none to ask.
        "refused": errors.get("cluster.authz.upstream_cx_connect_fail", 0),
        "timed out": errors.get("cluster.authz.upstream_rq_timeout", 0),
        "none to ask": errors.get("cluster.authz.upstream_cx_none_healthy", 0),
    }


def explain(failures: Sequence[Exchange], restarts: Sequence[Restart]) -> list[str]:
    """Say for each restart that could be seen when it was seen, in milliseconds after SIGTERM."""
    seen = []
    for number, restart in enumerate(restarts, 1):
        end = restarts[number].told if number < len(restarts) else float("inf")
        during = [exchange for exchange in failures if restart.told <= exchange.due < end]
        if during:
            first, last = ((each.due - restart.told) * 1_000 for each in (during[0], during[-1]))
            kinds = ", ".join(sorted({each.answer.strip("|") for each in during}))
            seen.append(
                f"restart {number}: {len(during)} failed, {first:,.0f} to {last:,.0f} ms after SIGTERM: {kinds}"
            )
    return seen if len(seen) <= 5 else [*seen[:5], f"and {len(seen) - 5} more restarts like these"]
