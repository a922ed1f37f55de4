"""Whether an issuer's tokens name a status list, and how lists are fetched (draft-ietf-oauth-status-list)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from authz.config.section import Access, Duration, Items, Section, Setting, Size


class StatusList(Section):
    """Status lists that tokens name: a revoked token is refused."""

    uris: Annotated[
        Items[str],
        Field(examples=[["https://status.example.com/lists/"]]),
        Setting(Access.UNKNOWN, meaning="lists come from elsewhere"),
    ]
    """URIs of lists, or what they begin with, if it ends in a slash; others are not fetched."""
    required: Annotated[
        bool, Setting(Access.UNKNOWN, meaning="tokens without a reference to a list may pass, or not")
    ] = True
    """Refuse tokens that name no list."""
    accepted: Annotated[Items[int], Setting(Access.LISTED)] = (0,)
    """Statuses that pass: 0 is VALID, 2 SUSPENDED, 3 and above have a meaning of the issuer's; 1, INVALID, never."""
    interval: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("1s", "24h"), meaning="a revoked token passes for so long")
    ] = timedelta(minutes=5)
    """Time until a list that is in use is fetched again, unless its ttl is shorter."""
    max_stale: Annotated[
        Duration,
        Setting(Access.LIMIT, bounds=("1s", "168h"), meaning="without a fresh list, the last one serves longer"),
    ] = timedelta(minutes=15)
    """How long a list stays in use while it cannot be fetched again; at most until it expires. Then: 503."""
    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "1m"))] = timedelta(seconds=5)
    """Bound of one whole exchange."""
    max_wait: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"), envoy=True)] = timedelta(seconds=1)
    """Longest time that a request waits for a list that is not there yet."""
    max_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "16MiB"))] = 1024 * 1024
    """Largest list that is read."""
    max_inflated: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "64MiB"))] = 4 * 1024 * 1024
    """Largest size of its entries: 4MiB are 32 million entries of one bit."""
    max_lists: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "1000"))] = 16
    """Lists that are kept in memory."""
