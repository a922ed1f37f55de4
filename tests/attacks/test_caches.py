"""Proves that caches change no decision: every case, and whatever an issuer signs, is decided as without them."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from authz.core.authorize import authorize
from authz.core.decision import Decision
from authz.core.minting import MINTED
from authz.core.snapshot import Snapshot
from authz.feeds.signature_cache import SignatureCache
from authz.feeds.token_cache import TokenCache
from tests.attacks.generated import bounded, claim_changes
from tests.cases.test_decisions import CASES
from tests.fixtures import A_EC, DEFAULT_SNAPSHOT, T, decide, make_snapshot, mint


class Caches:
    """Both caches of one process, for any snapshot."""

    def __init__(self) -> None:
        self._tokens = TokenCache()
        self._verify = self._tokens.keep_verified(SignatureCache().verify)

    def behind(self, snapshot: Snapshot) -> Snapshot:
        """Return *snapshot* with these caches."""
        return replace(snapshot, parse_token=self._tokens.parse, verify_signature=self._verify)


def essence(decision: Decision) -> Decision:
    """Return the decision without what caches may change: a note, and the name under which a minted token is kept."""
    needs = tuple(replace(need, identifier=None) if need.kind == MINTED else need for need in decision.trail.needs)
    return replace(decision, trail=replace(decision.trail, signature_cached=None, needs=needs))


def test_every_case_is_decided_as_without_caches() -> None:
    """In any order, again and again, with one cache for all worlds: no token brings along what was read elsewhere."""
    caches = Caches()
    plain = [essence(authorize(case.request, case.snapshot, case.now, case.facts)) for case in CASES]
    order = list(range(len(CASES)))
    for seed in range(4):
        Random(seed).shuffle(order)  # noqa: S311 - the same order every time
        for at in order:
            case = CASES[at]
            found = authorize(case.request, caches.behind(case.snapshot), case.now, case.facts)
            assert essence(found) == plain[at], case.name


@bounded
@given(claim_changes, st.lists(st.sampled_from([T - 400, T, T + 10, T + 400]), min_size=3, max_size=6))
def test_whatever_is_signed_is_decided_as_without_caches(claims: dict[str, Any], times: list[int]) -> None:
    """At any time, and while the configuration changes back and forth."""
    token, caches = mint(A_EC, claims=claims), Caches()
    for at, now in enumerate(times):
        snapshot = make_snapshot(shadow_all=True) if at % 2 else DEFAULT_SNAPSHOT
        plain = decide(token, snapshot=snapshot, now=now, path="/admin")
        found = decide(token, snapshot=caches.behind(snapshot), now=now, path="/admin")
        assert essence(found) == essence(plain)
