"""Proves that targets are evaluated as they are written, and are of rows and metrics that exist."""

from __future__ import annotations

import pytest

from tests.bench.series import MORE_IS_BETTER
from tests.bench.setups import BASE, NAMES, SETUPS, TARGETS, Target

RATIO = Target(metric="ratio", at_least=0.5, aim=0.65)
TIME = Target(metric="ready_s", below=1.0)


@pytest.mark.parametrize(
    ("target", "value", "words"),
    [
        (RATIO, 0.49, "ratio >= 0.5 MISSED, aim 0.65 missed"),
        (RATIO, 0.5, "ratio >= 0.5 met, aim 0.65 missed"),
        (RATIO, 0.65, "ratio >= 0.5 met, aim 0.65 met"),
        (TIME, 0.99, "ready_s < 1 met"),
        (TIME, 1.0, "ready_s < 1 MISSED"),
    ],
)
def test_judgement(target: Target, value: float, words: str) -> None:
    """A bound from below includes itself, one from above does not, and an aim is not confused with the target."""
    assert target.judge(value) == words


def test_targets_are_of_something() -> None:
    """No target asks for a row or a metric that no one measures."""
    assert TARGETS.keys() <= set(NAMES)
    assert {target.metric for targets in TARGETS.values() for target in targets} <= MORE_IS_BETTER.keys()


def test_what_is_measured_beside_what() -> None:
    """A row that differs by more than its tokens is measured beside the base, a proof beside a new token."""
    beside = {name: setup.reference for name, setup in SETUPS.items() if setup.reference is not None}
    assert beside.pop("ES256-proof") == SETUPS["ES256-new"]
    others = ("compiled-new", "earlier-new", "heimdall-new", "opa-envoy-new", "minted-new-ES256", "minted-new-EdDSA")
    assert {beside.pop(name) for name in others} == {SETUPS["RS256-new"]}
    assert beside == dict.fromkeys(
        (
            "compiled",
            "earlier",
            "introspection",
            "console-off",
            "minted",
            "logged",
            "rules-10000",
            "issuers-200",
            "tracing-1%",
            "tracing-100%",
            "workers-2",
            "tcp",
            *(f"{peer}{row}" for peer in ("heimdall", "opa-envoy") for row in ("", "-rules-10000")),
        ),
        BASE,
    )
