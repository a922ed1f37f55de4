"""How an issuer is asked for the upstream's token in exchange for the caller's (RFC 8693)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from authz.config.declaring import Field
from authz.config.introspection import Client
from authz.config.outbound import MaxCached, MaxConcurrent, MaxPerSecondAtIssuer, MaxWait, Timeout
from authz.config.section import Access, Duration, Items, Section, Setting, Word
from authz.core.exchange import TokenType


class Exchange(Section):
    """Has an issuer give the token instead (RFC 8693)."""

    issuer: Annotated[str, Field(examples=["corporate"]), Setting(Access.UNKNOWN)]
    """The issuer that is asked; its fetch settings hold."""
    url: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """Token endpoint; default: from discovery."""
    client: Client
    """The client that asks, with one of four proofs."""
    subjects: Annotated[Items[str], Field(examples=[["corporate"]]), Setting(Access.LISTED)] = ()
    """Issuers whose tokens are sent there; default: its own. Others are denied."""
    token_type: Annotated[Word[TokenType], Setting(Access.UNKNOWN)] = TokenType.ACCESS_TOKEN
    """Kind of token that is requested."""
    timeout: Timeout = timedelta(seconds=2)
    max_wait: MaxWait = timedelta(seconds=1)
    cache: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "1h"))] = timedelta(minutes=5)
    """How long a token is used again."""
    cache_refused: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "1m"))] = timedelta(seconds=5)
    """The same for a refused token."""
    max_cached: MaxCached = 10_000
    max_concurrent: MaxConcurrent = 16
    max_per_second: MaxPerSecondAtIssuer = 100
