"""What a feed needs of others: a source, an observer, a cache, clocks and threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from authz.feeds.cache import Cached
from authz.feeds.failure import RefreshError
from authz.telemetry.keys import Refresh

T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T_co]):
    """What a source has now: a value and the *document* it was read from, or None for what it gave last.

    *fresh_for* is in seconds, None if unsaid. *authorities* is the digest of those by which the document's server was
    verified, empty for the system's and for a local file.
    *incomplete* is what kept a part of it from being loaded; that part is as it was.
    """

    value: T_co | None
    document: bytes = b""
    fresh_for: float | None = None
    authorities: str = ""
    incomplete: RefreshError | None = None


class Source(Protocol[T_co]):
    """Where a document comes from."""

    @property
    def where(self) -> str:
        """Where it comes from, for the operator."""

    def read(self, document: bytes) -> T_co:
        """Read a document as if it came from here. Raises RefreshError."""

    def load(self, *, on_demand: bool) -> Loaded[T_co]:
        """Load the current document; *on_demand*: for something that the last one had not. Raises RefreshError."""


class Observer(Protocol[T_contra]):
    """Is told what became of a feed, once it counts: for metrics, logs and housekeeping. What it raises is logged."""

    def on_accepted(self, value: T_contra, fetched_at: float) -> None:
        """*value*, fetched or confirmed at so many seconds since the epoch, serves from now on."""

    def on_unreadable(self, which: str, error: RefreshError) -> None:
        """A document that was kept, the "cached" or the "last good" one, cannot be read, and is ignored."""

    def on_withdrawn(self, max_stale: float) -> None:
        """Nothing serves any more: no refresh succeeded for *max_stale* seconds."""

    def on_failed(self, error: RefreshError, *, pause: float, serving: bool) -> None:
        """A refresh failed; the next comes in *pause* seconds, and the last good document is *serving* or not."""

    def on_refreshed(self, result: Refresh) -> None:
        """A refresh brought or confirmed what serves now."""


class Cache(Protocol):
    """Keeps one document over a restart."""

    def load(self) -> Cached | None:
        """Return what is kept and may be used; None if there is nothing."""

    def save(self, document: bytes, fetched_at: float, authorities: str) -> None:
        """Keep *document*, fetched at so many seconds since the epoch under *authorities*. May be slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEnv:
    """What a feed needs of the world: two clocks, numbers from 0 to 1, and threads for refreshes to run on.

    *wake* is called when something may be due earlier than was known. *on_refresh* gets the name, the result and the
    seconds of each refresh that has ended.
    """

    monotonic: Callable[[], float]
    now: Callable[[], float]
    jitter: Callable[[], float]
    spawn: Callable[[Callable[[], None]], None]
    wake: Callable[[], None] = lambda: None
    on_refresh: Callable[[str, Refresh, float], None] = lambda _name, _result, _seconds: None
