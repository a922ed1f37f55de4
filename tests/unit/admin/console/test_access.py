"""Proves authz.admin.console.access and routes: who may see the console, and who may change something from it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from authz.admin.console.access import MAX_TOKEN_BYTES, Access, read_token_of
from authz.admin.console.attempt import QuestionError
from authz.admin.console.routes import filter_of, make_console_routes
from authz.admin.routes import AdminRequest, AdminResponse, dispatch, names_this_host
from authz.telemetry.recent import MAX_ALLOWED, MAX_REFUSED, DecisionFilter
from tests.unit.admin.console import documents
from tests.unit.admin.console.reader import Page

HERE = ("127.0.0.1", 5000)
ELSEWHERE = ("192.0.2.1", 5000)
CSRF = "the-token-of-this-page"
TOKEN = "s3cret-admin-token"
PAGES = (
    "/",
    "/console/issuers",
    "/console/decisions",
    "/console/try",
    "/console/configuration",
    "/console/pressure",
    "/console/style.css",
)
DATA = ("/history", "/decisions", "/configuration", "/pressure")


class Source:
    """A source that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def history(self) -> Mapping[str, Any]:
        return documents.document("now")

    def keys(self) -> Mapping[str, Any]:
        return documents.document("issuers")

    def decisions(self, wanted: DecisionFilter) -> Mapping[str, Any]:
        self.asked.append(wanted)
        return documents.document("decisions")

    def configuration(self, query: Mapping[str, str]) -> Mapping[str, Any]:
        self.asked.append(query)
        return documents.document("configuration")

    def pressure(self) -> Mapping[str, Any]:
        return documents.document("pressure")

    def explain(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        if question.get("method") == "BAD":
            raise QuestionError("what is that?")
        self.asked.append(question)
        return {"explanations": [documents.explanation("allow")]}

    def refresh(self, issuer: str | None) -> Mapping[str, object] | None:
        self.asked.append(issuer)
        return None if issuer == "nobody" else {"issuers": [issuer]}


class Console:
    """The routes of a source; a request comes from this host unless it says otherwise."""

    def __init__(self, token: str | None = None, *, writable: bool = True) -> None:
        self.source = Source()
        access = Access(None if token is None else lambda: token, csrf=CSRF)
        self.routes = make_console_routes(self.source, access, clock=lambda: 1e9, writable=writable)

    def ask(self, target: str, **request: Any) -> AdminResponse:  # noqa: ANN401 - fields of several types
        given = {"peer": HERE, "accept": "", "host": "localhost:9192", **request}
        return dispatch(self.routes, target, AdminRequest(**given))

    def post(self, target: str, fields: Mapping[str, str], **request: Any) -> AdminResponse:  # noqa: ANN401 - as above
        body = urlencode({"csrf": CSRF, **fields}).encode()
        return self.ask(target, **{"method": "POST", "body": body, "origin": "http://localhost:9192", **request})


@pytest.mark.parametrize("path", PAGES)
def test_a_page_goes_out_with_a_strict_policy(path: str) -> None:
    """Nothing but our own style may be loaded, nothing may frame it or keep it."""
    response = Console().ask(path)
    headers = dict(response.headers)
    assert response.status == 200
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize("path", DATA)
def test_data_is_json(path: str) -> None:
    """What the pages show, for programs."""
    response = Console().ask(path)
    assert (response.status, response.media_type) == (200, "application/json")
    assert isinstance(json.loads(response.body), dict)


@pytest.mark.parametrize("path", [*PAGES, *DATA])
@pytest.mark.parametrize(
    ("peer", "host"),
    [
        (ELSEWHERE, "localhost"),
        (HERE, "evil.test"),
        (HERE, "evil.test:9192"),
        (HERE, "localhost.evil.test"),
        (HERE, "192.0.2.1"),
        (HERE, "127.0.0.1.nip.test"),
        (HERE, "[::ffff:192.0.2.1]"),
        (HERE, "[::1"),
        (HERE, ""),
    ],
)
def test_nobody_else_sees_anything(path: str, peer: object, host: str) -> None:
    """Another host, or a page elsewhere whose own name was made to resolve to this host (DNS rebinding)."""
    console = Console()
    assert console.ask(path, peer=peer, host=host).status == 403
    assert console.source.asked == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9192", "127.9.9.9", "[::1]:9192", None])
def test_this_host_has_these_names(host: str | None) -> None:
    """A forwarded port is one of them; a peer that names none is no browser."""
    assert names_this_host(host)
    assert Console().ask("/", host=host).status == 200


def basic(user: str, password: str) -> str:
    """The header of Basic authentication."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic("", TOKEN), basic("x", TOKEN)])
def test_the_token_opens_from_anywhere(authorization: str) -> None:
    """As a bearer token, or in a browser as the password of any user."""
    console = Console(TOKEN)
    assert console.ask("/", peer=ELSEWHERE, host="authz.internal", authorization=authorization).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Digest {TOKEN}",
        TOKEN,
        basic(TOKEN, ""),
        "Basic !!!",
        "Basic /w==",
        "Bearer \u00e9",
    ],
)
def test_without_the_token_nobody_sees_anything(authorization: str | None) -> None:
    """Not even this host, once there is a token; the answer says what is asked for."""
    for peer in (HERE, ELSEWHERE):
        response = Console(TOKEN).ask("/", peer=peer, authorization=authorization)
        assert response.status == 401
        assert dict(response.headers)["www-authenticate"].startswith("Basic ")


def test_an_empty_token_opens_nothing() -> None:
    """A file that is empty, or cannot be read, admits no one."""
    for authorization in ("Bearer ", basic("", "")):
        assert Console("").ask("/", authorization=authorization).status == 401


def test_a_token_file_may_be_replaced(tmp_path: Path) -> None:
    """It is read each time, without white space around it, up to a bound."""
    file = tmp_path / "token"
    read = read_token_of(str(file))
    assert read is not None
    assert read() == ""
    file.write_text(" one\n")
    assert read() == "one"
    file.write_bytes(b"\xff")
    assert read() == ""
    file.write_text("x" * (MAX_TOKEN_BYTES + 10))
    assert len(read()) == MAX_TOKEN_BYTES
    assert read_token_of(None) is None


def test_a_supervisor_needs_no_token() -> None:
    """It asks over a Unix socket that only this user can reach; it has asked for the token itself."""
    assert Console(TOKEN).ask("/history", peer="", host=None).status == 200


@pytest.mark.parametrize(
    "request_",
    [
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"origin": "http://localhost:9193"},
        {"fetch_site": "cross-site"},
        {"fetch_site": "same-site"},
        {"peer": ELSEWHERE},
        {"host": "evil.test", "origin": "http://evil.test"},
        {"body": b"issuer=a"},
        {"body": b"issuer=a&csrf="},
        {"body": b"issuer=a&csrf=guess"},
        {"body": b"\xff\x00"},
        {"body": b"&".join([b"a=1"] * 10_000)},
    ],
)
@pytest.mark.parametrize("path", ["/console/refresh", "/console/try"])
def test_no_other_page_changes_anything(path: str, request_: dict[str, Any]) -> None:
    """Not by a form that a page elsewhere sends, not with a guess instead of our token, not from another host."""
    console = Console()
    assert console.post(path, {"issuer": "a"}, **request_).status == 403
    assert console.source.asked == []


def test_an_operator_has_keys_fetched() -> None:
    """The button leads back to the issuer; a browser that sends no Origin is enough with our token."""
    console = Console()
    for request in ({}, {"origin": None}, {"fetch_site": "same-origin"}):
        response = console.post("/console/refresh", {"issuer": "a b"}, **request)
        assert response.status == 303
        assert dict(response.headers)["location"] == "/console/issuers?issuer=a+b"
    assert console.source.asked == ["a b"] * 3
    assert console.post("/console/refresh", {"issuer": "nobody"}).status == 404


def test_a_console_that_is_read_only_changes_nothing() -> None:
    """There is no such path, and no button."""
    console = Console(writable=False)
    assert console.post("/console/refresh", {"issuer": "a"}).status == 404
    assert b"/console/refresh" not in console.ask("/console/issuers?issuer=x").body


def test_a_pasted_token_is_used_once_and_never_repeated() -> None:
    """All else that was written is there again, to be tried with a change."""
    console = Console()
    fields = {
        "method": "POST",
        "path": "/items/1",
        "token": " eyJ.e30.sig\n",
        "headers": "x-a: 1\r\n\r\nX-B:e30.in.header",
        "context": "a=b=c",
        "certificate": "PEM",
    }
    response = console.post("/console/try", fields)
    assert console.source.asked == [
        {
            "method": "POST",
            "host": "localhost",
            "path": "/items/1",
            "scheme": "https",
            "address": "",
            "headers": [("x-a", "1"), ("X-B", "e30.in.header")],
            "context": {"a": "b=c"},
            "certificate": "PEM",
            "token": "eyJ.e30.sig",
        }
    ]
    page = Page(response.body)
    assert b"eyJ.e30.sig" not in response.body
    assert {"POST", "/items/1"} <= set(page.values("value"))
    assert "x-a: 1" in page.text
    assert not any("e30.in.header" in link for link in page.values("href"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"headers": "no colon"}, "headers: a line has no ':' between name and value"),
        ({"context": "=x"}, "context: a line has no '=' between name and value"),
        ({"method": "BAD"}, "what is that?"),
    ],
)
def test_a_form_that_cannot_be_read_says_why(fields: Mapping[str, str], problem: str) -> None:
    """And asks again, with what was written."""
    response = Console().post("/console/try", fields)
    assert response.status == 200
    assert problem in Page(response.body).text


def test_a_command_explains_by_json() -> None:
    """No browser does: what it adds to a request is refused, and what is no question is answered as none."""
    console = Console()

    def ask(body: bytes, **request: Any) -> AdminResponse:  # noqa: ANN401 - as above
        return console.ask("/explain", method="POST", body=body, **request)

    assert json.loads(ask(b'{"path": "/x"}').body)["explanations"]
    assert console.source.asked == [{"path": "/x"}]
    for body in (b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"method": "BAD"}'):
        assert ask(body).status == 400
    assert ask(b"{}", origin="http://localhost:9192").status == 403
    assert ask(b"{}", fetch_site="same-origin").status == 403
    assert ask(b"{}", peer=ELSEWHERE).status == 403


def test_what_a_query_asks_for() -> None:
    """Each name of a filter; a number that is none, or none that can be, is as if it were not there."""
    everything = MAX_REFUSED + MAX_ALLOWED
    assert filter_of({}) == DecisionFilter(limit=everything)
    assert filter_of({"reason": "token_expired", "subject": "a", "after": "1.5", "before": "2", "limit": "7"}) == (
        DecisionFilter(reason="token_expired", subject="a", after=1.5, before=2.0, limit=7)
    )
    for odd in ("nan", "inf", "-1", "x", "1e99", ""):
        assert filter_of({"after": odd, "before": odd, "limit": odd}) == DecisionFilter(limit=everything)
    assert filter_of({"limit": "0"}).limit == 1


def test_a_page_of_decisions_asks_for_one_more_than_it_shows() -> None:
    """So that it knows whether there are older ones."""
    console = Console()
    console.ask("/console/decisions?reason=token_expired&limit=5")
    assert console.source.asked == [DecisionFilter(reason="token_expired", limit=101)]
