"""Proves authz.core.status_list: what is no list is refused, within bounds; what other programs write is read."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.authorize import authorize
from authz.core.introspection import INTROSPECTION
from authz.core.keys import KeySet, Verified
from authz.core.needs import CHANGED_KEY, Facts
from authz.core.reasons import Reason, Rejected
from authz.core.status_list import (
    STALE_STATUS_LIST,
    STATUS_LIST,
    StatusReference,
    StatusRules,
    read_status_list,
    status_list_need,
)
from authz.demo.signing import SigningKey
from tests.cases.case import Case
from tests.cases.introspection import ALWAYS, OPAQUE, said
from tests.cases.introspection import RULES as ASKED
from tests.cases.status_list import CASES, REVOKED, RULES, URI, listed, pack, read, referring, world, write_list
from tests.fixtures import A_RSA, ABSENT, A, T, ask, jwks, key_set, mint, signer
from tests.tools import ROOT

WRITTEN: Final = json.loads((ROOT / "tests/data/status_lists.json").read_text())


def deflate(octets: bytes) -> str:
    """Write octets as `lst`."""
    return base64.urlsafe_b64encode(zlib.compress(octets)).rstrip(b"=").decode()


def why(text: str) -> str:
    """Return why a list is refused."""
    with pytest.raises(Rejected) as caught:
        read_status_list(text, max_bytes=10_000, max_inflated=1_000)
    assert caught.value.reason is Reason.REVOCATIONS_UNAVAILABLE
    return caught.value.detail.removeprefix("the status list of the token cannot be used: ")


@pytest.mark.parametrize("written", WRITTEN, ids=[f"{each['writer']}-{n}" for n, each in enumerate(WRITTEN)])
def test_lists_of_other_programs(written: dict[str, Any]) -> None:
    """By @sd-jwt/jwt-status-list (npm), token-status-list (PyPI) and the draft: every entry is read as it is meant."""
    header, payload = written["header"], written["payload"]
    listing = read(A_RSA.sign_bytes(json.dumps(payload).encode(), header=json.dumps(header).encode()))
    assert [listing[index] for index in range(len(written["statuses"]))] == written["statuses"]
    assert len(listing) == len(written["statuses"])
    assert listing.subject == payload["sub"]


@given(bits=st.sampled_from([1, 2, 4, 8]), numbers=st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_every_entry_is_read_back(bits: int, numbers: list[int]) -> None:
    """Lowest bits first; beyond the last octet there is nothing, and before the first one neither."""
    statuses = [number % (1 << bits) for number in numbers]
    listing = read(write_list(entries=pack(*statuses, bits=bits)))
    assert [listing[index] for index in range(len(statuses))] == statuses
    for beyond in (-1, len(listing)):
        with pytest.raises(IndexError):
            listing[beyond]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing", "token is not three segments"),
        (write_list(header={"typ": "JWT"}), "its typ is not statuslist+jwt"),
        (write_list(header={"typ": ABSENT}), "its typ is not statuslist+jwt"),
        (write_list(iat=ABSENT), "it has no iat"),
        (write_list(iat="now"), "its iat is not a number of seconds"),
        (write_list(ttl=-1), "its ttl is not a number of seconds"),
        (write_list(exp=True), "its exp is not a number of seconds"),
        (write_list(status_list=ABSENT), "it has no status_list"),
        (write_list(entries={"bits": 3, "lst": "eNo"}), "its bits are none of 1, 2, 4 and 8"),
        (write_list(entries={"bits": True, "lst": "eNo"}), "its bits are none of 1, 2, 4 and 8"),
        (write_list(entries={"bits": "1", "lst": "eNo"}), "its bits are none of 1, 2, 4 and 8"),
        (write_list(entries={"bits": 1}), "its lst is not a string"),
        (write_list(entries={"bits": 1, "lst": "eN=o"}), "its lst is not zlib data in base64url"),
        (write_list(entries={"bits": 1, "lst": "AAAA"}), "its lst is not zlib data in base64url"),
        (write_list(entries={"bits": 1, "lst": deflate(bytes(40))[:-4]}), "its lst is cut short"),
        (write_list(entries={"bits": 1, "lst": deflate(bytes(1001))}), "its entries take more than 1000 octets"),
        (write_list(entries={"bits": 1, "lst": deflate(bytes(1_000_000))}), "its entries take more than 1000 octets"),
        (write_list(note="x" * 10_000), "token of"),
    ],
)
def test_what_is_no_list(text: str, expected: str) -> None:
    """It is refused as a whole, and a compressed bomb is inflated up to the bound only."""
    assert why(text).startswith(expected)


def test_data_behind_the_entries_is_refused() -> None:
    """What is compressed ends where the text ends."""
    more = base64.urlsafe_b64encode(zlib.compress(b"a") + b"more").rstrip(b"=").decode()
    assert why(write_list(entries={"bits": 1, "lst": more})).startswith("its lst is cut short, or has more")


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        (URI, True),
        ("https://status.example.com/one", True),
        ("https://status.example.com/lists/a/b?c=..", True),
        ("https://status.example.com/lists", False),
        ("https://status.example.com/lists/../admin", False),
        ("https://status.example.com/lists/%2e%2e/admin", False),
        ("https://status.example.com/lists/.\\..\\admin", False),
        ("https://status.example.com/one/more", False),
        ("https://status.example.com.evil.test/lists/1", False),
        ("http://status.example.com/lists/1", False),
        ("http://169.254.169.254/latest/meta-data", False),
    ],
)
def test_which_uris_are_fetched(uri: str, allowed: bool) -> None:  # noqa: FBT001
    """Those that are configured, and those below a configured one that ends in a slash: nothing else is asked for."""
    rules = StatusRules(uris=("https://status.example.com/lists/", "https://status.example.com/one"))
    decision = authorize(ask(referring(0, uri)), world(rules), T)
    assert [need.payload for need in decision.trail.needs] == ([uri] if allowed else [])
    assert decision.reason is Reason.REVOCATIONS_UNAVAILABLE


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_a_list_says_of_a_token(case: Case) -> None:
    """Each row of the table, here too: the branches of this module are covered by this file."""
    assert authorize(case.request, case.snapshot, case.now, case.facts).reason is case.reason


def test_a_list_names_what_is_needed() -> None:
    """At first the list, with what its server gets to see; once it is there, whether it may be due for a refresh."""
    reference = StatusReference(0, URI)
    assert authorize(ask(referring()), world(), T).trail.needs == (status_list_need(reference, "a", STATUS_LIST),)
    decision = authorize(ask(referring()), world(), T, listed())
    assert (decision.trail.needs, decision.trail.rechecks) == (
        (),
        (status_list_need(reference, "a", STALE_STATUS_LIST),),
    )


def test_a_list_that_is_no_list_is_not_there() -> None:
    """An answer of another kind is no fact about the token."""
    decision = authorize(ask(referring()), world(), T, {status_list_need(StatusReference(0, URI), "a"): "yes"})
    assert decision.reason is Reason.REVOCATIONS_UNAVAILABLE


def test_a_new_key_of_the_list_is_looked_for() -> None:
    """A list by a key that is not known yet names the need for that key, and the token is not refused for good."""
    decision = authorize(ask(referring()), world(), T, listed(header={"kid": "new"}))
    assert decision.reason is Reason.REVOCATIONS_UNAVAILABLE
    assert [(need.kind, need.identifier) for need in decision.trail.needs] == [("key", "new")]


def test_a_list_is_verified_once_by_each_key() -> None:
    """The arithmetic is remembered with the list, and never for another key: a withdrawn one verifies nothing."""
    listing = read(write_list())
    keys = KeySet.from_json(jwks(A_RSA)).keys
    assert [listing.verify("a", keys, listing.token)[1] for _ in range(2)] == [Verified.COMPUTED, Verified.CACHED]
    assert listing.verify("b", keys, listing.token)[1] is Verified.COMPUTED
    for number in range(20):
        listing.verify(str(number), keys, listing.token)
    assert len(listing._signers) == 16


def test_a_list_that_is_not_signed_as_its_key_id_says_is_fetched_again_and_so_is_the_key() -> None:
    """Either may be the newer one: looking for the key does not make the decision forget the list."""
    facts = listed(by=signer("RS256", "other"), header={"kid": A_RSA.kid})
    decision = authorize(ask(referring()), world(), T, facts)
    assert decision.reason is Reason.REVOCATIONS_UNAVAILABLE
    assert [need.kind for need in decision.trail.rechecks] == [STALE_STATUS_LIST, CHANGED_KEY]


def test_an_opaque_token_may_name_an_entry() -> None:
    """What introspection says of the status counts as what a JWT says."""
    asked = world()
    a = replace(asked.issuers["https://a.test"], introspection=ASKED)
    snapshot = replace(asked, issuers={**asked.issuers, "https://a.test": a}, opaque=(("", "https://a.test"),))
    revoked = {"status_list": {"idx": REVOKED, "uri": URI}}
    decision = authorize(ask(OPAQUE), snapshot, T, {**said(status=revoked), **listed()})
    assert decision.reason is Reason.TOKEN_REVOKED


def test_other_tokens_of_the_issuer_are_not_asked_about() -> None:
    """Without `required`, a token without a reference needs no list."""
    decision = authorize(ask(mint()), world(StatusRules(uris=RULES.uris, required=False)), T)
    assert decision.reason is Reason.AUTHENTICATED


def test_a_list_and_an_answer_are_asked_for_at_once() -> None:
    """A JWT that needs both waits for one round, because neither depends on the other; one refusal suffices."""
    listing = world()
    issuer = replace(listing.issuers[A], introspection=ALWAYS)
    both, token = replace(listing, issuers={**listing.issuers, A: issuer}), referring()

    def needs(facts: Facts) -> list[str]:
        return [need.kind for need in authorize(ask(token), both, T, facts).trail.needs]

    answer = said(token, ALWAYS)
    assert needs({}) == [STATUS_LIST, INTROSPECTION]
    assert authorize(ask(token), both, T).reason is Reason.REVOCATIONS_UNAVAILABLE
    assert needs(listed()) == [INTROSPECTION]
    assert needs(answer) == [STATUS_LIST]
    assert authorize(ask(token), both, T, {**listed(), **answer}).reason is Reason.AUTHENTICATED
    inactive = authorize(ask(token), both, T, said(token, ALWAYS, active=False))
    assert (inactive.reason, inactive.trail.needs) == (Reason.TOKEN_INACTIVE, ())
    revoked = authorize(ask(referring(REVOKED)), both, T, listed())
    assert (revoked.reason, revoked.trail.needs) == (Reason.TOKEN_REVOKED, ())


LISTS_KEY: Final = signer("ES256", "of-lists")


def test_a_list_may_have_keys_of_its_own() -> None:
    """Those that came with it verify it, and the issuer's do not; neither do they the issuer's tokens."""
    rules = replace(RULES, own_keys=True)
    need = status_list_need(StatusReference(0, URI), "a")

    def reason(by: SigningKey, keys: KeySet | None) -> tuple[Reason, str]:
        listing = replace(read(write_list(by=by, header={"kid": by.kid})), keys=keys)
        decision = authorize(ask(referring(0)), world(rules), T, {need: listing})
        return decision.reason, decision.detail or ""

    own = key_set(LISTS_KEY)
    assert reason(LISTS_KEY, own)[0] is Reason.AUTHENTICATED
    assert reason(A_RSA, own)[0] is Reason.REVOCATIONS_UNAVAILABLE
    assert "its keys were not fetched with it" in reason(LISTS_KEY, None)[1]
    assert authorize(ask(mint(LISTS_KEY)), world(rules), T).reason is Reason.KEY_NOT_FOUND
