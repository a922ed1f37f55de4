"""Our core beside PyJWT, joserfc and jwcrypto: they may differ only where a table says so, and why.

The choice of mutations is seeded. Keys and nonces are fresh on every run, for no verdict may depend on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

import pytest
from hypothesis import settings

from tests.attacks import headers, payloads, signatures, texts
from tests.attacks.disagreements import ALL_VERIFIERS, ALLOWED, DISAGREEMENTS
from tests.attacks.draft import Draft, Mutation
from tests.attacks.judges import ALGORITHMS, allowers
from tests.fixtures import signer

# The libraries warn of old names and short keys; here only their verdicts count.
pytestmark = pytest.mark.filterwarnings("ignore")

MUTATIONS: Final = [*headers.MUTATIONS, *payloads.MUTATIONS, *signatures.MUTATIONS, *texts.MUTATIONS]
SIGNED_BY: Final = [algorithm for algorithm in ALGORITHMS if algorithm != "HS256"]
KNOWN_TO_ALL: Final = ["RS256", "PS256", "ES256", "EdDSA"]
VARIANTS: Final = 6
COMBINED: Final = 15 * settings().max_examples  # 1,500, and ten times as many in the weekly run
TRIED: Final = next(entry.allowed for entry in DISAGREEMENTS if entry.name == "which key is meant")
AREAS: Final = ("keys", "header", "payload", "signature", "text")


def draft(algorithm: str, random: Random) -> Draft:
    """Begin a token that is signed by this algorithm."""
    return Draft(signer(algorithm, f"k-{algorithm}"), random)


def judge(made: Draft) -> frozenset[str]:
    """Ask all verifiers about a draft."""
    return allowers(made.token(), json.dumps({"keys": made.keys}))


@cache
def alone(mutation: Mutation) -> frozenset[frozenset[str]]:
    """Return every verdict that *mutation* met alone, over its variants and algorithms."""
    verdicts = set()
    for algorithm in sorted(mutation.fits) or KNOWN_TO_ALL:
        for seed in range(VARIANTS if signed(algorithm) == ALL_VERIFIERS else 0):
            made = draft(algorithm, Random(seed))  # noqa: S311 - a seeded choice
            mutation.change(made)
            verdicts.add(judge(made))
    return frozenset(verdicts)


@cache
def signed(algorithm: str) -> frozenset[str]:
    """Return who allows a good token of this algorithm."""
    return judge(draft(algorithm, Random(0)))  # noqa: S311 - a seeded choice


@pytest.mark.parametrize("algorithm", SIGNED_BY)
def test_good_token_is_allowed(algorithm: str) -> None:
    """A good token is allowed by everybody who knows its algorithm, and by us."""
    assert signed(algorithm) == ALLOWED.get(f"alg: {algorithm}", ALL_VERIFIERS)


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS384", "ML-DSA-65"])
def test_algorithm_outside_the_list_is_allowed_by_nobody(algorithm: str) -> None:
    """A good token under a published key is refused where the issuer's list lacks its algorithm."""
    assert signed(algorithm) == frozenset()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_verdicts_differ_only_as_the_table_says(mutation: Mutation) -> None:
    """One change to a good token is evaluated alike by all, or exactly as its row says.

    We alone allow it only where a token names no key: what the issuer's own keys signed is then found out by trying.
    """
    for verdict in alone(mutation):
        assert verdict != {"core"} or mutation.name in TRIED
        if mutation.name in ALLOWED:
            assert verdict == ALLOWED[mutation.name]
        else:
            assert verdict in (ALL_VERIFIERS, frozenset()), sorted(verdict)
    assert len(alone(mutation)) == 1, "variants of one mutation are judged alike, or it is two mutations"


def combined() -> Iterator[tuple[str, list[Mutation]]]:
    """Choose an algorithm, and changes to several parts of its token."""
    random = Random(7515)  # noqa: S311 - a seeded choice
    for _ in range(COMBINED):
        algorithm = random.choice(SIGNED_BY)
        areas = random.sample(AREAS, random.choice([2, 2, 2, 3, 4, 5]))
        chosen = []
        for area in sorted(areas, key=AREAS.index):
            fitting = [m for m in MUTATIONS if m.area == area and (not m.fits or algorithm in m.fits)]
            # What we allow is chosen more often: a chain of refusals teaches nothing.
            allowed = [m for m in fitting if all("core" in verdict for verdict in alone(m))]
            chosen.append(random.choice(allowed if allowed and random.random() < 0.7 else fitting))
        yield algorithm, chosen


def test_several_changes_are_judged_as_each_alone() -> None:
    """Of changes to several parts of a token, none makes up for another; what we allow, some other allows too."""
    allowed = 0
    for number, (algorithm, chosen) in enumerate(combined()):
        expected = signed(algorithm).intersection(*(verdict for mutation in chosen for verdict in alone(mutation)))
        if expected == {"core"}:
            continue  # an algorithm that one does not know, and a set that the others drop: no one to compare with
        made = draft(algorithm, Random(number))  # noqa: S311 - a seeded choice
        for mutation in chosen:
            mutation.change(made)
        verdict = judge(made)
        names = [algorithm, *(mutation.name for mutation in chosen)]
        assert verdict <= expected, (names, sorted(verdict))
        assert verdict == expected or "core" not in verdict, (names, sorted(verdict))
        allowed += "core" in verdict
    assert allowed > COMBINED / 8, "most are refused, yet not all"


def test_table_has_no_row_without_a_mutation() -> None:
    """Every row of the table is a change that is tried, and is there once; the page beside it counts the classes."""
    assert f"in {len(DISAGREEMENTS)} classes" in Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    names = [name for entry in DISAGREEMENTS for name in entry.allowed]
    assert len(names) == len(set(names))
    assert set(names) <= {m.name for m in MUTATIONS} | {f"alg: {algorithm}" for algorithm in SIGNED_BY}
    assert all(who != ALL_VERIFIERS and who for who in ALLOWED.values())
