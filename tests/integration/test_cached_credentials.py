"""Proves when a source is asked without blocking: over a connection that it has, with credentials read a moment ago."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from authz.core.pdp import PdpKind
from authz.demo.loopback import Request, Response
from authz.facts.loop import Loop
from authz.facts.source import FactOutcome, NonBlockingSource, SourceError
from authz.feeds.http.cached_credentials import CACHE_SECONDS, CachedCredentials, invalidate_if_rejected
from authz.feeds.http.client_auth import BearerTokenFile, ClientAuth, ClientSecretBasicFile, NoAuth
from authz.feeds.http.connect import Dialer, Proxy
from authz.feeds.http.fetch import Response as HttpResponse
from authz.feeds.http.post import Post, Poster
from authz.feeds.http.trust import Trust
from authz.feeds.introspection import IntrospectionSource, IntrospectionTtl
from authz.feeds.json_service import JsonSource
from authz.feeds.oauth_client import Endpoint
from authz.feeds.pdp import PdpReader
from authz.feeds.token_review import TokenReviewSource
from tests.fakes.clock import FakeClock
from tests.fakes.idp import DISCOVERY, FakeIdp
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import T
from tests.integration.asking import about, make_poster
from tests.integration.fetching import make_fetcher

TTL: Final = IntrospectionTtl(active=60.0, inactive=5.0)
BODY: Final = (
    b'{"active":true,"decision":true,"kind":"TokenReview",'
    b'"status":{"authenticated":true,"user":{"username":"bob"},"audiences":["api"]}}'
)
Make = Callable[[Poster, str, ClientAuth], NonBlockingSource]


def endpoint(url: str | None, monotonic: Callable[[], float] = lambda: 0.0, discovery_url: str = "") -> Endpoint:
    """Return where an issuer is asked."""
    fetch = make_fetcher(url or discovery_url, http=True).get
    issuer = discovery_url.partition("/.well-known")[0]
    return Endpoint(
        url, fetch=fetch, discovery_url=discovery_url, issuer=issuer, refresh_interval=60.0, monotonic=monotonic
    )


SOURCES: Final[dict[str, tuple[Make, type[BearerTokenFile] | Callable[[str], ClientAuth]]]] = {
    "PDP": (
        lambda poster, url, auth: JsonSource(poster, url, auth, PdpReader(kind=PdpKind.AUTHZEN, ttl=1.0).read),
        BearerTokenFile,
    ),
    "introspection": (
        lambda poster, url, auth: IntrospectionSource(poster, endpoint(url), auth, ttl=TTL, now=lambda: float(T)),
        lambda file: ClientSecretBasicFile("rs", file),
    ),
    "TokenReview": (
        lambda poster, url, auth: TokenReviewSource(poster, url, auth, audiences=("api",), ttl=TTL),
        BearerTokenFile,
    ),
}


class Server:
    """Answers requests, those after the first authorization header that it saw with *others* if they have another."""

    def __init__(self, idp: FakeIdp) -> None:
        self.idp = idp
        self.url = f"{idp.url}/ask"
        self.accepted: str | None = None
        self.refusal = 401, b"{}"
        idp.answers["/ask"] = self._answer

    def _answer(self, request: Request) -> Response:
        sent = {name.lower(): value for name, value in request.headers}.get("authorization", "")
        status, body = (200, BODY) if self.accepted in (None, sent) else self.refusal
        return Response(status, (("content-type", "application/json"),), body)


class Rig:
    """A source with credentials in a file, whose server has answered one question of a thread."""

    def __init__(self, kind: str, idp: FakeIdp, folder: Path) -> None:
        make, auth = SOURCES[kind]
        self.server, self.clock, self.loop = Server(idp), FakeClock(), Loop(time.monotonic)
        self.file = folder / "secret"
        self.file.write_text("first\n", encoding="utf-8")
        self.poster = make_poster(self.server.url)
        cached = CachedCredentials(auth(str(self.file)), monotonic=self.clock.monotonic)
        self.source = make(self.poster, self.server.url, cached)

    def start(self) -> FactOutcome | str | None:
        """Ask without blocking; return the outcome, or that this was not possible."""
        outcomes: list[FactOutcome | None] = []
        if not self.source.start(about(), self.loop, outcomes.append):
            return "not now"
        while not outcomes:
            self.loop.run_once(HANG_SECONDS, lambda: False)
        return outcomes[0]

    def sent(self) -> list[str]:
        """Return the authorization headers that the server has seen."""
        headers = [{name.lower(): value for name, value in each.headers} for each in self.server.idp.seen]
        return [each["authorization"] for each in headers]


@pytest.fixture(params=SOURCES)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A source of each kind."""
    with FakeIdp() as idp:
        made = Rig(request.param, idp, tmp_path)
        yield made
        made.poster.close()


def test_without_credentials_a_thread_is_needed(rig: Rig) -> None:
    """The file is not read here; what the thread has read serves afterwards, and no longer than it may."""
    assert rig.start() == "not now"
    fact = rig.source(about())
    for _ in range(3):
        outcome = rig.start()
        assert callable(outcome)
        assert outcome() == fact
    rig.clock.advance(CACHE_SECONDS)
    assert rig.start() == "not now"
    assert rig.source(about()) == fact
    assert callable(rig.start())
    assert len(rig.server.idp.seen) == 6


def test_a_new_secret_costs_no_question(rig: Rig) -> None:
    """Cached credentials are rejected: a thread sends the request again, and reads the file for it."""
    fact = rig.source(about())
    rig.file.write_text("second\n", encoding="utf-8")
    rig.server.accepted = "of the second only"
    assert rig.start() is None
    assert rig.start() == "not now"
    rig.server.accepted = None
    assert rig.source(about()) == fact
    sent = rig.sent()
    assert sent[0] == sent[1] != sent[2]


def test_an_error_that_is_not_about_credentials_is_the_outcome(rig: Rig) -> None:
    """They stay."""
    rig.source(about())
    rig.server.accepted, rig.server.refusal = "none", (503, b"")
    for _ in range(2):
        outcome = rig.start()
        assert callable(outcome)
        with pytest.raises(SourceError, match="503"):
            outcome()


def test_a_server_that_says_it_by_an_error_code(tmp_path: Path) -> None:
    """RFC 6749 section 5.2 allows 400 for it; another 400 is about the token."""
    with FakeIdp() as idp:
        rig = Rig("introspection", idp, tmp_path)
        rig.source(about())
        rig.server.accepted, rig.server.refusal = "none", (400, b'{"error":"invalid_token"}')
        outcome = rig.start()
        assert callable(outcome)
        assert outcome().result == "refused"
        rig.server.refusal = 400, b'{"error":"invalid_client"}'
        assert rig.start() is None
        rig.poster.close()


def test_a_server_that_breaks_off_is_the_outcome(tmp_path: Path) -> None:
    """Cached credentials are not the cause."""
    with FakeIdp() as idp:
        rig = Rig("introspection", idp, tmp_path)
        rig.source(about())
        rig.server.accepted, rig.server.refusal = "none", (302, b"")
        outcome = rig.start()
        assert callable(outcome)
        with pytest.raises(SourceError):
            outcome()
        rig.poster.close()


def test_a_discovery_that_is_due_needs_a_thread() -> None:
    """The URL that it found serves until the next one is due."""
    with FakeIdp() as idp:
        idp.discovery["introspection_endpoint"] = f"{idp.url}/ask"
        clock = FakeClock(monotonic=0.0)
        where = endpoint(None, clock.monotonic, f"{idp.url}{DISCOVERY}")
        assert where.cached_url() is None
        assert where.locate() == where.cached_url() == f"{idp.url}/ask"
        clock.advance(60.0)
        assert where.cached_url() is None


def test_a_proxy_of_plain_requests_needs_a_thread() -> None:
    """Each request has the credentials for the proxy, and they are in a file."""
    proxy = Proxy("127.0.0.1", 1)
    poster = Poster(Dialer(trust=Trust(configured_origins=frozenset()), proxy=proxy), timeout=1.0, max_bytes=1)
    assert not poster.start("http://a.test/", Post(b"", {}), Loop(time.monotonic), lambda _outcome: None)


def test_a_failure_that_no_one_foresaw_is_left_to_who_reads_the_outcome() -> None:
    """It is no rejection; raised on the way to the lane, it would leave the question without an answer for ever."""

    def fail() -> HttpResponse:
        raise MemoryError

    assert not invalidate_if_rejected(CachedCredentials(NoAuth()), fail, lambda _: True)
