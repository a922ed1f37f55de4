"""Reloads under load: two configurations in turn, so unlike that an answer made of both would show."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from tests.endurance.client import Exchange, Plan, Question, get, loading
from tests.endurance.harness import CLIENT_CORES, TOLD, Stage, await_answer, set_stage, write_config
from tests.endurance.report import Result
from tests.endurance.watching import watching
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.test_reload import BROKEN

NAMES: Final = ("alpha", "beta")
_OTHER: Final = {"alpha": "beta", "beta": "alpha"}
_TAKEN_UP: Final = HANG_SECONDS


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it. *broken* and *unsignalled* say how many good reloads stand between two of those.

    *pause* is the time between an answer and the next request of a connection, in seconds.
    """

    reloads: int
    broken: int = 10
    unsignalled: int = 200
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of the configuration: from when on it may be in force, and from when on no other is."""

    asked: float
    in_force: float
    name: str


def configurations(idp: FakeIdp) -> dict[str, str]:
    """Write the two: they differ in audience, rules, identity header, and in what the open path is open to."""
    return {
        "alpha": write_config(idp, name="alpha", audience="alpha", open_to="public"),
        "beta": write_config(idp, name="beta", audience="beta", open_to="deny"),
    }


def answers_by(name: str) -> dict[str, str]:
    """What each kind of question is answered while *name* is in force: status, `TOLD`, and the reason."""
    passed = f"200|{name}|{name}|alice||"
    refused = f'401||||Bearer realm="{name}", error="invalid_token"|audience_mismatch'
    return {
        name: passed,
        _OTHER[name]: refused,
        "both": passed,
        "none": f'401||||Bearer realm="{name}"|token_missing',
        "open": "200|alpha-open||||" if name == "alpha" else "403|||||policy_denied",
    }


LAW: Final = {name: answers_by(name) for name in NAMES}


def questions(idp: FakeIdp) -> list[Question]:
    """Ask with tokens of either audience, of both, and without one."""
    tokens = {name: [name] for name in NAMES} | {"both": list(NAMES)}
    return [
        *(get("/items/1", kind=kind, token=mint(idp, audience)) for kind, audience in tokens.items()),
        get("/items/1", kind="none"),
        get("/open/1", kind="open"),
    ]


def mint(idp: FakeIdp, audience: object) -> str:
    """Sign a token that outlives the run."""
    return idp.mint(aud=audience, exp=int(time.time()) + 86_400)


def run(scale: Scale, *, patient: bool = False) -> Result:
    """Reload so often under load, behind an Envoy that may be *patient*."""
    result = Result(f"1 reloads: {scale.reloads:,} good ones under load, and broken ones between them")
    with FakeIdp() as idp:
        texts = configurations(idp)
        with set_stage(idp, texts["alpha"], patient=patient) as stage:
            plan = Plan(
                url=stage.envoy.url,
                questions=questions(idp),
                pause=scale.pause,
                connections=4,
                told=TOLD,
                record=True,
                cores=CLIENT_CORES,
            )
            token = mint(idp, list(NAMES))
            with watching(stage.sidecar.use) as watch, loading(plan) as load:
                began = time.monotonic()
                turns, broken = turn_often(stage, texts, token, scale)
                seconds = time.monotonic() - began
                tally = load.end()
            accepted, rejected = (
                stage.sidecar.metric("authz_config_reloads_total", result=word) for word in ("accepted", "rejected")
            )
    verdicts = judge(tally.exchanges, turns)
    result.rows.append(
        {
            "good": len(turns) - 1,
            "broken": broken,
            "seconds": seconds,
            "decisions": tally.count,
            "per second": tally.rate,
            "p50 ms": tally.quantile(0.5),
            "p99 ms": tally.quantile(0.99),
        }
    )
    wrong, stale = verdicts["wrong"], verdicts["stale"]
    result.promise("no decision mixes two configurations", found=f"{wrong} of {tally.count:,}", held=wrong == 0)
    result.promise("no decision by a configuration that was replaced", found=stale, held=stale == 0)
    result.promise("no failed request", found=tally.failed(), held=tally.failed() == 0)
    result.promise("every good one is taken up", found=f"{accepted:.0f}", held=accepted >= scale.reloads)
    result.promise("every broken one is refused", found=f"{rejected:.0f} of {broken}", held=rejected >= broken)
    watch.judge(result)
    return result


def turn_often(stage: Stage, texts: dict[str, str], token: str, scale: Scale) -> tuple[list[Turn], int]:
    """Swap the configuration again and again; return each change and how many broken ones there were."""
    turns, broken = [Turn(0.0, time.monotonic(), "alpha")], 0
    defects = cycle(BROKEN.values())
    for number, name in zip(range(1, scale.reloads + 1), cycle(("beta", "alpha")), strict=False):
        if number % scale.broken == 0:
            broken += 1
            offer_broken(stage, next(defects)(texts[name]), broken)
        asked = time.monotonic()
        stage.sidecar.mount(texts[name])
        if number % scale.unsignalled:
            stage.sidecar.reload()
        turns.append(Turn(asked, await_answer(stage, token, name, seconds=_TAKEN_UP), name))
    return turns, broken


def offer_broken(stage: Stage, text: str, number: int) -> None:
    """Mount a configuration that cannot be taken up, and wait until it has been refused."""
    stage.sidecar.mount(text)
    stage.sidecar.reload()
    wait_until(lambda: stage.sidecar.metric("authz_config_reloads_total", result="rejected") >= number)


def judge(exchanges: Sequence[Exchange], turns: Sequence[Turn]) -> Counter[str]:
    """Sort decisions: `good`, `wrong` where neither configuration answers so, `stale` where another was in force."""
    verdicts: Counter[str] = Counter()
    times = [turn.in_force for turn in turns]
    for exchange in exchanges:
        by = [name for name in NAMES if LAW[name][exchange.kind] == exchange.answer]
        if not by:
            verdicts["wrong"] += 1
            continue
        # In force when it was asked, or changed to before it was answered.
        current = max(bisect_right(times, exchange.due) - 1, 0)
        possible = {turns[current].name} | {
            turn.name for turn in turns[current + 1 :][:2] if turn.asked < exchange.done
        }
        verdicts["good" if possible.intersection(by) else "stale"] += 1
    return verdicts
