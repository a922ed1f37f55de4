"""The risk engine: where it is, what it is asked, and what a failure counts as."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from authz.config.address import is_on_this_host
from authz.config.declaring import Field
from authz.config.outbound import (
    BasicCredentialsFile,
    BearerTokenFile,
    CaFile,
    ClientCertFile,
    ClientKeyFile,
    MaxBytes,
    MaxCached,
    MaxConcurrent,
    MaxPerSecond,
    MaxWait,
    Timeout,
)
from authz.config.section import Access, Choice, Duration, Items, Section, Setting


class RiskKind(StrEnum):
    """The protocol of a risk engine: a POST of JSON."""

    HTTP = "http"


class OnError(Section):
    """What rules read if the engine is unreachable (also 502 to 504) or slow; without it, 503."""

    level: Annotated[str | None, Setting(Access.UNKNOWN, meaning="other requests pass while the engine is down")] = None
    """If the engine is unreachable (also 502 to 504) or slow; without both, 503."""
    score: Annotated[float | None, Setting(Access.UNKNOWN, meaning="other requests pass while the engine is down")] = (
        None
    )
    """If the engine is unreachable (also 502 to 504) or slow; without both, 503."""


class InsecureRisk(Section):
    """Options that weaken the answers of the engine."""

    http: Annotated[
        bool, Setting(Access.LOOSENED, risk="anyone who controls the network to this engine controls its answers")
    ] = False
    """Plain HTTP beyond this host."""


class Risk(Section):
    """Engine for `risk.level` and `risk.score`."""

    kind: Annotated[Choice[RiskKind], Setting(Access.UNKNOWN)] = RiskKind.HTTP
    """POST of issuer, subject, client, address, headers; answer: level or score."""
    url: Annotated[str, Setting(Access.UNKNOWN)]
    """Its URL."""
    bearer_token_file: BearerTokenFile = None
    basic_credentials_file: BasicCredentialsFile = None
    client_cert_file: ClientCertFile = None
    client_key_file: ClientKeyFile = None
    ca_file: CaFile = None
    send_headers: Annotated[Items[str], Field(examples=[["user-agent"]]), Setting(Access.UNKNOWN)] = ()
    """Request headers, in lower case."""
    on_error: Annotated[OnError | None, Field(examples=[{"level": "high"}])] = None
    """What rules read if the engine is unreachable (also 502 to 504) or slow; without it, 503."""
    timeout: Timeout = timedelta(milliseconds=500)
    max_wait: MaxWait = timedelta(milliseconds=500)
    cache: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("0s", "1h"), meaning="an answer that has changed stays in use so long")
    ] = timedelta(seconds=30)
    """How long an answer serves."""
    max_cached: MaxCached = 10_000
    max_bytes: MaxBytes = 16 * 1024
    max_concurrent: MaxConcurrent = 16
    max_per_second: MaxPerSecond = 1000
    insecure: InsecureRisk = InsecureRisk()
    """Options that weaken the answers of the engine."""

    @property
    def allows_http(self) -> bool:
        """Whether the URL may be a plain one."""
        return self.insecure.http or is_on_this_host(self.url)
