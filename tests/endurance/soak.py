"""Mixed traffic for long: keys that rotate, tokens that come and go, reloads now and then, and some denials."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from authz.demo.signing import SigningKey
from tests.endurance.client import Load, Plan, Question, Tally, get, loading
from tests.endurance.harness import CLIENT_CORES, TOLD, Stage, set_stage, write_config
from tests.endurance.report import Result
from tests.endurance.watching import watching
from tests.fakes.idp import JWKS, FakeIdp

BATCHES: Final = 10  # keys that are published at a time
BATCH: Final = 1_000  # tokens of each
RATE: Final = 800.0  # requests a second
_PASSED: Final = "200|calm|calm|alice||"
_REFUSED: Final = '401||||Bearer realm="calm", error="invalid_token"|'
# While a key that no one has seen is fetched. Keys come before signatures and claims: any token by it gets this.
_LEARNING: Final = "503|||||keys_unavailable"
_NAMING: Final = ("good", "expired", "audience", "forged")
MAX_LEARNING: Final = 10  # of these a rotation: more than wait for one fetch while it takes some milliseconds
_LAW: Final = {
    "good": _PASSED,
    "open": "200|calm-open||||",
    "none": '401||||Bearer realm="calm"|token_missing',
    "expired": f"{_REFUSED}token_expired",
    "audience": f"{_REFUSED}audience_mismatch",
    "forged": f"{_REFUSED}signature_invalid",
    "malformed": f"{_REFUSED}token_malformed",
    "nowhere": "403|||||policy_denied",
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How long, and how many seconds lie between two rotations of the keys and two reloads."""

    seconds: float
    rotate_every: float = 6.0
    reload_every: float = 10.0


def run(scale: Scale) -> Result:
    """Keep it up, and watch what the sidecar takes."""
    minutes = scale.seconds / 60
    result = Result(f"3 soak: {minutes:g} minutes of mixed traffic at {RATE:,.0f} requests a second")
    with FakeIdp() as idp:
        config = write_config(idp, fetch="cooldown: 1s, max_wait: 250ms")
        with set_stage(idp, config) as stage:
            pool = Pool(idp)
            plan = Plan(
                url=stage.envoy.url,
                questions=pool.questions(),
                rate=RATE,
                connections=32,
                told=TOLD,
                cores=CLIENT_CORES,
            )
            before = stage.sidecar.use()
            with watching(stage.sidecar.use, every=min(scale.seconds / 120, 5.0)) as watch, loading(plan) as load:
                rotations, reloads = keep_changing(stage, pool, load, config, scale)
                tally = load.end()
            after, fetches = stage.sidecar.use(), idp.count(JWKS)
    learning = sum(tally.answers[kind, _LEARNING] for kind in _NAMING)
    result.rows.append(
        {
            "minutes": minutes,
            "requests": tally.count,
            "tokens": BATCHES * BATCH + rotations * BATCH,
            "rotations": rotations,
            "fetches": fetches,
            "503 while fetched": learning,
            "reloads": reloads,
            "p50 ms": tally.quantile(0.5),
            "p99 ms": tally.quantile(0.99),
            "CPU us": (after.cpu_seconds - before.cpu_seconds) * 1e6 / max(tally.count, 1),
            "RSS KiB": after.rss_kib,
        }
    )
    wrong = odd_answers(tally)
    result.promise("each request is answered, and answered right", found=wrong or "all", held=not wrong)
    result.promise(
        f"a key that is new costs at most {MAX_LEARNING} times 503 while it is fetched",
        found=f"{learning} in {rotations} rotations",
        held=learning <= MAX_LEARNING * rotations,
    )
    watch.judge(result)
    return result


class Pool:
    """Tokens of the keys that are published, a batch of each; and the questions that are never answered with yes."""

    def __init__(self, idp: FakeIdp) -> None:
        self._idp: Final = idp
        self._batches: Final[deque[tuple[str, list[Question]]]] = deque()
        for _ in range(BATCHES):
            self.add()
        idp.published = idp.published[-BATCHES:]

    def add(self) -> None:
        """Sign with a new key from now on."""
        key = self._idp.rotate()
        until = int(time.time()) + 86_400
        tokens = (self._idp.mint(exp=until, jti=str(number)) for number in range(BATCH))
        self._batches.append((key.kid, [get("/items/1", kind="good", token=token) for token in tokens]))

    def drop(self) -> None:
        """Withdraw the oldest key."""
        kid, _ = self._batches.popleft()
        self._idp.withdraw(kid)

    def questions(self) -> list[Question]:
        """Nine in ten are good, but for those of the batch that is about to go."""
        kept = list(self._batches)[-BATCHES:]
        good = [question for _, batch in kept for question in batch]
        return [*good, *denied(self._idp) * (len(good) // 70)]


def denied(idp: FakeIdp) -> list[Question]:
    """One question for each kind of answer but yes."""
    now = int(time.time())
    forged = SigningKey.create("ES256", kid=idp.key.kid)
    return [
        get("/items/1", kind="none"),
        get("/items/1", kind="expired", token=idp.mint(iat=now - 900, exp=now - 600)),
        get("/items/1", kind="audience", token=idp.mint(aud="other", exp=now + 86_400)),
        get("/items/1", kind="forged", token=idp.mint(key=forged, exp=now + 86_400)),
        get("/items/1", kind="malformed", token="not.a.token"),
        get("/elsewhere", kind="nowhere"),
        get("/open/1", kind="open"),
    ]


def keep_changing(stage: Stage, pool: Pool, load: Load, config: str, scale: Scale) -> tuple[int, int]:
    """Rotate keys and reload until the time is over; return how often each was done."""
    variants = cycle([f"{config}token: {{max_bytes: {size}}}\n" for size in ("12KiB", "16KiB")])
    began = time.monotonic()
    rotations = reloads = 0
    while (elapsed := time.monotonic() - began) < scale.seconds:
        if elapsed > (rotations + 1) * scale.rotate_every:
            pool.add()
            load.ask_from_now(pool.questions())
            rotations += 1
        if elapsed > (rotations + 0.5) * scale.rotate_every and len(pool._batches) > BATCHES:
            pool.drop()
        if elapsed > (reloads + 1) * scale.reload_every:
            stage.sidecar.mount(next(variants))
            stage.sidecar.reload()
            reloads += 1
        time.sleep(0.1)
    return rotations, reloads


def odd_answers(tally: Tally) -> str:
    """Name the answers that are not what the law says."""
    odd = [
        (kind, answer, number)
        for (kind, answer), number in tally.answers.items()
        if answer != _LAW.get(kind) and not (answer == _LEARNING and kind in _NAMING)
    ]
    return "; ".join(f"{number} x {kind}: {answer}" for kind, answer, number in odd[:6])
