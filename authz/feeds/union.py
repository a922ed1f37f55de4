"""One issuer's keys at several URLs: the union of the key sets, each with its own freshness.

Rules of this file:
1. If one set cannot be fetched, its last good version stays in use for `max_stale` after its fetch, and the others are
   updated.
2. Every refresh fetches all sets, concurrently and each with its own deadline: only after that is it certain that a key
   is in none of them.
3. The union is read as one key set: a key in two sets counts once, and a key whose private part is in one of them is
   rejected in all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Thread
from typing import Final

from authz.core.issuer_document import parse_document
from authz.core.keys import KeySet
from authz.feeds.failure import RefreshError
from authz.feeds.ports import Loaded
from authz.feeds.sources import KeySetReader, UrlSource
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

_MAX_CONTAINERS: Final = 1_000_000  # for documents that were read, and limited, before


@dataclass(frozen=True, slots=True)
class _Part:
    """The last good *document* of one URL, *fetched* at a monotonic time; the other fields are as in `Loaded`."""

    document: bytes
    fetched: float
    fresh_for: float | None
    authorities: str


class UnionSource:
    """The key sets at the URLs of *sources*, each used for at most *max_stale* seconds after its fetch.

    *now* is the wall clock, by which the age of each set is kept across restarts.
    """

    def __init__(
        self,
        sources: Sequence[UrlSource[KeySet]],
        reader: KeySetReader,
        *,
        max_stale: float,
        monotonic: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._sources: Final = sources
        self._reader: Final = replace(
            reader, max_bytes=reader.max_bytes * len(sources), max_keys=reader.max_keys * len(sources)
        )
        self._max_stale: Final = max_stale
        self._monotonic: Final = monotonic
        self._now: Final = now
        self._parts: dict[str, _Part] = {}

    @property
    def location(self) -> str:
        """The URLs."""
        return ", ".join(source.location for source in self._sources)

    def read(self, document: bytes) -> KeySet:
        """Parse a document that `load` returned. Raises RefreshError."""
        try:
            now, offset = self._monotonic(), self._clock_offset()
            parts = {
                url: _Part(part["document"].encode(), float(part["fetched"] - offset), None, part["authorities"])
                for url, part in json.loads(document).items()
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            raise RefreshError(Refresh.JWKS_REJECTED, "is not a union of key sets") from None
        urls = {source.location for source in self._sources}
        self._parts = {url: part for url, part in parts.items() if part.fetched <= now and url in urls}
        return self._merge()

    def load(self, *, on_demand: bool = False) -> Loaded[KeySet]:  # noqa: ARG002 - all sets are fetched in any case
        """Fetch all sets and merge them. Raises RefreshError if none could be fetched."""
        began = self._monotonic()
        outcomes = _load_all(self._sources)
        failures = [outcome for outcome in outcomes.values() if isinstance(outcome, RefreshError)]
        if len(failures) == len(self._sources):
            raise _combine(failures)
        authorities = ""
        for url, outcome in outcomes.items():
            if not isinstance(outcome, RefreshError):
                document = outcome.document if outcome.value is not None else self._parts[url].document
                self._parts[url] = _Part(document, began, outcome.fresh_for, outcome.authorities)
                authorities = outcome.authorities
        lifetimes = [part.fresh_for for part in self._parts.values() if part.fresh_for is not None]
        return Loaded(
            self._merge(),
            self._write(authorities),
            min(lifetimes, default=None),
            authorities=authorities,
            incomplete=_combine(failures) if failures else None,
        )

    def _merge(self) -> KeySet:
        """Merge the sets that are not too old into one. Raises RefreshError."""
        oldest = self._monotonic() - self._max_stale
        entries: list[object] = []
        for url, part in self._parts.items():
            if part.fetched > oldest:
                try:
                    keys = parse_document(part.document, max_containers=_MAX_CONTAINERS, quote=False).get("keys")
                except ValueError as error:
                    raise RefreshError(Refresh.JWKS_REJECTED, f"{printable(url)}: {error}") from None
                entries += keys if isinstance(keys, list) else []
        return self._reader.read(json.dumps({"keys": entries}).encode(), self.location)

    def _write(self, authorities: str) -> bytes:
        """Return the document for the disk cache: the sets that were fetched under the same *authorities*."""
        offset = self._clock_offset()
        return json.dumps(
            {
                url: {
                    "document": part.document.decode(),
                    "fetched": offset + part.fetched,
                    "authorities": part.authorities,
                }
                for url, part in self._parts.items()
                if part.authorities == authorities
            }
        ).encode()

    def _clock_offset(self) -> float:
        """Return the wall-clock time at which the monotonic clock was zero."""
        return self._now() - self._monotonic()


def _load_all(sources: Sequence[UrlSource[KeySet]]) -> Mapping[str, Loaded[KeySet] | RefreshError]:
    """Load all sources concurrently."""
    outcomes: dict[str, Loaded[KeySet] | RefreshError] = {}

    def load(source: UrlSource[KeySet]) -> None:
        try:
            outcomes[source.location] = source.load()
        except RefreshError as error:
            outcomes[source.location] = error
        except Exception as error:  # noqa: BLE001 - an error of one source must not affect the others
            text = f"internal error during the refresh: {type(error).__name__}"
            outcomes[source.location] = RefreshError(Refresh.INTERNAL_ERROR, text)

    threads = [Thread(target=load, args=(source,), name="refresh", daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # a fetch has a deadline
    return {source.location: outcomes[source.location] for source in sources}


def _combine(failures: Sequence[RefreshError]) -> RefreshError:
    delays = [error.retry_after for error in failures if error.retry_after is not None]
    return RefreshError(failures[0].result, "; ".join(map(str, failures)), retry_after=min(delays, default=None))
