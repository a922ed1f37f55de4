"""Proves authz.core.token."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from authz.core.reasons import Reason, Rejected
from authz.core.token import (
    MAX_KID_CHARS,
    MAX_TOKEN_BYTES,
    CookieSource,
    FoundToken,
    HeaderSource,
    QuerySource,
    Source,
    digest_of,
    find_cookies,
    find_token,
    has_scheme,
    parse_token,
    place_token,
)
from tests.fixtures import ask, mint, unsigned

BEARER = HeaderSource("authorization", "Bearer")
BARE = HeaderSource("x-token")
COOKIE = CookieSource("access_token")
QUERY = QuerySource("access_token")
GOOD = mint()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")

MALFORMED = {
    "empty": "",
    "one-segment": "a",
    "two-segments": f"{HEADER}.{PAYLOAD}",
    "four-segments": f"{GOOD}.{SIGNATURE}",
    "five-segments-as-of-a-jwe": f"{GOOD}.{SIGNATURE}.{SIGNATURE}",
    "dots-alone": "..",
    "no-header": f".{PAYLOAD}.{SIGNATURE}",
    "payload-alone": f".{PAYLOAD}.",
    "no-payload": f"{HEADER}..{SIGNATURE}",
    "no-signature": f"{HEADER}.{PAYLOAD}.",
    "padded": GOOD + "==",
    "padded-header": f"{HEADER}==.{PAYLOAD}.{SIGNATURE}",
    "junk-inside": GOOD[:-4] + "!!!!" + GOOD[-4:],
    "plain-base64": f"{HEADER}.{PAYLOAD}.+/+/",
    "newline": GOOD + "\n",
    "leading-space": " " + GOOD,
    "zero-width-space": GOOD + "\u200b",
    "fullwidth-letter": "\uff45" + GOOD[1:],
    "surrogate": GOOD + "\ud800",
    "json-serialization": f'{{"payload":"{PAYLOAD}","protected":"{HEADER}","signature":"{SIGNATURE}"}}',
}
HEADER_INVALID: dict[str, bytes] = {
    "not-json": b"RS256",
    "not-utf-8": b'{"alg":"RS256","kid":"\xff"}',
    "byte-order-mark": b'\xef\xbb\xbf{"alg":"RS256"}',
    "array": b'["RS256"]',
    "null": b"null",
    "duplicate-alg": b'{"alg":"RS256","alg":"none"}',
    "duplicate-kid-by-escape": rb'{"alg":"RS256","kid":"a","k\u0069d":"b"}',
    "no-alg": b"{}",
    "alg-null": b'{"alg":null}',
    "alg-number": b'{"alg":256}',
    "alg-list": b'{"alg":["RS256"]}',
    "alg-object": b'{"alg":{"a":1}}',
    "alg-empty": b'{"alg":""}',
    "kid-number": b'{"alg":"RS256","kid":1}',
    "kid-object": b'{"alg":"RS256","kid":{}}',
    "kid-null": b'{"alg":"RS256","kid":null}',
    "kid-too-long": b'{"alg":"RS256","kid":"' + b"a" * (MAX_KID_CHARS + 1) + b'"}',
    "kid-surrogate": rb'{"alg":"RS256","kid":"\ud800"}',
    "typ-number": b'{"alg":"RS256","typ":1}',
    "typ-null": b'{"alg":"RS256","typ":null}',
    "too-deep": b'{"alg":"RS256","x":' + b"[" * 40 + b"]" * 40 + b"}",
}
CRITICAL: dict[str, bytes] = {
    "unknown": b'{"alg":"RS256","crit":["foo"],"foo":1}',
    "empty": b'{"alg":"RS256","crit":[]}',
    "null": b'{"alg":"RS256","crit":null}',
    "unencoded-payload": b'{"alg":"RS256","b64":false,"crit":["b64"]}',
    "b64-without-crit": b'{"alg":"RS256","b64":false}',
    "b64-that-changes-nothing": b'{"alg":"RS256","b64":true}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed(text: str) -> None:
    """Whatever is not three segments of canonical base64url is no token."""
    with pytest.raises(Rejected) as caught:
        parse_token(text)
    assert caught.value.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("header", HEADER_INVALID.values(), ids=HEADER_INVALID)
def test_header_invalid(header: bytes) -> None:
    """The header is one strict JSON object with an alg, and with kid and typ of the right type where they are there."""
    with pytest.raises(Rejected) as caught:
        parse_token(unsigned(header))
    assert caught.value.reason is Reason.HEADER_INVALID


@pytest.mark.parametrize("header", CRITICAL.values(), ids=CRITICAL)
def test_extensions_are_refused(header: bytes) -> None:
    """No extension is supported, whatever it asks for, and whether the payload is there or detached."""
    token = unsigned(header)
    detached = "..".join(token.split(".")[::2])
    for text in (token, detached):
        with pytest.raises(Rejected) as caught:
            parse_token(text)
        assert caught.value.reason is Reason.CRIT_UNSUPPORTED


def test_fields() -> None:
    """A good token is split into what is signed and what signs, and its header is read."""
    token = parse_token(GOOD)
    assert (token.alg, token.kid, token.typ) == ("RS256", "a-rsa", "at+jwt")
    assert token.signing_input == f"{HEADER}.{PAYLOAD}".encode()
    assert token.members["sub"] == "bob"
    assert len(token.signature) == 256
    bare = parse_token(unsigned({"alg": "x"}))
    assert (bare.kid, bare.typ) == (None, None)


def test_digest() -> None:
    """It is of the whole text, whether it was known or not, and of another one when a part is replaced."""
    token = parse_token(GOOD)
    assert token.digest == token.digest == digest_of(GOOD) == sha256(GOOD.encode()).digest()
    assert parse_token(GOOD, digest=token.digest).digest == token.digest
    assert replace(token, signature=b"x").digest not in {token.digest, replace(token, signing_input=b"x").digest}


@pytest.mark.parametrize("payload", [b"null", b"[]", b'{"a":1,"a":2}', b"\xff", b"\xef\xbb\xbf{}"])
def test_payload_is_read_late(payload: bytes) -> None:
    """A payload may be anything until its members are asked for; then it must be one JSON object."""
    token = parse_token(unsigned({"alg": "RS256"}, payload=payload))
    assert token.payload == payload
    with pytest.raises(Rejected) as caught:
        _ = token.members
    assert caught.value.reason is Reason.CLAIMS_MALFORMED
    assert "\\x" not in caught.value.detail


def test_size_comes_first() -> None:
    """One character too many is too large, whatever the text; the bound itself is not."""
    for text in ("\ud800" * 11, "." * 11, "a" * 4_000_000):
        with pytest.raises(Rejected) as caught:
            parse_token(text, max_bytes=10)
        assert caught.value.reason is Reason.TOKEN_TOO_LARGE
        assert text not in caught.value.detail
    parse_token(GOOD, max_bytes=len(GOOD))
    with pytest.raises(Rejected, match="16385"):
        parse_token("a" * (MAX_TOKEN_BYTES + 1))


@pytest.mark.parametrize("length", [1, MAX_KID_CHARS])
def test_shortest_and_longest_kid(length: int) -> None:
    """A kid of one character is taken, and one of the largest size."""
    assert parse_token(unsigned({"alg": "x", "kid": "k" * length})).kid == "k" * length


def test_header_that_is_too_long_to_keep() -> None:
    """A header that is read again for each token gives what it says, and None for what it does not."""
    long = {"alg": "x", "rest": "x" * 512}
    full, bare = parse_token(unsigned({**long, "kid": "k", "typ": "t"})), parse_token(unsigned(long))
    assert (full.alg, full.kid, full.typ) == ("x", "k", "t")
    assert (bare.alg, bare.kid, bare.typ) == ("x", None, None)


def test_repr_keeps_the_secret() -> None:
    """What a log or a traceback would show of a token is its header alone."""
    shown = repr(parse_token(GOOD))
    assert "a-rsa" in shown
    assert "bob" not in shown
    assert SIGNATURE[:20] not in shown


def test_repr_of_a_found_token_keeps_the_secret() -> None:
    """Where a token was found may be shown, the token may not."""
    found = find_token(ask(GOOD), (BEARER,))
    assert found is not None
    assert SIGNATURE[:20] not in repr(found)


FOUND: dict[str, tuple[Source, dict[str, str], list[str]]] = {
    "bearer": (BEARER, {"authorization": "Bearer t"}, ["t"]),
    "scheme-in-any-case": (BEARER, {"authorization": "bEaReR t"}, ["t"]),
    "several-spaces": (BEARER, {"authorization": "Bearer   t"}, ["t"]),
    "rest-belongs-to-the-token": (BEARER, {"authorization": "Bearer t extra"}, ["t extra"]),
    "token-of-one-capital": (BEARER, {"authorization": "Bearer X"}, ["X"]),
    "comma-that-starts-no-credentials": (BEARER, {"authorization": "Bearer t,u"}, ["t,u"]),
    "no-header": (BEARER, {}, []),
    "empty-header": (BEARER, {"authorization": ""}, []),
    "other-scheme": (BEARER, {"authorization": "Basic x"}, []),
    "two-of-other-schemes": (BEARER, {"authorization": "Basic x, Digest a=1"}, []),
    "longer-scheme": (BEARER, {"authorization": "BearerX t"}, []),
    "shorter-scheme": (BEARER, {"authorization": "Bear er t"}, []),
    "no-scheme": (BEARER, {"authorization": "t"}, []),
    "leading-space": (BEARER, {"authorization": " Bearer t"}, []),
    "other-header": (BEARER, {"proxy-authorization": "Bearer t"}, []),
    "whole-header": (BARE, {"x-token": "t"}, ["t"]),
    "whole-header-absent": (BARE, {}, []),
    "cookie": (COOKIE, {"cookie": "a=1; access_token=t; b=2"}, ["t"]),
    "cookie-in-the-second-of-two-fields": (COOKIE, {"cookie": "a=1,access_token=t"}, ["t"]),
    "cookie-in-the-first-of-two-fields": (COOKIE, {"cookie": "access_token=t, a=1"}, ["t"]),
    "cookie-in-quotes": (COOKIE, {"cookie": 'access_token="t"'}, ["t"]),
    "cookie-without-spaces": (COOKIE, {"cookie": "a=1;access_token=t"}, ["t"]),
    "cookie-with-equals-signs": (COOKIE, {"cookie": "access_token=t=="}, ["t=="]),
    "empty-cookie": (COOKIE, {"cookie": "access_token="}, []),
    "cookie-of-a-longer-name": (COOKIE, {"cookie": "xaccess_token=t; access_token2=t"}, []),
    "cookie-in-other-case": (COOKIE, {"cookie": "Access_Token=t"}, []),
    "cookie-without-value": (COOKIE, {"cookie": "access_token"}, []),
    "no-cookies": (COOKIE, {}, []),
}
QUERIES = {
    "alone": ("/p?access_token=t", ["t"]),
    "among-others": ("/p?a=1&access_token=t&b=2", ["t"]),
    "second-question-mark": ("/p?a?&access_token=t", ["t"]),
    "question-mark-behind": ("/p?access_token=t&a=?", ["t"]),
    "equals-signs-behind": ("/p?access_token=t==", ["t=="]),
    "empty": ("/p?access_token=", []),
    "of-another-name": ("/p?xaccess_token=t", []),
    "in-the-path": ("/access_token=t", []),
    "in-the-path-as-a-parameter": ("/p;access_token=t", []),
}


@pytest.mark.parametrize(("source", "headers", "texts"), FOUND.values(), ids=FOUND)
def test_find(source: Source, headers: dict[str, str], texts: list[str]) -> None:
    """A token is found where its source says, and nowhere else."""
    found = find_token(ask(headers=headers, path="/p?access_token=q"), (source,))
    assert found == (FoundToken(texts[0], source) if texts else None)


@pytest.mark.parametrize(("path", "texts"), QUERIES.values(), ids=QUERIES)
def test_find_in_query(path: str, texts: list[str]) -> None:
    """A token is found in the query parameter of exactly that name."""
    found = find_token(ask(path=path), (QUERY,))
    assert found == (FoundToken(texts[0], QUERY) if texts else None)


@pytest.mark.parametrize("rest", ["", " ", "   ", "\tt", "\u00a0t", ":t", "=t", ",t"])
def test_scheme_without_token(rest: str) -> None:
    """Our scheme with something else than spaces and a token behind it is malformed, not missing."""
    with pytest.raises(Rejected) as caught:
        find_token(ask(headers={"authorization": f"Bearer{rest}"}), (BEARER,))
    assert caught.value.reason is Reason.TOKEN_MALFORMED


MULTIPLE: dict[str, tuple[tuple[Source, ...], dict[str, str], str]] = {
    "two-bearers": ((BEARER,), {"authorization": "Bearer t,Bearer u"}, "/"),
    "two-bearers-spaced": ((BEARER,), {"authorization": "Bearer t ,\t bearer u"}, "/"),
    "the-same-twice": ((BEARER,), {"authorization": "Bearer t, Bearer t"}, "/"),
    "basic-then-bearer": ((BEARER,), {"authorization": "Basic x, Bearer t"}, "/"),
    "bearer-then-basic": ((BEARER,), {"authorization": "Bearer t, Basic x"}, "/"),
    "bearer-after-a-tab": ((BEARER,), {"authorization": "Basic x,Bearer\tt"}, "/"),
    "whole-header-twice": ((BARE,), {"x-token": "t,u"}, "/"),
    "header-and-header": ((BEARER, BARE), {"authorization": "Bearer t", "x-token": "t"}, "/"),
    "header-and-cookie": ((BEARER, COOKIE), {"authorization": "Bearer t", "cookie": "access_token=t"}, "/"),
    "header-and-query": ((BEARER, QUERY), {"authorization": "Bearer t"}, "/?access_token=t"),
    "cookie-in-two-fields": ((COOKIE,), {"cookie": "access_token=t,access_token=u"}, "/"),
    "cookie-twice": ((COOKIE,), {"cookie": "access_token=t; access_token=u"}, "/"),
    "query-twice": ((QUERY,), {}, "/?access_token=t&access_token=t"),
}


@pytest.mark.parametrize(("sources", "headers", "path"), MULTIPLE.values(), ids=MULTIPLE)
def test_more_than_one_token(sources: tuple[Source, ...], headers: dict[str, str], path: str) -> None:
    """Where two parties could see two different tokens, none is taken."""
    with pytest.raises(Rejected) as caught:
        find_token(ask(headers=headers, path=path), sources)
    assert caught.value.reason is Reason.TOKEN_MULTIPLE


COOKIES: dict[str, tuple[str, list[str]]] = {
    "none": ("", []),
    "order-and-duplicates": ("a=1; b=2; a=3", ["1", "3"]),
    "quoted": ('a="1"', ["1"]),
    "equals-signs": ("a=3=4", ["3=4"]),
    "its-name-in-a-value": ("b=a=1; c=xa=2", []),
    "its-name-twice": ("a=a=1", ["a=1"]),
    "a-longer-name": ("ba=1; ab=2; a =3", []),
    "without-equals-sign": ("a; b", []),
    "white-space": (" a=1 ;\t a=2\t", ["1", "2"]),
    "behind-a-comma": ("b=2,a=1,c=3", ["1"]),
}


@pytest.mark.parametrize(("header", "values"), COOKIES.values(), ids=COOKIES)
def test_cookies(header: str, values: list[str]) -> None:
    """Cookies keep order, duplicates and equals signs; a pair without one is none (RFC 6265 section 4.2.1)."""
    assert find_cookies(ask(headers={"cookie": header} if header else {}), "a") == values


@pytest.mark.parametrize(
    ("credentials", "scheme", "has"),
    [
        ("Bearer t", "bearer", True),
        ("bearer", "Bearer", True),
        ("Bearer\tt", "Bearer", True),
        ("Bearers t", "Bearer", False),
        (" Bearer t", "Bearer", False),
        ("to\u212aen t", "Token", False),  # the Kelvin sign, which is k in lower case
        ("Ba\u017fic t", "Basic", False),  # the long s, which is S in upper case
        ("", "Bearer", False),
    ],
)
def test_scheme(credentials: str, scheme: str, has: bool) -> None:  # noqa: FBT001 - a column of the table
    """A scheme is the whole first word, in any case."""
    assert has_scheme(credentials, scheme) is has


@pytest.mark.parametrize("source", [BEARER, BARE, COOKIE, QUERY], ids=str)
def test_a_token_is_found_where_it_was_placed(source: Source) -> None:
    """Placing is the inverse of finding, and leaves what is there: beside another token it makes two."""
    request = ask(path="/items/1?a=b", headers={"cookie": "theme=dark", "accept": "text/html"})
    placed = place_token(GOOD, source, request)
    assert find_token(placed, (source,)) == FoundToken(GOOD, source)
    assert (placed.path.startswith(request.path), placed.headers["accept"]) == (True, "text/html")
    with pytest.raises(Rejected):
        find_token(place_token(GOOD, source, placed), (source,))


def test_the_first_parameter_begins_a_query() -> None:
    """A path without a query gets one."""
    assert place_token("x", QUERY, ask(path="/items/1")).path == "/items/1?access_token=x"
