"""Proves what the sidecar asks a policy decision point, and how it reads what real servers answer, by real sockets."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from authz.config.pdp import Pdp
from authz.core.needs import Need
from authz.core.pdp import PDP, PdpDecision, PdpKind, PdpResponse
from authz.demo.loopback import RawResponse, Responder, Response
from authz.facts.source import SourceError
from authz.feeds.health import HEALTHY_SECONDS
from authz.feeds.http.cached_credentials import CachedCredentials
from authz.feeds.http.client_auth import BasicAuthFile, BearerTokenFile, ClientAuth, NoAuth
from authz.feeds.http.connect import CancellableSocket, Dialer
from authz.feeds.http.trust import Trust, read_origin
from authz.feeds.json_service import JsonSource, make_service_auth
from authz.feeds.pdp import PdpReader, make_pdp
from tests.fakes.clock import FakeClock
from tests.fakes.idp import FakeIdp, brotli, fail, flood, html, redirect, say
from tests.fakes.pdp import EVALUATION, VECTORS, evaluate
from tests.fakes.raw import RawServer, be_silent
from tests.fakes.raw import say as say_bytes
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.asking import make_poster
from tests.integration.fetching import SHORT, resolve_here
from tests.tools import ROOT

SAMPLES: Final = json.loads((ROOT / "tests/data/pdp.json").read_text(encoding="utf-8"))
QUESTION: Final = '{"action":{"name":"read"},"resource":{"id":"record-1"},"subject":{"id":"s3cret-alice"}}'

_MADE: Final[list[JsonSource]] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _MADE:
        _MADE.pop().close()


def make_source(
    url: str,
    auth: ClientAuth | None = None,
    *,
    kind: PdpKind = PdpKind.AUTHZEN,
    timeout: float = HANG_SECONDS,
    ttl: float = 0.0,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> JsonSource:
    """Make what asks at *url*."""
    poster = make_poster(url, timeout=timeout)
    reader = PdpReader(kind=kind, ttl=ttl, monotonic=monotonic)
    source = JsonSource(poster, url, auth or NoAuth(), reader.read)
    _MADE.append(source)
    return source


def need(question: object = QUESTION) -> Need:
    """A need for a decision."""
    return Need(PDP, "policies", None, payload=question if isinstance(question, str) else json.dumps(question))


def refuse(source: JsonSource) -> SourceError:
    """Ask what must fail, and return how it failed."""
    with pytest.raises(SourceError) as failed:
        source(need())
    return failed.value


def served(answer: Responder, **others: Any) -> Any:  # noqa: ANN401 - a fact, or how it failed
    """Ask a PDP that answers so, and return the fact or the failure."""
    with FakeIdp() as server:
        server.answers[EVALUATION] = answer
        try:
            return make_source(f"{server.url}{EVALUATION}", **others)(need())
        except SourceError as error:
            return error


def test_the_question_is_sent_as_it_is(tmp_path: Path) -> None:
    """By POST, as JSON; the credentials are in the header."""
    (tmp_path / "token").write_text("abc\n")
    with FakeIdp() as server:
        server.answers[EVALUATION] = say(b'{"decision":true}')
        fact = make_source(f"{server.url}{EVALUATION}", BearerTokenFile(str(tmp_path / "token")))(need())
        (request,) = server.seen
    assert fact.value == PdpResponse(PdpDecision.ALLOWED)
    assert (request.method, request.target, request.body.decode()) == ("POST", EVALUATION, QUESTION)
    sent = {name.lower(): value for name, value in request.headers}
    assert (sent["content-type"], sent["accept"]) == ("application/json", "application/json")
    assert sent["authorization"] == "Bearer abc"


def test_credentials_are_of_one_kind(tmp_path: Path) -> None:
    """As configured: a bearer token, a pair for Basic, or only the client certificate."""
    (tmp_path / "pair").write_text("us:s p%\n")
    header = BasicAuthFile(str(tmp_path / "pair")).credentials().headers["authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")) == b"us:s p%"
    url = "https://pdp.test/access/v1/evaluation"
    for section, file in (
        (Pdp(url=url, bearer_token_file="/a"), BearerTokenFile("/a")),
        (Pdp(url=url, basic_credentials_file="/b"), BasicAuthFile("/b")),
    ):
        made = make_service_auth(section)
        assert isinstance(made, CachedCredentials)
        assert made.auth == file
    assert make_service_auth(Pdp(url=url)) == NoAuth()


@pytest.mark.parametrize(("question", "decision"), VECTORS.values(), ids=VECTORS)
def test_the_certification_scenario(question: object, decision: bool) -> None:  # noqa: FBT001 - a table
    """Each decision that AuthZEN's scenario fixes is read as what it is."""
    with FakeIdp() as server:
        server.answers[EVALUATION] = evaluate
        fact = make_source(f"{server.url}{EVALUATION}")(need(question))
    assert fact.value == PdpResponse(PdpDecision.ALLOWED if decision else PdpDecision.DENIED)
    assert fact.result == ("allowed" if decision else "denied")


EXPECTED: Final = {
    "Cerbos 0.55.0": {
        "allow": "allowed",
        "deny": "denied",
        "unknown subject type": "denied",
        "unknown resource type meta": "denied",
        "condition missing attr": "denied",
        "context unknown": "allowed",
        "extra top member": "refused",
        "id number": "refused",
        "no subject.id": "refused",
        "action name empty": "refused",
        "empty body": "refused",
        "GET": "status",
        "path trailing slash": "status",
        "5 MiB context": "status",  # 429
    },
    "OpenFGA 1.22.1": {
        "allow": "allowed",
        "deny": "denied",
        "unknown subject type": "refused",
        "unknown action": "refused",
        "subject id e-mail": "refused",
        "cond no ctx": "refused",
        "cond ctx out": "denied",
        "unknown store": "refused",
        "trailing slash": "status",
        "no key": "unauthorized",
        "wrong key": "unauthorized",
    },
    "OPA 1.19.1": {
        "true": "allowed",
        "default false": "denied",
        "object result": "allowed",
        "undefined rule": "unreadable",
        "unknown package": "unreadable",
        "bundle not there yet": "unreadable",
        "undefined with decision id": "unreadable",
        "package doc": "unreadable",
        "v0": "unreadable",
        "64-bit int": "unreadable",
        "division by zero": "unreadable",
        "division by zero strict": "status",
        "conflict": "status",
        "bad json": "refused",
        "trailing slash": "redirect_refused",
        "PUT? unknown path": "status",
        "right token": "allowed",
        "wrong token": "unauthorized",
    },
}


@pytest.mark.parametrize(
    ("server", "tag", "expected"),
    [(server, tag, expected) for server, rows in EXPECTED.items() for tag, expected in rows.items()],
)
def test_answers_of_real_servers(server: str, tag: str, expected: str) -> None:
    """Only a boolean decides; what OPA leaves undefined is a failure, and not a denial."""
    sample = SAMPLES[server][tag]
    kind = PdpKind.OPA if server.startswith("OPA") else PdpKind.AUTHZEN
    good = b'{"result":true}' if kind is PdpKind.OPA else b'{"decision":true}'
    answers = [
        say(good),
        lambda _: Response(sample["status"], tuple(sample["headers"].items()), sample["body"].encode()),
    ]
    found = ""
    with FakeIdp() as pdp:
        source = make_source(f"{pdp.url}{EVALUATION}", kind=kind)
        for answer in answers:  # it has answered a moment ago
            pdp.answers[EVALUATION] = answer
            try:
                found = source(need()).result
            except SourceError as error:
                found = error.result
    assert found == expected


def test_a_400_is_about_the_question_once_the_pdp_has_decided() -> None:
    """Before, it may be the configuration: a failure, which opens no breaker, for any client can cause it."""
    clock = FakeClock()
    with FakeIdp() as server:
        source = make_source(f"{server.url}{EVALUATION}", monotonic=clock.monotonic)
        refusal = SAMPLES["OpenFGA 1.22.1"]["subject id e-mail"]
        server.answers[EVALUATION] = say(refusal["body"].encode())
        server.answers[EVALUATION] = lambda _: Response(400, (), refusal["body"].encode())
        failed = refuse(source)
        assert (failed.result, failed.counts, failed.absent) == ("bad_request", False, False)
        server.answers[EVALUATION] = say(b'{"decision":false}')
        source(need())
        server.answers[EVALUATION] = lambda _: Response(400, (), refusal["body"].encode())
        fact = source(need())
        assert fact.value == PdpResponse(PdpDecision.REFUSED, "HTTP status 400, validation_error")
        assert (fact.result, fact.ttl) == ("refused", 0.0)
        clock.advance(HEALTHY_SECONDS)
        assert refuse(source).result == "bad_request"


def test_a_pdp_that_fails_over_one_question_is_asked_others() -> None:
    """It has decided a moment ago: who asks such questions opens no breaker, and passes nowhere."""
    clock = FakeClock()
    with FakeIdp() as server:
        source = make_source(f"{server.url}{EVALUATION}", monotonic=clock.monotonic)
        server.answers[EVALUATION] = say(b'{"decision":true}')
        source(need())
        rows = ((500, False, False), (502, True, True), (503, True, True), (504, True, True), (429, True, False))
        for status, counts, absent in (*rows, (401, False, False), (404, False, False), (403, False, False)):
            server.answers[EVALUATION] = fail(status)
            failed = refuse(source)
            assert (failed.counts, failed.absent, failed.responded) == (counts, absent, not counts), status
        clock.advance(HEALTHY_SECONDS)
        for status in (401, 403, 404, 500):
            server.answers[EVALUATION] = fail(status)
            failed = refuse(source)
            assert (failed.counts, failed.responded) == (True, status != 401), status


FAULTS: Final[dict[str, tuple[Responder, str]]] = {
    "500": (fail(500), "status"),
    "503": (fail(503), "status"),
    "401": (fail(401), "unauthorized"),
    "403": (fail(403), "unauthorized"),
    "204": (fail(204), "status"),
    "HTML": (html(), "unreadable"),
    "JSON as text": (say(b'{"decision":true}', content_type="text/plain"), "unreadable"),
    "JSON without a type": (lambda _: Response(200, (), b'{"decision":true}'), "unreadable"),
    "not JSON": (say(b"true"), "unreadable"),
    "a list": (say(b"[true]"), "unreadable"),
    "nothing": (say(b""), "unreadable"),
    "twice": (say(b'{"decision":false,"decision":true}'), "unreadable"),
    "as text": (say(b'{"decision":"true"}'), "unreadable"),
    "no decision": (say(b"{}"), "unreadable"),
    "encoded": (brotli(), "unreadable"),
    "bad header": (lambda _: RawResponse((b"HTTP/1.1 200 \r\nx-user: \x01\r\n\r\n",)), "unreadable"),
    "huge": (flood(2), "too_large"),
    "redirect": (redirect("http://elsewhere.test/login"), "redirect_refused"),
    "temporary redirect": (redirect("/other", status=307), "redirect_refused"),
}


@pytest.mark.parametrize(("answer", "expected"), FAULTS.values(), ids=FAULTS)
def test_faults_are_failures(answer: Responder, expected: str) -> None:
    """None is taken for a decision, in either direction, or for an absent PDP; the message has no question."""
    failed = served(answer)
    assert isinstance(failed, SourceError)
    assert (failed.result, failed.counts) == (expected, True)
    assert failed.absent is (answer is FAULTS["503"][0])
    assert "s3cret" not in str(failed)


HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n"


def _all_but_the_last_byte(connection: socket.socket, over: Event) -> None:
    connection.sendall(HEAD + b'{"decision":true')
    be_silent(connection, over)


RAW: Final = {
    "hangs up": (say_bytes(), "unreachable"),
    "reset in the middle": (say_bytes(HEAD, b'{"decision":tr'), "unreadable"),
    "no HTTP": (say_bytes(b"SSH-2.0-OpenSSH\r\n"), "unreachable"),
    "silent": (be_silent, "timeout"),
    "silent before the last byte": (_all_but_the_last_byte, "timeout"),
}


@pytest.mark.parametrize(("talk", "expected"), RAW.values(), ids=RAW)
def test_faults_below_http(talk: Callable[[socket.socket, Event], None], expected: str) -> None:
    """Each ends by the deadline, as the failure of a PDP that is not there; but one that began to answer is there."""
    with RawServer(talk) as server:
        timeout = SHORT if expected == "timeout" else HANG_SECONDS
        failed = refuse(make_source(f"http://127.0.0.1:{server.port}/", timeout=timeout))
    there = expected == "unreadable"
    assert (failed.result, failed.counts, failed.absent, failed.responded) == (expected, True, not there, there)


def test_decisions_are_kept_as_long_as_configured() -> None:
    """Not at all by default; denials as long as allows, and refusals never."""
    for body, ttl in ((b'{"decision":true}', 30.0), (b'{"decision":false}', 30.0), (b'{"decision":true}', 0.0)):
        assert served(say(body), ttl=ttl).ttl == ttl


def test_a_pdp_on_this_host_needs_no_tls() -> None:
    """Plain HTTP crosses no network there; elsewhere it has to be asked for, and a redirect leads nowhere."""
    with FakeIdp() as server:
        server.answers[EVALUATION] = say(b'{"decision":true}')
        source = make_pdp(Pdp(url=f"{server.url}{EVALUATION}"))
        _MADE.append(source)
        assert source(need()).result == "allowed"
    elsewhere = make_pdp(Pdp(url="http://pdp.test/access/v1/evaluation"))
    _MADE.append(elsewhere)
    failed = refuse(elsewhere)
    assert failed.result == "untrusted"


def test_no_part_of_a_question_waits_for_an_acknowledgement() -> None:
    """Headers and body are two segments: a server may delay the acknowledgement of the first by 40 ms (Nagle)."""
    with RawServer(be_silent) as server:
        url = urlsplit(f"http://127.0.0.1:{server.port}/")
        dialer = Dialer(trust=Trust(configured_origins=frozenset({read_origin(url)}), http=True), resolve=resolve_here)
        cancellable = CancellableSocket()
        with dialer.dial(url, cancellable, deadline=time.monotonic() + HANG_SECONDS).socket as connection:
            cancellable.release()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
