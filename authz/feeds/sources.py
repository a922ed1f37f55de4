"""Sources of a document: a URL or a watched file; and of one issuer's key set: a discovery document with the URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from authz.core.keys import MAX_KEYS, KeySet
from authz.feeds.discovery import read_jwks_uri
from authz.feeds.failure import RefreshError
from authz.feeds.http.fetch import Fetch, Response
from authz.feeds.http.freshness import fresh_for
from authz.feeds.ports import Loaded, Source
from authz.files.stamp import FileStamp
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

MAX_VALIDATOR_CHARS: Final = 1024


KeySource: TypeAlias = Source[KeySet]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class DocumentReader(Protocol[T_co]):
    """Reads documents of one kind."""

    @property
    def max_bytes(self) -> int:
        """The largest document that is read from a file."""

    def read(self, document: bytes, location: str) -> T_co:
        """Parse a document that was read from *location*. Raises RefreshError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySetReader:
    """Reads key sets by the settings of one issuer. *local* allows symmetric keys; *blocked* keys are rejected."""

    max_bytes: int = 256 * 1024
    max_keys: int = MAX_KEYS
    local: bool = False
    x5c_mismatch: bool = False
    blocked: tuple[str, ...] = ()

    def read(self, document: bytes, location: str) -> KeySet:
        """Return the keys; at least one must be usable, blocked or not. Raises RefreshError."""
        try:
            keys = KeySet.from_json(
                document,
                local=self.local,
                max_keys=self.max_keys,
                max_bytes=self.max_bytes,
                x5c_mismatch=self.x5c_mismatch,
            )
        except ValueError as error:
            raise RefreshError(Refresh.JWKS_REJECTED, f"{printable(location)}: {printable(str(error))}") from None
        if not keys.keys:
            reasons = "; ".join(sorted({why for _, why in keys.rejected}))
            raise RefreshError(
                Refresh.JWKS_REJECTED,
                f"{printable(location)}: no usable key{f': {printable(reasons)}' if reasons else ''}",
            )
        return keys.block(self.blocked)


class UrlSource(Generic[T]):
    """A document at a URL."""

    def __init__(self, fetch: Fetch, url: str, reader: DocumentReader[T]) -> None:
        self._fetch: Final = fetch
        self._url: Final = url
        self._reader: Final = reader
        self._validators: Mapping[str, str] = {}
        self._authorities = ""  # the CA digest when the validators were received

    @property
    def location(self) -> str:
        """The URL."""
        return self._url

    def read(self, document: bytes) -> T:
        """Parse a document as if it came from this source. Raises RefreshError."""
        return self._reader.read(document, self._url)

    def load(self, *, on_demand: bool = False) -> Loaded[T]:  # noqa: ARG002 - there is only one place to load from
        """Fetch the document if it changed. Raises RefreshError."""
        validators = self._validators
        response = self._fetch(self._url, validators)
        if response.status == 304 and validators and response.authorities != self._authorities:
            # After a change of the CA, the earlier document may be forged: a 304 for it proves nothing.
            validators = {}
            response = self._fetch(self._url, validators)
        if response.status == 304:
            if not validators:
                raise _unexpected_304(self._url)
            return Loaded(None, fresh_for=fresh_for(response.headers), authorities=response.authorities)
        value = self.read(response.body)
        self._validators, self._authorities = _validators(response), response.authorities
        return Loaded(value, response.body, fresh_for(response.headers), response.authorities)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryTimes:
    """How long a discovery document is used, in seconds; see DiscoverySource."""

    interval: float
    on_demand_interval: float
    max_stale: float


class DiscoverySource:
    """A key set at the URL in the issuer's discovery document.

    1. The discovery document is fetched again after *interval* seconds, after a failed fetch of the keys, and on demand
       if the keys at the known URL have not changed; in the last case at most every *on_demand_interval* seconds.
    2. If the discovery document is invalid, the refresh fails. If it cannot be fetched, the last URL that gave keys
       stays in use, for at most *max_stale* seconds.
    3. If the CA changed between the fetches of document and keys, the document is fetched again with the next refresh.
    """

    def __init__(
        self,
        fetch: Fetch,
        url: str,
        reader: KeySetReader,
        *,
        issuer: str,
        times: DiscoveryTimes,
        monotonic: Callable[[], float],
    ) -> None:
        self._fetch: Final = fetch
        self._discovery_url: Final = url
        self._reader: Final = reader
        self._issuer: Final = issuer
        self._times: Final = times
        self._monotonic: Final = monotonic
        self._keys: UrlSource[KeySet] | None = None  # at the last URL that gave keys
        self._last: KeySet | None = None
        self._discovered_at = 0.0
        self._suspect = False
        self._authorities = ""  # the CA digest when the discovery document was fetched

    @property
    def location(self) -> str:
        """The URL of the discovery document, and that of the keys once it is known."""
        return self._discovery_url if self._keys is None else f"{self._discovery_url} -> {self._keys.location}"

    def read(self, document: bytes) -> KeySet:
        """Parse a document as if it came from this source. Raises RefreshError."""
        return self._reader.read(document, self._discovery_url)

    def load(self, *, on_demand: bool = False) -> Loaded[KeySet]:
        """Fetch the set, if it changed, from the URL in the discovery document. Raises RefreshError."""
        age = self._monotonic() - self._discovered_at
        if self._keys is None or self._suspect or age >= self._times.interval:
            return self._load_from(*self._locate())
        before = self._last
        loaded = self._load_from(self._keys, None)
        if not on_demand or age < self._times.on_demand_interval or loaded.value not in (None, before):
            return loaded
        source, discovered_at = self._locate()
        if source is not self._keys:
            return self._load_from(source, discovered_at)
        self._mark_fresh(discovered_at)
        return loaded

    def _load_from(self, source: UrlSource[KeySet], discovered_at: float | None) -> Loaded[KeySet]:
        """Load from *source*, which the discovery document named at *discovered_at*; None if it was not fetched."""
        try:
            loaded = source.load()
        except RefreshError:
            self._suspect = True
            raise
        self._keys = source
        self._last = loaded.value if loaded.value is not None else self._last
        self._mark_fresh(discovered_at)
        self._suspect = self._suspect or loaded.authorities != self._authorities
        return loaded

    def _mark_fresh(self, discovered_at: float | None) -> None:
        if discovered_at is not None:
            self._discovered_at, self._suspect = discovered_at, False

    def _locate(self) -> tuple[UrlSource[KeySet], float | None]:
        """Fetch the discovery document; return the source of keys and the time, None if the fetch failed.

        Raises RefreshError.
        """
        now = self._monotonic()
        try:
            response = self._fetch(self._discovery_url, {})
        except RefreshError:
            self._suspect = True
            if self._keys is None or now - self._discovered_at >= self._times.max_stale:
                raise
            return self._keys, None
        self._suspect = True  # until its URL has given keys
        self._authorities = response.authorities
        if response.status == 304:
            raise _unexpected_304(self._discovery_url)
        try:
            url = read_jwks_uri(response.body, issuer=self._issuer)
        except ValueError as error:
            text = f"{printable(self._discovery_url)}: {error}"
            raise RefreshError(Refresh.DISCOVERY_REJECTED, text) from None
        if self._keys is not None and self._keys.location == url:
            return self._keys, now
        return UrlSource(self._fetch, url, self._reader), now


class FileSource(Generic[T]):
    """A document in a local file, read only if its stamp changed. The only source of symmetric keys."""

    def __init__(self, path: Path, reader: DocumentReader[T]) -> None:
        self._path: Final = path
        self._reader: Final = reader
        self._seen: FileStamp | None = None

    @property
    def location(self) -> str:
        """The file."""
        return str(self._path)

    def read(self, document: bytes) -> T:
        """Parse a document as if it came from this source. Raises RefreshError."""
        return self._reader.read(document, self.location)

    def load(self, *, on_demand: bool = False) -> Loaded[T]:  # noqa: ARG002 - there is only one place to load from
        """Read the file if it changed. Raises RefreshError."""
        try:
            stamp = FileStamp.of(self._path)  # before the content is read
            if stamp == self._seen:
                return Loaded(None)
            if not stamp.is_regular:
                raise RefreshError(Refresh.MISCONFIGURED, f"{self._path}: is not a file")
            with self._path.open("rb") as file:
                document = file.read(self._reader.max_bytes + 1)
        except OSError as error:
            raise RefreshError(Refresh.UNREACHABLE, f"{self._path}: {error.strerror}") from None
        if len(document) > self._reader.max_bytes:
            text = f"{self._path}: more than {self._reader.max_bytes} bytes (fetch.max_bytes)"
            raise RefreshError(Refresh.TOO_LARGE, text)
        value = self.read(document)
        self._seen = stamp
        return Loaded(value, document)


def _unexpected_304(url: str) -> RefreshError:
    return RefreshError(Refresh.STATUS, f"{printable(url)}: HTTP status 304 to a request without a condition")


def _validators(response: Response) -> dict[str, str]:
    """Return the headers for a conditional request (RFC 9110 section 13.1).

    A value that cannot be sent back is ignored: every later request would fail.
    """
    pairs = (
        ("if-none-match", response.headers.get("etag")),
        ("if-modified-since", response.headers.get("last-modified")),
    )
    return {
        name: value
        for name, value in pairs
        if value and len(value) <= MAX_VALIDATOR_CHARS and value.isascii() and value.isprintable()
    }
