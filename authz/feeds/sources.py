"""Where one issuer's key set comes from: a URL, a discovery document that names the URL, or a watched file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from authz.core.keys import KeySet
from authz.feeds.discovery import read_jwks_uri
from authz.feeds.fetch import Answer, Fetch, FetchError
from authz.feeds.freshness import fresh_for


class SourceError(Exception):
    """Raised where no usable key set came. *result* is a word for metrics.

    *wait* is how long the source asked to be left alone, in seconds.
    """

    def __init__(self, result: str, detail: str, *, wait: float | None = None) -> None:
        super().__init__(detail)
        self.result = result
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a source has now: new keys, or None for those it gave last; fresh for seconds, None if unsaid."""

    keys: KeySet | None
    fresh_for: float | None = None


class KeySource(Protocol):
    """Gives the current key set of one issuer."""

    def load(self) -> Loaded:
        """Look for the current set. Raises SourceError."""


class UrlSource:
    """A key set at a URL, which is fixed or found by *locate*."""

    def __init__(self, fetch: Fetch, locate: Callable[[], str], *, max_keys: int) -> None:
        self._fetch: Final = fetch
        self._locate: Final = locate
        self._max_keys: Final = max_keys
        self._validators: tuple[str, Mapping[str, str]] = ("", {})

    def load(self) -> Loaded:
        """Fetch the set if it changed. Raises SourceError."""
        url = self._locate()
        known_url, validators = self._validators
        answer = _get(self._fetch, url, validators if url == known_url else {})
        if answer.status == 304:
            return Loaded(None, fresh_for(answer.headers))
        keys = _read_keys(answer.body, url, max_keys=self._max_keys, local=False)
        self._validators = (url, _validators(answer))
        return Loaded(keys, fresh_for(answer.headers))


class Discovery:
    """Finds the URL of an issuer's keys, and remembers it until it is old or the keys cannot be fetched."""

    def __init__(self, fetch: Fetch, url: str, *, issuer: str, every: float, monotonic: Callable[[], float]) -> None:
        self._fetch: Final = fetch
        self._url: Final = url
        self._issuer: Final = issuer
        self._every: Final = every
        self._monotonic: Final = monotonic
        self._found: str | None = None
        self._found_at = 0.0

    def locate(self) -> str:
        """Return the URL of the keys. Raises SourceError."""
        now = self._monotonic()
        if self._found is None or now - self._found_at >= self._every:
            answer = _get(self._fetch, self._url, {})
            try:
                self._found = read_jwks_uri(answer.body, issuer=self._issuer)
            except ValueError as error:
                raise SourceError("discovery_rejected", f"{self._url}: {error}") from None
            self._found_at = now
        return self._found

    def forget(self) -> None:
        """Look again next time."""
        self._found = None


class DiscoverySource:
    """A key set that the issuer's discovery document leads to."""

    def __init__(self, discovery: Discovery, fetch: Fetch, *, max_keys: int) -> None:
        self._discovery: Final = discovery
        self._keys: Final = UrlSource(fetch, discovery.locate, max_keys=max_keys)

    def load(self) -> Loaded:
        """Fetch the set if it changed, from where discovery says. Raises SourceError."""
        try:
            return self._keys.load()
        except SourceError:
            self._discovery.forget()
            raise


class FileSource:
    """A key set in a local file; a look at an unchanged file costs one stat. The only source of symmetric keys."""

    def __init__(self, path: Path, *, max_bytes: int, max_keys: int) -> None:
        self._path: Final = path
        self._max_bytes: Final = max_bytes
        self._max_keys: Final = max_keys
        self._seen: tuple[int, ...] | None = None

    def load(self) -> Loaded:
        """Read the file if it changed. Raises SourceError."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return Loaded(None)
            if stat.st_size > self._max_bytes:
                raise SourceError("too_large", f"{self._path}: {stat.st_size} bytes, at most {self._max_bytes}")
            document = self._path.read_bytes()
        except OSError as error:
            raise SourceError("unreachable", f"{self._path}: {error.strerror}") from None
        keys = _read_keys(document, str(self._path), max_keys=self._max_keys, local=True)
        self._seen = seen
        return Loaded(keys)


def _get(fetch: Fetch, url: str, validators: Mapping[str, str]) -> Answer:
    try:
        answer = fetch(url, validators)
    except FetchError as error:
        raise SourceError(error.result, str(error), wait=error.wait) from error
    if answer.status == 304 and not validators:
        raise SourceError("status", f"{url}: HTTP status 304 to a request without a condition")
    return answer


def _read_keys(document: bytes, where: str, *, max_keys: int, local: bool) -> KeySet:
    try:
        keys = KeySet.from_json(document, local=local, max_keys=max_keys)
    except ValueError as error:
        raise SourceError("jwks_rejected", f"{where}: {error}") from None
    if not keys.keys:
        whys = sorted({why for _, why in keys.rejected})
        raise SourceError("jwks_rejected", f"{where}: no usable key{': ' + '; '.join(whys) if whys else ''}")
    return keys


def _validators(answer: Answer) -> dict[str, str]:
    """Return the request headers that ask for news only (RFC 9110 section 13.1)."""
    pairs = (("if-none-match", answer.headers.get("etag")), ("if-modified-since", answer.headers.get("last-modified")))
    return {name: value for name, value in pairs if value}
