"""Attacks below HTTP: connections that come and go, requests and calls that are never finished."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Final
from urllib.parse import urlsplit

from authz.envoy.admission import METHOD
from tests.fakes.http2 import PREFACE, begin_call

HALF_REQUEST: Final = b"GET /items/1 HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Open *rate* connections a second to *address*, say *words* on each, and keep at most *held* of them open."""

    address: str
    words: bytes
    rate: float
    held: int = 0
    cores: frozenset[int] = frozenset()


def half_calls(number: int) -> bytes:
    """Write the beginning of so many calls on one connection: headers, and no message ever."""
    return PREFACE + b"".join(begin_call(METHOD, stream=2 * place + 1) for place in range(number))


@contextmanager
def flooding(flood: Flood) -> Iterator[None]:
    """Keep a flood up."""
    spawn = multiprocessing.get_context("spawn")
    near, far = spawn.Pipe()
    process = spawn.Process(target=_run, args=(flood, far), daemon=True)
    process.start()
    try:
        near.recv()  # it has started
        yield
    finally:
        process.kill()
        process.join()
        process.close()
        near.close()
        far.close()


def _run(flood: Flood, pipe: Pipe) -> None:
    if flood.cores:
        os.sched_setaffinity(0, flood.cores)
    kept: deque[socket.socket] = deque()
    began, number = time.monotonic(), 0
    pipe.send(None)  # ready
    while True:
        number += 1
        time.sleep(max(began + number / flood.rate - time.monotonic(), 0.0))
        with suppress(OSError):  # the peer may hang up
            kept.append(_open(flood))
        while len(kept) > flood.held:
            kept.popleft().close()


def _open(flood: Flood) -> socket.socket:
    place = urlsplit(flood.address)
    if place.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(flood.address.removeprefix("unix:"))
    else:
        host, _, port = (place.netloc or flood.address).rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=5)
    connection.setblocking(False)  # noqa: FBT003 - as the library has it
    with suppress(BlockingIOError):
        connection.send(flood.words)
    return connection
