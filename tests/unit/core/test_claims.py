"""Proves authz.core.claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from authz.core.claims import (
    ClaimPath,
    ClaimRules,
    Claims,
    check,
    check_introspection_response,
    check_type,
    normalize_type,
    read_issuer,
)
from authz.core.introspection import IntrospectionResponse
from authz.core.keys import SignedPayload
from authz.core.reasons import Reason, Rejected
from authz.core.token import parse_token
from tests.fixtures import ABSENT, A, B, T, issuer_a, mint, unsigned

KEYS = issuer_a().keys


def signed(claims: Mapping[str, object]) -> SignedPayload:
    """Sign good claims with changes, and verify them."""
    assert KEYS is not None
    return KEYS.verify(parse_token(mint(claims=claims)), ["RS256"])


def outcome(claims: Mapping[str, object], now: float = T, rules: Mapping[str, object] | None = None) -> Reason | None:
    """Check good claims with changes under rules with changes, and return why they were refused, or None."""
    settings: dict[str, Any] = {"issuer": A, "audiences": frozenset({"api"}), "leeway": 0, **(rules or {})}
    try:
        check(signed(claims), ClaimRules(**settings), now)
    except Rejected as rejected:
        return rejected.reason
    return None


def claims_of(**members: object) -> Claims:
    """Check good claims with changes that are no trouble."""
    return check(signed(members), ClaimRules(issuer=A, audiences=frozenset({"api"})), T)


NO_TEXTS: list[object] = [1, True, None, [], {}]
NO_DATES: list[object] = [True, False, None, [], {}, -1, -0.5, "1795446515", str(T + 300)]
NO_EXPIRY = {"no_expiry": True, "required": ()}
BAD, LATE, EARLY, OTHERS = (
    Reason.CLAIMS_MALFORMED,
    Reason.TOKEN_EXPIRED,
    Reason.TOKEN_NOT_YET_VALID,
    Reason.AUDIENCE_MISMATCH,
)
OUTCOMES: dict[str, tuple[Mapping[str, object], Mapping[str, object], Reason | None]] = {
    "good": ({}, {}, None),
    "issuer-of-another-key": ({"iss": B}, {}, Reason.ISSUER_UNKNOWN),
    "issuer-with-a-slash": ({"iss": A + "/"}, {}, Reason.ISSUER_UNKNOWN),
    # form
    **{f"{name}-{value!r}": ({name: value}, {}, BAD) for name in ("sub", "jti") for value in NO_TEXTS},
    **{f"{name}-{value!r}": ({name: value}, {}, BAD) for name in ("exp", "nbf", "iat") for value in NO_DATES},
    "sub-missing": ({"sub": ABSENT}, {}, BAD),
    "sub-empty": ({"sub": ""}, {}, BAD),
    "sub-missing-where-nobody-asks": ({"sub": ABSENT}, {"required": ("exp",)}, None),
    **{f"sub-{sub!r}-if-not-required": ({"sub": sub}, {"required": ("exp",)}, None) for sub in NO_TEXTS},
    "required-null": ({"tenant": None}, {"required": ("tenant",)}, BAD),
    "required-missing": ({}, {"required": ("tenant",)}, BAD),
    "required-false-is-there": ({"tenant": False}, {"required": ("tenant",)}, None),
    "required-member": ({"kubernetes.io": {"pod": {"name": "p"}}}, {"required": ("kubernetes.io.pod",)}, None),
    "required-member-of-a-member": (
        {"kubernetes.io": {"pod": {"name": "p"}}},
        {"required": ("kubernetes.io.pod.name",)},
        None,
    ),
    "required-name-with-dots-in-a-claim": ({"a": {"b.c": {"d": 0}}}, {"required": ("a.b.c.d",)}, None),
    "required-name-with-dots": ({"a.b.c": "x"}, {"required": ("a.b.c",)}, None),
    "required-member-missing": ({"kubernetes.io": {"namespace": "x"}}, {"required": ("kubernetes.io.pod",)}, BAD),
    "required-member-null": ({"kubernetes.io": {"pod": None}}, {"required": ("kubernetes.io.pod",)}, BAD),
    "required-member-empty": ({"a": {"b": ""}, "a.b": ""}, {"required": ("a.b",)}, BAD),
    "required-member-of-a-text": ({"kubernetes.io": "pod"}, {"required": ("kubernetes.io.pod",)}, BAD),
    "required-member-of-nothing": ({}, {"required": ("kubernetes.io.pod",)}, BAD),
    "exp-missing": ({"exp": ABSENT}, {}, BAD),
    "exp-missing-though-not-listed": ({"exp": ABSENT}, {"required": ()}, BAD),
    "exp-missing-where-that-is-allowed": ({"exp": ABSENT}, NO_EXPIRY, None),
    "exp-counts-also-where-it-may-be-missing": ({"exp": T}, NO_EXPIRY, LATE),
    "other-events": ({"events": {"https://example.com/other": {}}}, {}, None),
    "events-of-another-type": ({"events": "x"}, {}, None),
    # lifetime
    "nbf-after-exp": ({"nbf": T + 400}, {}, BAD),
    "nbf-after-exp-both-past": ({"exp": T - 10, "nbf": T - 5}, {}, BAD),
    "nbf-at-exp": ({"exp": T + 1, "nbf": T + 1}, {"leeway": 5}, None),
    "lifetime-too-long": ({}, {"max_lifetime": 299.0}, BAD),
    "lifetime-of-the-longest": ({}, {"max_lifetime": 300.0}, None),
    "lifetime-without-iat": ({"iat": ABSENT}, {"max_lifetime": 300.0}, BAD),
    "lifetime-without-exp": ({"exp": ABSENT}, {"max_lifetime": 300.0, **NO_EXPIRY}, BAD),
    # time
    "exp-a-second-ago": ({"exp": T - 1}, {}, LATE),
    "exp-now": ({"exp": T}, {}, LATE),
    "exp-in-a-second": ({"exp": T + 1}, {}, None),
    "exp-with-a-fraction": ({"exp": T + 300.5}, {}, None),
    "exp-zero": ({"exp": 0, "iat": 0}, {}, LATE),
    "exp-as-far-as-numbers-go": ({"exp": 1e308}, {}, BAD),
    "exp-of-the-year-5138": ({"exp": 10**11}, {}, None),
    **{
        f"{name}-in-{unit}": ({name: (T + 300) * factor}, {}, BAD)
        for name in ("exp", "nbf", "iat")
        for unit, factor in (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
    },
    "exp-in-milliseconds-long-ago": ({"exp": (T - 9) * 1000.0}, {}, BAD),
    "iat-in-milliseconds-though-expired": ({"iat": T * 1000, "exp": T - 9}, {}, BAD),
    "exp-a-leeway-ago": ({"exp": T - 60}, {"leeway": 60}, LATE),
    "exp-just-within-the-leeway": ({"exp": T - 59}, {"leeway": 60}, None),
    "nbf-in-a-second": ({"nbf": T + 1}, {}, EARLY),
    "nbf-now": ({"nbf": T}, {}, None),
    "nbf-zero": ({"nbf": 0}, {}, None),
    "nbf-a-leeway-ahead": ({"nbf": T + 60}, {"leeway": 60}, None),
    "nbf-beyond-the-leeway": ({"nbf": T + 61}, {"leeway": 60}, EARLY),
    "iat-in-an-hour": ({"iat": T + 3600, "exp": T + 7200}, {}, EARLY),
    "iat-zero": ({"iat": 0}, {}, None),
    "iat-missing": ({"iat": ABSENT}, {}, None),
    "expired-before-not-yet-valid": ({"exp": T - 1, "iat": T + 1}, {}, LATE),
    # audience
    "aud-text": ({"aud": "api"}, {}, None),
    "aud-list": ({"aud": ["x", "api"]}, {}, None),
    "aud-of-another": ({"aud": "apix"}, {}, OTHERS),
    "aud-of-a-prefix": ({"aud": "ap"}, {}, OTHERS),
    "aud-in-other-case": ({"aud": "API"}, {}, OTHERS),
    "aud-missing": ({"aud": ABSENT}, {}, OTHERS),
    "aud-empty-list": ({"aud": []}, {}, OTHERS),
    "aud-empty-text": ({"aud": ""}, {}, OTHERS),
    "aud-number": ({"aud": 1}, {}, BAD),
    "aud-object": ({"aud": {"api": 1}}, {}, BAD),
    "aud-mixed-list": ({"aud": ["api", 1]}, {}, BAD),
    "aud-null": ({"aud": None}, {}, BAD),
    "aud-after-time": ({"aud": "x", "exp": T - 1}, {}, LATE),
    "aud-form-before-time": ({"aud": 1, "exp": T - 1}, {}, BAD),
    "no-audience-configured": ({}, {"audiences": frozenset()}, OTHERS),
    "any-audience": ({"aud": "x"}, {"any_audience": True}, None),
    "any-audience-of-the-wrong-form": ({"aud": 1}, {"any_audience": True}, BAD),
    "audience-claim": ({"aud": ABSENT, "client_id": "api"}, {"audience_claim": "client_id"}, None),
    "audience-claim-missing": ({"client_id": ABSENT}, {"audience_claim": "client_id"}, OTHERS),
    "audience-claim-of-the-wrong-form": ({"client_id": 1}, {"audience_claim": "client_id"}, BAD),
    "aud-null-beside-the-audience-claim": (
        {"aud": None, "client_id": "api"},
        {"audience_claim": "client_id"},
        None,
    ),
    "audience-claim-null": ({"client_id": None}, {"audience_claim": "client_id"}, BAD),
    "aud-of-the-wrong-form-beside-the-audience-claim": (
        {"aud": 1, "client_id": "api"},
        {"audience_claim": "client_id"},
        BAD,
    ),
}


@pytest.mark.parametrize(("claims", "rules", "expected"), OUTCOMES.values(), ids=OUTCOMES)
def test_outcome(claims: Mapping[str, object], rules: Mapping[str, object], expected: Reason | None) -> None:
    """Form, lifetime, time and audience are evaluated in this order, each to the second."""
    assert outcome(claims, T, rules) == expected


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "logout+jwt", ABSENT], ids=str)
def test_logout_token_is_refused_before_its_type(typ: object) -> None:
    """A token that ends a session opens nothing, whatever it calls itself."""
    events: dict[str, object] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    with pytest.raises(Rejected, match="a logout token") as rejected:
        read_issuer(parse_token(mint(header={"typ": typ}, events=events)))
    assert rejected.value.reason is Reason.CLAIMS_MALFORMED


def test_time_is_an_argument() -> None:
    """The same token is early, good and late, by the instant that it is evaluated at."""
    claims = {"nbf": T, "iat": T - 10, "exp": T + 10}
    assert [outcome(claims, now) for now in (T - 0.001, T, T + 9.999, T + 10)] == [EARLY, None, None, LATE]


@pytest.mark.parametrize(
    ("claims", "rules", "detail"),
    [
        ({"exp": T - 7}, {"leeway": 5}, "expired 7 s ago, leeway 5 s"),
        ({"nbf": T + 7}, {"leeway": 5}, "nbf is 7 s ahead"),
        ({"iat": T + 7}, {"leeway": 5}, "iat is 7 s ahead"),
        ({"exp": T + 400}, {"max_lifetime": 300.0}, "lifetime of 400 s, at most 300 s"),
    ],
    ids=str,
)
def test_operator_is_told_by_how_much(claims: Mapping[str, object], rules: Mapping[str, Any], detail: str) -> None:
    """What was off by how many seconds stands in the detail: clocks go wrong more often than attackers come."""
    settings: dict[str, Any] = {"issuer": A, "audiences": frozenset({"api"}), **rules}
    with pytest.raises(Rejected) as caught:
        check(signed(claims), ClaimRules(**settings), T)
    assert caught.value.detail == detail


@pytest.mark.parametrize("issuer", [["https://a.test"], {}, 1, None, "", True, ABSENT], ids=str)
def test_issuer_that_is_no_text(issuer: object) -> None:
    """An issuer is a text that is not empty."""
    with pytest.raises(Rejected) as caught:
        read_issuer(parse_token(mint(iss=issuer)))
    assert caught.value.reason is BAD


def test_issuer_is_read_as_it_is() -> None:
    """The issuer is returned byte for byte."""
    assert read_issuer(parse_token(mint(iss="HTTPS://A.test/?#"))) == "HTTPS://A.test/?#"


@pytest.mark.parametrize(
    ("typ", "normal"),
    [
        (None, "jwt"),
        ("JWT", "jwt"),
        ("at+jwt", "at+jwt"),
        ("AT+JWT", "at+jwt"),
        ("application/at+jwt", "at+jwt"),
        ("Application/AT+JWT", "at+jwt"),
        ("text/at+jwt", "text/at+jwt"),
        ("application/x/at+jwt", "application/x/at+jwt"),
        ("application/application/jwt", "application/application/jwt"),
        ("", ""),
        (" jwt", " jwt"),
    ],
)
def test_type(typ: str | None, normal: str) -> None:
    """The prefix application/ may be left out, once, and case does not count (RFC 7515 section 4.1.9)."""
    assert normalize_type(typ) == normal
    token = parse_token(unsigned({"alg": "x"} | ({} if typ is None else {"typ": typ})))
    check_type(token, frozenset({normal}))
    with pytest.raises(Rejected) as caught:
        check_type(token, frozenset({"other"}))
    assert caught.value.reason is Reason.TYP_NOT_ALLOWED


PATHS: dict[str, tuple[str, ...]] = {
    "sub": ("sub",),
    "realm_access.roles": ("realm_access", "roles"),
    "a.b.c": ("a", "b", "c"),
    '["https://example.com/tenant"]': ("https://example.com/tenant",),
    '["https://example.com/tenant"].id': ("https://example.com/tenant", "id"),
    'a["b.c"]["d"]': ("a", "b.c", "d"),
    r'["\"\\"]': ('"\\',),
    "urn:a-b/c": ("urn:a-b/c",),
}
NO_PATHS = [
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "a b",
    'a.["b"]',
    '["a"]b',
    '[""]',
    "[a]",
    '["a"',
    'a"',
    r'["\q"]',
    r'["\u00e9"]',
    "https://a/b",
]


@pytest.mark.parametrize(("text", "names"), PATHS.items())
def test_claim_path(text: str, names: tuple[str, ...]) -> None:
    """A path is names with dots between, or names in brackets and quotes, and is written as it is read."""
    assert ClaimPath.parse(text).names == names
    assert ClaimPath.parse(str(ClaimPath(names))).names == names


def test_claim_path_that_needs_quotes() -> None:
    """A path of any names can be written down: names that are more than a word stand in brackets and quotes."""
    for names in (("a b",), ("a", "b", "ü", "x]"), ("http://x", "d")):
        assert ClaimPath.parse(str(ClaimPath(names))).names == names


@pytest.mark.parametrize("text", NO_PATHS)
def test_no_claim_path(text: str) -> None:
    """What can be read in two ways, or in none, is no path."""
    with pytest.raises(ValueError, match=r"claim path|Invalid"):
        ClaimPath.parse(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [("a", {"b": {"c": 1}}), ("a.b.c", 1), ("a.x", None), ("a.b.c.d", None), ("x", None), ("n", None), ("l.0", None)],
)
def test_find_by_path(path: str, value: object) -> None:
    """A path leads through objects only; what is absent or null is None."""
    assert ClaimPath.parse(path).find({"a": {"b": {"c": 1}}, "n": None, "l": ["x"]}) == value


def test_alias_goes_before_the_path() -> None:
    """An issuer's own name for a claim is looked up where that issuer keeps it."""
    rules = ClaimRules(issuer=A, audiences=frozenset({"api"}), aliases={"roles": ClaimPath.parse("realm.roles")})
    claims = check(signed({"realm": {"roles": ["r"]}, "roles": "of the top"}), rules, T)
    assert claims.find("roles", ClaimPath(("roles",))) == ["r"]
    assert claims.find("sub", ClaimPath(("sub",))) == "bob"


SCOPES: dict[str, tuple[Mapping[str, object], set[str]]] = {
    "text": ({"scope": "a b"}, {"a", "b"}),
    "more-spaces": ({"scope": " a  b "}, {"a", "b"}),
    "tab": ({"scope": "a\tb"}, {"a\tb"}),
    "list": ({"scope": ["a", "b c"]}, {"a", "b c"}),
    "scp": ({"scp": "a b"}, {"a", "b"}),
    "scp-list": ({"scp": ["a", "b"]}, {"a", "b"}),
    "scope-before-scp": ({"scope": "a", "scp": ["b"]}, {"a"}),
    "null-before-scp": ({"scope": None, "scp": ["b"]}, {"b"}),
    "empty-before-scp": ({"scope": "", "scp": "a b"}, {"a", "b"}),
    "space-before-scp": ({"scope": " ", "scp": "a b"}, {"a", "b"}),
    "empty-list-before-scp": ({"scope": [], "scp": ["b"]}, {"b"}),
    "null-behind-scope": ({"scope": "a", "scp": None}, {"a"}),
    "object-before-scp": ({"scope": {"a": 1}, "scp": ["b"]}, set()),
    "number-before-scp": ({"scope": 0, "scp": ["b"]}, set()),
    "false-before-scp": ({"scope": False, "scp": ["b"]}, set()),
    "list-with-a-number": ({"scope": ["a", 1]}, set()),
    "object": ({"scope": {"a": 1}}, set()),
    "empty": ({"scope": ""}, set()),
    "none": ({}, set()),
}


@pytest.mark.parametrize(("members", "scopes"), SCOPES.values(), ids=SCOPES)
def test_scopes(members: Mapping[str, object], scopes: set[str]) -> None:
    """Scopes are words between spaces, or a list of texts; of anything else nothing is granted."""
    assert claims_of(**members).scopes == scopes


CLIENTS: dict[str, tuple[dict[str, object], str | None]] = {
    "RFC 9068": ({"sub": "svc", "client_id": "svc"}, "svc"),
    "Auth0": ({"sub": "svc@clients", "azp": "svc"}, "svc"),
    "Okta": ({"sub": "svc", "cid": "svc"}, "svc"),
    "Entra": ({"sub": "9c1", "appid": "svc", "idtyp": "app"}, "svc"),
    "Keycloak": ({"sub": "9c1", "azp": "Svc", "preferred_username": "service-account-svc"}, "Svc"),
    "a person, by a client": ({"sub": "alice", "azp": "web"}, None),
    "a person who names herself like another client": (
        {"sub": "alice", "azp": "web", "preferred_username": "service-account-svc"},
        None,
    ),
    "no client": ({"sub": "alice"}, None),
    "no text": ({"sub": "7", "client_id": 7, "azp": ""}, None),
}


@pytest.mark.parametrize(("members", "client"), CLIENTS.values(), ids=CLIENTS)
def test_a_token_of_a_machine_speaks_for_its_client(members: Mapping[str, object], client: str | None) -> None:
    """By the standard and in the words of providers; a person's token never counts as its client's."""
    assert claims_of(**members).client == client


def test_subject() -> None:
    """The subject is the sub claim, or None where a token may do without."""
    assert claims_of().subject == "bob"
    lax = ClaimRules(issuer=A, audiences=frozenset({"api"}), required=("exp",))
    assert check(signed({"sub": ABSENT}), lax, T).subject is None


def test_claims_carry_payload_and_audience() -> None:
    """What was signed, and for whom, goes along with the claims; none of it has a repr."""
    claims = claims_of(aud=["api", "x"])
    assert claims.audience == {"api", "x"}
    assert b'"sub":"bob"' in claims.payload
    assert "bob" not in repr(claims)


def test_members_with_other_case_do_not_count() -> None:
    """ISS, Exp and AUD are other claims than iss, exp and aud."""
    assert outcome({"ISS": B, "Exp": 0, "AUD": "x"}) is None
    assert outcome({"exp": ABSENT, "EXP": T + 300}) is BAD


def test_a_token_is_read_once_for_each_rules() -> None:
    """What does not depend on the time is kept; the time, and other rules, are checked every time."""
    token = signed({"nbf": T - 10, "scope": "a b"})
    rules = ClaimRules(issuer=A, audiences=frozenset({"api"}), leeway=0)
    claims = check(token, rules, T)
    assert check(token, rules, T + 1) is claims
    assert claims.scopes is claims.scopes
    for now, reason in ((T - 11, EARLY), (T + 300, LATE)):
        with pytest.raises(Rejected) as caught:
            check(token, rules, now)
        assert caught.value.reason is reason
    with pytest.raises(Rejected) as caught:
        check(token, ClaimRules(issuer=A, audiences=frozenset({"other"}), leeway=0), T)
    assert caught.value.reason is OTHERS
    assert check(token, rules, T) == claims


def test_an_answer_is_read_once_for_each_rules() -> None:
    """As with a token: of the issuer that is asked, and in time."""
    answer = IntrospectionResponse({"sub": "bob", "aud": "api", "exp": T + 300}, b"{}")
    rules = ClaimRules(issuer=A, audiences=frozenset({"api"}), leeway=0)
    claims = check_introspection_response(answer, rules, T)
    assert check_introspection_response(answer, rules, T + 1) is claims
    with pytest.raises(Rejected) as caught:
        check_introspection_response(answer, rules, T + 300)
    assert caught.value.reason is LATE
    assert (
        check_introspection_response(answer, ClaimRules(issuer=B, audiences=frozenset({"api"})), T).members["iss"] == B
    )
