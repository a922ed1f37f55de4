"""A bounded run of what can be left running: the corpus as it is, and thousands of changes to it."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Final

import pytest

from tests.fuzz.mutate import CORPUS, mutants, seeds
from tests.fuzz.targets import GOOD, TARGETS, token

RUNS: Final = 5_000  # for each of the eight targets


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str) -> None:
    """Everything that fuzzing ever found worth keeping is dealt with as documented."""
    assert seeds(target)
    for data in seeds(target):
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_changes_to_the_corpus(target: str) -> None:
    """Whatever becomes of the corpus, no law is broken, and nothing is raised that is not documented."""
    for data in islice(mutants(seeds(target), Random(target)), RUNS):  # noqa: S311 - a seeded choice
        TARGETS[target](data)


def test_the_good_token_is_good() -> None:
    """The law that only the good token is allowed is not kept by refusing all."""
    assert GOOD.encode() in seeds("token")
    token(GOOD.encode())


def test_every_corpus_has_a_target() -> None:
    """No corpus lies idle."""
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()
