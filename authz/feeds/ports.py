"""The interfaces that a feed uses: source, observer, cache, clocks and threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from authz.feeds.failure import RefreshError
from authz.feeds.key_cache import CachedDocument
from authz.telemetry.keys import Refresh

T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T_co]):
    """The result of a load: a *value* and its *document*; *value* is None if it has not changed since the last load.

    *fresh_for* is in seconds, None if unspecified. *authorities* is the digest of the CA file by which the server was
    verified, empty for the system's CAs and for a local file. *incomplete* is the failure of a part, which stays as it
    was.
    """

    value: T_co | None
    document: bytes = b""
    fresh_for: float | None = None
    authorities: str = ""
    incomplete: RefreshError | None = None


class Source(Protocol[T_co]):
    """The source of a document."""

    @property
    def location(self) -> str:
        """The location, for the operator."""

    def read(self, document: bytes) -> T_co:
        """Parse a document as if it came from this source. Raises RefreshError."""

    def load(self, *, on_demand: bool) -> Loaded[T_co]:
        """Load the current document; *on_demand* if something is missing in the last one. Raises RefreshError."""


class Observer(Protocol[T_contra]):
    """Notified after each change of a feed, for metrics, logs and clean-up. Its exceptions are logged."""

    def on_accepted(self, value: T_contra, fetched_at: float) -> None:
        """*value*, fetched or confirmed at the Unix time *fetched_at*, is now in use."""

    def on_unreadable(self, which: str, error: RefreshError) -> None:
        """A stored document, the "cached" or the "last good" one as *which* says, is invalid and ignored."""

    def on_withdrawn(self, max_stale: float) -> None:
        """The document may not be used any more: no refresh succeeded for *max_stale* seconds."""

    def on_failed(self, error: RefreshError, *, pause: float, serving: bool) -> None:
        """A refresh failed; the next one starts in *pause* seconds. *serving*: the last good document stays in use."""

    def on_refreshed(self, result: Refresh) -> None:
        """A refresh loaded or confirmed the document that is in use."""


class Cache(Protocol):
    """Stores one document across restarts."""

    def load(self) -> CachedDocument | None:
        """Return the stored document, or None if there is none that may be used."""

    def save(self, document: bytes, fetched_at: float, authorities: str) -> None:
        """Store *document*, fetched at the Unix time *fetched_at* under *authorities*. May be slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEnv:
    """The environment of a feed: two clocks, random numbers from 0 to 1 (*jitter*), and *spawn* to start threads.

    *wake* is called when something may be due earlier than before. *on_refresh* is called with name, result and
    duration in seconds of each refresh that has ended.
    """

    monotonic: Callable[[], float]
    now: Callable[[], float]
    jitter: Callable[[], float]
    spawn: Callable[[Callable[[], None]], None]
    wake: Callable[[], None] = lambda: None
    on_refresh: Callable[[str, Refresh, float], None] = lambda _name, _result, _seconds: None
