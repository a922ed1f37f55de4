"""One issuer's keys at several URLs: the union of their sets, each of which is fresh or stale for itself.

Rules of this file:
1. A set that cannot be fetched takes none of the others' keys away: its own last good one counts on, for `max_stale`
   after it was fetched, and the fetch of the others counts in full.
2. All are fetched at the same time, each within its own deadline, at every refresh: also while one of them fails, for a
   refresh that did not ask all of them could not tell that a key is nowhere.
3. The union is read like one set that has all of the keys: what is one key in two sets counts once, and a key whose
   private part one of them publishes is lost in all.
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
from authz.feeds.sources import Reader, UrlSource
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

_CONTAINERS: Final = 1_000_000  # of a document that was read before


@dataclass(frozen=True, slots=True)
class _Part:
    """The last good *document* of one URL, *fetched* at so many monotonic seconds.

    *fresh_for* and *authorities* are as `Loaded` has them.
    """

    document: bytes
    fetched: float
    fresh_for: float | None
    authorities: str


class UnionSource:
    """The key sets at the URLs of *sources*, each of which serves for *max_stale* seconds.

    *now* is the wall clock: by it the age of each set outlives a restart.
    """

    def __init__(
        self,
        sources: Sequence[UrlSource],
        reader: Reader,
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
    def where(self) -> str:
        """The URLs."""
        return ", ".join(source.where for source in self._sources)

    def read(self, document: bytes) -> KeySet:
        """Read what `load` gave as the document. Raises RefreshError."""
        try:
            now, started = self._monotonic(), self._started()
            parts = {
                url: _Part(part["document"].encode(), float(part["fetched"] - started), None, part["authorities"])
                for url, part in json.loads(document).items()
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            raise RefreshError(Refresh.JWKS_REJECTED, "is no union of key sets") from None
        urls = {source.where for source in self._sources}
        self._parts = {url: part for url, part in parts.items() if part.fetched <= now and url in urls}
        return self._unite()

    def load(self, *, on_demand: bool = False) -> Loaded[KeySet]:  # noqa: ARG002 - all are asked in any case
        """Fetch the sets, and unite those that there are. Raises RefreshError if none could be fetched."""
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
        said = [part.fresh_for for part in self._parts.values() if part.fresh_for is not None]
        return Loaded(
            self._unite(),
            self._write(authorities),
            min(said, default=None),
            authorities=authorities,
            incomplete=_combine(failures) if failures else None,
        )

    def _unite(self) -> KeySet:
        """Read the sets that are not too old as one. Raises RefreshError."""
        oldest = self._monotonic() - self._max_stale
        entries: list[object] = []
        for url, part in self._parts.items():
            if part.fetched > oldest:
                try:
                    keys = parse_document(part.document, max_containers=_CONTAINERS, quote=False).get("keys")
                except ValueError as error:
                    raise RefreshError(Refresh.JWKS_REJECTED, f"{printable(url)}: {error}") from None
                entries += keys if isinstance(keys, list) else []
        return self._reader.read(json.dumps({"keys": entries}).encode(), self.where)

    def _write(self, authorities: str) -> bytes:
        """Write what is kept for others: the sets for which the same *authorities* vouch."""
        started = self._started()
        return json.dumps(
            {
                url: {
                    "document": part.document.decode(),
                    "fetched": started + part.fetched,
                    "authorities": part.authorities,
                }
                for url, part in self._parts.items()
                if part.authorities == authorities
            }
        ).encode()

    def _started(self) -> float:
        """Return the zero of the monotonic clock, in seconds since the epoch."""
        return self._now() - self._monotonic()


def _load_all(sources: Sequence[UrlSource]) -> Mapping[str, Loaded[KeySet] | RefreshError]:
    """Load all of them at the same time."""
    outcomes: dict[str, Loaded[KeySet] | RefreshError] = {}

    def load(source: UrlSource) -> None:
        try:
            outcomes[source.where] = source.load()
        except RefreshError as error:
            outcomes[source.where] = error
        except Exception as error:  # noqa: BLE001 - one source's trouble is not the others'
            text = f"the refresh itself broke: {type(error).__name__}"
            outcomes[source.where] = RefreshError(Refresh.INTERNAL_ERROR, text)

    threads = [Thread(target=load, args=(source,), name="refresh", daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # a fetch has a deadline
    return {source.where: outcomes[source.where] for source in sources}


def _combine(failures: Sequence[RefreshError]) -> RefreshError:
    waits = [error.wait for error in failures if error.wait is not None]
    return RefreshError(failures[0].result, "; ".join(map(str, failures)), wait=min(waits, default=None))
