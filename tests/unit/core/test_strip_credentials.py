"""Proves authz.core.strip_credentials."""

from __future__ import annotations

import pytest

from authz.core.strip_credentials import StrippedCredentials, strip_credentials
from authz.core.token import MAX_COOKIES, MAX_PARAMETERS, CookieSource, HeaderSource, QuerySource, Source
from tests.fixtures import ask

BEARER = HeaderSource("authorization", "Bearer")
BARE = HeaderSource("x-token")
COOKIE = CookieSource("t")
QUERY = QuerySource("q")

CASES: dict[str, tuple[tuple[Source, ...], dict[str, str], StrippedCredentials]] = {
    "no-sources": ((), {"authorization": "Bearer t"}, StrippedCredentials()),
    "bearer": ((BEARER,), {"authorization": "Bearer t"}, StrippedCredentials(remove=("authorization",))),
    "bearer-in-any-case": ((BEARER,), {"authorization": "bearer t"}, StrippedCredentials(remove=("authorization",))),
    "bearer-among-others": (
        (BEARER,),
        {"authorization": "Basic x, Bearer t"},
        StrippedCredentials(remove=("authorization",)),
    ),
    "bearer-that-envoy-did-not-show": ((BEARER,), {}, StrippedCredentials(remove=("authorization",))),
    "basic-stays": ((BEARER,), {"authorization": "Basic x"}, StrippedCredentials()),
    "whole-header": ((BARE,), {"x-token": "anything"}, StrippedCredentials(remove=("x-token",))),
    "whole-header-that-envoy-did-not-show": ((BARE,), {}, StrippedCredentials(remove=("x-token",))),
    "cookie": ((COOKIE,), {"cookie": "a=1; t=x; b=2"}, StrippedCredentials(set=(("cookie", "a=1; b=2"),))),
    "cookie-twice": ((COOKIE,), {"cookie": "t=x; a=1; t=y"}, StrippedCredentials(set=(("cookie", "a=1"),))),
    "cookie-alone": ((COOKIE,), {"cookie": "t=x"}, StrippedCredentials(remove=("cookie",))),
    "cookie-that-envoy-did-not-show": ((COOKIE,), {}, StrippedCredentials(remove=("cookie",))),
    "query-without-it": ((QUERY,), {}, StrippedCredentials()),
    "all": (
        (BEARER, COOKIE, QUERY),
        {"authorization": "Bearer t", "cookie": "t=x; a=1"},
        StrippedCredentials((("cookie", "a=1"),), ("authorization",)),
    ),
}


@pytest.mark.parametrize(("sources", "headers", "stripped"), CASES.values(), ids=CASES)
def test_withhold(sources: tuple[Source, ...], headers: dict[str, str], stripped: StrippedCredentials) -> None:
    """Every token that a source could hold is kept back, and nothing that is none."""
    assert strip_credentials(ask(headers=headers), sources) == stripped


@pytest.mark.parametrize("header", ["a=1; b=2", 'a="1"', "a", "a=1;b=2"])
def test_cookies_that_hold_no_token_stay_as_they_are(header: str) -> None:
    """A cookie header without a token is not written again: its bytes are between the client and the upstream."""
    assert strip_credentials(ask(headers={"cookie": header}), (COOKIE,)) == StrippedCredentials()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/a?q=t", True),
        ("/a?b&q=t&c", True),
        ("/a?%71=t", True),
        ("/a?q", True),
        ("/a?" + "&" * MAX_PARAMETERS, True),
        ("/a", False),
        ("/a?", False),
        ("/q?qq=1&flag&b=q=", False),
    ],
)
def test_a_parameter_is_named_only_if_the_query_may_hold_it(path: str, named: bool) -> None:  # noqa: FBT001 - a column
    """Envoy rebuilds a query from which it is to remove something, and so breaks what was signed."""
    assert strip_credentials(ask(path=path), (QUERY,)).drop_query == (("q",) if named else ())


def test_token_in_the_second_of_two_cookie_headers() -> None:
    """A comma stands in no cookie (RFC 6265 section 4.1.1): it is where Envoy joined two headers."""
    stripped = strip_credentials(ask(headers={"cookie": "a=1,t=x; b=2"}), (COOKIE,))
    assert "t=x" not in str(stripped.set)
    assert stripped != StrippedCredentials()


@pytest.mark.parametrize(
    ("header", "rest"),
    [
        ("a=1; t=x; b=2", "a=1; b=2"),
        ("a=1;t=x,b=2", "a=1;b=2"),
        ("a=1,t=x,b=2", "a=1,b=2"),
        ("a=1,t=x; b=2", "a=1; b=2"),
        ("t=x,t=y,a=1", "a=1"),
        ("a=1; t = x; tt=2", "a=1; tt=2"),
        ("a=1; t; b=2", "a=1; b=2"),
    ],
)
def test_what_stands_around_a_removed_cookie_stays_apart(header: str, rest: str) -> None:
    """Two cookies that a semicolon separated are not joined by the comma behind the removed one."""
    assert strip_credentials(ask(headers={"cookie": header}), (COOKIE,)).set == (("cookie", rest),)


def test_a_cookie_full_of_commas_costs_no_other_cookie() -> None:
    """Analytics cookies hold lists of any length."""
    commas = "a=" + "1," * MAX_COOKIES
    assert strip_credentials(ask(headers={"cookie": commas}), (COOKIE,)) == StrippedCredentials()
    stripped = strip_credentials(ask(headers={"cookie": f"{commas}; t=x; b=2"}), (COOKIE,))
    assert stripped.set == (("cookie", f"{commas}; b=2"),)


def test_too_many_cookies_of_ours_remove_all() -> None:
    """The work is bounded, and no token is forwarded."""
    crowd = "; ".join(["t=x"] * MAX_COOKIES + ["a=1"])
    assert strip_credentials(ask(headers={"cookie": crowd}), (COOKIE,)) == StrippedCredentials(remove=("cookie",))


def test_header_is_named_once() -> None:
    """A header that may hold tokens of two schemes is removed once."""
    sources = (BEARER, HeaderSource("authorization", "Token"))
    assert strip_credentials(ask(), sources) == StrippedCredentials(remove=("authorization",))


def test_other_cookies_keep_their_quotes() -> None:
    """What is left of a cookie header is what was there."""
    stripped = strip_credentials(ask(headers={"cookie": 'a="1"; t=x'}), (COOKIE,))
    assert stripped.set == (("cookie", 'a="1"'),)
