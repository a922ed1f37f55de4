"""Proves authz.core.spiffe: what a SPIFFE ID is, and whose tokens have no iss."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

import pytest

from authz.core.claims import read_issuer
from authz.core.reasons import Reason, Rejected
from authz.core.spiffe import trust_domain
from authz.core.token import parse_token
from tests.fixtures import ABSENT, A, decide, issuer_a, make_snapshot, mint

DOMAIN: Final = "spiffe://example.org"
CHECKOUT: Final = f"{DOMAIN}/ns/shop/sa/checkout"
NO_IDS: Final[list[object]] = [
    f"{DOMAIN}/",
    f"{DOMAIN}//a",
    f"{DOMAIN}/a/",
    f"{DOMAIN}/a/../b",
    f"{DOMAIN}/.",
    f"{DOMAIN}/..",
    f"{DOMAIN}/a\n",
    f"{DOMAIN}/a%2f",
    f"{DOMAIN}/a?b",
    f"{DOMAIN}:443/a",
    "spiffe://user@example.org/a",
    "spiffe://Example.org/a",
    "SPIFFE://example.org/a",
    "spiffe:///a",
    "spiffe://" + "a" * 256,
    f"{DOMAIN}/" + "a" * 2028,
    "https://example.org/a",
    "",
    7,
    None,
    [CHECKOUT],
]


@pytest.mark.parametrize("subject", [DOMAIN, CHECKOUT, f"{DOMAIN}/.../..x/A_b-1", f"{DOMAIN}/" + "a" * 2027])
def test_spiffe_id(subject: str) -> None:
    """A SPIFFE ID is of a trust domain, with or without a path."""
    assert trust_domain(subject) == DOMAIN


@pytest.mark.parametrize("subject", NO_IDS, ids=lambda text: str(text)[:40])
def test_no_spiffe_id(subject: object) -> None:
    """What is no SPIFFE ID in one octet is of no trust domain."""
    assert trust_domain(subject) is None


@pytest.mark.parametrize("claims", [{"iss": ABSENT}, {"iss": None}, {"iss": ""}], ids=str)
@pytest.mark.parametrize("known", [(DOMAIN,), (A, CHECKOUT), ()], ids=str)
def test_token_without_iss(claims: Mapping[str, object], known: Container[str]) -> None:
    """It is of the trust domain of its sub, if that is trusted; an iss that says nothing is still one."""
    token = parse_token(mint(claims={**claims, "sub": CHECKOUT}))
    if claims["iss"] is ABSENT and DOMAIN in known:
        assert read_issuer(token, known) == DOMAIN
        return
    with pytest.raises(Rejected, match="iss is missing"):
        read_issuer(token, known)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": ABSENT, "sub": CHECKOUT}, Reason.AUTHENTICATED),
        ({"iss": ABSENT, "sub": DOMAIN}, Reason.AUTHENTICATED),
        ({"iss": DOMAIN, "sub": CHECKOUT}, Reason.AUTHENTICATED),
        ({"iss": ABSENT, "sub": "spiffe://example.net/checkout"}, Reason.CLAIMS_MALFORMED),
        ({"iss": DOMAIN, "sub": "spiffe://example.net/checkout"}, Reason.CLAIMS_MALFORMED),
        ({"iss": DOMAIN, "sub": "bob"}, Reason.CLAIMS_MALFORMED),
        ({"iss": DOMAIN, "sub": ABSENT}, Reason.CLAIMS_MALFORMED),
        ({"iss": ABSENT}, Reason.CLAIMS_MALFORMED),
        ({"iss": A, "sub": CHECKOUT}, Reason.ISSUER_UNKNOWN),
    ],
    ids=str,
)
def test_trust_domain_as_issuer(claims: Mapping[str, object], reason: Reason) -> None:
    """Its keys verify SVIDs of its own workloads, with or without an iss, and nothing else that they have signed."""
    snapshot = make_snapshot(issuers={DOMAIN: issuer_a(issuer=DOMAIN)})
    assert decide(mint(claims=claims), snapshot=snapshot).reason is reason


def test_trust_domains_do_not_speak_for_each_other() -> None:
    """Two trust domains have keys of their own: what one has signed for a workload of the other is no token."""
    other = "spiffe://example.net"
    snapshot = make_snapshot(
        issuers={DOMAIN: issuer_a(issuer=DOMAIN), other: issuer_a(issuer=other, keys=None)},
    )
    token = mint(claims={"iss": ABSENT, "sub": f"{other}/checkout"})
    assert decide(token, snapshot=snapshot).reason is Reason.KEYS_UNAVAILABLE
