"""Attacks beside valid traffic, each alone and all together: what they do to the latency of those who mean well.

A core that two loads share is slower whatever they are. Attacks are held against two runs: valid traffic alone, and
valid traffic beside as many plain valid requests as the strongest attacks make.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from authz.core import base64url
from authz.demo.signing import SigningKey
from tests.endurance.client import Plan, Question, Tally, get, run_for
from tests.endurance.flood import HALF_REQUEST, Flood, flooding, half_calls
from tests.endurance.harness import CLIENT_CORES, TOLD, Stage, set_stage, write_config
from tests.endurance.report import Figure, Result
from tests.fakes.http2 import PREFACE
from tests.fakes.idp import JWKS, FakeIdp

VALID_RATE: Final = 400.0  # requests a second of those who mean well
SHARE: Final = 0.5  # of the capacity, for attacks of one request each
TOGETHER: Final = 0.5  # of each attack's own rate where all come at once, so that their sum is not above the capacity
MAX_RATIO: Final = 2.0  # of the 99th percentiles
COOLDOWN: Final = 2.0  # seconds between two refreshes for unknown key ids
VARIANTS: Final = 500  # different requests of each attack
_PASSED: Final = "200|calm|calm|alice||"
_REASONS: Final = {  # that an attack may be refused with; a status where Envoy refuses it
    "random key ids": {"key_not_found", "keys_unavailable"},
    "random issuers": {"issuer_unknown"},
    "malformed tokens": {"token_malformed", "header_invalid"},
    "wrong signatures, ES256": {"signature_invalid"},
    "wrong signatures, RS256": {"signature_invalid"},
    "tokens of 16 KiB": {"signature_invalid"},
    "tokens of 32 KiB": {"token_too_large"},
    "headers of 55 KiB": {"token_missing"},
    "headers beyond Envoy's limit": {"431"},
    "churn at Envoy": {"token_missing"},
    "an issuer that hangs": {"key_not_found", "keys_unavailable"},
}


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds of each run. What seems slow is run again, at most *repeats* times in all; the median counts."""

    seconds: float
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class Attack:
    """Requests that are asked at *share* of the capacity."""

    questions: Sequence[Question]
    share: float = SHARE
    churn: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """The latencies of valid traffic in one run, what was odd in it, and how much was asked beside it."""

    p50: float
    p99: float
    odd: str
    beside: float


def run(scale: Scale) -> Result:
    """Measure every attack."""
    result = Result(f"4 attacks: beside {VALID_RATE:,.0f} valid requests a second")
    with FakeIdp() as idp:
        idp.rotate("RS256")
        config = write_config(idp, fetch=f"cooldown: {COOLDOWN:g}s")
        with set_stage(idp, config) as stage:
            Run(stage, result, scale).all()
        with set_stage(idp, config, tcp=True) as stage:
            measure_half_calls(stage, result, scale)
    return result


class Run:
    """All attacks on one stage."""

    def __init__(self, stage: Stage, result: Result, scale: Scale) -> None:
        self._stage: Final = stage
        self._result: Final = result
        self._scale: Final = scale
        self._good: Final = good(stage.idp)
        self._capacity = 0.0
        self._alone: Final[list[Measured]] = []
        self._valid: Final[list[Measured]] = []

    def all(self) -> None:
        """Measure without attacks, with each, with all, and again what seemed slow."""
        (flat_out,) = run_for(3.0, self._plan(self._good, connections=16))
        self._capacity = flat_out.rate
        self._result.notes.append(f"capacity {self._capacity:,.0f} a second: 16 connections, a remembered token")
        runs = self._runs()
        measured: dict[str, list[Measured]] = {name: [] for name in runs}
        slow = list(runs)
        for _ in range(self._scale.repeats):
            self._measure_calm()
            for name in slow:
                measured[name].append(runs[name]())
            self._measure_calm()
            slow = [name for name in slow if typical(measured[name]).p99 > self._bound()]
            if not slow:
                break
        self._judge({name: typical(each) for name, each in measured.items()}, measured)

    def _runs(self) -> dict[str, Callable[[], Measured]]:
        attacks = http_attacks(self._stage.idp)
        runs: dict[str, Callable[[], Measured]] = {
            name: partial(self._measure, attack) for name, attack in attacks.items()
        }
        runs["random key ids"] = partial(self._measure_fetches, attacks["random key ids"])
        for name, flood in self._floods().items():
            runs[name] = partial(self._measure_flooded, [flood])
        mixed = Attack(
            [question for attack in attacks.values() if not attack.churn for question in attack.questions[:10]],
            share=TOGETHER * sum(attack.share for attack in attacks.values() if not attack.churn) / len(attacks),
        )
        churning = replace(attacks["churn at Envoy"], share=TOGETHER * attacks["churn at Envoy"].share)
        floods = [replace(flood, rate=TOGETHER * flood.rate) for flood in self._floods().values()]
        runs["all together"] = partial(self._measure_flooded, floods, mixed, churning)
        runs["an issuer that hangs"] = self._measure_hanging_issuer
        return runs

    def _bound(self) -> float:
        return MAX_RATIO * max(typical(self._alone).p99, typical(self._valid).p99)

    def _measure_calm(self) -> None:
        self._alone.append(self._measure())
        self._valid.append(self._measure(Attack(self._good)))

    def _measure_flooded(self, floods: Sequence[Flood], *attacks: Attack) -> Measured:
        with ExitStack() as parts:
            for flood in floods:
                parts.enter_context(flooding(flood))
            return self._measure(*attacks)

    def _measure_fetches(self, attack: Attack) -> Measured:
        fetches, began = self._stage.idp.count(JWKS), time.monotonic()
        measured = self._measure(attack)
        fetches, most = self._stage.idp.count(JWKS) - fetches, int((time.monotonic() - began) / COOLDOWN) + 1
        self._result.promise(
            f"unknown key ids cost the issuer a fetch in {COOLDOWN:g} s at most",
            found=f"{fetches} of {most}",
            held=fetches <= most,
        )
        return measured

    def _measure(self, *attacks: Attack) -> Measured:
        valid = self._plan(self._good, rate=VALID_RATE, warm_up=0.5)
        beside = [
            self._plan(attack.questions, rate=attack.share * self._capacity, connections=32, churn=attack.churn)
            for attack in attacks
        ]
        tally, *others = run_for(self._scale.seconds, valid, *beside)
        odd = [odd_answers(each) for each in (tally, *others)]
        asked = sum(other.rate for other in others)
        return Measured(tally.quantile(0.5), tally.quantile(0.99), "; ".join(filter(None, odd)), asked)

    def _measure_hanging_issuer(self) -> Measured:
        idp = self._stage.idp
        idp.answers[JWKS] = idp.hang
        unknown = get(
            "/items/1", kind="an issuer that hangs", token=idp.mint(key=SigningKey.create("ES256"), exp=tomorrow())
        )
        try:
            return self._measure(Attack([unknown], share=0.01))
        finally:
            del idp.answers[JWKS]

    def _floods(self) -> dict[str, Flood]:
        front, socket = self._stage.envoy.url, self._stage.sidecar.endpoint
        return {
            "half requests to Envoy": Flood(address=front, words=HALF_REQUEST, rate=200, held=800, cores=CLIENT_CORES),
            "churn at the socket": Flood(address=socket, words=PREFACE, rate=500, cores=CLIENT_CORES),
            "idle connections at the socket": Flood(
                address=socket, words=PREFACE, rate=200, held=800, cores=CLIENT_CORES
            ),
        }

    def _plan(
        self,
        questions: Sequence[Question],
        *,
        rate: float = 0.0,
        connections: int = 8,
        churn: bool = False,
        warm_up: float = 0.0,
    ) -> Plan:
        return Plan(
            url=self._stage.envoy.url,
            questions=questions,
            rate=rate,
            connections=connections,
            churn=churn,
            warm_up=warm_up,
            told=TOLD,
            cores=CLIENT_CORES,
        )

    def _judge(self, found: dict[str, Measured], measured: dict[str, list[Measured]]) -> None:
        calm = {"nothing": typical(self._alone), "plain valid requests": typical(self._valid)}
        for name, each in (calm | found).items():
            self._result.rows.append(self._describe(name, each, calm["nothing"].p99, calm["plain valid requests"].p99))
        odd = {name: run.odd for name, runs in measured.items() for run in runs if run.odd}
        self._result.promise("each valid request passes, and no attack does", found=odd or "all", held=not odd)
        bound = self._bound()
        slow = [name for name, each in found.items() if each.p99 > bound]
        self._result.promise(
            f"p99 of valid traffic at most {MAX_RATIO:g} times the slower of the two runs without attack",
            found=f"{', '.join(slow)} above {bound:.2f} ms" if slow else f"all within {bound:.2f} ms",
            held=not slow,
        )

    def _describe(self, name: str, each: Measured, alone: float, valid: float) -> dict[str, Figure]:
        return {
            "beside": name,
            "a second": round(each.beside),
            "of capacity": each.beside / self._capacity,
            "p50 ms": each.p50,
            "p99 ms": each.p99,
            "to alone": each.p99 / alone,
            "to valid": each.p99 / valid,
        }


def http_attacks(idp: FakeIdp) -> dict[str, Attack]:
    """Write what an attacker may ask Envoy."""
    stranger = SigningKey.create("ES256")
    ec, rsa = (str(jwk["kid"]) for jwk in idp.published if isinstance(jwk, dict))

    def nobody() -> str:
        header = {"alg": "ES256", "kid": secrets.token_hex(8)}
        return idp.mint(key=stranger, header=header, exp=tomorrow())

    writers: dict[str, Callable[[], str]] = {
        "random key ids": nobody,
        "random issuers": lambda: idp.mint(key=stranger, iss=f"https://{secrets.token_hex(8)}.test"),
        "malformed tokens": lambda: ".".join(secrets.token_urlsafe(size) for size in (40, 200, 64)),
        "wrong signatures, ES256": lambda: forge(idp, stranger, alg="ES256", kid=ec, size=64),
        "wrong signatures, RS256": lambda: forge(idp, stranger, alg="RS256", kid=rsa, size=256),
        "tokens of 16 KiB": lambda: forge(idp, stranger, alg="ES256", kid=ec, size=64, padding=11_600),
        "tokens of 32 KiB": lambda: forge(idp, stranger, alg="ES256", kid=ec, size=64, padding=24_000),
    }
    giant = {"tokens of 16 KiB", "tokens of 32 KiB"}
    attacks = {
        name: Attack(
            [get("/items/1", kind=name, token=write()) for _ in range(VARIANTS)],
            share=SHARE / 2 if name in giant else SHARE,
        )
        for name, write in writers.items()
    }
    wide = {f"x-{number}": "v" * 900 for number in range(60)}
    whole = {
        "headers of 55 KiB": get("/items/1", kind="headers of 55 KiB", headers=wide),
        "headers beyond Envoy's limit": get("/items/1", kind="headers beyond Envoy's limit", token="x" * 61_440),
        "churn at Envoy": get("/items/1", kind="churn at Envoy"),
    }
    # Envoy closes the connection on headers beyond its limit: each request needs one of its own.
    return attacks | {
        name: Attack([question], share=SHARE / 5, churn=name != "headers of 55 KiB") for name, question in whole.items()
    }


def good(idp: FakeIdp) -> list[Question]:
    """What those ask who mean well: with tokens of both algorithms."""
    return [get("/items/1", kind="good", token=idp.mint(exp=tomorrow(), jti=str(number))) for number in range(100)]


def forge(idp: FakeIdp, key: SigningKey, *, alg: str, kid: str, size: int, padding: int = 0) -> str:
    """Write a token that is good but for its signature, which is out of thin air and canonical."""
    header = {"alg": alg, "kid": kid, "typ": "at+jwt"}
    signed = idp.mint(key=key, header=header, exp=tomorrow(), jti=secrets.token_hex(8), pad="x" * padding)
    return f"{signed.rpartition('.')[0]}.{base64url.encode(secrets.token_bytes(size)).decode()}"


def tomorrow() -> int:
    """An expiry that no run lives to see."""
    return int(time.time()) + 86_400


def odd_answers(tally: Tally) -> str:
    """Name answers that no right decision is: a good request that does not pass, an attack that is not refused so."""
    odd = []
    for (kind, answer), number in tally.answers.items():
        status, reason = answer.split("|")[0], answer.rpartition("|")[2]
        right = answer == _PASSED if kind == "good" else (reason or status) in _REASONS.get(kind, ())
        if not right:
            odd.append(f"{number} x {kind}: {answer}")
    return "; ".join(odd[:4])


def typical(runs: Sequence[Measured]) -> Measured:
    """Return the run whose 99th percentile is the median."""
    return sorted(runs, key=lambda each: each.p99)[(len(runs) - 1) // 2]


def measure_half_calls(stage: Stage, result: Result, scale: Scale) -> None:
    """Begin calls on the sidecar's own TCP port and never finish them, a burst of 16 each second."""
    questions = good(stage.idp)
    plan = Plan(
        url=stage.envoy.url,
        questions=questions,
        rate=VALID_RATE,
        told=TOLD,
        cores=CLIENT_CORES,
        warm_up=0.5,
        record=True,
    )
    (before,) = run_for(scale.seconds, plan)
    flood = Flood(address=stage.sidecar.endpoint, words=half_calls(16), rate=1, held=100, cores=CLIENT_CORES)
    with flooding(flood):
        (during,) = run_for(scale.seconds, plan)
    for name, tally in (("nothing, on TCP", before), ("half calls on TCP, 16 at a time", during)):
        result.rows.append({"beside": name, "p50 ms": tally.quantile(0.5), "p99 ms": tally.quantile(0.99)})
    odd = odd_answers(during)
    worst = max(during.latencies) * 1_000
    result.promise(
        "half calls hold a valid request up for at most 0.5 s, and fail none",
        found=odd or f"{worst:,.0f} ms",
        held=not odd and worst <= 500,
    )
