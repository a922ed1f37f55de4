"""Settings that calls to other systems share, each described once: trust, credentials, bounds."""

from __future__ import annotations

from typing import Annotated

from authz.config.declaring import Field
from authz.config.section import Access, Duration, Setting, Size

CaFile = Annotated[str | None, Field(description="Trusted CAs (PEM), not the system's."), Setting(Access.UNKNOWN)]
ClientCertFile = Annotated[
    str | None,
    Field(description="Client certificate with chain, and its key (PEM, no password)."),
    Setting(Access.UNAFFECTED),
]
ClientKeyFile = Annotated[
    str | None,
    Field(description="Client certificate with chain, and its key (PEM, no password)."),
    Setting(Access.UNAFFECTED),
]
BearerTokenFile = Annotated[str | None, Field(description="Bearer token."), Setting(Access.UNAFFECTED)]
BasicCredentialsFile = Annotated[str | None, Field(description="`user:password` (Basic)."), Setting(Access.UNAFFECTED)]
Proxy = Annotated[str | None, Field(description="HTTP proxy."), Setting(Access.UNKNOWN)]

_WHOLE = Field(description="Time for an exchange, name resolution included.")
Timeout = Annotated[Duration, _WHOLE, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"))]
"""For questions that requests wait for."""
FetchTimeout = Annotated[Duration, _WHOLE, Setting(Access.UNAFFECTED, bounds=("1ms", "1m"))]
"""For documents that are fetched in the background."""
MaxWait = Annotated[
    Duration,
    Field(description="Wait of a request."),
    Setting(Access.UNAFFECTED, bounds=("1ms", "10s"), envoy=True),
]
MaxBytes = Annotated[Size, Field(description="Size of an answer."), Setting(Access.UNAFFECTED, bounds=("1KiB", "1MiB"))]
MaxCached = Annotated[int, Field(description="Answers in memory."), Setting(Access.UNAFFECTED, bounds=("1", "1000000"))]
MaxConcurrent = Annotated[
    int,
    Field(description="Questions at a time, on threads."),
    Setting(Access.UNAFFECTED, bounds=("1", "256")),
]
_RATE = Field(description="Questions a second; also the burst.")
MaxPerSecond = Annotated[int, _RATE, Setting(Access.UNAFFECTED, bounds=("1", "100000"))]
MaxPerSecondAtIssuer = Annotated[int, _RATE, Setting(Access.UNAFFECTED, bounds=("1", "10000"))]
