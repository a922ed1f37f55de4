"""How an issuer is asked for the upstream's token in exchange for the caller's (RFC 8693)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from authz.config.declaring import Field
from authz.config.introspection import Client
from authz.config.outbound import MaxCached, MaxConcurrent, MaxPerSecondAtIssuer, MaxWait, Timeout
from authz.config.section import Access, Choice, Duration, Items, Section, Setting
from authz.core.exchange import TokenType


class Exchange(Section):
    """Get the token from an issuer (RFC 8693)."""

    issuer: Annotated[str, Field(examples=["corporate"]), Setting(Access.UNKNOWN)]
    """Issuer; its fetch settings apply."""
    url: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """Endpoint; default: from discovery."""
    client: Client
    """Our client and its credentials."""
    subjects: Annotated[Items[str], Field(examples=[["corporate"]]), Setting(Access.LISTED)] = ()
    """Issuers whose tokens are exchanged; default: this one. Others get 403."""
    token_type: Annotated[Choice[TokenType], Setting(Access.UNKNOWN)] = TokenType.ACCESS_TOKEN
    """Requested type."""
    timeout: Timeout = timedelta(seconds=2)
    max_wait: MaxWait = timedelta(seconds=1)
    cache: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "1h"))] = timedelta(minutes=5)
    """How long an answer serves."""
    cache_refused: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "1m"))] = timedelta(seconds=5)
    """How long refusals are cached."""
    max_cached: MaxCached = 10_000
    max_concurrent: MaxConcurrent = 16
    max_per_second: MaxPerSecondAtIssuer = 100
