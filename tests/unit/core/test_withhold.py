"""Proves authz.core.withhold."""

from __future__ import annotations

import pytest

from authz.core.token import CookieSource, HeaderSource, QuerySource, Source
from authz.core.withhold import Withheld, withhold_tokens
from tests.world import ask

BEARER = HeaderSource("authorization", "Bearer")
BARE = HeaderSource("x-token")
COOKIE = CookieSource("t")
QUERY = QuerySource("q")

CASES: dict[str, tuple[tuple[Source, ...], dict[str, str], Withheld]] = {
    "no-sources": ((), {"authorization": "Bearer t"}, Withheld()),
    "bearer": ((BEARER,), {"authorization": "Bearer t"}, Withheld(remove=("authorization",))),
    "bearer-in-any-case": ((BEARER,), {"authorization": "bearer t"}, Withheld(remove=("authorization",))),
    "bearer-among-others": ((BEARER,), {"authorization": "Basic x, Bearer t"}, Withheld(remove=("authorization",))),
    "bearer-that-envoy-did-not-show": ((BEARER,), {}, Withheld(remove=("authorization",))),
    "basic-stays": ((BEARER,), {"authorization": "Basic x"}, Withheld()),
    "whole-header": ((BARE,), {"x-token": "anything"}, Withheld(remove=("x-token",))),
    "whole-header-that-envoy-did-not-show": ((BARE,), {}, Withheld(remove=("x-token",))),
    "cookie": ((COOKIE,), {"cookie": "a=1; t=x; b=2"}, Withheld(set=(("cookie", "a=1; b=2"),))),
    "cookie-twice": ((COOKIE,), {"cookie": "t=x; a=1; t=y"}, Withheld(set=(("cookie", "a=1"),))),
    "cookie-alone": ((COOKIE,), {"cookie": "t=x"}, Withheld(remove=("cookie",))),
    "cookie-that-envoy-did-not-show": ((COOKIE,), {}, Withheld(remove=("cookie",))),
    "query": ((QUERY,), {}, Withheld(drop_query=("q",))),
    "all": (
        (BEARER, COOKIE, QUERY),
        {"authorization": "Bearer t", "cookie": "t=x; a=1"},
        Withheld((("cookie", "a=1"),), ("authorization",), ("q",)),
    ),
}


@pytest.mark.parametrize(("sources", "headers", "withheld"), CASES.values(), ids=CASES)
def test_withhold(sources: tuple[Source, ...], headers: dict[str, str], withheld: Withheld) -> None:
    """Every token that a source could hold is kept back, and nothing that is none."""
    assert withhold_tokens(ask(headers=headers), sources) == withheld


@pytest.mark.parametrize("header", ["a=1; b=2", 'a="1"', "a", "a=1;b=2"])
def test_cookies_that_hold_no_token_stay_as_they_are(header: str) -> None:
    """A cookie header without a token is not written anew: its bytes are between the client and the upstream."""
    assert withhold_tokens(ask(headers={"cookie": header}), (COOKIE,)) == Withheld()


def test_token_in_the_second_of_two_cookie_headers() -> None:
    """A comma stands in no cookie (RFC 6265 section 4.1.1): it is where Envoy joined two headers."""
    withheld = withhold_tokens(ask(headers={"cookie": "a=1,t=x; b=2"}), (COOKIE,))
    assert "t=x" not in str(withheld.set)
    assert withheld != Withheld()


def test_header_is_named_once() -> None:
    """A header that may hold tokens of two schemes is removed once."""
    sources = (BEARER, HeaderSource("authorization", "Token"))
    assert withhold_tokens(ask(), sources) == Withheld(remove=("authorization",))


def test_other_cookies_keep_their_quotes() -> None:
    """What is left of a cookie header is what was there."""
    withheld = withhold_tokens(ask(headers={"cookie": 'a="1"; t=x'}), (COOKIE,))
    assert withheld.set == (("cookie", 'a="1"'),)
