"""Proves authz.core.issuer."""

from __future__ import annotations

from authz.core.claims import ClaimRules
from authz.core.issuer import Issuer


def test_issuer_begins_without_keys() -> None:
    """Before the first good set there are no keys, which is not the same as an empty set."""
    assert Issuer("a", frozenset(), ClaimRules(issuer="https://a.test", audiences=frozenset())).keys is None
