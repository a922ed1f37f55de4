"""Proves authz.core.throttle: who is slowed down, before any arithmetic, and who passes nevertheless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.authorize import authorize
from authz.core.client_network import NetworkRules
from authz.core.decision import Allow, Decision, Deny
from authz.core.needs import NO_FACTS, Facts, Need
from authz.core.reasons import WIRE_STATUS, Reason
from authz.core.snapshot import Snapshot
from authz.core.throttle import (
    ACCEPTED,
    BAD_TOKENS,
    SUBJECT,
    THROTTLE,
    TOKEN,
    ClientRules,
    Throttle,
    Throttled,
    digest_owner,
    digest_subject,
    digest_token,
)
from tests.cases.introspection import OPAQUE, world
from tests.fixtures import A_EC, CLAIMS, DEFAULT_SNAPSHOT, T, ask, make_snapshot, mint, rule

OFFICE = "192.0.2.1"
LIMIT = Throttle(failures=20, window=60.0)
RULES = ClientRules(throttle=LIMIT)
GUARDED = replace(DEFAULT_SNAPSHOT, clients=RULES)
GOOD, NEXT = mint(), mint(iat=T - 1)
FORGED = GOOD[:-8] + "AAAAAAAA"
SLOW = {Need(THROTTLE, "clients", OFFICE): Throttled(2.1)}


class Refusing:
    """Verifies nothing: a signature that is looked at fails the test."""

    def __call__(self, *_: object) -> Any:  # noqa: ANN401 - never returns
        raise AssertionError("a signature was verified")


UNTOUCHED = replace(GUARDED, verify_signature=Refusing())


def accepted(*tokens: str, subjects: tuple[Mapping[str, object], ...] = (), network: str = OFFICE) -> Facts:
    """Return the facts of a slow network in which these were accepted before."""
    known = [Need(ACCEPTED, TOKEN, digest_token(token)) for token in tokens]
    known += [Need(ACCEPTED, SUBJECT, digest_subject(members, network)) for members in subjects]
    return {**SLOW, **dict.fromkeys(known, True)}


def judge(token: str | None, snapshot: Snapshot = GUARDED, facts: Facts = SLOW, **request: Any) -> Decision:  # noqa: ANN401
    """Decide a request from the office."""
    return authorize(ask(token, **{"source_address": OFFICE, **request}), snapshot, T, facts)


@pytest.mark.parametrize("token", [GOOD, FORGED, "garbage", "a.b.c", "ü", "x" * 20_000, mint(exp=T - 1)])
def test_a_throttled_network_is_answered_before_any_arithmetic(token: str) -> None:
    """Whatever the token is, it gets 429 with Retry-After, and no signature is looked at."""
    denied = judge(token, UNTOUCHED)
    assert isinstance(denied, Deny)
    assert (denied.reason, denied.retry_after, denied.trail.throttled) == (Reason.THROTTLED, 3, True)
    assert denied.detail == "too many bad tokens from 192.0.2.1: more than 20 in 60 s"
    assert WIRE_STATUS[denied.reason].http == 429


def test_an_opaque_token_from_a_throttled_network_is_not_asked_about() -> None:
    """The issuer gets no question: the decision names no need."""
    denied = judge(OPAQUE, replace(world(), clients=RULES))
    assert (denied.reason, denied.trail.needs) == (Reason.THROTTLED, ())
    asked = judge(OPAQUE, replace(world(), clients=RULES), accepted(OPAQUE))
    assert [need.kind for need in asked.trail.needs] == ["introspection"]


@pytest.mark.parametrize(
    ("token", "facts", "reason"),
    {
        "the network is not slow": (GOOD, NO_FACTS, Reason.AUTHENTICATED),
        "the token was accepted before": (GOOD, accepted(GOOD), Reason.AUTHENTICATED),
        "another token was": (NEXT, accepted(GOOD), Reason.THROTTLED),
        "a new token of a subject that was": (NEXT, accepted(subjects=(CLAIMS,)), Reason.AUTHENTICATED),
        "a subject that was accepted elsewhere": (
            NEXT,
            accepted(subjects=(CLAIMS,), network="192.0.2.2"),
            Reason.THROTTLED,
        ),
        "another subject": (mint(sub="eve"), accepted(subjects=(CLAIMS,)), Reason.THROTTLED),
        "a forgery in the name of a subject that was": (FORGED, accepted(subjects=(CLAIMS,)), Reason.SIGNATURE_INVALID),
        "a token that has expired since": (
            mint(exp=T - 1),
            accepted(mint(exp=T - 1)),
            Reason.TOKEN_EXPIRED,
        ),
        "a token that nobody signed": (
            mint(A_EC, header={"alg": "none"}),
            accepted(subjects=(CLAIMS,)),
            Reason.ALG_NOT_ALLOWED,
        ),
        "no token": (None, SLOW, Reason.TOKEN_MISSING),
    }.values(),
)
def test_who_passes_a_throttled_network(token: str | None, facts: Facts, reason: Reason) -> None:
    """What was accepted before passes the throttle, and is decided like any other; nothing else does."""
    assert judge(token, facts=facts).reason is reason


def test_what_needs_no_token_is_not_throttled() -> None:
    """A public rule, and one for which a token is optional, answer as before; a token that is shown is throttled."""
    assert judge(GOOD, path="/public/x").reason is Reason.PUBLIC
    assert judge(None, path="/mixed/x").reason is Reason.ANONYMOUS
    assert judge(GOOD, path="/mixed/x").reason is Reason.THROTTLED


def test_in_shadow_the_throttle_only_reports() -> None:
    """The request is decided as if there were no throttle, and the trail says that it would be denied."""
    shadow = replace(GUARDED, clients=ClientRules(throttle=replace(LIMIT, shadow=True)))
    allowed, denied = judge(GOOD, shadow), judge(FORGED, shadow)
    assert (allowed.reason, allowed.trail.throttled) == (Reason.AUTHENTICATED, True)
    assert (denied.reason, denied.trail.throttled) == (Reason.SIGNATURE_INVALID, True)
    assert not judge(GOOD, shadow, accepted(GOOD)).trail.throttled


def test_a_rule_in_shadow_reports_the_throttle_and_allows() -> None:
    """A rule that is tried out denies nothing, for this reason either."""
    tried = make_snapshot(rule("r", "/**", shadow=True), clients=RULES)
    allowed = judge(GOOD, tried)
    assert isinstance(allowed, Allow)
    assert (allowed.reason, allowed.would_deny) == (Reason.THROTTLED, True)


def test_a_client_without_an_address_is_not_throttled() -> None:
    """On a Unix socket, or behind a proxy that names no client, nothing is counted and nothing denied."""
    assert judge(GOOD, source_address="").reason is Reason.AUTHENTICATED
    without = judge(FORGED, source_address="")
    assert (without.trail.network, without.reason) == (None, Reason.SIGNATURE_INVALID)


def test_without_a_throttle_networks_are_named_and_none_is_slow() -> None:
    """Where only rules use what is counted, a network is noted and never denied."""
    counted = replace(DEFAULT_SNAPSHOT, clients=ClientRules(networks=NetworkRules(ipv4_prefix=24)))
    allowed = judge(GOOD, counted)
    assert (allowed.reason, allowed.trail.network) == (Reason.AUTHENTICATED, "192.0.2.0/24")


def test_a_configuration_without_any_of_it_asks_for_nothing() -> None:
    """No fact is looked up, no network is found, and no token is noted."""

    class Nothing(dict[Need, object]):
        def get(self, key: Need, default: object = None) -> object:
            raise AssertionError(f"asked for {key}")

    allowed = judge(GOOD, DEFAULT_SNAPSHOT, Nothing())
    assert allowed.reason is Reason.AUTHENTICATED
    assert (allowed.trail.network, allowed.trail.valid_token, allowed.trail.throttled) == (None, None, False)


def test_only_an_authentic_and_valid_token_is_shown() -> None:
    """What makes a client known is a token whose signature, time and audience were checked, whatever the rule says."""
    for token in (FORGED, mint(exp=T - 1), mint(aud="other"), "garbage"):
        assert judge(token, facts=NO_FACTS).trail.valid_token is None
    for path in ("/items/1", "/admin/x"):
        shown = judge(mint(groups=[]), facts=NO_FACTS, path=path).trail.valid_token
        assert shown is not None
        assert shown.members["sub"] == "bob"


def test_which_reasons_count_as_bad_tokens() -> None:
    """A token that was issued, and is late, early or for another service, was not guessed; and no reason is of ours."""
    assert {reason.value for reason in BAD_TOKENS} == {
        *("token_malformed", "token_too_large", "header_invalid", "alg_not_allowed", "crit_unsupported"),
        *("typ_not_allowed", "issuer_unknown", "key_not_found", "key_ambiguous", "key_unusable", "signature_invalid"),
        *("token_inactive", "token_bound", "proof_invalid"),
    }
    assert {WIRE_STATUS[reason].http for reason in BAD_TOKENS} == {401}


def test_a_token_that_names_no_one_passes_only_by_itself() -> None:
    """Without subject and client there is nobody whose next token could be known."""
    assert digest_subject({"iss": "https://a.test", "sub": ""}, OFFICE) is None
    assert judge(mint(sub="")).reason is Reason.THROTTLED


def test_who_owns_a_token_is_the_same_everywhere() -> None:
    """Sessions, keys and networks do not change it; issuer, subject and client do."""
    owner = digest_owner(CLAIMS)
    assert digest_owner({**CLAIMS, "sid": "s", "cnf": {"jkt": "k"}, "exp": 1}) == owner
    for other in ({"iss": "https://b.test"}, {"sub": "eve"}, {"client_id": "c"}, {"azp": "c"}):
        assert digest_owner({**CLAIMS, **other}) != owner


@given(st.floats(min_value=1e-9, max_value=1e5))
def test_retry_after_is_whole_seconds_and_never_early(seconds: float) -> None:
    """A client that waits as long as it is asked to has room for an attempt."""
    denied = judge(FORGED, facts={Need(THROTTLE, "clients", OFFICE): Throttled(seconds)})
    assert isinstance(denied, Deny)
    assert denied.retry_after is not None
    assert max(1.0, seconds) <= denied.retry_after < max(1.0, seconds) + 1.0
