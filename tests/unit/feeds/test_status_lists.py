"""Proves authz.feeds.status_lists: when a list is fetched, how long it serves, and what is no list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry

from authz.config.model import Config
from authz.config.status_list import StatusList as StatusListSection
from authz.core.keys import KeySet
from authz.core.needs import Need
from authz.core.status_list import STALE_STATUS_LIST, STATUS_LIST, StatusList
from authz.facts.bounds import Bounds
from authz.facts.lane import SourceLane
from authz.facts.source import Fact, SourceError
from authz.feeds.failure import RefreshError
from authz.feeds.http.fetch import Response
from authz.feeds.ports import Loaded
from authz.feeds.status_lists import RefreshingLane, SignerKeys, StatusListLanes, StatusListSource
from authz.telemetry.facts import FactMetrics
from authz.telemetry.keys import Refresh
from tests.cases.status_list import URI, write_list
from tests.fixtures import A_EC, A_RSA, ABSENT, T, key_set
from tests.unit.config.sample import configure

NEED: Final = Need(STATUS_LIST, "a", URI)
HANG = 300.0  # seconds after which a test that hangs is stopped


class Server:
    """A server of lists, as a fetch sees it: it answers *body* under *headers*, or fails."""

    def __init__(self, **claims: Any) -> None:  # noqa: ANN401
        self.body = write_list(**claims).encode()
        self.headers: dict[str, str] = {}
        self.status = 200
        self.down = False
        self.seen: list[tuple[str, Mapping[str, str]]] = []

    def __call__(self, url: str, headers: Mapping[str, str]) -> Response:
        self.seen.append((url, headers))
        if self.down:
            raise RefreshError(Refresh.UNREACHABLE, "the server is down")
        return Response(self.status, self.headers, b"" if self.status == 304 else self.body)


class Clock:
    """One time for both clocks of a source, from zero."""

    passed = 0.0

    def now(self) -> float:
        return T + self.passed

    def monotonic(self) -> float:
        return self.passed


def section(**settings: object) -> StatusListSection:
    """Return the section of an issuer, with settings as in a file."""
    return StatusListSection.model_validate({"uris": [URI], **settings})


def source_of(server: Server, clock: Clock | None = None, **settings: object) -> StatusListSource:
    """Return the source of an issuer."""
    clock = clock or Clock()
    return StatusListSource(server, section(**settings), now=clock.now, monotonic=clock.monotonic)


def test_a_list_is_asked_for_as_one() -> None:
    """By its URI, with the media type of a list, and nothing else."""
    server = Server()
    fact = source_of(server)(NEED)
    assert isinstance(fact.value, StatusList)
    assert server.seen == [(URI, {"accept": "application/statuslist+jwt"})]
    assert fact.size >= len(fact.value.statuses)


@pytest.mark.parametrize(
    ("claims", "headers", "due", "ttl"),
    [
        ({"ttl": 60}, {}, 60.0, 900.0),
        ({"ttl": 3600}, {}, 300.0, 900.0),
        ({"ttl": ABSENT}, {"cache-control": "max-age=30"}, 30.0, 900.0),
        ({"ttl": ABSENT}, {}, 300.0, 900.0),
        ({"ttl": 60}, {"cache-control": "max-age=30"}, 60.0, 900.0),
        ({"ttl": 0.001}, {}, 1.0, 900.0),
        ({"exp": T + 100}, {}, 100.0, 100.0),
        ({"exp": T - 1}, {}, 0.0, 0.0),
    ],
)
def test_when_a_fresh_copy_is_wanted(claims: dict[str, Any], headers: dict[str, str], due: float, ttl: float) -> None:
    """After ttl or Cache-Control, but not later than the interval; and no list serves beyond its exp."""
    server, clock = Server(**claims), Clock()
    server.headers = headers
    source = source_of(server, clock)
    assert not source.is_due(NEED)  # no token has named it
    assert source(NEED).ttl == ttl
    clock.passed = due - 0.001
    assert not source.is_due(NEED)
    clock.passed = due
    assert source.is_due(NEED)


def test_an_unchanged_list_is_not_sent_again() -> None:
    """The ETag goes with each refresh, and a 304 is as good as the list for another time."""
    server, clock = Server(), Clock()
    server.headers = {"etag": '"1"'}
    source = source_of(server, clock)
    first = source(NEED)
    server.headers, server.status, clock.passed = {}, 304, 400.0
    again = source(NEED)
    assert again.value is first.value
    assert (again.result, again.ttl) == ("not_modified", 900.0)
    assert server.seen[1][1]["if-none-match"] == '"1"'
    clock.passed = 600.0
    assert not source.is_due(NEED)
    source(NEED)
    assert server.seen[2][1]["if-none-match"] == '"1"'


def test_a_server_that_fails_is_asked_again_after_a_pause() -> None:
    """The list that is in use stays; each request meanwhile does not ask."""
    server, clock = Server(), Clock()
    source = source_of(server, clock)
    source(NEED)
    server.down, clock.passed = True, 300.0
    assert source.is_due(NEED)
    with pytest.raises(SourceError, match="the server is down") as caught:
        source(NEED)
    assert caught.value.result == "unreachable"
    assert not source.is_due(NEED)
    clock.passed = 305.0
    assert source.is_due(NEED)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b"<html>", "unreadable"),
        ("ä".encode(), "unreadable"),
        (write_list(header={"typ": "JWT"}).encode(), "unreadable"),
    ],
)
def test_what_is_no_list(body: bytes, result: str) -> None:
    """A page, text beyond ASCII, and a JWT of another type."""
    server = Server()
    server.body = body
    with pytest.raises(SourceError) as caught:
        source_of(server)(NEED)
    assert caught.value.result == result


def test_an_unmodified_list_that_was_never_sent() -> None:
    """A 304 without an ETag of ours is no list."""
    server = Server()
    server.status = 304
    with pytest.raises(SourceError, match="304"):
        source_of(server)(NEED)


@pytest.mark.parametrize("fault", ["down", "error", "no list", "expired"])
def test_a_list_that_is_not_there_is_asked_for_once_in_a_while(fault: str) -> None:
    """Its tokens do not use up the questions about others; a moment later it is asked for again."""
    server, clock = Server(exp=T - 1) if fault == "expired" else Server(), Clock()
    server.down, server.status = fault == "down", 500 if fault == "error" else 200
    server.body = b"no list" if fault == "no list" else server.body
    source = source_of(server, clock)
    assert not source.failed(NEED)
    if fault == "expired":
        assert source(NEED).ttl == 0.0
    else:
        with pytest.raises(SourceError) as caught:
            source(NEED)
        assert caught.value.responded is (fault != "down")
    assert source.failed(NEED)
    assert not source.failed(replace(NEED, identifier=f"{URI}0"))
    clock.passed = 1.0
    assert not source.failed(NEED)


def test_lists_that_are_not_there_are_bounded() -> None:
    """As many are remembered as there may be lists."""
    server = Server()
    server.down = True
    source = source_of(server, max_lists=2)
    needs = [replace(NEED, identifier=f"{URI}{number}") for number in range(3)]
    for need in needs:
        with pytest.raises(SourceError):
            source(need)
    assert [bool(source.failed(need)) for need in needs] == [False, True, True]


def test_lists_are_bounded() -> None:
    """Of more lists than may be kept, the oldest is fetched at its next token, as at its first one."""
    server, clock = Server(), Clock()
    source = source_of(server, clock, max_lists=2)
    needs = [Need(STATUS_LIST, "a", f"{URI}/{number}") for number in range(3)]
    for need in needs:
        source(need)
    clock.passed = 1000.0
    assert [source.is_due(need) for need in needs] == [False, True, True]


def test_a_refresh_is_done_in_the_background() -> None:
    """The list that is due is fetched by the lane of lists, which then has the new one; no check waits."""
    server, clock = Server(), Clock()
    source = source_of(server, clock)
    bounds = Bounds(max_concurrent=1, max_waiting=8, max_wait=1.0, burst=10, refill=1.0)
    lane = SourceLane("lists", source, bounds=bounds, monotonic=clock.monotonic)
    refreshing, stale = RefreshingLane(source, lane), Need(STALE_STATUS_LIST, "a", URI, payload=URI)
    answers = SimpleQueue[object]()
    lane.ask(NEED, answers.put)
    first = answers.get(timeout=HANG)
    assert refreshing.find(stale) is not None
    clock.passed = 300.0
    assert refreshing.find(stale) is None
    refreshing.ask(stale, answers.put)
    second = answers.get(timeout=HANG)
    lane.stop()
    assert second is not first
    assert lane.recall(NEED) is second
    assert refreshing.max_wait(stale) == 0.0
    assert (refreshing.max_waiting, refreshing.find(stale) is None) == (8, False)


def test_lanes_follow_the_configuration() -> None:
    """An issuer that is configured as before keeps its lists; one that is gone has none, and answers so."""
    lanes = StatusListLanes(FactMetrics(CollectorRegistry()), max_waiting=8)
    with_lists = "status_list: {uris: ['https://status.example.com/lists/']}"

    def following(text: str) -> object:
        config: Config = configure(issuer=text)
        lanes.reconfigure(config)
        return lanes._running.get("corporate")

    first = following(with_lists)
    assert first is not None
    assert following(with_lists) is first
    assert following("status_list: {uris: ['https://status.example.com/lists/'], interval: 1m}") is not first
    assert following("") is None
    kinds, need = lanes.by_kind(), Need(STALE_STATUS_LIST, "corporate", URI)
    answers: list[object] = []
    for kind in (STATUS_LIST, STALE_STATUS_LIST):
        assert kinds[kind].find(need) is not None
        kinds[kind].ask(need, answers.append)
        assert kinds[kind].max_wait(need) == 0.0
    assert answers[1] is None
    lanes.close()


def test_a_key_that_becomes_blocked_verifies_no_list_any_more() -> None:
    """The keys of lists come with the lists that are kept: both are fetched again, without the blocked key.

    Where the issuer's own keys verify lists, these are blocked in the snapshot, and the lists stay.
    """
    lanes = StatusListLanes(FactMetrics(CollectorRegistry()), max_waiting=8)
    of_their_own = "uris: ['https://status.example.com/lists/'], jwks_uri: 'https://status.example.com/keys'"
    of_the_issuer = "uris: ['https://status.example.com/lists/']"

    def following(section: str, blocked: str) -> object:
        config: Config = configure(issuer=f"status_list: {{{section}}}\n    blocked_keys: [{blocked}]")
        lanes.reconfigure(config)
        return lanes._running["corporate"]

    thumbprint = "A" * 43
    assert following(of_their_own, "") is not following(of_their_own, thumbprint)
    assert following(of_the_issuer, "") is following(of_the_issuer, thumbprint)
    lanes.close()


def test_a_fact_is_kept_by_its_size() -> None:
    """A large list counts with its octets against the bound of the memory."""
    fact: Fact = source_of(Server(note="x" * 5000))(NEED)
    assert fact.size > 5000


class KeyServer:
    """A server of the keys that sign lists."""

    location = "https://status.example.com/keys"

    def __init__(self) -> None:
        self.answer: KeySet | RefreshError | None = key_set(A_EC)

    def read(self, document: bytes) -> KeySet:
        return KeySet.from_json(document)

    def load(self, *, on_demand: bool = False) -> Loaded[KeySet]:
        assert not on_demand
        if isinstance(self.answer, RefreshError):
            raise self.answer
        return Loaded(self.answer)


def test_the_keys_of_lists_are_fetched_with_each() -> None:
    """New ones serve at once, unchanged ones stay, and so do those that cannot be fetched, up to max_stale."""
    clock, keys = Clock(), KeyServer()
    signing = SignerKeys(keys, max_stale=60.0, monotonic=clock.monotonic)
    source = StatusListSource(Server(), section(), keys=signing, now=clock.now, monotonic=clock.monotonic)

    def fetched() -> object:
        listing = source(NEED).value
        assert isinstance(listing, StatusList)
        return listing.keys

    first = fetched()
    assert first == keys.answer
    keys.answer = None  # not changed
    assert fetched() is first
    keys.answer = RefreshError(Refresh.UNREACHABLE, "the server is down")
    clock.passed = 59.0
    assert fetched() is first
    clock.passed = 60.0
    with pytest.raises(SourceError, match="the keys of the list"):
        fetched()
    keys.answer = key_set(A_RSA)
    assert fetched() == keys.answer


@pytest.mark.parametrize("answer", [None, RefreshError(Refresh.STATUS, "HTTP status 404")])
def test_without_their_keys_lists_are_not_there(answer: RefreshError | None) -> None:
    """The first fetch needs both."""
    keys = KeyServer()
    keys.answer = answer
    source = StatusListSource(Server(), section(), keys=SignerKeys(keys, max_stale=60.0))
    with pytest.raises(SourceError, match="the keys of the list"):
        source(NEED)
