"""Proves who gets which core, and that a table names them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.bench.machine import Place, parse_list, place, whole_cores


def at(server: Iterable[int], envoy: int, load: int) -> Place:
    """Write a place."""
    return Place(frozenset(server), frozenset({envoy}), frozenset({load}))


@pytest.mark.parametrize(
    ("cores", "workers", "where"),
    [
        ([0], 1, None),
        ([0, 1], 1, at([0], 1, 1)),
        ([0, 1, 2, 3], 1, at([0], 1, 2)),
        ([0, 1], 2, None),
        ([0, 1, 2], 2, at([0, 1], 2, 2)),
        ([4, 6, 8, 10], 2, at([4, 6], 8, 10)),
    ],
)
def test_place(cores: list[int], workers: int, where: Place | None) -> None:
    """Workers never share a core with Envoy or the load; those two share one only where none is left."""
    assert place(cores, workers=workers) == where


def test_place_says_where() -> None:
    """A reader sees who had which core."""
    assert str(at([0, 1], 2, 3)) == "server on 0+1, Envoy on 2, load on 3"


def test_whole_cores() -> None:
    """Of two threads that share a core one is used, unless there is but one core, or the first is not ours."""
    pairs = {number: frozenset({number % 2, number % 2 + 2}) for number in range(4)}
    assert whole_cores(pairs) == [0, 1]
    assert whole_cores({2: pairs[2], 1: pairs[1], 3: pairs[3]}) == [1, 2]
    assert whole_cores({0: frozenset({0, 1}), 1: frozenset({0, 1})}) == [0, 1]


def test_list_of_the_kernel() -> None:
    """Ranges and single numbers are read."""
    assert parse_list("0-2,8\n") == {0, 1, 2, 8}
    assert parse_list("\n") == frozenset()
