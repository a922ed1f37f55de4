"""Documents about the sidecar's own keys, which it serves through Envoy if the configuration says so.

They are served to any client before rules are evaluated, but each only at one host and path, and only for GET and HEAD.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self
from urllib.parse import urlsplit

from authz.core.reasons import Rejected
from authz.core.request import Target, canonical_host, parse_path
from authz.core.resource_metadata import METHODS

KEYS_PATH: Final = "/.well-known/jwks.json"
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class PublishedDocument:
    """The JSON document *body*, served for *segments* of *host*. Caches may keep it for *max_age* seconds."""

    host: str
    segments: tuple[str, ...]
    body: str
    max_age: int

    @classmethod
    def served_at(cls, url: str, body: str, *, max_age: int) -> Self:
        """Return the document at *url*. Raises ValueError if host or path have no canonical form."""
        parts = urlsplit(url)
        try:
            host, path = canonical_host(parts.netloc), parse_path(parts.path or "/")
        except Rejected as rejected:
            raise ValueError(rejected.detail) from None
        if path.encodings:
            raise ValueError("its path is ambiguous: servers interpret it differently")
        return cls(host, path.segments, body, max_age)

    @property
    def etag(self) -> str:
        """The strong entity tag (RFC 9110 section 8.8.3): it changes with the content."""
        return etag_of(self.body)

    def matches(self, target: Target) -> bool:
        """Return whether *target* is a request for the document."""
        return (
            target.path.segments == self.segments
            and target.host == self.host
            and target.method in METHODS
            and not target.path.encodings
        )


def etag_of(body: str) -> str:
    """Return the strong entity tag of *body*."""
    return f'"{sha256(body.encode()).hexdigest()[:32]}"'


def is_current(if_none_match: str | None, etag: str) -> bool:
    """Return whether a client has the document with this *etag* (RFC 9110 section 13.1.2: weak comparison)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return tags == ["*"] or etag in tags
