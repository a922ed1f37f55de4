"""Runs the decision tables about rules, identity, shadows and challenges."""

from __future__ import annotations

import pytest

from tests.cases.tables import Case, read_tables


@pytest.mark.parametrize("case", read_tables("policy-*.yaml"))
def test_decision(case: Case) -> None:
    """The request is decided as the row says, for the reason that it says."""
    case.check()
