"""Proves authz.core.request."""

from __future__ import annotations

import pytest

from authz.core.reasons import Reason, Rejected
from authz.core.request import (
    MAX_HEADERS,
    MAX_PATH_CHARS,
    MAX_QUERY_CHARS,
    AmbiguousEncoding,
    Path,
    Request,
    canonical_host,
    canonical_path,
    join_headers,
    parse_path,
    parse_target,
    reject_ambiguous,
)
from tests.fixtures import ask

CANONICAL = {
    "/": "/",
    "/orders": "/orders",
    "/orders/": "/orders/",
    "/a/b.c/~d/e-f_g": "/a/b.c/~d/e-f_g",
    "/!$&'()*+,=:@": "/!$&'()*+,=:@",
    "/.well-known/x": "/.well-known/x",
    "/...": "/...",
    "/..a/a..": "/..a/a..",
    "/..%20a/a%20..": "/..%20a/a%20..",
    "/%61dmin": "/admin",
    "/%7Euser": "/~user",
    "/%2d%2E%5f": "/-._",
    "/caf%c3%a9": "/caf%C3%A9",
    "/a%20b": "/a%20b",
    "/%21": "/%21",  # a reserved character and its escape are two things
    "/50%25": "/50%25",
    "/%25zz": "/%25zz",
    "/a%3fb": "/a%3Fb",
    "/[a]|{b}^": "/[a]|{b}^",
}
AMBIGUOUS = {
    "empty": "",
    "relative": "orders",
    "asterisk": "*",
    "absolute-form": "http://h/admin",
    "dot": "/a/./b",
    "dot-dot": "/public/../admin",
    "dot-dot-at-the-end": "/public/..",
    "dot-at-the-end": "/public/.",
    "encoded-dots": "/public/%2e%2e/admin",
    "half-encoded-dots": "/public/.%2E/admin",
    "dots-before-a-parameter": "/public/..;/admin",
    "dot-before-a-parameter": "/public/.;x=1/admin",
    "encoded-dots-before-a-parameter": "/public/%2e%2e;/admin",
    "dots-before-an-encoded-parameter": "/public/..%3B/admin",
    "encoded-dots-before-an-encoded-parameter": "/public/%2e%2e%3bx/admin",
    "dot-before-an-encoded-parameter": "/public/.%3b/",
    "dots-and-a-space": "/public/..%20/admin",
    "spaces-dots-and-a-space": "/public/%20%20..%20/admin",
    "dots-a-space-and-a-parameter": "/public/..%20;x/admin",
    "dots-between-encoded-slashes": "/public%2f..%2fadmin",
    "dots-and-slash-encoded": "/public%2F%2e%2e%2Fadmin",
    "encoded-slash": "/a%2Fb",
    "encoded-slash-in-lower-case": "/a%2fb",
    "semicolon": "/a;b=c",
    "semicolon that is encoded": "/a%3bb=c",
    "double-slash": "//admin",
    "double-slash-inside": "/public//../admin",
    "double-slash-at-the-end": "/admin//",
    "backslash": "/public\\..\\admin",
    "encoded-backslash": "/public%5c..%5cadmin",
    "double-escape": "/%252e%252e/admin",
    "double-escape-by-parts": "/%25%32%65/admin",
    "double-escaped-percent": "/%2525",
    "double-escaped-nul": "/%2500",
    "nul": "/admin%00.png",
    "encoded-newline": "/a%0d%0aSet-Cookie:x",
    "encoded-delete": "/a%7f",
    "raw-control-character": "/a\x01b",
    "raw-newline": "/a\n",
    "raw-space": "/a b",
    "fragment": "/admin#/public",
    "quotes": '/"',
    "angle-brackets": "/<a>",
    "backtick": "/`",
    "raw-unicode": "/café",
    "fullwidth-dots": "/public/．．/admin",
    "surrogate": "/\ud800",
    "escape-cut-short": "/a%",
    "escape-cut-shorter": "/a%2",
    "escape-that-is-none": "/a%zz",
    "escape-of-iis": "/%u002e%u002e/admin",
    "overlong-dot": "/%c0%ae%c0%ae/admin",
    "overlong-slash": "/a%c0%afb",
    "surrogate-in-utf-8": "/%ed%a0%80",
    "latin-1": "/caf%e9",
}
HOSTS = {
    "api.example.test": "api.example.test",
    "API.Example.test.": "api.example.test",
    "api.example.test:443": "api.example.test",
    "api.example.test.:8443": "api.example.test",
    "localhost": "localhost",
    "under_score.test": "under_score.test",
    "192.0.2.1:80": "192.0.2.1",
    "[2001:DB8::1]:443": "[2001:db8::1]",
    "[::ffff:192.0.2.1]": "[::ffff:192.0.2.1]",
}
NO_HOSTS = {
    "empty": "",
    "user": "a@api.example.test",
    "list": "api.example.test,evil.test",
    "two-words": "api.example.test evil.test",
    "empty-label": "api..test",
    "leading-dot": ".test",
    "two-final-dots": "api.test..",
    "dot-alone": ".",
    "port-alone": ":443",
    "port-empty": "api.test:",
    "port-too-long": "api.test:123456",
    "port-no-number": "api.test:http",
    "path": "api.test/admin",
    "scheme": "http://api.test",
    "escape": "api%2etest",
    "unicode": "äpi.test",
    "kelvin-sign": "api.\u212aelvin.test",  # lower case of it is an ASCII k
    "newline": "api.test\n",
    "nul": "api.test\0",
    "label-too-long": "a" * 64 + ".test",
    "too-long": "a." * 127 + "ab",
    "bare-ipv6": "2001:db8::1",
    "zone": "[fe80::1%25eth0]",
    "unclosed": "[::1",
}
MALFORMED = {
    "nothing": Request(),
    "no-path": ask(path=""),
    "path-too-long": ask(path="/" + "a" * MAX_PATH_CHARS),
    "query-too-long": ask(path="/?" + "a" * (MAX_QUERY_CHARS + 1)),
    "too-many-headers": ask(headers={f"x-{number}": "" for number in range(MAX_HEADERS + 1)}),
    "header-without-name": ask(headers={"": "x"}),
    "no-method": ask(method=""),
    "method-with-a-space": ask(method="GET "),
    "two-methods": ask(method="GET,POST"),
    "method-of-unicode": ask(method="GЕT"),
    "method-with-a-newline": ask(method="GET\n"),
    "method-too-long": ask(method="A" * 65),
    "host-malformed": ask(host="a@api.test"),
}


@pytest.mark.parametrize(("raw", "canonical"), CANONICAL.items(), ids=CANONICAL)
def test_canonical_path(raw: str, canonical: str) -> None:
    """Escapes of unreserved characters are undone, those of others are in upper case, nothing else changes."""
    assert canonical_path(raw) == canonical
    assert canonical_path(canonical) == canonical


@pytest.mark.parametrize("raw", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_path(raw: str) -> None:
    """What servers are known to read differently has no canonical form."""
    with pytest.raises(Rejected) as caught:
        canonical_path(raw)
    assert caught.value.reason is Reason.PATH_AMBIGUOUS


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        ("/", ()),
        ("/orders", ("orders",)),
        ("/orders/", ("orders",)),
        ("/a/b%20c/%c3%a9", ("a", "b c", "é")),
        ("/%7Ea/", ("~a",)),
        ("/%3f%23%25", ("?#%",)),
        ("/[a]", ("[a]",)),
    ],
)
def test_segments_are_decoded_once(raw: str, segments: tuple[str, ...]) -> None:
    """Rules see decoded segments, and a trailing slash makes none."""
    assert parse_path(raw).segments == segments


@pytest.mark.parametrize(
    ("raw", "segments", "spelling"),
    [
        ("/a%2fb", ("a/b",), AmbiguousEncoding.ENCODED_SLASH),
        ("/a%2F/", ("a/",), AmbiguousEncoding.ENCODED_SLASH),
        ("/a;v=1/b", ("a;v=1", "b"), AmbiguousEncoding.SEMICOLON),
        ("//", ("",), AmbiguousEncoding.DOUBLE_SLASH),
        ("//a", ("", "a"), AmbiguousEncoding.DOUBLE_SLASH),
        ("/a//", ("a", ""), AmbiguousEncoding.DOUBLE_SLASH),
        ("/a//b", ("a", "", "b"), AmbiguousEncoding.DOUBLE_SLASH),
    ],
)
def test_spelling_is_data_of_a_segment(raw: str, segments: tuple[str, ...], spelling: AmbiguousEncoding) -> None:
    """A spelling that a rule may accept is recorded, and is never structure."""
    path = parse_path(raw)
    assert (path.segments, path.encodings) == (segments, frozenset({spelling}))
    reject_ambiguous(path, accepted=frozenset({spelling}))
    for accepted in (frozenset(), frozenset(AmbiguousEncoding) - {spelling}):
        with pytest.raises(Rejected, match=spelling) as caught:
            reject_ambiguous(path, accepted=accepted)
        assert caught.value.reason is Reason.PATH_AMBIGUOUS


def test_ordinary_path_has_no_spellings() -> None:
    """Nothing is recorded where there is nothing odd, on the short way and on the long one."""
    assert parse_path("/a/b") == Path("/a/b", ("a", "b"), frozenset())
    assert parse_path("/a/%62") == Path("/a/b", ("a", "b"), frozenset())


@pytest.mark.parametrize(("raw", "host"), HOSTS.items(), ids=HOSTS)
def test_canonical_host(raw: str, host: str) -> None:
    """Case, port and final dot do not make another host."""
    assert canonical_host(raw) == host


@pytest.mark.parametrize("raw", NO_HOSTS.values(), ids=NO_HOSTS)
def test_what_is_no_host_is_refused(raw: str) -> None:
    """User information, lists and everything else that is no host name or address is malformed."""
    with pytest.raises(Rejected) as caught:
        canonical_host(raw)
    assert caught.value.reason is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
def test_malformed_request(request_: Request) -> None:
    """A request without method, host or path, or beyond a bound, is refused before any rule is looked at."""
    with pytest.raises(Rejected) as caught:
        parse_target(request_)
    assert caught.value.reason is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("method", ["get", "Delete", "dELETE", "propfind", "version-control"])
def test_registered_method_in_another_case_is_refused(method: str) -> None:
    """Envoy forwards `delete` over HTTP/2, and Flask and Django run it as DELETE: no rule may take it for another."""
    with pytest.raises(Rejected) as refused:
        parse_target(ask(method=method))
    assert refused.value.reason is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("method", ["GET", "PROPFIND", "M-SEARCH", "purge", "Purge", "PURGE", "A" * 64])
def test_target(method: str) -> None:
    """An unregistered method stays as it is, host and path are canonical, and the query is no one's business."""
    target = parse_target(ask(method=method, host="API.test:443", path="/%61?x=/..//;%2f#"))
    assert (target.method, target.host, target.path.text) == (method, "api.test", "/a")


def test_repr_keeps_the_secrets() -> None:
    """What a log or a traceback would show of a request has neither token nor cookie in it."""
    request = ask("secret-1", headers={"cookie": "t=secret-2"}, path="/items?t=secret-3", certificate="secret-4")
    assert "secret" not in repr(request)


def test_bounds_are_inclusive() -> None:
    """The largest request that is allowed is allowed."""
    longest = "/" + "a" * (MAX_PATH_CHARS - 1) + "?" + "?" * MAX_QUERY_CHARS  # a query does not count as a path
    parse_target(ask(path=longest, headers={f"x-{number}": "" for number in range(MAX_HEADERS)}))
    assert canonical_host("a." * 127 + "a") == "a." * 127 + "a"


def test_fields_of_one_name_are_one_list() -> None:
    """RFC 9110 section 5.3: in their order, joined by commas, whatever the letter case; cookies by semicolons."""
    fields = [("X-A", "1"), ("cookie", "a=1"), ("x-a", "2"), ("Cookie", "b=2"), ("x-b", "")]
    assert join_headers(fields) == {"x-a": "1,2", "cookie": "a=1; b=2", "x-b": ""}
    assert join_headers([]) == {}
