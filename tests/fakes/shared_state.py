"""A server of shared state in memory, with the commands that streams need, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from authz.feeds.shared.state import Part, Reply

Id = tuple[int, int]


@dataclass
class FakeServer:
    """Keys and one stream of each name; *now* is its own clock. With a *failure*, nothing is answered."""

    now: Callable[[], float]
    texts: dict[str, bytes] = field(default_factory=dict)
    streams: dict[str, list[tuple[Id, list[bytes]]]] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    last: Id = (0, 0)
    failure: Exception | None = None
    executed: int = 0
    lose_replies: bool = False  # commands are executed, and their senders get none

    def client(self) -> FakeClient:
        """Return a client."""
        return FakeClient(self)

    def lose_everything(self) -> None:
        """Be a server that was restarted without its data."""
        self.texts.clear()
        self.streams.clear()
        self.last = (0, 0)

    def write(self, key: str, *fields: bytes) -> None:
        """Append an entry, as anyone who can write there."""
        self.execute("XADD", key, "*", *fields)

    def execute(self, *command: Part) -> Reply:
        """Execute one command."""
        if command == ("TIME",):
            return [str(int(self.now())).encode(), b"0"]
        name, key, *rest = command
        return getattr(self, f"_{str(name).lower()}")(str(key), *rest)

    def _get(self, key: str) -> Reply:
        if self.ends.get(key, float("inf")) <= self.now():
            self.texts.pop(key, None)
        return self.texts.get(key)

    def _set(self, key: str, value: str, *options: Part) -> Reply:
        if self._get(key) is not None:
            return None
        self.texts[key] = str(value).encode()
        self.ends[key] = self.now() + int(options[-1]) / 1000 if "PX" in options else float("inf")
        return b"OK"

    def _del(self, key: str) -> Reply:
        return int(self.streams.pop(key, self.texts.pop(key, None)) is not None)

    def _xlen(self, key: str) -> Reply:
        return len(self.streams.get(key, []))

    def _xadd(self, key: str, _id: Part, *fields: bytes) -> Reply:
        self.last = max((int(self.now() * 1000), 0), (self.last[0], self.last[1] + 1))
        self.streams.setdefault(key, []).append((self.last, list(fields)))
        return _name(self.last)

    def _xrevrange(self, key: str, *_range: Part) -> Reply:
        return [[_name(place), fields] for place, fields in self.streams.get(key, [])[-1:]]

    def _xtrim(self, key: str, _minid: Part, _about: Part, oldest: Part) -> Reply:
        entries = self.streams.get(key, [])
        self.streams[key] = [each for each in entries if each[0][0] >= int(oldest)]
        return len(entries) - len(self.streams[key])

    def _xread(self, _count: str, count: Part, *rest: Part) -> Reply:
        key, after = str(rest[-2]), _parse(str(rest[-1]))
        found = [each for each in self.streams.get(key, []) if each[0] > after][: int(count)]
        return [[key.encode(), [[_name(place), fields] for place, fields in found]]] if found else None


class FakeClient:
    """A client of *server*."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.closed = False

    def key(self, *names: str) -> str:
        return "authz:" + ":".join(names)

    def execute(self, *command: Part) -> Reply:
        return self.execute_all([command])[0]

    def execute_all(self, commands: Iterable[tuple[Part, ...]]) -> list[Reply]:
        if self.server.failure is not None and not self.server.lose_replies:
            raise self.server.failure
        replies = [self.server.execute(*command) for command in commands]
        self.server.executed += len(replies)
        if self.server.failure is not None:
            raise self.server.failure
        return replies

    def create(self, key: str, *, milliseconds: int) -> bool:
        return self.execute("SET", key, "", "NX", "PX", milliseconds) is not None

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        if (self.server.texts.get(key) or b"") != old:
            return False
        self.server.texts[key] = new
        return True

    def close(self) -> None:
        self.closed = True


def _name(place: Id) -> bytes:
    return b"%d-%d" % place


def _parse(text: str) -> Id:
    first, _, second = text.partition("-")
    return int(first), int(second)
