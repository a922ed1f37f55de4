"""What several workers say as one: each is asked over its own socket, all at the same time, and not for long.

Rules of this file:
1. A worker that does not answer whole, and in time, is left out, named as missing, and holds up no other.
2. Readiness means all of them.
3. Nothing is added up: every number and every key set keeps the worker that it is of.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from authz.telemetry import names

READY_SECONDS: Final = 0.75  # for the answers to one probe; the kubelet gives a probe one second
SECONDS: Final = 2.0  # for numbers and keys
MAX_BYTES: Final = 64 * 1024 * 1024  # of one answer

_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"  # the form that loses nothing: it has exemplars
_CHUNK: Final = 65_536  # bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What one worker said."""

    status: int
    body: bytes


class Workers(Collector):
    """The admin sockets of all workers, by number, behind one door; *restarts* holds the new starts of each."""

    def __init__(self, sockets: Sequence[Path], *, restarts: Sequence[int]) -> None:
        self._sockets: Final = sockets
        self._restarts: Final = restarts

    def waiting_for(self) -> list[str]:
        """Name what readiness still waits for, worker by worker."""
        answers = ask(self._sockets, "/readyz", seconds=READY_SECONDS)
        missing = []
        for number in range(len(self._sockets)):
            answer = answers.get(number)
            if answer is None:
                missing.append(f"worker {number}")
            elif answer.status != HTTPStatus.OK:
                said = answer.body.decode("utf-8", "replace").strip().removeprefix("waiting for ")
                missing.append(f"worker {number} ({said})")
        return missing

    def describe_keys(self) -> dict[str, object]:
        """Describe each issuer's keys as each worker has them, by issuer, and name the workers that do not say."""
        answers = ask(self._sockets, "/keys", seconds=SECONDS)
        described = [
            (position, number, {**issuer, "worker": number})
            for number, answer in sorted(answers.items())
            for position, issuer in enumerate(json.loads(answer.body)["issuers"])
        ]
        described.sort(key=lambda found: found[:2])
        silent = [number for number in range(len(self._sockets)) if number not in answers]
        return {"issuers": [issuer for _, _, issuer in described], "silent_workers": silent}

    def collect(self) -> Iterable[Metric]:
        """Yield the numbers of all workers, each with the label `worker`, and what there is to say of workers."""
        answers = ask(self._sockets, "/metrics", seconds=SECONDS, accept=_OPENMETRICS)
        up = GaugeMetricFamily(names.WORKER_UP, "Whether this worker answered.", labels=["worker"])
        restarts = CounterMetricFamily(
            names.WORKER_RESTARTS_TOTAL, "New starts of a worker that ended.", labels=["worker"]
        )
        for number, count in enumerate(self._restarts):
            up.add_metric([str(number)], number in answers)
            restarts.add_metric([str(number)], count)
        yield up
        yield restarts
        yield from merge({number: answer.body.decode() for number, answer in answers.items()})


def merge(expositions: Mapping[int, str]) -> Iterable[Metric]:
    """Put OpenMetrics texts together: one family of each name, each sample with the number of its worker."""
    families: dict[str, Metric] = {}
    for number, text in sorted(expositions.items()):
        for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]  # it has none
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            merged.samples += [
                sample._replace(labels={**sample.labels, "worker": str(number)}) for sample in family.samples
            ]
    return families.values()


class LivenessProbe:
    """Asks each worker whether it is alive, and leaves the question open until it is answered. Never waits.

    A worker that gets little of a busy processor answers late; one that hangs does not answer at all.
    """

    def __init__(self, sockets: Sequence[Path]) -> None:
        self._sockets: Final = sockets
        self._open: Final[dict[int, _Pending]] = {}

    def answered(self) -> frozenset[int]:
        """Return the numbers of those that have answered since the last look, and ask those again."""
        found = frozenset(number for number, pending in list(self._open.items()) if self._has_answered(number, pending))
        for number, path in enumerate(self._sockets):
            if number not in self._open and (connection := _ask_one(path, "/livez")) is not None:
                self._open[number] = _Pending(number, connection)
        return found

    def forget(self, number: int) -> None:
        """Drop what was asked of a worker that has ended: its answer says nothing about the next one."""
        if (pending := self._open.pop(number, None)) is not None:
            pending.connection.close()

    def close(self) -> None:
        """Ask nothing any more."""
        for number in list(self._open):
            self.forget(number)

    def _has_answered(self, number: int, pending: _Pending) -> bool:
        while not (ended := pending.read()):
            if ended is None:
                return False
        self.forget(number)
        return any(answer.status == HTTPStatus.OK for _, answer in pending.parse())


def ask(
    sockets: Sequence[Path], target: str, *, seconds: float, accept: str = "*/*", max_bytes: int = MAX_BYTES
) -> dict[int, Answer]:
    """GET *target* of the server on each socket, and return the whole answers that came within *seconds*."""
    deadline = time.monotonic() + seconds
    answers: dict[int, Answer] = {}
    with ExitStack() as connections, DefaultSelector() as selector:
        for number, path in enumerate(sockets):
            if (connection := _ask_one(path, target, accept)) is None:
                continue
            connections.enter_context(connection)
            selector.register(connection, EVENT_READ, _Pending(number, connection))
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                pending: _Pending = key.data
                if pending.read() or len(pending.data) > max_bytes:
                    selector.unregister(pending.connection)
                    answers.update(pending.parse())
    return answers


def _ask_one(path: Path, target: str, accept: str = "*/*") -> socket.socket | None:
    """GET *target* of the server on a socket, without waiting; None if nothing listens, or accepts any more."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(0)
    try:
        connection.connect(str(path))
        connection.send(f"GET {target} HTTP/1.0\r\naccept: {accept}\r\n\r\n".encode())
    except OSError:
        connection.close()
        return None
    return connection


@dataclass(slots=True)
class _Pending:
    """An answer on its way."""

    number: int
    connection: socket.socket
    data: bytearray = field(default_factory=bytearray)

    def read(self) -> bool | None:
        """Read what is there. True: there will be no more; False: there may be more; None: nothing is there yet."""
        try:
            chunk = self.connection.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return True
        self.data += chunk
        return not chunk

    def parse(self) -> Iterator[tuple[int, Answer]]:
        """Yield the answer, if it is whole."""
        head, _, body = bytes(self.data).partition(b"\r\n\r\n")
        status, *headers = head.decode("latin-1").split("\r\n")
        if f"content-length: {len(body)}" in headers:
            yield self.number, Answer(int(status.split(" ")[1]), body)
