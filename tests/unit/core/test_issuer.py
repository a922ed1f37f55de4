"""Proves authz.core.issuer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from authz.core.claims import ClaimRules
from authz.core.issuer import Issuer
from authz.core.reasons import Reason
from tests.fixtures import A_RSA, changed, decide, issuer_a, key_set, make_snapshot, mint


def test_issuer_begins_without_keys() -> None:
    """Before the first good set there are no keys, which is not the same as an empty set."""
    assert Issuer("a", frozenset(), ClaimRules(issuer="https://a.test", audiences=frozenset())).keys is None


OWNERS: dict[str, tuple[list[object], Reason]] = {
    "nobody": ([None], Reason.AUTHENTICATED),
    "each-tenant": (["https://login.test/{tenantid}/v2.0"], Reason.AUTHENTICATED),
    "this-tenant": (["https://login.test/t1/v2.0"], Reason.AUTHENTICATED),
    "another-tenant": (["https://login.test/t2/v2.0"], Reason.KEY_UNUSABLE),
    "a-longer-name": (["https://login.test/t11/v2.0"], Reason.KEY_UNUSABLE),
    "two-tenants": (["https://login.test/t2/v2.0", "https://login.test/t1/v2.0"], Reason.AUTHENTICATED),
    "another-and-nobody": (["https://login.test/t2/v2.0", None], Reason.AUTHENTICATED),
    "no-text": ([7], Reason.AUTHENTICATED),
}


@pytest.mark.parametrize(("issuers", "reason"), OWNERS.values(), ids=OWNERS)
def test_key_of_another_tenant(issuers: list[object], reason: Reason) -> None:
    """A set for many tenants says whose a key is: that of one tenant does not speak for another."""
    keys = key_set(*(changed(A_RSA.public(), {"issuer": issuer}) for issuer in issuers))
    tenant = replace(issuer_a(keys=keys), tenant="t1")
    assert decide(mint(), snapshot=make_snapshot(a=tenant)).reason is reason
    assert decide(mint(), snapshot=make_snapshot(a=issuer_a(keys=keys))).reason is Reason.AUTHENTICATED
