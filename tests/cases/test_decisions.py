"""Runs the decision tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Allow
from authz.core.identity import separator_variants
from authz.core.keys import KeySet
from authz.core.reasons import WIRE_STATUS
from authz.core.request import MAX_HEADERS
from tests.cases import (
    causes,
    claim_sets,
    exchange,
    external,
    introspection,
    key_sets,
    requests,
    revocation,
    rules,
    status_list,
    throttle,
    token_form,
    token_header,
)
from tests.cases.case import Case

TABLES: Final = (
    token_form,
    token_header,
    key_sets,
    claim_sets,
    requests,
    rules,
    causes,
    introspection,
    revocation,
    external,
    throttle,
    exchange,
    status_list,
)
CASES: Final = [case for table in TABLES for case in table.CASES]
OURS: Final = [spelling for name in ("x-user-id", "x-user-groups") for spelling in separator_variants(name)]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case: Case) -> None:
    """The request is decided as its row says, for that reason and for no other."""
    decision = authorize(case.request, case.snapshot, case.now, case.facts)
    assert decision.reason is case.reason
    assert isinstance(decision, Allow) is (WIRE_STATUS[case.reason].code == 0)
    if case.sees is not None:
        assert isinstance(decision, Allow)
        assert dict(decision.set_headers) == case.sees


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_client_can_write_no_identity(case: Case) -> None:
    """Forged identity headers change no decision, and each is overwritten or removed, in every spelling."""
    forged = replace(case.request, headers={**case.request.headers, **dict.fromkeys(OURS, "forged")})
    plain, decision = (authorize(request, case.snapshot, case.now, case.facts) for request in (case.request, forged))
    if len(case.request.headers) + len(OURS) <= MAX_HEADERS:
        assert decision == plain
    if isinstance(decision, Allow):
        names = [name for name, _ in decision.set_headers] + list(decision.remove_headers)
        assert len(names) == len(set(names))
        assert set(case.snapshot.identity.strip_all.remove) <= set(names)
        assert "forged" not in dict(decision.set_headers).values()


def test_names_are_unique() -> None:
    """A name means one case."""
    assert [name for name, times in Counter(case.name for case in CASES).items() if times > 1] == []


@pytest.mark.parametrize("document", key_sets.DOCUMENTS.values(), ids=key_sets.DOCUMENTS)
def test_document_is_refused_as_a_whole(document: str | bytes) -> None:
    """A set beyond a bound is no set: the feed keeps the last good one."""
    with pytest.raises(ValueError, match="at most"):
        KeySet.from_json(document)
