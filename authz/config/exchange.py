"""How an issuer is asked for the upstream's token in exchange for the caller's (RFC 8693)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from authz.config.introspection import Client
from authz.config.section import Access, Duration, Items, Section, Setting, Word
from authz.core.exchange import TokenKind


class Exchange(Section):
    """How an issuer is asked for the upstream's token in exchange for the caller's."""

    issuer: Annotated[str, Field(examples=["corporate"]), Setting(Access.UNKNOWN)]
    """The name of the issuer (issuers) whose server is asked; its fetch settings hold."""
    url: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """URL of the token endpoint; without it discovery names it, on the issuer's own host and port."""
    client: Client
    """Who asks."""
    subjects: Annotated[Items[str], Field(examples=[["corporate"]]), Setting(Access.LISTED)] = ()
    """Names of the issuers whose tokens are sent there; by default its own. Callers of others are denied."""
    token_type: Annotated[Word[TokenKind], Setting(Access.UNKNOWN)] = TokenKind.ACCESS_TOKEN
    """The kind of token that is asked for, and the only one that is accepted."""
    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"))] = timedelta(seconds=2)
    """Bound of one whole exchange with the server."""
    max_wait: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"), envoy=True)] = timedelta(seconds=1)
    """Longest time that a request waits for the answer."""
    cache: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "1h"))] = timedelta(minutes=5)
    """How long a token is used again; at most until 10 seconds before its end."""
    cache_refused: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "1m"))] = timedelta(seconds=5)
    """How long a refused token is not sent again."""
    max_cached: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "1000000"))] = 10_000
    """Largest number of tokens that are kept."""
    max_concurrent: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "256"))] = 16
    """Questions that are under way at one time, each on a thread and a connection."""
    max_per_second: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "10000"))] = 100
    """Questions a second; so many may come at once."""
