"""Proves that what is measured in pairs is what its name says, and that aims are held against the middle of pairs."""

from __future__ import annotations

from pathlib import Path

from authz.envoy import ext_authz_pb2 as wire
from tests.bench.paired import PAIRS, answer, describe, prepare


def test_every_check_is_allowed(tmp_path: Path) -> None:
    """Each kind is allowed, those that are seen before and those that are new."""
    with prepare(tmp_path, count=2) as kinds:
        assert {name for pair in PAIRS for name in (pair.name, pair.beside)} == kinds.keys()
        for checker, messages in kinds.values():
            for _ in range(2):
                response = wire.CheckResponse.FromString(answer(checker, next(messages)))
                assert response.dynamic_metadata.fields["reason"].string_value == "authenticated"


def test_pairs() -> None:
    """The middle of the differences and of the ratios of each round, whatever one round met.

    What most checks of each round met, the fastest did not.
    """
    rounds = {
        "opaque token, answer cached": [40.0, 48.0, 900.0],
        "RS256, seen before": [38.0, 39.0, 40.0],
        "ES256, seen before, new proof": [170.0, 200.0, 160.0],
        "ES256, new": [100.0, 100.0, 100.0],
        "RS256, seen before, token kept": [46.0, 47.0, 48.0],
        "RS256, new": [60.0, 60.0, 60.0],
        "RS256, new, ES256 token signed": [120.0, 120.0, 120.0],
        "RS256, new, EdDSA token signed": [124.0, 124.0, 124.0],
        "kept for the console": [40.0, 40.0, 40.0],
        "not kept for the console": [39.0, 39.9, 39.8],
    }
    took = {name: [[value + 1.0, value - 1.0] for value in values] for name, values in rounds.items()}
    lines = describe(took).splitlines()
    assert "| opaque token, answer cached | 48.0 | 39.0 |" in lines
    assert lines[-6:] == [
        "| opaque token, answer cached, to RS256, seen before | +9.0 | 1.231 | +2.0 | 8 met undisturbed |",
        "| ES256, seen before, new proof, to ES256, new | +70.0 | 1.700 | +60.0 | 95 met |",
        "| RS256, seen before, token kept, to RS256, seen before | +8.0 | 1.205 | +8.0 | 10 met |",
        "| RS256, new, ES256 token signed, to RS256, new | +60.0 | 2.000 | +60.0 | 63 met |",
        "| RS256, new, EdDSA token signed, to RS256, new | +64.0 | 2.067 | +64.0 | 63 MISSED |",
        "| kept for the console, to not kept for the console | +0.2 | 1.005 | +1.0 | 0.8 met |",
    ]
