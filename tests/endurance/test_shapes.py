"""Proves the shape of what lasts: reloads and restarts under load in little; and that their verdicts can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.endurance import reloads, restarts
from tests.endurance.client import Exchange
from tests.endurance.harness import Use
from tests.endurance.reloads import LAW, Turn
from tests.endurance.report import Result
from tests.endurance.restarts import is_failure, restart_often
from tests.endurance.watching import MAX_GROWTH_KIB, Watch

# So that Envoy asks a sidecar no more before its drain is over: looked at more often than the drain lasts, and what is
# seen counts at once.
NOTICED: Final[dict[str, Any]] = {
    "common_lb_config": {"update_merge_window": "0s"},
    "health_checks": [
        {
            "timeout": "5s",
            "interval": "0.2s",
            "no_traffic_interval": "0.2s",
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "grpc_health_check": {"service_name": "envoy.service.auth.v3.Authorization"},
        }
    ],
}
TURNS: Final = (Turn(0.0, 1.0, "alpha"), Turn(5.0, 6.0, "beta"), Turn(9.0, 10.0, "alpha"))


@pytest.mark.needs("envoy")
@pytest.mark.xdist_group("endurance")
def test_reloads_under_load_mix_nothing_and_fail_nothing() -> None:
    """Twenty good configurations and some broken ones, while requests are answered by one of the two each."""
    result = reloads.run(reloads.Scale(20, broken=5, unsignalled=100, pause=0.01), patient=True)
    assert [promise for promise in result.promises if not promise.held] == []
    assert result.rows[0]["decisions"]
    assert result.rows[0]["broken"] == 4


@pytest.mark.needs("envoy")
@pytest.mark.xdist_group("endurance")
def test_restarts_of_one_of_two_are_not_seen() -> None:
    """Each of two replicas is ended and started twice, and no client notices."""
    tally, made, _ = restart_often(2, 4, rate=100, cluster=NOTICED, patient=True)
    assert [restart.status for restart in made] == [0, 0, 0, 0]
    assert [exchange for exchange in tally.exchanges if is_failure(exchange)] == []
    assert tally.exchanges


@pytest.mark.parametrize("kind", LAW["alpha"])
@pytest.mark.parametrize(
    ("name", "due", "done", "verdict"),
    [
        ("alpha", 2.0, 3.0, "good"),
        ("beta", 2.0, 3.0, "stale"),
        ("beta", 4.0, 5.5, "good"),
        ("alpha", 5.5, 5.6, "good"),
        ("alpha", 6.5, 6.6, "stale"),
        ("beta", 10.5, 10.6, "stale"),
    ],
)
def test_a_decision_is_by_what_was_in_force(kind: str, name: str, due: float, done: float, verdict: str) -> None:
    """Between the question for a reload and its end either configuration may answer; else only one."""
    exchange = Exchange(kind, due, done, LAW[name][kind])
    assert reloads.judge([exchange], TURNS) == {verdict: 1}


@pytest.mark.parametrize(
    "answer",
    [
        "200|alpha|beta|alice||",
        "200|beta|alpha|alice||",
        "200|alpha|||",
        '401||||Bearer realm="alpha", error="invalid_token"|audience_mismatch',
        "503|||||",
    ],
)
def test_a_mixture_is_wrong(answer: str) -> None:
    """A rule of the one and a header of the other, or a refusal that neither would make."""
    assert reloads.judge([Exchange("both", 5.5, 5.6, answer)], TURNS) == {"wrong": 1}


@pytest.mark.parametrize(
    ("at", "broken"),
    [
        (lambda n: Use(70_000, 11, 18, 0.0), ()),
        (lambda n: Use(70_000 + n % 2 * 1_000, 11 + n % 2, 18, 0.0), ()),
        (lambda n: Use(70_000 + n * MAX_GROWTH_KIB // 8, 11, 18, 0.0), ("memory",)),
        (lambda n: Use(70_000, 11 + n, 18, 0.0), ("descriptors",)),
        (lambda n: Use(70_000, 11, 18 + n, 0.0), ("threads",)),
    ],
    ids=["still", "breathing", "memory", "descriptors", "threads"],
)
def test_a_leak_is_seen(at: Callable[[int], Use], broken: tuple[str, ...]) -> None:
    """What grows on breaks the promise, and what breathes does not."""
    looks = iter(range(40))
    watch, result = Watch(lambda: at(next(looks))), Result("watched")
    for _ in range(40):
        watch.sample()
    watch.judge(result)
    found = [promise.text for promise in result.promises if not promise.held]
    assert len(found) == len(broken)
    assert all(word in text for word, text in zip(broken, found, strict=True))


def test_only_decisions_are_no_failures() -> None:
    """What Envoy says in place of a sidecar, and silence, are failures; a denial is none."""
    answers = {"200|calm|calm|alice||": False, "401|||||token_missing": False, "503|||||": True}
    for answer, failed in (answers | {"failed: connection lost": True}).items():
        assert restarts.is_failure(Exchange("good", 0.0, 1.0, answer)) is failed
