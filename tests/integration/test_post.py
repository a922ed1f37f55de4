"""Proves how questions reach a server: over kept connections, in plain text and in TLS, with one answer for each.

Each test asks in two ways: on a thread that waits, and, from the second question on, by a loop, which waits for all.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Event
from typing import Final, cast
from urllib.parse import urlsplit

import pytest
import trustme

from authz.facts.loop import Loop
from authz.feeds.failure import RefreshError
from authz.feeds.http.connect import Dialer
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome, Post, Poster
from authz.feeds.http.tls import TlsTrust
from authz.feeds.http.trust import Trust, read_origin
from authz.telemetry.keys import Refresh
from tests.fakes.clock import FakeClock
from tests.fakes.raw import RawServer, Talk
from tests.fakes.tls import server_context
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.asking import make_poster
from tests.integration.fetching import HERE, resolve_here, write_ca

CA: Final = trustme.CA()
ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n%d"
Converse = Callable[[socket.socket, int], None]


def read_question(connection: socket.socket) -> bytes:
    """Read one question: its head and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65_536)):
            raise ConnectionError
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = (int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        if not (more := connection.recv(65_536)):
            raise ConnectionError
        body += more
    return head + b"\r\n\r\n" + body


class Server:
    """What a server was asked, and over how many connections."""

    def __init__(self, converse: Converse, context: ssl.SSLContext | None = None) -> None:
        self.questions: Final[list[bytes]] = []
        self.connections = 0
        self._converse: Final = converse
        self._context: Final = context

    def talk(self, connection: socket.socket, _over: Event) -> None:
        """Answer the questions of one connection; the number of the answer is its body."""
        self.connections += 1
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        with connection:
            while True:
                self.questions.append(read_question(connection))
                self._converse(connection, len(self.questions))


class Looping:
    """Asks like a lane with a loop: what a kept connection can do is left to the loop, all else to a poster."""

    def __init__(self, poster: Poster, loop: Loop) -> None:
        self._poster: Final = poster
        self._loop: Final = loop
        self.begun = 0

    def post(self, url: str, write: Callable[[], Post]) -> Response:
        """Ask, and wait for the answer."""
        outcomes: list[Outcome | None] = []
        if self._poster.start(url, write(), self._loop, outcomes.append):
            self.begun += 1
            assert outcomes == []  # it comes later
            while not outcomes:
                self._loop.run_once(HANG_SECONDS, lambda: False)
            if (outcome := outcomes.pop()) is not None:
                return outcome()
        return self._poster.post(url, write)


@pytest.fixture(params=["thread", "loop"], autouse=True)
def way(request: pytest.FixtureRequest) -> str:
    """Each way to ask."""
    found: str = request.param
    WAY[:] = [found]
    return found


WAY: Final[list[str]] = []  # of the running test


def looping(poster: Poster) -> Poster:
    """Return what asks in the way of the running test."""
    return cast("Poster", Looping(poster, Loop(time.monotonic))) if WAY == ["loop"] else poster


@contextmanager
def serving(converse: Converse, folder: Path | None) -> Iterator[tuple[Server, Poster, str]]:
    """Run a server, with TLS if there is a *folder* for its CA; yield it, a poster, and its URL."""
    context = None if folder is None else server_context(CA, HERE)
    server = Server(converse, context)
    talk: Talk = server.talk
    with RawServer(talk) as raw:
        url = f"http://127.0.0.1:{raw.port}/q" if folder is None else f"https://{HERE}:{raw.port}/q"
        if folder is None:
            poster = make_poster(url)
        else:
            trust = Trust(configured_origins=frozenset({read_origin(urlsplit(url))}))
            dialer = Dialer(trust=trust, tls=TlsTrust(str(write_ca(CA, folder))), resolve=resolve_here)
            poster = Poster(dialer, timeout=HANG_SECONDS, max_bytes=65_536)
        try:
            yield server, looping(poster), url
        finally:
            poster.close()


def ask(poster: Poster, url: str, body: bytes = b"{}", **headers: str) -> bytes:
    """Ask, and return the body of the answer."""
    return poster.post(url, lambda: Post(body, headers)).body


def say_number(connection: socket.socket, number: int) -> None:
    """Answer a question with its number."""
    connection.sendall(ANSWER % number)


both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


@both
def test_questions_share_a_connection(tls: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """One after another, each with its own answer."""
    with serving(say_number, tmp_path if tls else None) as (server, poster, url):
        assert [ask(poster, url) for _ in range(4)] == [b"1", b"2", b"3", b"4"]
    assert server.connections == 1


@both
def test_a_large_question_is_sent_whole(tls: bool, tmp_path: Path) -> None:  # noqa: FBT001 - the same
    """More than the buffers of a connection take at once."""
    body = bytes(range(256)) * 16_384
    with serving(say_number, tmp_path if tls else None) as (server, poster, url):
        assert ask(poster, url, body) == b"1"
    assert server.questions[0].endswith(body)


@both
def test_a_second_answer_is_no_answer_to_the_next_question(tls: bool, tmp_path: Path) -> None:  # noqa: FBT001 - the same
    """The connection is closed, and the next question has another one."""

    def twice(connection: socket.socket, number: int) -> None:
        connection.sendall(ANSWER % number + ANSWER % 9)

    with serving(twice, tmp_path if tls else None) as (_, poster, url):
        assert [ask(poster, url) for _ in range(3)] == [b"1", b"2", b"3"]


@both
def test_a_server_that_closes_after_its_answer_is_connected_to_again(tls: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """With the header or without it: the close is seen before, or by the question, and costs no answer."""

    def once(connection: socket.socket, number: int) -> None:
        connection.sendall(ANSWER % number)
        raise ConnectionError

    with serving(once, tmp_path if tls else None) as (server, poster, url):
        assert [ask(poster, url) for _ in range(3)] == [b"1", b"2", b"3"]
    assert server.connections == 3


def test_the_end_of_an_idle_connection_is_no_answer() -> None:
    """A proxy may say 408 when it closes one; a question that meets it on its way is asked again, and only once."""

    def weary(connection: socket.socket, number: int) -> None:
        if number in {2, 5, 6}:
            connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            raise ConnectionError
        connection.sendall(ANSWER % number)

    with serving(weary, None) as (server, poster, url):
        assert [ask(poster, url) for _ in range(3)] == [b"1", b"3", b"4"]
        assert poster.post(url, lambda: Post(b"{}", {})).status == 408
    assert len(server.questions) == 6


@both
def test_a_reset_after_the_first_byte_asks_no_second_time(tls: bool, tmp_path: Path) -> None:  # noqa: FBT001 - the same
    """The question may have been answered."""

    def half(connection: socket.socket, number: int) -> None:
        connection.sendall((ANSWER % number)[:-1] if number > 1 else ANSWER % number)
        if number > 1:
            raise ConnectionError

    with serving(half, tmp_path if tls else None) as (server, poster, url):
        assert ask(poster, url) == b"1"
        with pytest.raises(RefreshError) as caught:
            ask(poster, url)
    assert caught.value.result in {Refresh.UNREACHABLE, Refresh.TLS}
    assert len(server.questions) == 2


def test_a_redirect_is_refused_before_its_body() -> None:
    """And its connection is not used again."""

    def redirect(connection: socket.socket, _number: int) -> None:
        connection.sendall(b"HTTP/1.1 302 Found\r\nlocation: /login?secret\r\ncontent-length: 99\r\n\r\n")

    with serving(redirect, None) as (server, poster, url):
        for _ in range(2):
            with pytest.raises(RefreshError, match=r"302 to http://127\.0\.0\.1:\d+/login\?\.\.\.;"):
                ask(poster, url)
    assert server.connections == 2


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\x00", "\u0100", "a\x7f"])
def test_a_header_cannot_begin_another_one(value: str) -> None:
    """A secret with a line break: nothing is sent, and the error does not show it."""
    with serving(say_number, None) as (server, poster, url):
        with pytest.raises(RefreshError) as caught:
            ask(poster, url, authorization=value)
        assert value not in str(caught.value)
        assert ask(poster, url, authorization="Bearer a") == b"1"
    assert b"\r\nauthorization: Bearer a\r\n" in server.questions[0]


def test_the_question_says_what_it_needs() -> None:
    """The server's own name and port, JSON as a wish that the question may change, and no compression."""
    with serving(say_number, None) as (server, poster, url):
        ask(poster, url)
        ask(poster, url, accept="application/token-introspection+jwt")
    first, second = (question.decode().split("\r\n") for question in server.questions)
    assert first == [
        "POST /q HTTP/1.1",
        f"host: {urlsplit(url).netloc}",
        "user-agent: authz-sidecar",
        "accept-encoding: identity",
        "accept: application/json",
        "content-length: 2",
        "",
        "{}",
    ]
    assert [line for line in second if line.startswith("accept:")] == ["accept: application/token-introspection+jwt"]


# What only a loop can do.


@contextmanager
def looped(converse: Converse, clock: FakeClock | None = None) -> Iterator[Kept]:
    """Run a server, and keep a connection to it, over which one question was asked on a thread."""
    server = Server(converse)
    with RawServer(server.talk) as raw:
        url = f"http://127.0.0.1:{raw.port}/q"
        poster = make_poster(url)
        try:
            assert ask(poster, url) == b"1"
            yield Kept(server, poster, url, Loop(time.monotonic if clock is None else clock.monotonic))
        finally:
            poster.close()


@dataclass
class Kept:
    """A server, a poster with a connection to it, and a loop."""

    server: Server
    poster: Poster
    url: str
    loop: Loop

    def begin(self, outcomes: list[Outcome | None]) -> bool:
        """Ask; the outcome comes to *outcomes*."""
        return self.poster.start(self.url, Post(b"{}", {}), self.loop, outcomes.append)

    def run_once(self) -> None:
        """Let the loop wait once."""
        self.loop.run_once(HANG_SECONDS, lambda: False)


def test_without_a_kept_connection_a_loop_asks_nothing() -> None:
    """To connect may take long: that is for a thread."""
    with looped(say_number) as kept:
        first: list[Outcome | None] = []
        second: list[Outcome | None] = []
        assert (kept.begin(first), kept.begin(second)) == (True, False)
        while not first:
            kept.run_once()
        assert (len(kept.server.questions), second) == (2, [])


def test_a_loop_gives_up_at_the_deadline_and_not_before() -> None:
    """Whatever dribbles in: the connection is closed, and nothing is asked a second time."""
    clock = FakeClock()

    def dribble(connection: socket.socket, number: int) -> None:
        if number == 1:
            say_number(connection, number)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\n")

    with looped(dribble, clock) as kept:
        outcomes: list[Outcome | None] = []
        assert kept.begin(outcomes)
        kept.run_once()  # reads the first line
        clock.advance(HANG_SECONDS - 0.5)
        kept.loop.run_once(0.0, lambda: False)
        assert outcomes == []
        clock.advance(0.5)
        kept.loop.run_once(0.0, lambda: False)
        (outcome,) = outcomes
        assert outcome is not None
        with pytest.raises(RefreshError, match="deadline exceeded") as caught:
            outcome()
        assert caught.value.result is Refresh.TIMEOUT
        assert (kept.begin(outcomes), len(kept.server.questions)) == (False, 2)


def test_a_deadline_that_was_kept_ends_no_later_question() -> None:
    """One connection, one question after another, each with its own deadline."""
    clock = FakeClock()
    with looped(say_number, clock) as kept:
        for number in range(2, 7):
            outcomes: list[Outcome | None] = []
            assert kept.begin(outcomes)
            while not outcomes:
                kept.run_once()
            (outcome,) = outcomes
            assert outcome is not None
            assert outcome().body == b"%d" % number
            clock.advance(0.75 * HANG_SECONDS)
            kept.loop.run_once(0.0, lambda: False)
    assert kept.server.connections == 1


def test_a_server_that_restarts_is_asked_again_on_a_new_connection() -> None:
    """It closed the connection after the question was sent, and before an answer: None is no answer."""

    def close(connection: socket.socket, number: int) -> None:
        if number == 2:
            raise ConnectionError
        say_number(connection, number)

    with looped(close) as kept:
        outcomes: list[Outcome | None] = []
        assert kept.begin(outcomes)
        while not outcomes:
            kept.run_once()
        assert outcomes == [None]
        assert ask(kept.poster, kept.url) == b"3"


def test_many_questions_are_under_way_at_one_time() -> None:
    """The server answers none of them before it has all: no thread waits, and the loop hears each."""
    together = Barrier(3)

    def meet(connection: socket.socket, _number: int) -> None:
        together.wait(HANG_SECONDS)
        connection.sendall(ANSWER % 1)

    with RawServer(Server(meet).talk) as raw:
        url = f"http://127.0.0.1:{raw.port}/q"
        poster = make_poster(url)
        loop = Loop(time.monotonic)
        with ThreadPoolExecutor(3) as threads:
            assert [each.result() for each in [threads.submit(ask, poster, url) for _ in range(3)]] == [b"1"] * 3
        outcomes: list[Outcome | None] = []
        assert [poster.start(url, Post(b"{}", {}), loop, outcomes.append) for _ in range(4)] == [True] * 3 + [False]
        while len(outcomes) < 3:
            loop.run_once(HANG_SECONDS, lambda: False)
        assert [outcome().body for outcome in outcomes if outcome is not None] == [b"1"] * 3
        poster.close()


BIG: Final = b'"' + b"x" * 40_000 + b'"'


def say_big(connection: socket.socket, number: int) -> None:
    """Give a short answer first, and then one that takes several reads."""
    answer = BIG if number > 1 else b"1"
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)


def test_an_answer_that_came_in_time_is_read_late() -> None:
    """By the loop, if the whole process stood still: the server is not the cause, and must not look absent."""
    clock, said = FakeClock(), Event()

    def say(connection: socket.socket, number: int) -> None:
        say_big(connection, number)
        if number > 1:
            said.set()

    with looped(say, clock) as kept:
        outcomes: list[Outcome | None] = []
        assert kept.begin(outcomes)
        assert said.wait(HANG_SECONDS)
        clock.advance(2 * HANG_SECONDS)
        kept.run_once()
        (outcome,) = outcomes
        assert outcome is not None
        assert outcome().body == BIG


def test_a_thread_reads_an_answer_late_that_came_in_time() -> None:
    """The same where a thread waits: when it comes to look, the deadline is over, and the answer is there."""
    said, read, looks = Event(), Event(), [0.0] * 100

    def say(connection: socket.socket, number: int) -> None:
        say_big(connection, number)
        if number > 1:
            said.set()

    def monotonic() -> float:
        if looks:
            return looks.pop()
        assert said.wait(HANG_SECONDS)
        read.set()
        return 2 * HANG_SECONDS

    def write() -> Post:
        looks[:] = [0.0]  # the age of the connection is looked at before the question is sent, and the deadline after
        return Post(b"{}", {})

    with RawServer(Server(say).talk) as raw:
        url = f"http://127.0.0.1:{raw.port}/q"
        trust = Trust(configured_origins=frozenset({read_origin(urlsplit(url))}), http=True)
        poster = Poster(Dialer(trust=trust), timeout=HANG_SECONDS, max_bytes=65_536, monotonic=monotonic)
        assert ask(poster, url) == b"1"
        assert (poster.post(url, write).body, read.is_set()) == (BIG, True)
        poster.close()


def test_a_server_without_an_end_is_read_no_longer_than_its_deadline() -> None:
    """What goes on arriving after it is not waited for, and read only in part."""
    clock, full = FakeClock(), Event()

    def flood(connection: socket.socket, number: int) -> None:
        if number == 1:
            say_number(connection, number)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 60000000\r\n\r\n")
        full.set()
        while True:
            connection.sendall(b"x" * 65_536)

    server = Server(flood)
    with RawServer(server.talk) as raw:
        url = f"http://127.0.0.1:{raw.port}/q"
        poster = make_poster(url, max_bytes=60_000_000)
        loop, outcomes = Loop(clock.monotonic), list[Outcome | None]()
        assert ask(poster, url) == b"1"
        assert poster.start(url, Post(b"{}", {}), loop, outcomes.append)
        assert full.wait(HANG_SECONDS)
        clock.advance(2 * HANG_SECONDS)
        while not outcomes:
            loop.run_once(0.0, lambda: False)
        (outcome,) = outcomes
        assert outcome is not None
        with pytest.raises(RefreshError, match="deadline exceeded"):
            outcome()
        poster.close()
