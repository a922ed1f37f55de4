"""Where one issuer's key set comes from: a URL, a discovery document that names the URL, or a watched file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from authz.core.keys import MAX_KEYS, KeySet
from authz.feeds.discovery import read_jwks_uri
from authz.feeds.failure import RefreshError
from authz.feeds.http.fetch import Answer, Fetch
from authz.feeds.http.freshness import fresh_for
from authz.feeds.ports import Loaded, Source
from authz.files.stamp import FileStamp
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

MAX_VALIDATOR_CHARS: Final = 1024


KeySource: TypeAlias = Source[KeySet]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads key sets by the rules of one issuer. *local* lets symmetric keys in; *blocked* ones are set aside."""

    max_bytes: int = 256 * 1024
    max_keys: int = MAX_KEYS
    local: bool = False
    x5c_mismatch: bool = False
    blocked: tuple[str, ...] = ()

    def read(self, document: bytes, where: str) -> KeySet:
        """Return the keys, of which at least one must be usable before blocking. Raises RefreshError."""
        try:
            keys = KeySet.from_json(
                document,
                local=self.local,
                max_keys=self.max_keys,
                max_bytes=self.max_bytes,
                x5c_mismatch=self.x5c_mismatch,
            )
        except ValueError as error:
            raise RefreshError(Refresh.JWKS_REJECTED, f"{printable(where)}: {printable(str(error))}") from None
        if not keys.keys:
            whys = "; ".join(sorted({why for _, why in keys.rejected}))
            raise RefreshError(
                Refresh.JWKS_REJECTED, f"{printable(where)}: no usable key{f': {printable(whys)}' if whys else ''}"
            )
        return keys.block(self.blocked)


class UrlSource:
    """A key set at a URL."""

    def __init__(self, fetch: Fetch, url: str, reader: Reader) -> None:
        self._fetch: Final = fetch
        self._url: Final = url
        self._reader: Final = reader
        self._validators: Mapping[str, str] = {}
        self._authorities = ""  # those that the document came under which the validators are of

    @property
    def where(self) -> str:
        """The URL."""
        return self._url

    def read(self, document: bytes) -> KeySet:
        """Read a document as if it came from here. Raises RefreshError."""
        return self._reader.read(document, self._url)

    def load(self, *, on_demand: bool = False) -> Loaded[KeySet]:  # noqa: ARG002 - there is nowhere else to look
        """Fetch the set if it changed. Raises RefreshError."""
        validators = self._validators
        answer = self._fetch(self._url, validators)
        if answer.status == 304 and validators and answer.authorities != self._authorities:
            # What came under other authorities may be forged, its validators too: a 304 confirms none of it.
            validators = {}
            answer = self._fetch(self._url, validators)
        if answer.status == 304:
            if not validators:
                raise _unasked(self._url)
            return Loaded(None, fresh_for=fresh_for(answer.headers), authorities=answer.authorities)
        keys = self.read(answer.body)
        self._validators, self._authorities = _validators(answer), answer.authorities
        return Loaded(keys, answer.body, fresh_for(answer.headers), answer.authorities)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryTimes:
    """How long an answer of discovery counts, in seconds; see DiscoverySource."""

    every: float
    search_every: float
    trust_for: float


class DiscoverySource:
    """A key set that the issuer's discovery document leads to.

    1. The document is asked again every *every* seconds, after keys could not be fetched, and on demand if the known
       URL has no news; in the last case at most every *search_every* seconds.
    2. A document that says something unacceptable stops the refresh. One that does not come leaves the URL that last
       gave keys in use, for at most *trust_for* seconds.
    3. If keys came under other authorities than the document, the document is asked again with the next refresh.
    """

    def __init__(
        self,
        fetch: Fetch,
        url: str,
        reader: Reader,
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
        self._keys: UrlSource | None = None  # at the URL that last gave keys
        self._last: KeySet | None = None
        self._asked_at = 0.0
        self._suspect = False
        self._authorities = ""  # those that the document came under

    @property
    def where(self) -> str:
        """The URL of the discovery document, and that of the keys once it is known."""
        return self._discovery_url if self._keys is None else f"{self._discovery_url} -> {self._keys.where}"

    def read(self, document: bytes) -> KeySet:
        """Read a document as if it came from here. Raises RefreshError."""
        return self._reader.read(document, self._discovery_url)

    def load(self, *, on_demand: bool = False) -> Loaded[KeySet]:
        """Fetch the set if it changed, from where discovery says. Raises RefreshError."""
        age = self._monotonic() - self._asked_at
        if self._keys is None or self._suspect or age >= self._times.every:
            return self._load_from(*self._locate())
        before = self._last
        loaded = self._load_from(self._keys, None)
        if not on_demand or age < self._times.search_every or loaded.value not in (None, before):
            return loaded
        source, discovered_at = self._locate()
        if source is not self._keys:
            return self._load_from(source, discovered_at)
        self._mark_fresh(discovered_at)
        return loaded

    def _load_from(self, source: UrlSource, discovered_at: float | None) -> Loaded[KeySet]:
        """Load from a *source* that the document named at *discovered_at*; None: it was not asked, or did not come."""
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
            self._asked_at, self._suspect = discovered_at, False

    def _locate(self) -> tuple[UrlSource, float | None]:
        """Ask the document where the keys are. Raises RefreshError."""
        now = self._monotonic()
        try:
            answer = self._fetch(self._discovery_url, {})
        except RefreshError:
            self._suspect = True
            if self._keys is None or now - self._asked_at >= self._times.trust_for:
                raise
            return self._keys, None
        self._suspect = True  # until what it says has given keys
        self._authorities = answer.authorities
        if answer.status == 304:
            raise _unasked(self._discovery_url)
        try:
            url = read_jwks_uri(answer.body, issuer=self._issuer)
        except ValueError as error:
            text = f"{printable(self._discovery_url)}: {error}"
            raise RefreshError(Refresh.DISCOVERY_REJECTED, text) from None
        if self._keys is not None and self._keys.where == url:
            return self._keys, now
        return UrlSource(self._fetch, url, self._reader), now


class FileSource:
    """A key set in a local file; a look at an unchanged file costs one stat. The only source of symmetric keys."""

    def __init__(self, path: Path, reader: Reader) -> None:
        self._path: Final = path
        self._reader: Final = reader
        self._seen: FileStamp | None = None

    @property
    def where(self) -> str:
        """The file."""
        return str(self._path)

    def read(self, document: bytes) -> KeySet:
        """Read a document as if it came from here. Raises RefreshError."""
        return self._reader.read(document, self.where)

    def load(self, *, on_demand: bool = False) -> Loaded[KeySet]:  # noqa: ARG002 - there is nowhere else to look
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
        keys = self.read(document)
        self._seen = stamp
        return Loaded(keys, document)


def _unasked(url: str) -> RefreshError:
    return RefreshError(Refresh.STATUS, f"{printable(url)}: HTTP status 304 to a request without a condition")


def _validators(answer: Answer) -> dict[str, str]:
    """Return the request headers that ask for news only (RFC 9110 section 13.1).

    A value that could not be sent back is not kept: it would make every later request fail.
    """
    pairs = (("if-none-match", answer.headers.get("etag")), ("if-modified-since", answer.headers.get("last-modified")))
    return {
        name: value
        for name, value in pairs
        if value and len(value) <= MAX_VALIDATOR_CHARS and value.isascii() and value.isprintable()
    }
