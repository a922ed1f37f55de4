"""Proves what the sidecar asks a risk engine, how it reads the answer, and that no failure is one, by real sockets."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.config.risk import Risk
from authz.core.needs import Need
from authz.core.risk import ENGINE, RISK, Assessment
from authz.demo.loopback import Responder
from authz.facts.source import Fact, SourceError
from authz.feeds.json_service import JsonSource
from authz.feeds.risk import make_risk
from tests.fakes.idp import FakeIdp, fail, flood, html, redirect, say
from tests.fakes.raw import RawServer, be_silent
from tests.fakes.raw import say as say_bytes

PATH = "/v1/assess"
QUESTION = '{"subject":"s3cret-alice"}'
_MADE: list[JsonSource] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _MADE:
        _MADE.pop().close()


def make_source(url: str, **settings: Any) -> JsonSource:  # noqa: ANN401 - of the section
    """Make what asks the engine at *url*."""
    source = make_risk(Risk(url=url, **{"timeout": "10s", **settings}))
    _MADE.append(source)
    return source


def ask(source: JsonSource) -> Fact | SourceError:
    """Ask, and return the fact or the failure."""
    try:
        return source(Need(RISK, ENGINE, "digest", payload=QUESTION))
    except SourceError as error:
        return error


def served(answer: Responder, **settings: Any) -> Fact | SourceError:  # noqa: ANN401 - of the section
    """Ask an engine that answers so."""
    with FakeIdp() as server:
        server.answers[PATH] = answer
        return ask(make_source(f"{server.url}{PATH}", **settings))


def test_the_question_is_sent_as_it_is(tmp_path: Path) -> None:
    """By POST, as JSON, with the credentials that are configured; the answer is kept as long as that is."""
    (tmp_path / "token").write_text("abc\n")
    (tmp_path / "basic").write_text("orders:pass\n")
    basic = base64.b64encode(b"orders:pass").decode()
    credentials = {"bearer_token_file": ("token", "Bearer abc"), "basic_credentials_file": ("basic", f"Basic {basic}")}
    for setting, (file, header) in credentials.items():
        with FakeIdp() as server:
            server.answers[PATH] = say(b'{"level":"low","score":0.25,"more":[1]}')
            fact = ask(make_source(f"{server.url}{PATH}", cache="30s", **{setting: str(tmp_path / file)}))
            (request,) = server.seen
        assert isinstance(fact, Fact)
        assert (fact.value, fact.ttl, fact.negative) == (Assessment("low", 0.25), 30.0, False)
        assert (request.method, request.body.decode()) == ("POST", QUESTION)
        headers = dict(request.headers)
        assert (headers["content-type"], headers["authorization"]) == ("application/json", header)


@pytest.mark.parametrize(
    ("body", "assessment"),
    [
        (b'{"level":"low"}', Assessment("low")),
        (b'{"score":1}', Assessment(None, 1.0)),
        (b'{"score":-0.5,"level":null}', Assessment(None, -0.5)),
        (b'{"level":"HIGH_1.x-y","score":0}', Assessment("HIGH_1.x-y", 0.0)),
    ],
)
def test_what_is_an_answer(body: bytes, assessment: Assessment) -> None:
    """A level, a score or both."""
    fact = served(say(body))
    assert isinstance(fact, Fact)
    assert fact.value == assessment


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"null",
        b'"low"',
        b"not json",
        b"\xff",
        b"",
        b'{"level":1}',
        b'{"level":["low"]}',
        b'{"level":""}',
        b'{"level":"two words"}',
        b'{"level":"' + b"x" * 65 + b'"}',
        b'{"score":"0.1"}',
        b'{"score":true}',
        b'{"score":NaN}',
        b'{"score":1e400}',
        b'{"level":"low","level":"high"}',
        b'{"level":"low","score":"0.1"}',
        b'{"risk":"low"}',
    ],
)
def test_what_is_none(body: bytes) -> None:
    """Anything of another type is a failure, and its text is in no message."""
    failed = served(say(body))
    assert isinstance(failed, SourceError)
    assert (failed.result, failed.counts) == ("unreadable", True)
    assert "two words" not in str(failed)


@pytest.mark.parametrize(
    ("answer", "result"),
    {
        "HTML": (html(), "unreadable"),
        "500": (fail(500), "status"),
        "404": (fail(404), "status"),
        "204": (fail(204), "status"),
        "401": (fail(401), "unauthorized"),
        "403": (fail(403), "unauthorized"),
        "a redirect": (redirect("https://elsewhere.test/"), "redirect_refused"),
        "too much": (flood(1), "too_large"),
    }.values(),
)
def test_no_other_response_is_an_answer(answer: Responder, result: str) -> None:
    """Statuses, redirects, pages and floods are failures of their own kinds, and count for the circuit breaker."""
    failed = served(answer)
    assert isinstance(failed, SourceError)
    assert (failed.result, failed.counts) == (result, True)


def test_an_engine_that_is_not_there_is_unreachable() -> None:
    """A port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    failed = ask(make_source(f"http://127.0.0.1:{port}{PATH}"))
    assert isinstance(failed, SourceError)
    assert failed.result == "unreachable"


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", b"\x00\x01\x02"],
)
def test_an_engine_that_hangs_up_gives_no_answer(start: bytes) -> None:
    """Before the response, in the middle of it, or with something else."""
    with RawServer(say_bytes(start)) as server:
        failed = ask(make_source(f"http://127.0.0.1:{server.port}{PATH}"))
    assert isinstance(failed, SourceError)


def test_an_engine_that_says_nothing_is_given_up() -> None:
    """The whole exchange has one bound."""
    with RawServer(be_silent) as server:
        failed = ask(make_source(f"http://127.0.0.1:{server.port}{PATH}", timeout="50ms"))
    assert isinstance(failed, SourceError)
    assert failed.result == "timeout"
