"""A load of HTTP/1.1 requests from a process of its own, each answer looked at and each latency kept.

A paced load is an open one: requests are due at even intervals, whatever the answers do, and a latency is counted from
the moment a request was due. A client that waits for a slow server before it asks again would not see how slow it is.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import selectors
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from random import Random
from typing import Final
from urllib.parse import urlsplit

PATIENCE: Final = 10.0  # seconds from the moment a request is due to the moment it has failed
_STATUS: Final = slice(9, 12)  # of an HTTP/1.1 status line
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
_REASON: Final = re.compile(rb'"reason": "(\w+)"')


@dataclass(frozen=True, slots=True)
class Question:
    """One request as it stands on the wire; answers are counted by its *kind*."""

    kind: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to ask, where, and how.

    *rate* is requests per second; with 0 each connection asks again *pause* seconds after it was answered. *told* are
    the response headers, in lower case, that belong to an answer. *churn* opens a connection for each request. *record*
    keeps every exchange with its times. *cores* are those that the process runs on. *warm_up* are seconds whose
    latencies are not kept.
    """

    url: str
    questions: Sequence[Question]
    rate: float = 0.0
    pause: float = 0.0
    connections: int = 8
    told: tuple[str, ...] = ()
    churn: bool = False
    record: bool = False
    cores: frozenset[int] = frozenset()
    warm_up: float = 0.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request of some kind, when it was due and when it was answered (seconds, monotonic), and the answer."""

    kind: str
    due: float
    done: float
    answer: str


@dataclass(slots=True)
class Tally:
    """What a load has seen. *answers* counts by kind and answer: status, what `told` found, and the reason, by `|`.

    A request without an answer is `failed: ...`. *latencies* are seconds, of answers only.
    """

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    exchanges: list[Exchange] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        return self.answers.total()

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.count / self.seconds if self.seconds else 0.0

    def statuses(self) -> Counter[str]:
        """Count by status alone."""
        found: Counter[str] = Counter()
        for (_, answer), number in self.answers.items():
            found[answer.partition("|")[0]] += number
        return found

    def failed(self) -> int:
        """Count what was not answered, or by a status of 500 and above: what no decision of a calm sidecar is."""
        return sum(number for status, number in self.statuses().items() if not status.startswith(("2", "4")))

    def quantile(self, share: float) -> float:
        """Return the latency, in milliseconds, that *share* of the answers kept within."""
        if not self.latencies:
            return float("nan")
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1_000


def get(
    path: str, *, kind: str, token: str | None = None, headers: Mapping[str, str] | None = None, host: str = "api.test"
) -> Question:
    """Write a GET."""
    lines = [f"GET {path} HTTP/1.1", f"host: {host}"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return Question(kind, "\r\n".join([*lines, "", ""]).encode())


class Load:
    """A load that runs, in a process of its own; `end()` ends it and returns what it has seen."""

    def __init__(self, plan: Plan) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, far = spawn.Pipe()
        self._process = spawn.Process(target=_run, args=(far,), daemon=True)
        self._process.start()
        far.close()
        self._pipe.send(plan)
        self._pipe.recv()  # it is connected

    def ask_from_now(self, questions: Sequence[Question]) -> None:
        """Replace what is asked."""
        self._pipe.send(tuple(questions))

    def end(self) -> Tally:
        """Ask nothing more, and wait for what is due."""
        self._pipe.send(None)
        tally = self._pipe.recv()
        assert isinstance(tally, Tally)
        self.kill()
        return tally

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


@contextmanager
def loading(plan: Plan) -> Iterator[Load]:
    """Keep a load up; anyone who wants its tally ends it."""
    load = Load(plan)
    try:
        yield load
    finally:
        with suppress(ValueError):  # it is closed
            load.kill()


def run_for(seconds: float, *plans: Plan) -> list[Tally]:
    """Run loads side by side for so long."""
    loads = [Load(plan) for plan in plans]
    try:
        time.sleep(seconds)
        return [load.end() for load in loads]
    finally:
        for load in loads:
            with suppress(ValueError):
                load.kill()


def _run(pipe: Pipe) -> None:
    plan = pipe.recv()
    assert isinstance(plan, Plan)
    if plan.cores:
        os.sched_setaffinity(0, plan.cores)
    # select(2) waits to the microsecond, where asyncio's epoll waits to the millisecond.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        pipe.send(runner.run(_Client(plan, pipe).run()))


class _Client:
    """Asks the questions of a plan, in an order of chance that is always the same."""

    def __init__(self, plan: Plan, pipe: Pipe) -> None:
        place = urlsplit(plan.url)
        assert place.hostname is not None
        assert place.port is not None
        self.address: Final = place.hostname, place.port
        self.plan: Final = plan
        self.tally: Final = Tally()
        self.idle: Final[list[_Connection]] = []
        self.told: Final = [f"\r\n{name}: ".encode() for name in plan.told]
        self._pipe: Final = pipe
        self._questions = plan.questions
        self._random: Final = Random(1)  # noqa: S311 - no secret
        self._due: Final[deque[float]] = deque()
        self._ending: asyncio.Event
        self._began = 0.0
        self._open = 0
        self._opening: Final[set[asyncio.Task[None]]] = set()

    async def run(self) -> Tally:
        """Ask until the end is requested."""
        loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        loop.add_reader(self._pipe.fileno(), self._listen)
        await asyncio.gather(*(self._connect() for _ in range(self.plan.connections)))
        self._pipe.send(None)  # connected
        self._began = time.monotonic()
        pace = asyncio.create_task(self._pace()) if self.plan.rate else None
        if pace is None:
            for connection in tuple(self.idle):
                self.idle.remove(connection)
                connection.ask(self.choose(), time.monotonic())
        await self._ending.wait()
        self.tally.seconds = time.monotonic() - self._began
        loop.remove_reader(self._pipe.fileno())
        if pace is not None:
            pace.cancel()
        until = time.monotonic() + PATIENCE
        while (self._due or len(self.idle) < self._open) and time.monotonic() < until:  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.005)  # several things end it, none of which need know of the others
        lost = len(self._due) + self._open - len(self.idle)
        if lost:
            self.tally.answers["?", "failed: no answer"] += lost
        return self.tally

    def choose(self) -> Question:
        """Choose what to ask next."""
        return self._questions[int(self._random.random() * len(self._questions))]

    def note(self, question: Question, due: float, answer: str) -> None:
        """Note the end of an exchange."""
        done = time.monotonic()
        self.tally.answers[question.kind, answer] += 1
        if due >= self._began + self.plan.warm_up:
            self.tally.latencies.append(done - due)
        if self.plan.record:
            self.tally.exchanges.append(Exchange(question.kind, due, done, answer))

    def free(self, connection: _Connection) -> None:
        """Use a connection that was answered on for what is due, or what comes."""
        if self.plan.churn:
            connection.close()
            self.replace()
        elif self._due:
            connection.ask(self.choose(), self._due.popleft())
        elif self.plan.rate or self._ending.is_set():
            self.idle.append(connection)
        elif self.plan.pause:
            self.idle.append(connection)
            asyncio.get_running_loop().call_later(self.plan.pause, self._ask_again, connection)
        else:
            connection.ask(self.choose(), time.monotonic())

    def _ask_again(self, connection: _Connection) -> None:
        if connection in self.idle and not self._ending.is_set():
            self.idle.remove(connection)
            connection.ask(self.choose(), time.monotonic())

    def replace(self) -> None:
        """Open a connection in place of one that was closed."""
        self._open -= 1
        task = asyncio.get_running_loop().create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._began and self._ending.is_set()):
            try:
                _, connection = await loop.create_connection(lambda: _Connection(self), *self.address)
            except OSError as error:
                self.tally.answers["?", f"failed: {type(error).__name__}"] += 1
                await asyncio.sleep(0.05)
                continue
            self._open += 1
            if self._due:
                connection.ask(self.choose(), self._due.popleft())
            elif self.plan.rate or not self._began or self._ending.is_set():
                self.idle.append(connection)
            else:
                connection.ask(self.choose(), time.monotonic())
            return

    async def _pace(self) -> None:
        step, number = 1.0 / self.plan.rate, 0
        while True:
            now = time.monotonic()
            while (due := self._began + number * step) <= now:
                number += 1
                if self.idle:
                    self.idle.pop().ask(self.choose(), due)
                else:
                    self._due.append(due)
            await asyncio.sleep(due - time.monotonic())

    def _listen(self) -> None:
        message = self._pipe.recv()
        if message is None:
            self._ending.set()
        else:
            self._questions = message


class _Connection(asyncio.Protocol):
    """One connection, on which one request at a time is asked."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._transport: asyncio.Transport
        self._received = b""
        self._question: Question | None = None
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, question: Question, due: float) -> None:
        """Send a request."""
        self._question, self._due, self._received = question, due, b""
        self._transport.write(question.raw)

    def close(self) -> None:
        """Hang up."""
        self._question = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._question is None:
            return
        self._received = received = self._received + data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[: end + 2]
        length = _LENGTH.search(head)
        if length is not None and len(received) < end + 4 + int(length[1]):
            return
        question, self._question = self._question, None
        self._client.note(question, self._due, self._read(head, received[end:]))
        if b"\r\nconnection: close\r\n" in head:
            self._drop()
        else:
            self._client.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._question is not None:
            question, self._question = self._question, None
            self._client.note(question, self._due, "failed: connection lost")
            self._client.replace()
        elif self in self._client.idle:
            self._client.idle.remove(self)
            self._client.replace()

    def _drop(self) -> None:
        self._transport.close()
        self._client.replace()

    def _read(self, head: bytes, body: bytes) -> str:
        found = [head[_STATUS].decode()]
        for name in self._client.told:
            at = head.find(name)
            begin = at + len(name)
            found.append("" if at < 0 else head[begin : head.index(b"\r\n", begin)].decode("latin-1"))
        reason = _REASON.search(body)
        return "|".join([*found, "" if reason is None else reason[1].decode()])
