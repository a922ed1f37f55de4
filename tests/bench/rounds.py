"""Rounds: a setup and what it is compared with, loaded in turn and briefly, so that both meet the same moment."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.accounting import Usage, foreign_seconds, rss_mb
from tests.bench.deployments import Deployment
from tests.bench.envoys import count_answers
from tests.bench.load import CONNECTIONS, OFFERED, Load, SpoiltError, drive
from tests.bench.series import Row
from tests.bench.setups import Kind
from tests.bench.tokens import Pool

HIT: Final = "authz_signature_cache_requests_total:hit"
MISS: Final = "authz_signature_cache_requests_total:miss"
_ASKED: Final = "authz_facts_total:active"
_DENIED: Final = "authz_decisions_total:deny"
_DROPPED: Final = "authz_spans_dropped_total"
_IDLE_SHARE: Final = 0.10  # of their cores that the deciders leave idle, above which they did not bound the rate
_OTHERS_SHARE: Final = 0.10  # of a core that others took, above which the machine was not quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One load on one stand, for *checks* answered requests.

    *used* is of the deciders, *envoy* of Envoy. *busy* is the share of their cores that the deciders
    used, *others* how many cores someone else kept busy, of those that are in use.
    """

    load: Load
    used: Usage
    envoy: Usage
    checks: int
    busy: float
    others: float


class Driver:
    """Loads one stand with the tokens of one pool, each time going on where it stopped."""

    def __init__(self, deployment: Deployment, pool: Pool) -> None:
        self.deployment = deployment
        self._pool = pool
        self._next = 0

    def load(self, *, seconds: float, offered: int = 0) -> Window:
        """Load the stand once, with so many requests a second or with as many as it takes.

        Raises SpoiltError where a request was not answered 2xx.
        """
        deployment = self.deployment
        cores = deployment.place.server | deployment.place.envoy | deployment.place.load
        answered = count_answers(deployment.envoy.admin_url)
        others, began = foreign_seconds(cores), time.monotonic()
        used, envoy = Usage.of(deployment.deciders), Usage.of([deployment.envoy_pid])
        load = drive(
            deployment.envoy.url,
            self._pool,
            first=self._next,
            seconds=seconds,
            offered=offered,
            cores=deployment.place.load,
        )
        used, envoy = Usage.of(deployment.deciders) - used, Usage.of([deployment.envoy_pid]) - envoy
        took, others = time.monotonic() - began, foreign_seconds(cores) - others
        checks, good = (
            now - then for now, then in zip(count_answers(deployment.envoy.admin_url), answered, strict=True)
        )
        self._next += checks + CONNECTIONS
        if load.refused or load.broken or good != checks or not checks:
            raise SpoiltError(f"{good} of {checks} answers were 2xx; {load.refused} refused, {load.broken} broken")
        return Window(
            load=load,
            used=used,
            envoy=envoy,
            checks=checks,
            busy=used.cpu / load.seconds / len(deployment.judging_cores),
            others=max(0.0, others / took),
        )


def measure(name: str, subject: Driver, references: Mapping[str, Driver], *, rounds: int, seconds: float) -> Row:
    """Measure *subject* in so many rounds, each load of so many seconds, beside *references*.

    Those are named by the metric that compares the rates; with that of `ratio` the latencies are compared too.
    Raises SpoiltError.
    """
    series: dict[str, list[float]] = defaultdict(list)
    subject.load(seconds=seconds)  # to warm it up
    before = subject.deployment.samples()
    for _ in range(rounds):
        beside = {metric: driver.load(seconds=seconds) for metric, driver in references.items()}
        window = subject.load(seconds=seconds)
        for metric, value in _rates(window, beside):
            series[metric].append(value)
        bare = references["ratio"].load(seconds=seconds, offered=OFFERED)
        window = subject.load(seconds=seconds, offered=OFFERED)
        for metric, value in _latencies(window, bare):
            series[metric].append(value)
    changed = changes(before, subject.deployment.samples())
    check_samples(changed, fresh=subject.deployment.setup.fresh)
    series["rss_mb"].append(rss_mb(subject.deployment.deciders))
    return Row(name=name, series=dict(series), notes=tuple(_notes(subject, series, changed)))


def _rates(window: Window, beside: Mapping[str, Window]) -> Iterator[tuple[str, float]]:
    yield "rps", window.load.rps
    yield "cpu_us", window.used.cpu / window.checks * 1e6
    yield "envoy_us", window.envoy.cpu / window.checks * 1e6
    yield "switches", window.used.switches / window.checks
    yield "busy", window.busy
    yield "others", window.others
    for metric, other in beside.items():
        yield metric, window.load.rps / other.load.rps
    if (base := beside.get("to_base")) is not None:
        ours, theirs = (each.used.cpu / each.checks for each in (window, base))
        yield "cpu_ratio", ours / theirs
        yield "cpu_more_us", (ours - theirs) * 1e6


def _latencies(window: Window, bare: Window) -> Iterator[tuple[str, float]]:
    yield "offered_rps", window.load.rps
    yield "p50_ms", window.load.p50_ms
    yield "p99_ms", window.load.p99_ms
    yield "added_p50_ms", window.load.p50_ms - bare.load.p50_ms
    yield "added_p99_ms", window.load.p99_ms - bare.load.p99_ms


def changes(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """By how much each counter grew."""
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def check_samples(changed: Mapping[str, float], *, fresh: bool) -> None:
    """Hold what the sidecar counted against what the row claims. Raises SpoiltError."""
    hits, misses, denied, asked = (changed.get(name, 0.0) for name in (HIT, MISS, _DENIED, _ASKED))
    if denied:
        raise SpoiltError(f"{denied:g} requests were denied")
    if asked:
        raise SpoiltError(f"the issuer was asked {asked:g} times more")
    if fresh and hits:
        raise SpoiltError(f"{hits:g} of {hits + misses:g} tokens had been seen before")
    if not fresh and misses:
        raise SpoiltError(f"{misses:g} of {hits + misses:g} tokens were not remembered")


def _notes(subject: Driver, series: Mapping[str, Sequence[float]], changed: Mapping[str, float]) -> Iterator[str]:
    """What a reader must know of the figures."""
    spans = changed.get(_DROPPED, 0.0)
    if spans:
        yield f"{spans:.0f} spans dropped"
    if subject.deployment.setup.kind in {Kind.BARE, Kind.SIDECAR} and min(series["busy"]) < 1 - _IDLE_SHARE:
        yield f"not saturated: it used only {min(series['busy']):.0%} of its cores"
    if min(series["offered_rps"]) < 0.9 * OFFERED:
        yield f"the fixed load fell to {min(series['offered_rps']):.0f} requests per second"
    if max(series["others"]) > _OTHERS_SHARE:
        yield f"disturbed: others took up to {max(series['others']):.0%} of a core"
