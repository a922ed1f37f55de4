"""Whether an issuer's tokens name a status list, and how lists are fetched (draft-ietf-oauth-status-list)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from authz.config.declaring import Field
from authz.config.outbound import FetchTimeout, MaxWait
from authz.config.section import Access, Duration, Items, Section, Setting, Size


class StatusList(Section):
    """Status lists that tokens name."""

    uris: Annotated[
        Items[str],
        Field(examples=[["https://status.example.com/lists/"]]),
        Setting(Access.UNKNOWN, meaning="lists come from elsewhere"),
    ]
    """URIs of lists; a final slash makes a prefix."""
    jwks_uri: Annotated[
        str | None,
        Field(examples=["https://status.example.com/keys"]),
        Setting(Access.UNKNOWN, meaning="lists are signed by other keys"),
    ] = None
    """Keys of the lists; default: the issuer's."""
    required: Annotated[
        bool, Setting(Access.UNKNOWN, meaning="tokens without a reference to a list may pass, or not")
    ] = True
    """Refuse tokens without one."""
    accepted: Annotated[Items[int], Setting(Access.LISTED)] = (0,)
    """Accepted statuses: 0 VALID, 2 SUSPENDED, from 3 the issuer's."""
    interval: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("1s", "24h"), meaning="a revoked token passes for so long")
    ] = timedelta(minutes=5)
    """Time between fetches."""
    max_stale: Annotated[
        Duration,
        Setting(Access.LIMIT, bounds=("1s", "168h"), meaning="without a fresh list, the last one serves longer"),
    ] = timedelta(minutes=15)
    """How long a list serves if fetches fail; then 503."""
    timeout: FetchTimeout = timedelta(seconds=5)
    max_wait: MaxWait = timedelta(seconds=1)
    max_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "16MiB"))] = 1024 * 1024
    """Size of an answer."""
    max_inflated: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "64MiB"))] = 4 * 1024 * 1024
    """Size of the entries of a list."""
    max_lists: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "1000"))] = 16
    """Lists in memory."""
