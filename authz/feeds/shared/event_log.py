"""A stream in the shared state: lines that every replica appends, and reads in the order in which they were appended.

Rules of this file:
1. Lines stay for as long as readers need them, by the clock of the server and by ours: new lines never evict others.
2. A reader knows its position, and continues from there after any failure.
3. Lost lines are detected: by another origin, a random value that is created with the stream; or by a stream that ends
   before the last line that was read. The stream is then read again from the start.
4. What is read is untrusted: the client bounds a reply, and a reply of another shape is a failure.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from authz.feeds.shared.state import Reply, SharedState, SharedStateError

MAX_READ: Final = 500  # lines in one reply
_MAX_SENT: Final = 500  # lines in one round trip
_START: Final = (0, 0)
_FIELD: Final = b"e"
_ID: Final = re.compile(rb"([0-9]{1,20})-([0-9]{1,20})")

Position = tuple[int, int]
"""An id of the server: milliseconds of its clock, and a number."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The next *lines*; *complete* if there are no more now. *lost*: the server lost some, and reading starts again."""

    lines: tuple[bytes, ...] = ()
    complete: bool = False
    lost: bool = False


class EventLog:
    """The stream *name*. Several threads may append, one reads; *reader* may block for longer than it does."""

    def __init__(self, name: str, *, reader: SharedState, writer: SharedState, now: Callable[[], float]) -> None:
        self.max_lines = 1_000_000
        self.retention = 0.0  # seconds for which lines are needed
        self.length = 0  # when it was last read
        self._key: Final = writer.key(name)
        self._origin_key: Final = writer.key(name, "origin")
        self._turn_key: Final = writer.key(name, "turn")
        self._reader: Final = reader
        self._writer: Final = writer
        self._now: Final = now
        self._origin: bytes | None = None
        self._position = _START

    def append(self, lines: Sequence[str]) -> None:
        """Append *lines*. Raises SharedStateError; some may have been appended, and may be again."""
        if self.length >= self.max_lines:
            raise SharedStateError("rejected", f"the stream {self._key} has {self.length} lines")
        for start in range(0, len(lines), _MAX_SENT):
            self._writer.execute_all(
                ("XADD", self._key, "*", _FIELD, line.encode()) for line in lines[start : start + _MAX_SENT]
            )

    def read(self, *, seconds: float) -> Batch:
        """Return what was appended since; wait for something at most *seconds*. Raises SharedStateError."""
        block = ("BLOCK", int(seconds * 1000)) if seconds else ()
        origin, newest, length, reply = self._reader.execute_all(
            [
                ("GET", self._origin_key),
                ("XREVRANGE", self._key, "+", "-", "COUNT", 1),
                ("XLEN", self._key),
                ("XREAD", "COUNT", MAX_READ, *block, "STREAMS", self._key, _write(self._position)),
            ]
        )
        self.length = length if isinstance(length, int) else 0
        known_origin, self._origin = self._origin, _text(origin) if origin is not None else self._create_origin()
        ends_early = self._ends_early(_entries(newest))
        if known_origin not in {None, self._origin} or ends_early:
            lost = known_origin not in {None, self._origin} or self._must_be_kept(self._position)
            self._position = _START
            return Batch(lost=lost)
        entries = _entries(_read_stream(reply))
        if entries:
            self._position = entries[-1][0]
        return Batch(tuple(line for _, line in entries), complete=len(entries) < MAX_READ)

    def trim(self) -> None:
        """Remove the lines that are no longer needed. Raises SharedStateError."""
        match self._writer.execute("TIME"):
            case [bytes() as seconds, _] if seconds.isdigit():
                now = min(float(seconds), self._now())  # if one clock is ahead, the other one still holds
            case _:
                raise SharedStateError("unreadable", "the server's time is not a time")
        oldest = int((now - self.retention) * 1000)
        if oldest > 0:
            self._writer.execute("XTRIM", self._key, "MINID", "~", oldest)

    def take_turn(self, *, seconds: float) -> bool:
        """Return whether no other replica took its turn in the last *seconds*. Raises SharedStateError."""
        return self._writer.create(self._turn_key, milliseconds=int(seconds * 1000))

    def close(self) -> None:
        """End a read that waits."""
        self._reader.close()

    def _create_origin(self) -> bytes:
        """Create the origin of a new stream, or return the one that another replica has created."""
        self._writer.execute("SET", self._origin_key, secrets.token_hex(8), "NX")
        return _text(self._writer.execute("GET", self._origin_key))

    def _ends_early(self, newest: list[tuple[Position, bytes]]) -> bool:
        end = newest[0][0] if newest else _START
        return end < self._position

    def _must_be_kept(self, position: Position) -> bool:
        """Return whether the line at *position* must not have been trimmed yet."""
        return position[0] > (self._now() - self.retention) * 1000


def _write(position: Position) -> str:
    return f"{position[0]}-{position[1]}"


def _text(reply: Reply) -> bytes:
    if not isinstance(reply, bytes):
        raise SharedStateError("unreadable", "the origin of a stream is not text")
    return reply


def _read_stream(reply: Reply) -> Reply:
    """Return the entries in a reply to XREAD, of the one stream that was asked for."""
    match reply:
        case None:
            return []
        case [[_, entries]]:
            return entries
        case _:
            raise SharedStateError("unreadable", "the reply is not that of a stream")


def _entries(reply: Reply) -> list[tuple[Position, bytes]]:
    """Read entries: the id and the line of each; a line that is not there is empty. Raises SharedStateError."""
    if not isinstance(reply, list):
        raise SharedStateError("unreadable", "the reply is not a list of entries")
    entries = []
    for entry in reply:
        match entry:
            case [bytes() as name, [*fields]] if (parts := _ID.fullmatch(name)) is not None:
                line = fields[1] if len(fields) == 2 and fields[0] == _FIELD else b""
                entries.append(((int(parts[1]), int(parts[2])), line if isinstance(line, bytes) else b""))
            case _:
                raise SharedStateError("unreadable", "an entry of the stream has another shape")
    return entries
